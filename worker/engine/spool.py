"""Write the log from a thread of its own, so that a slow reader of it delays no message.

A worker's lines go through a pipe to its master and from there to whoever reads standard error. When that one pauses, a
handler that writes itself blocks, and on the event loop it would block every request. So here a line costs the loop an
append; rendering, redaction and writing happen in one other thread. When that falls behind by ``KEPT`` lines, further
ones are dropped and counted: a worker that sends is worth more than its log.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from logging.handlers import QueueHandler, QueueListener

KEPT = 10_000
_FLUSH_S = 2.0


class Spool(QueueHandler):
    """Takes the place of the root logger's handlers, and feeds them from its thread."""

    def __init__(self) -> None:
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(KEPT)
        super().__init__(self._lines)
        self.dropped = 0
        self._listener: QueueListener | None = None

    def start(self) -> None:
        """Put this in front of what handles the root logger's records now."""
        root = logging.getLogger()
        self._listener = QueueListener(self._lines, *root.handlers)
        root.handlers[:] = [self]
        self._listener.start()

    def stop(self) -> None:
        """Write what is left, for at most two seconds; later lines are written at once again. Safe to repeat."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        logging.getLogger().handlers[:] = listener.handlers
        flushing = threading.Thread(target=_finish, args=(listener,), daemon=True)
        flushing.start()
        flushing.join(_FLUSH_S)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # the formatter is ours and needs it whole; nothing crosses a process

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.dropped and self._lines.qsize() < KEPT // 2:
            count, self.dropped = self.dropped, 0
            logging.getLogger(__name__).warning("%d lines of the log were dropped: it is read too slowly", count)
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def _finish(listener: QueueListener) -> None:
    """Let the listener write what is left. Its end mark needs a place in the queue too, which may be full as yet."""
    while True:
        with contextlib.suppress(queue.Full):
            listener.stop()
            return
        time.sleep(0.01)


spool = Spool()
