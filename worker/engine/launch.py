"""Start a tree of worker processes in place of this one: check first what can be checked, then execute Dramatiq's CLI."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from redis.exceptions import RedisError

from producers.ledger.connection import connect, server_of
from producers.pointers import QUEUES
from worker.settings import SettingsError, load_settings

USAGE, UNREACHABLE = 2, 3
LEAST_THREADS = 8


def run_worker(processes: int, threads: int, *, queues: Sequence[str] = ()) -> NoReturn:
    """Replace this process by the master of a worker tree; same process id, so whoever waits for us waits for it.

    Exits with 2 on wrong settings or arguments, 3 when Redis does not answer.
    """
    _check_arguments(processes, threads, queues)
    try:
        settings = load_settings("worker")
    except SettingsError as exc:
        _exit(USAGE, str(exc))
    client = connect(settings.redis_url, max_connections=1)
    try:
        client.ping()
    except RedisError as exc:
        _exit(
            UNREACHABLE,
            f"Redis at {server_of(settings.redis_url)} does not answer ({type(exc).__name__}: {exc}): check REDIS_URL, and that "
            "the server runs",
        )
    finally:
        client.close()
    arguments = ["--processes", str(processes), "--threads", str(threads)]
    if queues:
        arguments += ["--queues", *queues]
    sys.stdout.flush()
    sys.stderr.flush()
    # Inherited over exec, unlike handlers: a signal that comes before the master has its own waits until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    os.execv(sys.executable, [sys.executable, "-m", "worker.engine.master", *arguments])


def _check_arguments(processes: int, threads: int, queues: Sequence[str]) -> None:
    if processes < 1:
        _exit(USAGE, f"--processes is {processes}, must be at least 1")
    if threads < LEAST_THREADS:
        _exit(USAGE, f"--threads is {threads}, must be at least {LEAST_THREADS}: each queue needs some of its own")
    for queue in queues:
        if queue not in QUEUES:
            _exit(USAGE, f"--queues has {queue!r}: use some of {', '.join(QUEUES)}")


def _exit(code: int, message: str) -> NoReturn:
    print(f"notify: {message}", file=sys.stderr)
    sys.exit(code)
