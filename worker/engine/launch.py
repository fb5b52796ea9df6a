"""Start a tree of worker processes in place of this one: execute the master, with the signals held back until it is there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE = 2
LEAST_THREADS = 8


def run_worker(processes: int, threads: int, *, queues: Sequence[str] = ()) -> NoReturn:
    """Replace this process by the master of a worker tree; same process id, so whoever waits for us waits for it.

    Exits with 2 on wrong settings or arguments, 3 when Redis does not answer: the numbers are checked here, what takes
    loading something by the master (see ``preflight``), which needs it anyway.
    """
    if processes < 1:
        _exit(f"--processes is {processes}, must be at least 1")
    if threads < LEAST_THREADS:
        _exit(f"--threads is {threads}, must be at least {LEAST_THREADS}: each queue needs some of its own")
    arguments = ["--processes", str(processes), "--threads", str(threads)]
    if queues:
        arguments += ["--queues", *queues]
    sys.stdout.flush()
    sys.stderr.flush()
    # Inherited over exec, unlike handlers: a signal that comes before the master has its own waits until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    os.execv(sys.executable, [sys.executable, "-m", "worker.engine.master", *arguments])


def _exit(message: str) -> NoReturn:
    print(f"notify: {message}", file=sys.stderr)
    sys.exit(USAGE)
