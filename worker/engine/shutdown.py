"""Start and stop with Dramatiq's own life cycle: what must be there before the first job, and what must be done by the last.

Heroku sends SIGTERM to every process of a dyno, possibly several times, and the master sends its own; 30 s after the
first comes SIGKILL. Dramatiq takes a second one as "kill what is running". So the first one counts, here, and all later
ones are dropped. Invariants, each with a test named after it:

- The first signal stops grants and fetches at once, and starts one deadline.
- This process ends only when nothing is under way and every result is written, or the deadline has passed.
- However often it is told, and whatever hangs: it ends with 0, within 25 s of the first signal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq.worker import Worker

from worker.engine.ending import leave
from worker.engine.spool import spool

DRAIN_S = 21.0  # a request takes 18 s at most; after this, Dramatiq's own steps take about two more
END_S = 23.5  # the master needs up to another second to notice
SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # SIGINT reaches us as the master's SIGTERM

log = structlog.get_logger(__name__)


class Stopping:
    """Whether this process is on its way out, and for how long."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._tell: list[Callable[[], None]] = []

    def __call__(self) -> bool:
        return self._since_s is not None

    def on_begin(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when it begins; from a signal handler, so it must not block."""
        self._tell.append(tell)

    def begin(self) -> None:
        """The first call counts."""
        if self._since_s is None:
            self._since_s = time.monotonic()
            for tell in self._tell:
                tell()

    def left_s(self, limit_s: float = DRAIN_S) -> float:
        """What is left of the limit, which began with the first signal."""
        return limit_s if self._since_s is None else self._since_s + limit_s - time.monotonic()


def drop_repeated_signals(stopping: Stopping | None = None) -> None:
    """Wrap the handlers that are in place: the first signal reaches them, later ones reach nobody. Main thread only.

    May be called twice: early, so that a signal during the imports is safe, and again with ``stopping``.
    """
    for number in SIGNALS:
        current = signal.getsignal(number)
        if isinstance(current, _Once):
            current.follow(stopping)
        elif callable(current):
            signal.signal(number, _Once(current, stopping))


class _Once:
    """A signal handler that calls another one once in the life of the process, whichever signal it was."""

    _was_told = False

    def __init__(self, handler: Callable[[int, FrameType | None], object], stopping: Stopping | None) -> None:
        self._handler, self._stopping = handler, stopping

    def follow(self, stopping: Stopping | None) -> None:
        self._stopping = stopping or self._stopping
        if _Once._was_told and self._stopping is not None:
            self._stopping.begin()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _Once._was_told:
            return
        _Once._was_told = True
        if self._stopping is not None:
            self._stopping.begin()
        self._handler(number, frame)


class LifeCycle(Middleware):
    """Dramatiq's hooks.

    Args:
        boot: What must have happened before a consumer starts; an exception of it stops this process.
        busy: How much is under way: requests, and results that are not written.
        last: Said when nothing is under way any more.
    """

    def __init__(
        self, stopping: Stopping, *, boot: Callable[[], None], busy: Callable[[], int], last: Callable[[], None]
    ) -> None:
        self._stopping, self._boot, self._busy, self._last = stopping, boot, busy, last
        self._booted = False

    def after_process_boot(self, broker: Broker) -> None:
        self._stopping.on_begin(_end_in_time)
        drop_repeated_signals(self._stopping)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        if self._stopping():
            return  # told to stop before it began: consumers that stop need nothing
        try:
            self._boot()
            self._booted = True
        except Exception as exc:
            log.critical("boot_failed", error=type(exc).__name__, exc_info=True)
            raise MiddlewareError(f"this process cannot start: {type(exc).__name__}") from exc

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._stopping.begin()
        while self._busy() and self._stopping.left_s() > 0:
            time.sleep(0.02)
        if left := self._busy():
            log.error("drain_given_up", under_way=left, after_s=DRAIN_S)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        if self._booted and self._stopping.left_s(END_S) > 0:
            self._last()
        leave()
        spool.stop()
        for number in SIGNALS:  # the interpreter resets handlers on its way out, and a late signal would kill it
            signal.signal(number, signal.SIG_IGN)


def _end_in_time() -> None:
    """Start the clock of last resort: whatever hangs then, hangs no longer."""

    def end() -> None:
        time.sleep(END_S)
        log.error("shutdown_given_up", after_s=END_S)
        spool.stop()
        os._exit(0)

    threading.Thread(target=end, name="last resort", daemon=True).start()
