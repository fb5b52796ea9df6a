"""End this process when a part of it that it cannot do without has failed.

A worker that goes on without its event loop or its heartbeat looks alive and does nothing. Ended, it is missed: the
others take over what it held, its master stops the rest, and the platform starts all anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import Thread

import structlog

from worker.engine.spool import spool

EXIT_BROKEN = 70  # EX_SOFTWARE of sysexits.h

log = structlog.get_logger(__name__)
_leaving = False


def leave() -> None:
    """This process ends in good order: from now on, a part that fails is no news."""
    global _leaving  # noqa: PLW0603 - a process leaves once
    _leaving = True


def end_process(part: str) -> None:
    """Log the exception being handled and end the process at once, without handlers: they might wait for the dead part."""
    if _leaving:
        return
    try:
        log.critical("process_broken", part=part, exc_info=True)
        spool.stop()
        logging.shutdown()
    finally:
        os._exit(EXIT_BROKEN)


def vital_thread(name: str, work: Callable[[], None]) -> Thread:
    """Start a daemon thread whose failure, or return by an exception, ends the process."""

    def run() -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it was, the process must not go on without this thread
            end_process(name)

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
