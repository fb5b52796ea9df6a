"""What Dramatiq runs. Actors take ids and plain JSON values, are safe to run twice, and never raise.

Each calls one room below: expansion, reconciliation, polling, callbacks. Not to be confused with retries: what fails is
pointed at again by a timer of the ledger.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dramatiq

    from worker.actors.context import Context

__all__ = ["load", "register"]


def load() -> tuple[ModuleType, ...]:
    """Import all actors but ``send``, which is declared by the engine's side."""
    from worker.actors import call_back, expand, inbound, poll, reconcile, sync_opt_outs, withdraw

    return (expand, reconcile, poll, call_back, sync_opt_outs, inbound, withdraw)


def register(broker: dramatiq.Broker, context: Context) -> None:
    """Declare them on ``broker``."""
    for module in load():
        module.register(broker, context)
