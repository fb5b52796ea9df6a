"""What the master does before it forks: check what can be checked, and load, once for all, what each process needs.

Loading is most of what a start costs in CPU, and the other trees on a host pay for it too: a slot is late after ten
milliseconds. So the processes inherit the modules, instead of each loading its own. Only modules: nothing that has an
identity, a connection or a thread may exist before the fork.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

UNREACHABLE, USAGE = 3, 2
# Read by Dramatiq when it is imported. Milliseconds until a consumer that raised starts again; ours never raise.
RESTART_DELAY = ("dramatiq_restart_delay", "250")


class NotReady(Exception):
    """The tree must not start. ``code`` is the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def load() -> None:
    """Import what ``worker.main`` imports, and what its parts import when they begin. No process of the tree does it again.

    Until a process has booted, its garbage collector stays off: what is loaded stays, so every pass over it is for nothing.
    """
    os.environ.setdefault(*RESTART_DELAY)
    gc.disable()
    with _without("rich", "click", "opentelemetry"):
        import worker.engine.runtime
        import worker.engine.spool
        import worker.log  # noqa: F401
        from worker import actors
        from worker.telnyx import gateway

        actors.load()
        gateway.load()
    threads = threading.enumerate()
    assert len(threads) == 1, f"a fork would lose these threads, and keep their locks: {threads}"
    gc.freeze()


def check(queues: Sequence[str]) -> None:
    """Raise NotReady on wrong settings (2), or when Redis does not answer (3)."""
    from redis.exceptions import RedisError

    from producers.ledger.connection import connect, server_of
    from producers.pointers import QUEUES
    from worker.settings import SettingsError, load_settings

    for queue in queues:
        if queue not in QUEUES:
            raise NotReady(USAGE, f"--queues has {queue!r}: use some of {', '.join(QUEUES)}")
    try:
        settings = load_settings("worker")
    except SettingsError as exc:
        raise NotReady(USAGE, str(exc)) from None
    client = connect(settings.redis_url, max_connections=1)
    try:
        client.ping()
    except RedisError as exc:
        raise NotReady(
            UNREACHABLE,
            f"Redis at {server_of(settings.redis_url)} does not answer ({type(exc).__name__}: {exc}): check REDIS_URL, "
            "and that the server runs",
        ) from None
    finally:
        client.close()
        client.connection_pool.disconnect()


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Let imports go as if these were not installed: structlog and httpx load them for colours and for a
    command line, redis for measures that nobody asked it for."""
    absent = [name for name in packages if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
