"""What was put aside because it could not be used: receipts and events (``odd``), and Dramatiq messages (``<queue>.XQ``).

Each was put aside alone, and holds up nothing. Shown without bodies: an event may quote a text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from producers.masking import mask_all

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger

WORDS_MAX = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One thing put aside. ``where`` is "events", or the name of a queue; ``about`` the ids that it has."""

    where: str
    at_us: int
    id: str
    why: str
    about: str


def read_asides(ledger: Ledger, limit: int) -> list[Put]:
    """The newest ``limit`` of all, newest first."""
    from producers.pointers import LIST_QUEUES, broker_namespace

    redis: Any = ledger.redis
    found = [_event(cursor.decode(), f) for cursor, f in redis.xrevrange(ledger.key("odd"), count=limit)]
    for queue in LIST_QUEUES:
        key = f"{broker_namespace(ledger.namespace)}:{queue}.XQ"
        rows = redis.zrange(key, 0, limit - 1, desc=True, withscores=True)
        bodies = redis.hmget(f"{key}.msgs", [mid for mid, _ in rows]) if rows else []
        found += [_pointer(queue, mid.decode(), at_ms, body) for (mid, at_ms), body in zip(rows, bodies, strict=True)]
    return sorted(found, key=lambda put: put.at_us, reverse=True)[:limit]


def _event(cursor: str, flat: dict[bytes, bytes]) -> Put:
    f = {k.decode(): v.decode(errors="replace") for k, v in flat.items()}
    parts = [f.get("ref", ""), f.get("pid", ""), f.get("raw", ""), f.get("id", ""), f.get("error", "")]
    if "event" in f:
        parts += _ids_of(f["event"])
    about = mask_all(" ".join(part for part in parts if part))[:WORDS_MAX]
    return Put(where="events", at_us=int(cursor.partition("-")[0]) * 1000, id=cursor, why=f.get("why", ""), about=about)


def _ids_of(event: str) -> list[str]:
    try:
        data = json.loads(event)["data"]
        return [str(data.get("event_type", "")), str((data.get("payload") or {}).get("id", ""))]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return [f"{len(event)} characters that are no event"]


def _pointer(queue: str, mid: str, at_ms: float, body: bytes | None) -> Put:
    try:
        message = json.loads(body or b"")
        about, why = f"{message['actor_name']} {json.dumps(message['args'])}", "failed"
    except (ValueError, LookupError, TypeError, RecursionError):
        about, why = f"{len(body or b'')} bytes", "undecodable"
    return Put(where=queue, at_us=int(at_ms) * 1000, id=mid, why=why, about=mask_all(about)[:WORDS_MAX])
