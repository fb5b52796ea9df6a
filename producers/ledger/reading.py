"""Read a notification back: counts, messages, timelines. Reads only; what people and apps see of the ledger."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from producers.ledger.ledger import Ledger
from producers.ledger.states import FINAL, STATES

_STEP = re.compile(r"([A-Z])([0-9a-z]+)(?:\.([0-9a-z_]+))?(?:~(\d+))?")
CHUNK = 200


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
    """One message as people see it. ``to`` is a list for a group, whose ``members`` are (number, state) pairs."""

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

    A long one has lost its middle; ``~<n>`` after a step says how many attempts are not shown.
    """
    steps, attempt = [], 0
    for letter, ms, reason, left_out in _STEP.findall(record.get("tl", "")):
        attempt += letter == "S"
        at_us = int(record["at"]) + int(ms, 36) * 1000
        steps.append(Step(at_us=at_us, state=STATES[letter], leg=leg, attempt=attempt, reason=reason))
        attempt += int(left_out or 0)
    return steps


def _errors(record: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for entry in filter(None, record.get("er", "").split(";")):
        code, _, ms = entry.partition("@")
        phase = {"s": "send", "w": "receipt", "p": "poll", "x": "expand"}.get(code[:1], code[:1])
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
        timeline=timeline(record),
        next_at_us=int(next_at) if next_at is not None else None,
        members=members,
        version=int(record.get("v", 1)),
        provider_status=record.get("ps"),
        parts=int(record["pt"]) if record.get("pt") else None,
    )


def read_message(ledger: Ledger, mid: str) -> MessageView | None:
    """One message, or None."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(ledger.key(f"m:{mid}"))
        pipe.zscore(ledger.key("timers"), mid)
        pipe.hget(ledger.key(f"n:{mid[:32]}"), "at")
        flat, score, shared_at = pipe.execute()
    record = _texts(flat)
    if shared_at is not None:  # a message of many: its submit time stands in its notification
        record["at"] = shared_at.decode()
    return _view(mid, record, score) if "s" in record else None


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
        counts = {STATES[head["s"]]: 1}
        if after < 0:
            view = read_message(ledger, f"{nid}-0")
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
        for i in indexes:
            pipe.zscore(ledger.key("timers"), f"{nid}-{i}")
        replies = pipe.execute()
    records, scores = replies[: len(indexes)], replies[len(indexes) :]
    views = []
    waiting: list[int] = []
    for i, flat, score in zip(indexes, records, scores, strict=True):
        record = _texts(flat)
        if "s" in record:
            views.append(_view(f"{nid}-{i}", {**record, "at": head["at"]}, score))
        elif i >= int(head["ex"]):
            waiting.append(i)
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
