"""The actor ``call_back``: have the event loop call apps as far as it has room, and end at once."""

from __future__ import annotations

import dramatiq

from producers.pointers import CHORES
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.patience import edge


def register(broker: dramatiq.Broker, context: Context) -> None:
    def call_back() -> None:
        with edge("call_back"):
            work = context.caller.call_what_is_due()
            try:
                context.run_async(work)
            except BaseException:  # the loop is gone: Python would complain of a coroutine that nobody awaited
                work.close()
                raise

    declare(broker, call_back, name="call_back", queue=CHORES)
