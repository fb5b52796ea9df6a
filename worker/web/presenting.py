"""Put what the ledger holds into the words of the API. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from producers.ledger.reading import MessageView, NotificationView
from worker.compliance.opt_outs import OptOut
from worker.pacing.explain import KINDS
from worker.pacing.lanes import SILENCE, LaneView
from worker.pacing.rates import rate_per_s
from worker.settings import Config, Sender
from worker.telnyx.error_table import META_CODES
from worker.telnyx.errors import describe
from worker.times import rfc3339

_FINAL = frozenset({"delivered", "failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out"})
_BAD = frozenset({"failed", "rejected"})


def notification(view: NotificationView, config: Config) -> dict[str, Any]:
    job = config.job_types.get(view.job_type)
    own = job.sender if job is not None and not job.routes else ""  # with routes nobody knows before it is expanded
    return {
        "id": view.id,
        "job_type": view.job_type,
        "state_counts": view.state_counts,
        "messages": [message(entry, entry.lane.removesuffix(".mms") or own, config) for entry in view.messages],
        "next": None if view.next is None else str(view.next),
    }


def message(view: MessageView, sender_name: str, config: Config) -> dict[str, Any]:
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
        "provider_status": view.provider_status,
        "provider_send_at": None if view.provider_send_at_us is None else rfc3339(view.provider_send_at_us),
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
    if code == "poison":
        return "No request could be made of it, or every worker that took it up was lost: see the workers' logs"
    return describe(code, "send" if phase == "send" else "receipt")


# Why a message ended without arriving, where no error says it.
_ENDS = {
    "silent": "accepted, and nothing was heard of it within [timing] silent_after",
    "give_up": 'it may be out, and its job type says on_uncertain = "give_up"',
    "killed_its_worker": "it may be out: every worker that took it up died",
    "stalled_its_worker": "it may be out: every worker that took it up stalled",
    "key_too_old": "it may be out, and its key is too old to ask again",
    "builder_changed": "it may be out, and this release would ask with other bytes",
    "validity": "it may be out, and its validity is over",
    "cancelled": "it may be out, and it was cancelled",
    "opted_out": "it may be out, and the person opted out",
    "replay": "it may be out, and was replayed",
    "fallback": "it may be out, and its fallback took over",
    "unreadable": "its recipient could not be read: see notify dead --aside",
}
_PHASES = {"s": "send", "w": "receipt", "p": "poll", "x": "expand"}


def why_dead(code: str, title: str, phase: str, reason: str) -> str:
    """Why a message ended without arriving, in one line: by its last error, unless something else ended it.

    ``phase`` is a letter of the record; ``reason`` the last word of the timeline.
    """
    if reason in _ENDS:
        return _ENDS[reason]
    if code:
        return f"{code}: {_title(code, title, _PHASES.get(phase, phase)) or reason}"
    return reason or "nobody knows: the carrier reported no reason"


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
