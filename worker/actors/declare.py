"""Declare an actor on a broker of ours: never on the global one, and never with retries or limits of the engine's own.

The ledger's timers point again at what failed, so a retry of the engine's would be a second one; a time limit would
cancel a request that has left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq

from producers.pointers import PRIORITIES

_OPTIONS = {"max_retries": 0, "time_limit": float("inf")}


def declare(broker: dramatiq.Broker, fn: Callable[..., Any], *, name: str, queue: str) -> dramatiq.Actor[Any, Any]:
    """Make ``fn`` the actor ``name`` on ``queue``, with the queue's priority (lower runs first)."""
    # An option is an error where no middleware knows it, and then it is not needed either.
    options = {option: value for option, value in _OPTIONS.items() if option in broker.actor_options}
    return dramatiq.Actor(
        fn, broker=broker, actor_name=name, queue_name=queue, priority=PRIORITIES[queue], options=options
    )
