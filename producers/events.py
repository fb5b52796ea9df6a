"""What apps are told: the types of events, their form, and the id that tells a repeat from news.

The stream and the callbacks tell the same events under the same ids. docs/events.md lists the types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

MESSAGE_FINAL, MESSAGE_CORRECTED = "message.final", "message.corrected"
NOTIFICATION_FINISHED = "notification.finished"
INBOUND_RECEIVED, OPT_OUT_CHANGED = "inbound.received", "opt_out.changed"


class Event(NamedTuple):
    """Something that happened. ``id`` is the same on a repeat; ``at`` is in microseconds of the epoch.

    ``counts``: of a notification that finished, how many of its messages ended in which state. ``details``: what else an
    event of its type says: ``inbound`` and ``reply_to`` of inbound.received (either may be empty), ``url`` of link.clicked,
    ``scope``, ``source`` and ``occurred_us`` of opt_out.changed, whose ``message`` is the person's number.
    """

    cursor: str
    id: str
    type: str
    notification: str
    message: str
    state: str
    version: int
    at: int
    counts: dict[str, int] | None = None
    details: dict[str, str] | None = None


def event_id(kind: str, subject: str, version: int, letter: str, place: str = "") -> str:
    """32 hex digits. ``place`` in the stream tells apart what no version does."""
    return hashlib.sha256(f"{kind}\0{subject}\0{version}\0{letter}\0{place}".encode()).hexdigest()[:32]


def event_of(cursor: str, f: Mapping[str, str]) -> Event:
    """The event that an entry of the stream holds."""
    from producers.ledger.states import STATES

    subject, kind, version = f["m"], f["y"], int(f["v"])
    notification = subject[:32] if subject[32:33] in ("", "-") and len(subject) >= 32 else ""
    state = STATES.get(f["s"], f["s"])  # an opt-out's is "out" or "in"
    return Event(
        cursor,
        event_id(kind, subject, version, f["s"], "" if kind in _BY_VERSION else cursor),
        kind,
        notification,
        "" if kind == NOTIFICATION_FINISHED else subject,
        state,
        version,
        int(f["t"]),
        counts_of(f["c"]) if "c" in f else None,
        {_NAMES.get(name, name): value for name, value in f.items() if name not in _OWN} or None,
    )


def counts_of(text: str) -> dict[str, int]:
    """``D98 F2`` as ``{"delivered": 98, "failed": 2}``."""
    from producers.ledger.states import STATES

    return {STATES[word[0]]: int(word[1:]) for word in text.split()}


# Of these the version tells a repeat; of what else happens to a message, such as two clicks, only the place does.
_BY_VERSION = frozenset({MESSAGE_FINAL, MESSAGE_CORRECTED, NOTIFICATION_FINISHED, "message.changed"})
# What the stream abbreviates: the place of an inbound message among those kept, ours that it answers, the link followed;
# of an opt-out where it counts, who said so, and when it was said.
_NAMES = {"in": "inbound", "r": "reply_to", "u": "url", "sc": "scope", "sr": "source", "oc": "occurred_us"}
_OWN = frozenset({"m", "y", "v", "s", "t", "c"})


def as_fields(rows: Mapping[Any, Any]) -> dict[str, str]:
    """An entry of the stream as text."""
    return {key.decode(): value.decode() for key, value in rows.items()}
