"""Our event loop, in a daemon thread: requests under way need no thread of Dramatiq's each.

Not Dramatiq's AsyncIO middleware, in which each coroutine holds a worker thread while it waits, and whose loop thread
keeps a process from exiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

from worker.engine.ending import end_process, vital_thread

T = TypeVar("T")

log = structlog.get_logger(__name__)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class EngineLoop:
    """One event loop in a thread of its own; it runs until the process ends."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._running = threading.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Start the thread; returns when the loop runs."""
        self.loop.set_exception_handler(_log_exception)
        vital_thread("event loop", self._run)
        self._running.wait()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Have ``function`` called on the loop, soon. An exception of it is logged."""
        self.loop.call_soon_threadsafe(function, *args)

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; from other threads."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine for as long as the process lives: if it ends by an exception, the process ends."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException:  # noqa: BLE001 - the process must not go on without it
                end_process(name)

        def start() -> None:
            task = self.loop.create_task(guarded(), name=name)
            self._tasks.add(task)  # the loop itself keeps no strong reference
            task.add_done_callback(self._tasks.discard)

        self.call(start)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._running.set)
        self.loop.run_forever()
        raise RuntimeError("the event loop has stopped")  # nobody stops it


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    info = (type(exc), exc, exc.__traceback__) if isinstance(exc, BaseException) else None
    log.error("loop_exception", message=str(context.get("message", "")), exc_info=info)
