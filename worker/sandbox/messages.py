"""A message that the sandbox accepted, and how Telnyx would show it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

ORGANIZATION_ID = "7f0c1b1e-5a4d-4b7a-9a55-5a0d6b0c0001"
RATE_USD = 0.0051  # per part; any amount will do, but a plausible one reads better
VALIDITY_S = 3600  # Telnyx's samples show 15 minutes to one hour
_PROFILE_NAMESPACE = uuid.UUID("6f6f4f0e-2f0b-4f44-9f58-1d7f4f6d0002")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A send request that passed every check. ``send_at_us`` is set for a scheduled one only."""

    kind: str  # SMS, MMS or WHATSAPP
    sender: str
    profile: str | None
    to: tuple[str, ...]
    text: str = ""
    subject: str | None = None
    media_urls: tuple[str, ...] = ()
    encoding: str = "GSM-7"
    parts: int = 1
    whatsapp: dict[str, Any] | None = None
    webhook_url: str | None = None
    failover_url: str | None = None
    use_profile_webhooks: bool = True
    send_at_us: int | None = None
    is_group: bool = False
    is_pool: bool = False

    @property
    def units(self) -> int:
        """What it draws from its sender's rate: a group counts once for each recipient."""
        return self.parts * len(self.to)

    @property
    def content_hash(self) -> int:
        """Equal for equal content; what a person would call the same message."""
        return hash((self.text, self.subject, self.media_urls, repr(self.whatsapp)))


@dataclass(slots=True, eq=False, kw_only=True)
class Message:
    """One accepted message. ``statuses`` and ``errors`` run parallel to ``draft.to``; times are unix microseconds."""

    id: str
    draft: Draft
    path: str
    ref: str | None
    key: str | None
    profile: str
    arrived_us: int
    wait_s: float
    body_sha256: str
    statuses: list[str]
    errors: list[list[dict[str, Any]]]
    sent_us: int | None = None
    completed_us: int | None = None
    replays: int = 0
    callbacks: list[int] = field(default_factory=list)  # HTTP statuses of every attempt, 0 for none

    @property
    def is_scheduled(self) -> bool:
        return self.statuses[0] == "scheduled"

    def first_answer(self) -> dict[str, Any]:
        """The answer to the send, the same for each replay, whatever became of the message since."""
        if self.draft.kind == "WHATSAPP":
            return self._whatsapp_answer()
        # Scheduled ones too: Telnyx's pages say "scheduled" here, but its schema of this answer has no such status.
        return self._payload(["queued"] * len(self.statuses), [], range(len(self.statuses)), is_first=True)

    def payload(self, members: Sequence[int] | None = None) -> dict[str, Any]:
        """The message as it stands, with the recipients ``members`` (indexes) only."""
        chosen = range(len(self.statuses)) if members is None else members
        errors = [error for index in chosen for error in self.errors[index]]
        return self._payload(self.statuses, errors, chosen, is_first=False)

    def _payload(
        self, statuses: list[str], errors: list[dict[str, Any]], members: Sequence[int], *, is_first: bool
    ) -> dict[str, Any]:
        draft = self.draft
        cost = None if is_first or self.completed_us is None else cost_of(draft.parts)
        payload: dict[str, Any] = {
            "record_type": "message",
            "direction": "outbound",
            "id": self.id,
            "type": draft.kind,
            "messaging_profile_id": self.profile,
            "organization_id": ORGANIZATION_ID,
            "from": {"phone_number": draft.sender, "carrier": "Telnyx", "line_type": "Wireless"},
            "to": [_recipient(draft.to[index], statuses[index]) for index in members],
            "cc": [],
            "text": draft.text,
            "subject": draft.subject,
            "media": [{"url": url, "content_type": None, "sha256": None, "size": None} for url in draft.media_urls],
            "encoding": draft.encoding,
            "num_chars": len(draft.text),
            "parts": draft.parts,
            "smart_encoding_applied": False,
            "cost": cost,
            "cost_breakdown": None if cost is None else {"carrier_fee": cost_of(0), "rate": cost},
            "tags": [],
            "tcr_campaign_id": None,
            "tcr_campaign_billable": False,
            "tcr_campaign_registered": None,
            "webhook_url": draft.webhook_url,
            "webhook_failover_url": draft.failover_url,
            "received_at": iso(self.arrived_us),
            "sent_at": None if is_first else iso_or_none(self.sent_us),
            "completed_at": None if is_first else iso_or_none(self.completed_us),
            "valid_until": self._valid_until() if is_first or self.sent_us is None else None,
            "wait_seconds": self.wait_seconds,
            "errors": errors,
        }
        if draft.is_group:
            payload["group_message_id"] = self.id
        if draft.whatsapp is not None:
            # Said to be the object that was sent, but its `text` is declared as a string: the declaration holds here.
            is_text = isinstance(draft.whatsapp.get("text"), dict)
            payload["body"] = {**draft.whatsapp, "text": draft.text} if is_text else draft.whatsapp
            payload["template_name"] = (draft.whatsapp.get("template") or {}).get("name")
        return payload

    def _whatsapp_answer(self) -> dict[str, Any]:
        draft = self.draft
        return {
            "record_type": "message",
            "direction": "outbound",
            "id": self.id,
            "type": "WHATSAPP",
            "messaging_profile_id": self.profile,
            "organization_id": ORGANIZATION_ID,
            "from": {"phone_number": draft.sender, "carrier": "Telnyx", "line_type": "Wireless"},
            "to": [_recipient(draft.to[0], "queued")],
            "body": draft.whatsapp,
            "encoding": draft.encoding,
            "received_at": iso(self.arrived_us),
            "wait_seconds": self.wait_seconds,
        }

    @property
    def wait_seconds(self) -> float:
        """The wait as answers show it; kept whole, so that rounding never lets a message leave early."""
        return round(self.wait_s, 3)

    def _valid_until(self) -> str:
        from_us = self.draft.send_at_us or self.arrived_us
        return iso(from_us + int((self.wait_s + VALIDITY_S) * 1e6))


def cost_of(parts: int) -> dict[str, Any]:
    return {"amount": f"{RATE_USD * parts:.4f}", "currency": "USD"}


@functools.lru_cache(maxsize=4096)  # each time of a message is shown in its answer and in every event
def iso(at_us: int) -> str:
    """RFC 3339 in UTC with milliseconds, as Telnyx writes it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)


def ref_of(webhook_url: str | None) -> str | None:
    """The ``ref`` in the query of a webhook URL, by which the sender of a message recognises it."""
    if webhook_url is None or "ref=" not in webhook_url:
        return None
    values = parse_qs(urlsplit(webhook_url).query).get("ref")
    return values[0] if values else None


def profile_of_number(number: str) -> str:
    """A profile of its own for a number whose profile nobody told us: at Telnyx every number has one."""
    return str(uuid.uuid5(_PROFILE_NAMESPACE, number))


def _recipient(number: str, status: str) -> dict[str, Any]:
    return {"phone_number": number, "status": status, "carrier": "Sandbox Wireless", "line_type": "Wireless"}
