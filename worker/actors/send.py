"""The actor of the queue `send`: hand the slots of a job to the event loop, and end.

Synchronous and done in microseconds: while its requests are under way they hold no thread of Dramatiq's.
"""

from __future__ import annotations

from collections.abc import Callable

import dramatiq

from producers.pointers import SEND
from worker.actors.declare import declare


def register(broker: dramatiq.Broker, start: Callable[[int], None]) -> None:
    """Declare `send` on ``broker``; ``start`` begins the job of this number."""

    def send(job: int) -> None:
        start(job)

    declare(broker, send, name="send", queue=SEND)
