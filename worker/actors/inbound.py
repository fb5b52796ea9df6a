"""The actor ``inbound``: hand a message from a person to the user's own actor."""

from __future__ import annotations

import dramatiq

from producers.pointers import CHORES
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.inbound import hand_over
from worker.patience import edge


def register(broker: dramatiq.Broker, context: Context) -> None:
    def inbound(entry: str) -> None:
        with edge("inbound", inbound=entry):
            hand_over(entry, ledger=context.ledger, settings=context.config.inbound)

    declare(broker, inbound, name="inbound", queue=CHORES)
