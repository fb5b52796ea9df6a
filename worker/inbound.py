"""Hand what people wrote to an actor of the user's own, on the user's own broker.

The message was kept before Telnyx was answered, and a timer of the ledger points at it until it is said to be handed over:
at least once, therefore, and a copy has the same Dramatiq ``message_id``. Its one argument is a JSON object:

    {"id", "type": "SMS" | "MMS" | "WHATSAPP", "from", "to": [], "cc": [], "text", "media_urls": [], "keyword", "profile",
     "message": Telnyx's id, "event", "said_at", "heard_at", "reply_to": our message's id or null, "notification": its or null}

It is encoded as Dramatiq's ``JSONEncoder`` does, and pushed as its ``RedisBroker`` would (default namespace ``dramatiq``), on
the server of ``REDIS_URL``.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.brokers.redis import RedisBroker

from producers.pointers import PointerMessage
from worker.patience import patiently

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from worker.settings.model import Inbound

_NAMESPACE = uuid.UUID("5f0c7c3e-6f0f-4b53-9a51-6b8d3a3a5f6d")  # so that a message handed over twice has one id
UNPACKED = 1000  # as Dramatiq's own script would ask the server for, once a process

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An inbound message that is kept. ``entry`` is its place in the stream."""

    entry: str
    heard_us: int
    said: dict[str, Any] = field(repr=False)
    reply_to: str | None

    def payload(self) -> dict[str, Any]:
        said_us = int(self.said.get("said_us") or 0)
        names = ("type", "from", "to", "cc", "text", "media_urls", "keyword", "profile", "message", "event")
        return {
            "id": self.entry,
            **{name: self.said.get(name) for name in names},
            "said_at": _rfc3339(said_us) if said_us else None,
            "heard_at": _rfc3339(self.heard_us),
            "reply_to": self.reply_to,
            "notification": self.reply_to[:32] if self.reply_to else None,
        }


def read_inbound(ledger: Ledger, *, entry: str | None = None, limit: int = 100) -> list[Received]:
    """The newest inbound messages, newest first; or the one of an entry, if it is still kept."""
    redis: Any = ledger.redis
    key = ledger.key("in")
    rows = redis.xrange(key, entry, entry) if entry else redis.xrevrange(key, count=limit)
    found = []
    for cursor, f in rows:
        try:
            said = json.loads(f[b"d"])
        except (ValueError, KeyError):
            continue
        reply_to = f.get(b"r", b"").decode() or None
        found.append(Received(entry=cursor.decode(), heard_us=int(f[b"t"]), said=said, reply_to=reply_to))
    return found


def hand_over(entry: str, *, ledger: Ledger, settings: Inbound) -> bool:
    """Enqueue the message for the user's actor, then forget the timer. False: it is gone, or nobody wants it any more.

    Raises:
        redis.RedisError: the server is away; the timer points again.
    """
    found = patiently(lambda: read_inbound(ledger, entry=entry))
    if found and settings.actor:
        _enqueue(found[0], ledger, settings)
        log.info("inbound_handed_over", inbound=entry, actor=settings.actor)
    patiently(lambda: ledger.redis.zrem(ledger.key("timers"), f"i{entry}"))
    return bool(found and settings.actor)


class _Broker(RedisBroker):
    """Pushes as the user's broker would, and fetches nothing."""

    def _max_unpack_size(self) -> int:
        return UNPACKED


def _enqueue(received: Received, ledger: Ledger, settings: Inbound) -> None:
    broker = _Broker(client=ledger.redis, middleware=[], namespace=settings.namespace, maintenance_chance=0)  # type: ignore[no-untyped-call]
    broker.broker_id = "notify"  # one name for all: each would leave a heartbeat behind
    message = PointerMessage(
        queue_name=settings.queue,
        actor_name=settings.actor or "",
        args=(received.payload(),),
        kwargs={},
        options={},
        message_id=str(uuid.uuid5(_NAMESPACE, f"{ledger.namespace}:{received.entry}")),
    )
    broker.enqueue(message)


def _rfc3339(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
