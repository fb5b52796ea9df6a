"""Tell apart what Telnyx calls us with, and keep none of the bodies. Pure.

Invariants, each with a test named after it:

- Whatever was signed gets an answer: odd input becomes ``other``, never an exception.
- What ``strip`` keeps holds no body and no media, and parses to the same receipt.
- ``strip_receipt`` takes plain receipts alone, and what it keeps parses to the same as what ``strip`` keeps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict

import msgspec

from worker.telnyx.facts import Fact, fact_from_group, fact_from_message, fact_from_receipt, rank_of, to_ledger
from worker.telnyx.shapes import as_dict, as_id, as_list, as_number, as_text, members, micros

__all__ = [
    "EventKind",
    "Fact",
    "Inbound",
    "Parsed",
    "fact_from_group",
    "fact_from_message",
    "parse_event",
    "rank_of",
    "strip",
    "strip_receipt",
    "to_ledger",
]

EventKind = Literal["receipt", "inbound", "link_click", "spend_limit", "other"]

Inbound = TypedDict(
    "Inbound",
    {
        "from": str | None,  # who wrote: a number, or a WhatsApp user who hides it
        "to": list[str],  # our numbers
        "cc": list[str],  # the others of a group
        "text": str,  # the body; empty for media alone. It belongs into the ledger and to the app, never into a log
        "autoresponse_type": str | None,  # STOP, START or HELP where Telnyx acted on a keyword
        "profile": str | None,
        "event": str | None,
        "at": int,  # microseconds since 1970, 0 if unknown
        "type": str,  # SMS, MMS, WHATSAPP
        "media": int,  # how many
        "media_urls": list[str],  # where Telnyx keeps them, for 30 days
        "message": str | None,  # Telnyx's id
    },
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One callback: ``fact`` of a receipt, ``inbound`` of an inbound message, ``details`` of the other kinds."""

    kind: EventKind
    event_type: str = ""
    event: str | None = None
    at: int = 0
    fact: Fact | None = None
    inbound: Inbound | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict)


# Of a message, only what is listed is kept: a field that Telnyx adds tomorrow may hold a body.
_KEPT_OF_MESSAGE: Final = frozenset({
    "record_type", "direction", "id", "type", "messaging_profile_id", "organization_id", "from", "to", "cc", "status",
    "parts", "encoding", "num_chars", "smart_encoding_applied", "wait_seconds", "cost", "cost_breakdown", "tags",
    "webhook_url", "webhook_failover_url", "received_at", "sent_at", "completed_at", "valid_until", "errors",
    "autoresponse_type", "tcr_campaign_id", "tcr_campaign_billable", "tcr_campaign_registered", "template_id",
    "template_name", "group_message_id",
})  # fmt: skip
# Of anything else, all but what can hold a body, whatever its depth.
_DROPPED: Final = frozenset({
    "text", "body", "media", "media_urls", "subject", "caption", "whatsapp_message", "content", "message", "components",
    "interactive", "template", "contacts", "location", "reaction", "image", "video", "audio", "document", "sticker",
    "filename",
})  # fmt: skip


# A receipt has some thirty. So many can never be too deep for whoever parses what was kept.
_PLAIN_MOST: Final = 128


def parse_event(raw: bytes) -> Parsed:
    """Parse one callback whose signature has been checked. Never raises: what is not understood is ``other``."""
    event = _load(raw)
    data = as_dict(event.get("data"))
    event_type = as_text(data.get("event_type")) or as_text(event.get("event_type")) or ""
    common: dict[str, Any] = {
        "event_type": event_type,
        "event": as_text(data.get("id")),
        "at": micros(data.get("occurred_at")),
    }
    payload = as_dict(data.get("payload"))
    if event_type == "message.received" or (_is_message(event_type) and payload.get("direction") == "inbound"):
        return Parsed("inbound", **common, inbound=_inbound(data, payload))
    if _is_message(event_type):
        fact = fact_from_receipt(data, as_dict(event.get("meta")))
        if fact["ref"] or fact["pid"]:
            return Parsed("receipt", **common, fact=fact)
        return Parsed("other", **common, details={"why": "names no message"})
    if data.get("record_type") == "link_clicked":
        return Parsed("link_click", **common | {"at": micros(data.get("time_clicked"))}, details=_link_click(data))
    if event_type == "messaging-profile.spend-limit-reached":
        return Parsed(
            "spend_limit", **common, details=_texts(payload, "profile_id", "configured_limit", "current_cost")
        )
    return Parsed("other", **common, details={"why": "unknown event" if event else "unreadable"})


def strip(raw: bytes) -> bytes:
    """The event as compact JSON without bodies and media, for keeping. Never raises."""
    event = _load(raw)
    if not event:
        return json.dumps({"unreadable_bytes": len(raw)}, separators=(",", ":")).encode()
    data = as_dict(event.get("data"))
    if _is_message(as_text(data.get("event_type")) or ""):
        kept: Any = _kept_of_message(event, data, as_dict(data.get("payload")))
    else:
        kept = _without_bodies(event)
    return json.dumps(kept, separators=(",", ":"), sort_keys=True).encode()


def strip_receipt(raw: bytes) -> bytes | None:
    """What is kept of a receipt, for whoever gets a thousand a second: a fifth of the cost of parsing and stripping it.

    None for whatever is no plain receipt of a message that it names: that goes the long way. Never raises.
    """
    if raw.count(b"{") + raw.count(b"[") > _PLAIN_MOST:
        return None
    try:
        event = msgspec.json.decode(raw)
        data = event["data"]
        payload, kind = data["payload"], data["event_type"]
        is_plain = kind.startswith("message.") and kind != "message.received" and payload["direction"] == "outbound"
        if not is_plain or as_id(payload["id"]) is None:
            return None
        return msgspec.json.encode(_kept_of_message(event, data, payload))
    except (msgspec.MsgspecError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None


def _kept_of_message(event: dict[str, Any], data: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {name: data[name] for name in ("record_type", "id", "event_type", "occurred_at") if name in data}
        | {"payload": {name: payload[name] for name in _KEPT_OF_MESSAGE & payload.keys()}},
        "meta": {
            name: value for name, value in as_dict(event.get("meta")).items() if name in {"attempt", "delivered_to"}
        },
    }


def _load(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
        # A second pass proves that it is not nested deeper than we can walk or write.
        json.dumps(event)
    except (ValueError, RecursionError):
        return {}
    return as_dict(event)


def _is_message(event_type: str) -> bool:
    return event_type.startswith("message.")


def _inbound(data: dict[str, Any], payload: dict[str, Any]) -> Inbound:
    body = as_dict(payload.get("body"))  # WhatsApp's; an SMS has its text on top
    text = as_text(payload.get("text")) or as_text(as_dict(body.get("text")).get("body")) or ""
    keyword = as_text(payload.get("autoresponse_type"))
    return {
        "from": _e164(as_number(payload.get("from")) or as_text(body.get("from")) or as_text(body.get("from_user_id"))),
        "to": members(payload.get("to")),
        "cc": members(payload.get("cc")),
        "text": text,
        "autoresponse_type": keyword.upper() if keyword else None,
        "profile": as_text(payload.get("messaging_profile_id")),
        "event": as_text(data.get("id")),
        "at": micros(data.get("occurred_at")),
        "type": as_text(payload.get("type")) or ("WHATSAPP" if body else ""),
        "media": len(as_list(payload.get("media"))) or int(as_text(body.get("type")) not in {None, "text"}),
        "media_urls": [url for row in as_list(payload.get("media")) if (url := as_text(as_dict(row).get("url")))][:10],
        "message": as_id(payload.get("id")),
    }


def _link_click(data: dict[str, Any]) -> dict[str, Any]:
    return _texts(data, "url", "message_id") | {"to": _e164(as_text(data.get("to")))}


def _texts(source: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: as_text(source.get(name)) for name in names}


def _e164(number: str | None) -> str | None:
    """WhatsApp and link clicks leave the plus out; a short code has at most six digits and keeps its form."""
    if number and number.isascii() and number.isdigit() and len(number) > 6:
        return f"+{number}"
    return number


def _without_bodies(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_bodies(inner) for name, inner in value.items() if name not in _DROPPED}
    if isinstance(value, list):
        return [_without_bodies(inner) for inner in value]
    return value
