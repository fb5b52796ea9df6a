"""What the day came to. Pure: from what was handed over, what the ledger says, and what the sandbox received.

The sandbox is the witness: what it accepted is what people would have read. Its stamps and ours come from one clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from worker.demo.day import Fed

SECOND_US = 1_000_000
BACKLOG_PART = 0.9  # of a sender's arrivals: what comes after has no backlog before it, only a tail of repeats
URGENT = "otp"
REPLAYED = 208  # how the sandbox notes a repeat that it answered from its record
FINAL = frozenset({"delivered", "failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out"})
PLAIN = {
    "cancelled": "cancelled through the API",
    "validity": "too old before its turn came",
    "silent": "no receipt and no answer to polls, 10 s after the hand-over",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """One sender: what it may send and what it sent, in units a second."""

    sender: str
    channel: str
    allowed_per_s: float
    units: int
    most_in_a_second: int
    share_used: float | None  # of the rate, while there was a backlog; None where there was none to speak of


@dataclass(frozen=True, slots=True)
class Urgent:
    """From ``enqueue`` being called to the request reaching the sandbox, in milliseconds."""

    count: int
    p50_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Killed:
    """The messages that the killed worker held."""

    in_hands: int
    doubted: int  # taken up as uncertain by the other worker; of the rest a receipt came first
    asked_again: int  # with the same bytes and the same key, after a silence
    replayed: int  # of these: Telnyx had it already, and said so
    ended: dict[str, int]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    notifications: int
    messages: int
    took_s: float
    channels: dict[str, dict[str, int]]
    paces: list[Pace]
    urgent: Urgent | None
    not_delivered: list[tuple[str, str, int]]
    refused: dict[str, int]
    killed: Killed | None
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a report is made from. ``answers``: a notification's id → the API's answer about it."""

    fed: Sequence[Fed]
    answers: Mapping[str, Mapping[str, Any]]
    arrivals: Sequence[tuple[int, str, str | None, int]]
    summary: Mapping[str, Any]
    senders: Mapping[str, tuple[str, float]]  # name → channel, units a second
    sender_of: Mapping[str, str]  # job type → sender
    refused: Sequence[str]
    problems: Sequence[str]
    in_hands: Sequence[str]
    exit_codes: Mapping[str, int]
    took_s: float


def make_report(evidence: Evidence) -> Report:
    """Count everything, and check what must hold whatever happened."""
    messages = [m for answer in evidence.answers.values() for m in answer["messages"]]
    return Report(
        notifications=len(evidence.fed),
        messages=sum(fed.messages for fed in evidence.fed),
        took_s=round(evidence.took_s, 1),
        channels=_by_channel(evidence, messages),
        paces=_paces(evidence),
        urgent=_urgent(evidence),
        not_delivered=_not_delivered(messages),
        refused=dict(Counter(evidence.refused)),
        killed=_killed(evidence, messages),
        checks=_checks(evidence, messages),
    )


def most_in_a_second(arrivals: Sequence[tuple[int, int]]) -> int:
    """The most units in any second, of (instant, units) in the order of time; the second's end is not part of it."""
    most = held = start = 0
    for at_us, units in arrivals:
        held += units
        while arrivals[start][0] <= at_us - SECOND_US:
            held -= arrivals[start][1]
            start += 1
        most = max(most, held)
    return most


def share_used(arrivals: Sequence[tuple[int, int]], per_s: float) -> float | None:
    """Which part of its rate a sender used until nine tenths of its units were out."""
    total = sum(units for _, units in arrivals)
    sent, last = 0, 0
    for last, (_, units) in enumerate(arrivals):  # noqa: B007
        sent += units
        if sent >= BACKLOG_PART * total:
            break
    if last < 10:
        return None
    span_us = arrivals[last][0] - arrivals[0][0]
    return (sent - arrivals[last][1]) / (span_us / SECOND_US) / per_s if span_us else None


def _by_channel(evidence: Evidence, messages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {channel: Counter() for channel, _ in evidence.senders.values()}
    for message in messages:
        counts[message["channel"]][message["state"]] += 1
    return {channel: dict(states) for channel, states in counts.items()}


def _paces(evidence: Evidence) -> list[Pace]:
    """What arrived comes from the sandbox, what was taken from the ledger: a refused request uses its slot too."""
    known = {fed.id: fed for fed in evidence.fed}
    arrived: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at_us, _, ref, _ in sorted(evidence.arrivals, key=lambda arrival: arrival[0]):
        fed = known.get((ref or "")[:32])
        if fed is not None:
            arrived[evidence.sender_of[fed.job_type]].append((at_us, fed.units))
    taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for fed in evidence.fed:
        for message in evidence.answers[fed.id]["messages"]:
            taken[evidence.sender_of[fed.job_type]] += [(at_us, fed.units) for at_us in _takes_us(message)]
    paces = []
    for name, (channel, per_s) in evidence.senders.items():
        share = share_used(sorted(taken[name]), per_s)
        units = sum(units for _, units in arrived[name])
        paces.append(Pace(name, channel, per_s, units, most_in_a_second(arrived[name]), share and round(share, 4)))
    return paces


def _takes_us(message: Mapping[str, Any]) -> list[int]:
    """When each of its requests left, to the millisecond."""
    steps = [step["at"] for step in message["timeline"] if step["state"] == "sending"]
    return [int(datetime.fromisoformat(at).timestamp() * 1000) * 1000 for at in steps]


def _urgent(evidence: Evidence) -> Urgent | None:
    first: dict[str, int] = {}
    for at_us, _, ref, _ in evidence.arrivals:
        if ref:
            first[ref] = min(at_us, first.get(ref, at_us))
    waits_ms = [
        (first[f"{fed.id}-0"] - fed.asked_us) / 1000
        for fed in evidence.fed
        if fed.job_type == URGENT and f"{fed.id}-0" in first
    ]
    return Urgent(len(waits_ms), round(median(waits_ms), 1), round(max(waits_ms), 1)) if waits_ms else None


def _not_delivered(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """State, why, and how many, most first."""
    why = Counter((m["state"], _why(m)) for m in messages if m["state"] != "delivered")
    return [(state, reason, count) for (state, reason), count in why.most_common()]


def _why(message: Mapping[str, Any]) -> str:
    if message["errors"]:
        error = message["errors"][-1]
        return f"{error['code']}: {error['title']}" if error["title"] else error["code"]
    reason = message["timeline"][-1]["reason"] if message["timeline"] else None
    if message["state"] == "opted_out":
        return "said STOP, or an app opted them out"
    return PLAIN.get(reason or message["state"], reason or "no carrier receipt")


def _killed(evidence: Evidence, messages: Sequence[Mapping[str, Any]]) -> Killed | None:
    if not evidence.in_hands:
        return None
    held = [m for m in messages if m["id"] in set(evidence.in_hands)]
    doubted = sum(any(step["reason"] == "died" for step in m["timeline"]) for m in held)
    again = {m["id"] for m in held if m["attempts"] > 1}
    replayed = len({ref for _, _, ref, status in evidence.arrivals if status == REPLAYED and ref in again})
    return Killed(len(evidence.in_hands), doubted, len(again), replayed, dict(Counter(m["state"] for m in held)))


def _checks(evidence: Evidence, messages: Sequence[Mapping[str, Any]]) -> list[Check]:
    promised = sum(fed.messages for fed in evidence.fed)
    open_ones = Counter(m["state"] for m in messages if m["state"] not in FINAL)
    twice = evidence.summary["texted_twice"]
    accepted = {ref for _, _, ref, status in evidence.arrivals if status == 200 and ref}
    stray = [m["id"] for m in messages if m["state"] == "delivered" and m["id"] not in accepted]
    silenced = [
        m["id"] for m in messages if m["state"] in ("cancelled", "expired", "opted_out") and m["id"] in accepted
    ]
    ended_badly = {name: code for name, code in evidence.exit_codes.items() if code}
    return [
        Check("every message is accounted for", len(messages) == promised, f"{len(messages)} of {promised}"),
        Check("every message is final", not open_ones, _listed(open_ones) or "none is open"),
        Check(
            "nobody was texted twice", not twice, f"{len(twice)} were: {twice[:3]}" if twice else "the sandbox agrees"
        ),
        Check(
            "what is delivered was sent", not stray, f"{len(stray)} never arrived" if stray else "the sandbox has each"
        ),
        Check(
            "no means no", not silenced, f"{len(silenced)} reached the sandbox" if silenced else "nothing left for them"
        ),
        Check("the script went as written", not evidence.problems, "; ".join(evidence.problems) or "all acts"),
        *([Check("SIGTERM ends with 0", not ended_badly, _listed(evidence.exit_codes))] if evidence.exit_codes else []),
    ]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
