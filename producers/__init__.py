"""Put work in: what other apps import.

``from producers import Notifier`` costs a few milliseconds: redis, dramatiq, pydantic and phonenumbers are loaded at the
first use, and nothing here ever touches a Dramatiq broker or encoder that the app already has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.errors import (
        EnqueueError,
        EventsGone,
        FieldError,
        IdempotencyConflict,
        InvalidNotification,
        NotFound,
        NotifyError,
        NotReady,
    )
    from producers.events import Event
    from producers.notifier import Notifier, Status, Ticket

_HOMES = {
    "Event": "producers.events",
    "Notifier": "producers.notifier",
    "Status": "producers.notifier",
    "Ticket": "producers.notifier",
    "EnqueueError": "producers.errors",
    "EventsGone": "producers.errors",
    "FieldError": "producers.errors",
    "IdempotencyConflict": "producers.errors",
    "InvalidNotification": "producers.errors",
    "NotFound": "producers.errors",
    "NotReady": "producers.errors",
    "NotifyError": "producers.errors",
}

__all__ = [
    "EnqueueError",
    "Event",
    "EventsGone",
    "FieldError",
    "IdempotencyConflict",
    "InvalidNotification",
    "NotFound",
    "NotReady",
    "Notifier",
    "NotifyError",
    "Status",
    "Ticket",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
