"""The actors ``expand`` and ``expand_urgent``: one work, two queues, for an actor has one."""

from __future__ import annotations

import dramatiq

from producers.pointers import EXPAND, EXPAND_URGENT
from worker import expansion
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.patience import edge


def register(broker: dramatiq.Broker, context: Context) -> None:
    def expand(notification: str | list[str], cursor: str | None = None) -> None:
        """One notification's chunk, or several fresh notifications."""
        batch = [notification] if isinstance(notification, str) else notification
        with edge("expand", notification=batch[0]):
            expansion.expand_all(
                batch, cursor, ledger=context.ledger, config=context.config, point=context.pointers.expand
            )

    declare(broker, expand, name="expand", queue=EXPAND)
    declare(broker, expand, name="expand_urgent", queue=EXPAND_URGENT)
