"""Put what the ledger holds into the words of the API. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from producers.ledger.reading import MessageView, NotificationView
from worker.compliance.opt_outs import OptOut
from worker.pacing.explain import KINDS
from worker.pacing.lanes import SILENCE, LaneView
from worker.pacing.rates import rate_per_s
from worker.settings import Config, Sender
from worker.telnyx.error_table import META_CODES
from worker.telnyx.errors import describe

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FINAL = frozenset({"delivered", "failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out"})
_BAD = frozenset({"failed", "rejected"})


def rfc3339(at_us: int) -> str:
    """Microseconds of the epoch in UTC, to the millisecond."""
    at = _EPOCH + timedelta(milliseconds=at_us // 1000)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def notification(view: NotificationView, config: Config) -> dict[str, Any]:
    job = config.job_types.get(view.job_type)
    own = job.sender if job is not None else ""
    return {
        "id": view.id,
        "job_type": view.job_type,
        "state_counts": view.state_counts,
        "messages": [_message(message, message.lane.removesuffix(".mms") or own, config) for message in view.messages],
        "next": None if view.next is None else str(view.next),
    }


def _message(view: MessageView, sender_name: str, config: Config) -> dict[str, Any]:
    sender = config.senders.get(sender_name)
    errors = _errors(view.errors)
    steps = [
        {"at": rfc3339(s.at_us), "state": s.state, "leg": s.leg, "attempt": s.attempt, "reason": s.reason or None}
        for s in view.timeline
    ]
    return {
        "id": view.id,
        "to": view.to,
        "channel": None if sender is None else sender.channel,
        "from": view.from_number or (None if sender is None else sender.from_),
        "state": view.state,
        "attempts": view.attempts,
        "provider_id": view.provider_id,
        "errors": errors,
        "timeline": steps,
        "next_at": None if view.next_at_us is None or view.state in _FINAL else rfc3339(view.next_at_us),
        "members": [
            {"to": to, "state": state, "errors": errors if state in _BAD else []} for to, state in view.members
        ],
    }


def _errors(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "code": row["code"],
            "title": _title(row["code"], row["title"], row["phase"]),
            "phase": row["phase"],
            "at": rfc3339(row["at_us"]),
        }
        for row in rows
    ]


def _title(code: str, title: str, phase: str) -> str | None:
    """The provider's own title; but its title of WhatsApp errors is "WhatsApp error", whatever Meta said."""
    return (None if code in META_CODES else title) or _plain_words(code, phase)


def _plain_words(code: str, phase: str) -> str | None:
    """What the provider's code means; ours (of the phase expand) always bring a title."""
    if phase == "expand":
        return None
    return describe(code, "send" if phase == "send" else "receipt")


def opt_out(number: str, scope: str, held: OptOut) -> dict[str, Any]:
    said = held.decisive
    return {
        "number": number,
        "scope": scope,
        "opted_out": held.opted_out,
        "at": None if said is None else rfc3339(said.at_us),
        "source": None if said is None else said.source,
        "by_operator": None if said is None else said is held.operator,
    }


def hold_reason(reason: str | None) -> str | None:
    """Why a lane or bucket rests. A hold is kept under the provider's code, which says little to whoever is on call."""
    if reason == SILENCE:
        return "no_clear_answer: Telnyx does not answer clearly; single requests probe until it does"
    if reason is None or not (reason.isascii() and reason.isdigit() and len(reason) >= 5):
        return reason
    return f"{reason}: {describe(reason, 'send')}"


def _reason(view: LaneView) -> str | None:
    said = hold_reason(view.reason)
    return f"{KINDS[view.slowest[0]]} at {view.speed:.0%}: {said}" if view.state == "slowed" else said


def lane(view: LaneView, sender: Sender | None) -> dict[str, Any]:
    return {
        "name": view.name,
        "sender": view.sender,
        "channel": None if sender is None else sender.channel,
        "state": view.state,
        "reason": _reason(view),
        "held_until": None if view.held_until_us is None else rfc3339(view.held_until_us),
        "rate_per_s": round(rate_per_s(view.interval_us), 6) if view.interval_us > 0 else None,
        "speed": round(view.speed, 3),
        "overridden": view.overridden,
        "backlog": view.backlog,
    }
