"""The actor ``reconcile``: apply one batch of receipts."""

from __future__ import annotations

import dramatiq

from producers.pointers import RECEIPTS
from worker import reconciliation
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.patience import edge


def register(broker: dramatiq.Broker, context: Context) -> None:
    def reconcile(batch: str) -> None:
        with edge("reconcile", batch=batch):
            reconciliation.reconcile(batch, ledger=context.ledger)

    declare(broker, reconcile, name="reconcile", queue=RECEIPTS)
