"""What Dramatiq runs. Actors take ids and plain JSON values, are safe to run twice, and never raise.

Each calls one room below: expansion, reconciliation, polling, callbacks. Not to be confused with retries: what fails is
pointed at again by a timer of the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dramatiq

    from worker.actors.context import Context

__all__ = ["register"]


def register(broker: dramatiq.Broker, context: Context) -> None:
    """Declare all actors on ``broker`` but ``send``, which is declared by the engine's side."""
    from worker.actors import call_back, expand, inbound, poll, reconcile, sync_opt_outs

    for module in (expand, reconcile, poll, call_back, sync_opt_outs, inbound):
        module.register(broker, context)
