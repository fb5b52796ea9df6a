"""Read a notification back: counts, messages, timelines. Reads only; what people and apps see of the ledger.

An entry is a recipient (or a group) of a notification, however many messages, its *legs*, were made for it. People see
one message for each entry: delivered if any leg is, else in the state of its newest leg.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from producers.ledger.ledger import Ledger
from producers.ledger.states import FINAL, STATES

_STEP = re.compile(r"([A-Z])([0-9a-z]+)(?:\.([0-9a-z_]+))?(?:~(\d+))?")
CHUNK = 200
# Reasons for which a request that was taken did not leave.
_UNSENT = frozenset({
    "late", "failover", "unanswered", "interrupted", "unbuildable", "pool", "dns", "tls", "connect", "connect_refused",
    "connect_timeout",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a timeline; ``at_us`` has a millisecond's precision."""

    at_us: int
    state: str
    leg: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """One entry as people see it. ``to`` is a list for a group, whose ``members`` are (number, state) pairs.

    ``leg`` is the number of its newest leg; what only one leg can have (provider id, lane, members) is that of the leg
    that was delivered, or else of the newest.
    """

    id: str
    to: str | list[str]
    lane: str
    state: str
    attempts: int
    provider_id: str | None
    from_number: str | None
    errors: list[dict[str, Any]]
    timeline: list[Step]
    next_at_us: int | None
    members: list[tuple[str, str]]
    version: int
    provider_status: str | None
    parts: int | None
    leg: int = 1
    provider_send_at_us: int | None = None  # until when the provider was told to hold it
    asked_back: str | None = None  # why it is to be taken back from there, as long as that is open


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationView:
    """A notification with one page of its messages; ``next`` is the index to go on after, or None."""

    id: str
    client: str
    job_type: str
    submitted_us: int
    state_counts: dict[str, int]
    messages: list[MessageView]
    next: int | None
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return all(state in _FINAL_WORDS for state, n in self.state_counts.items() if n)


_FINAL_WORDS = frozenset(STATES[letter] for letter in FINAL)


def _texts(flat: dict[bytes, bytes]) -> dict[str, str]:
    return {k.decode(): v.decode(errors="replace") for k, v in flat.items() if not k.isdigit()}


def timeline(record: dict[str, str], leg: int = 1) -> list[Step]:
    """The steps of a record's ``tl`` field: a letter, base-36 milliseconds since submit, and a reason if there is one.

    A long one has lost its middle; ``~<n>`` after a step says how many attempts are not shown. An attempt is a request that
    left: what came back unsent is tried again under the same number.
    """
    steps: list[Step] = []
    attempt = 0
    for letter, ms, reason, left_out in _STEP.findall(record.get("tl", "")):
        attempt += letter == "S"
        if letter in "QW" and reason in _UNSENT and steps and steps[-1].state == STATES["S"]:
            attempt -= 1
        at_us = int(record["at"]) + int(ms, 36) * 1000
        steps.append(Step(at_us=at_us, state=STATES[letter], leg=leg, attempt=attempt, reason=reason))
        attempt += int(left_out or 0)
    return steps


def _errors(record: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for entry in filter(None, record.get("er", "").split(";")):
        code, _, ms = entry.partition("@")
        phase = {"s": "send", "w": "receipt", "p": "poll", "x": "expand", "c": "cancel"}.get(code[:1], code[:1])
        rows.append(
            {"code": code[1:], "title": None, "phase": phase, "at_us": int(record["at"]) + int(ms or "0", 36) * 1000}
        )
    if rows:
        rows[-1]["title"] = record.get("et") or None
    return rows


def _view(mid: str, record: dict[str, str], next_at: float | None) -> MessageView:
    numbers = record.get("to", "").split(",")
    group = record.get("gr") == "1"
    letters = record.get("gm", "")
    state = record["s"]
    members = []
    if group:
        for i, number in enumerate(numbers):
            letter = letters[i] if i < len(letters) else state
            # until a request left, a member is as far as its message
            shown = letter if letter == "O" or state in "ATDFX" else state
            members.append((number, STATES[shown]))
    return MessageView(
        id=mid,
        to=numbers if group else numbers[0],
        lane=record.get("ln", ""),
        state=STATES[state],
        attempts=int(record.get("an", 0)),
        provider_id=record.get("pid"),
        from_number=record.get("fr"),
        errors=_errors(record),
        timeline=timeline(record, int(record.get("lg", 1))),
        next_at_us=int(next_at) if next_at is not None else None,
        members=members,
        version=int(record.get("v", 1)),
        provider_status=record.get("ps"),
        parts=int(record["pt"]) if record.get("pt") else None,
        leg=int(record.get("lg", 1)),
        provider_send_at_us=int(record["so"]) if "so" in record else None,
        asked_back=_asked_back(record),
    )


def _asked_back(record: dict[str, str]) -> str | None:
    why = record.get("wd", "")
    return why if why and not why.startswith("!") and record["s"] in "SUA" else None


def entry_of(mid: str) -> str:
    """The entry that a message is a leg of; its id is that of its first leg."""
    return "-".join(mid.split("-")[:2])


def leg_id(entry: str, leg: int) -> str:
    return entry if leg == 1 else f"{entry}-{leg}"


def _merged(legs: list[MessageView]) -> MessageView:
    """One entry of its legs, the first one first."""
    if len(legs) == 1:
        return legs[0]
    first, newest = legs[0], legs[-1]
    decisive = next((leg for leg in legs if leg.state == STATES["D"]), newest)
    planned = [leg.next_at_us for leg in legs if leg.next_at_us is not None]
    return replace(
        decisive,
        id=first.id,
        attempts=sum(leg.attempts for leg in legs),
        errors=sorted((row for leg in legs for row in leg.errors), key=lambda row: int(row["at_us"])),
        timeline=sorted((step for leg in legs for step in leg.timeline), key=lambda step: step.at_us),
        next_at_us=min(planned, default=None),
        version=sum(leg.version for leg in legs),
        leg=newest.leg,
    )


def _later_legs(ledger: Ledger, newest: dict[str, int]) -> dict[str, list[MessageView]]:
    """The legs after the first of entries whose newest leg's number is given."""
    wanted = [leg_id(entry, leg) for entry, last in newest.items() for leg in range(2, last + 1)]
    found: dict[str, list[MessageView]] = {entry: [] for entry in newest}
    if not wanted:
        return found
    with ledger.redis.pipeline(transaction=False) as pipe:
        for mid in wanted:
            pipe.hgetall(ledger.key(f"m:{mid}"))
        pipe.zmscore(ledger.key("timers"), wanted)
        *records, scores = pipe.execute()
    for mid, flat, score in zip(wanted, records, scores, strict=True):
        record = _texts(flat)
        if "s" in record:
            found[entry_of(mid)].append(_view(mid, record, score))
    return found


def read_message(ledger: Ledger, mid: str) -> MessageView | None:
    """The entry of which ``mid`` is the first leg, with all its legs; or one later leg by itself; or None."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(ledger.key(f"m:{mid}"))
        pipe.zscore(ledger.key("timers"), mid)
        pipe.hget(ledger.key(f"n:{mid[:32]}"), "at")
        flat, score, shared_at = pipe.execute()
    record = _texts(flat)
    if shared_at is not None and "lg" not in record:  # of many: its submit time stands in its notification
        record["at"] = shared_at.decode()
    if "s" not in record:
        return None
    later = _later_legs(ledger, {mid: int(record["nl"])})[mid] if "nl" in record else []
    return _merged([_view(mid, record, score), *later])


def read_notification(ledger: Ledger, nid: str, *, limit: int = 100, after: int = -1) -> NotificationView | None:
    """A notification and up to ``limit`` of its messages after index ``after``; None if there is none."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(ledger.key(f"n:{nid}"))
        pipe.hgetall(ledger.key(f"m:{nid}-0"))
        pipe.get(ledger.key(f"x:{nid}"))
        many, first, extras = pipe.execute()
    head = _texts(many) or _texts(first)
    if not head:
        return None
    messages: list[MessageView] = []
    following: int | None = None
    if many:
        counts = {STATES[k[2:]]: int(v) for k, v in head.items() if k.startswith("c.") and int(v)}
        total = int(head["tot"])
        indexes = range(after + 1, min(total, after + 1 + limit))
        messages = _page(ledger, nid, head, indexes)
        following = indexes[-1] if indexes and indexes[-1] + 1 < total else None
    else:
        view = read_message(ledger, f"{nid}-0")
        counts = {view.state if view else STATES[head["s"]]: 1}
        if after < 0 and limit:
            messages = [view] if view else []
    return NotificationView(
        id=nid,
        client=head.get("cl", ""),
        job_type=head["jt"],
        submitted_us=int(head["at"]),
        state_counts=counts,
        messages=messages,
        next=following,
        extras=json.loads(extras) if extras else {},
    )


def _page(ledger: Ledger, nid: str, head: dict[str, str], indexes: range) -> list[MessageView]:
    if not len(indexes):
        return []
    with ledger.redis.pipeline(transaction=False) as pipe:
        for i in indexes:
            pipe.hgetall(ledger.key(f"m:{nid}-{i}"))
        pipe.zmscore(ledger.key("timers"), [f"{nid}-{i}" for i in indexes])
        *records, scores = pipe.execute()
    views: list[MessageView] = []
    waiting: list[int] = []
    newest: dict[str, int] = {}
    for i, flat, score in zip(indexes, records, scores, strict=True):
        record = _texts(flat)
        if "s" in record:
            views.append(_view(f"{nid}-{i}", {**record, "at": head["at"]}, score))
            if "nl" in record:
                newest[f"{nid}-{i}"] = int(record["nl"])
        elif i >= int(head["ex"]):
            waiting.append(i)
    if newest:
        later = _later_legs(ledger, newest)
        views = [_merged([view, *later.get(view.id, [])]) for view in views]
    return views + _unexpanded(ledger, nid, head, waiting)


def _base36(value: int) -> str:
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


def _unexpanded(ledger: Ledger, nid: str, head: dict[str, str], indexes: list[int]) -> list[MessageView]:
    """Recipients that still lie in their chunks: new, or ended with their notification."""
    if not indexes:
        return []
    first = int(head["ex"]) // CHUNK
    chunks = ledger.redis.lrange(ledger.key(f"r:{nid}"), indexes[0] // CHUNK - first, indexes[-1] // CHUNK - first)
    recipients = [row[0] for chunk in chunks for row in json.loads(chunk)]
    base = (indexes[0] // CHUNK) * CHUNK
    ended_ms = _base36((int(head.get("cxa", head["at"])) - int(head["at"])) // 1000)
    letter, end = {"": ("N", ""), "E": ("E", f"E{ended_ms}.validity")}.get(
        head.get("cx", ""), ("C", f"C{ended_ms}.cancelled")
    )
    record = {"s": letter, "at": head["at"], "tl": f"N0{end}"}
    return [
        _view(f"{nid}-{i}", {**record, "to": recipients[i - base]}, None) for i in indexes if i - base < len(recipients)
    ]
