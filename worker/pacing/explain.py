"""Say which bucket rules a lane, why, and when its backlog will be gone.

A lane waits for the slowest bucket that it draws on. A shared bucket serves all lanes that wait for it alike, so what
decides is how long a bucket takes for the backlogs of *all* lanes that draw on it; the longest is the one that rules.
Reading is apart from reckoning: :func:`explain` is pure. Invariants, each with a test named after it:

- The bucket that rules is one of the lane's own list.
- A lane with nothing waiting is done now; a lane that is paused, or whose sender is gone, is never done by itself.
- A lane that is drained is done when what was there before has left; what came later is never gone by itself.
- A daily cap counts its days: what is over it waits for the next midnight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.ledger.ledger import Ledger
from worker.pacing.lanes import SILENCE, LaneView, read_lanes
from worker.pacing.rates import speed

DAY_US = 86_400_000_000
UNPUBLISHED_US = 1_000_000  # as buckets.lua has it: slow and seen, never unlimited
KINDS = {
    "s": "the sender's own rate",
    "c": "the campaign's limit, set by its class at AT&T",
    "d": "the brand's daily cap",
    "p": "the messaging profile's limit",
    "a": "the account's limit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What a lane draws on. A pace has ``interval_us``; a daily cap ``cap``, ``used`` and ``reset_us``; a gate neither.

    One that was never ``published`` counts as a pace of one a second.

    ``speed``: the share of its rate that a pace may use now, which ``interval_us`` has in it; ``slowed_by``: why.
    """

    name: str
    interval_us: int | None = None
    cap: int | None = None
    used: int = 0
    reset_us: int = 0
    held_until_us: int = 0
    why: str = ""
    speed: float = 1.0
    slowed_by: str = ""
    published: bool = True

    @property
    def meaning(self) -> str:
        return KINDS.get(self.name[:1], "a limit")

    def done_us(self, units: int, now_us: int) -> int:
        """When this bucket alone will have let ``units`` through."""
        start = max(now_us, self.held_until_us)
        if units <= 0:
            return start
        if self.interval_us is not None:
            return start + units * self.interval_us
        if self.cap is None:
            return start
        left = max(0, self.cap - self.used)
        if units <= left:
            return start
        return max(start, self.reset_us) + (math.ceil((units - left) / self.cap) - 1) * DAY_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``done_us``: when the backlog will be gone, None if it will not be by itself. ``rules``: the bucket that decides."""

    lane: LaneView
    buckets: tuple[Bucket, ...]
    rules: Bucket
    done_us: int | None
    words: str


def explain(lane: LaneView, buckets: Sequence[Bucket], backlogs: Mapping[str, int], *, now_us: int) -> Explanation:
    """Why ``lane`` leaves at the rate it does.

    Args:
        buckets: The lane's, its own first.
        backlogs: For each bucket's name, what waits in all lanes that draw on it, this one included.
    """
    backlog = sum(lane.backlog.values())
    waiting = backlog if lane.leaving is None else lane.leaving
    own = buckets[0]
    # Of an idle lane, the one that would rule the next message.
    ends = {b.name: b.done_us(max(1, waiting if b is own else backlogs.get(b.name, waiting)), now_us) for b in buckets}
    rules = max(buckets, key=lambda b: (ends[b.name], b is own))
    stands = lane.state in ("paused", "drained", "gone")
    done_us = now_us if not backlog else None if stands else ends[rules.name]
    return Explanation(
        lane=lane, buckets=tuple(buckets), rules=rules, done_us=done_us, words=_words(lane, rules, now_us)
    )


def _words(lane: LaneView, rules: Bucket, now_us: int) -> str:
    if lane.state == "draining":
        later = sum(lane.backlog.values()) - (lane.leaving or 0)
        return (
            f"draining ({lane.reason}): {lane.leaving or 0:,} that were there before leave, {later:,} later ones wait until it "
            f"is resumed; {_ruled(rules, now_us)}"
        )
    if lane.state == "paused":
        return f"paused ({lane.reason}): nothing leaves until it is resumed"
    if lane.state == "drained":
        return (
            f"drained ({lane.reason}): what waited in it has left; later messages wait until it is resumed. What is scheduled, "
            "or waits for another try, still leaves in its time"
        )
    if lane.state == "gone":
        return "its sender is not configured any more: nothing leaves, and validity ends what waits"
    return _ruled(rules, now_us)


def _ruled(rules: Bucket, now_us: int) -> str:
    if not rules.published:
        return (
            f"{rules.meaning} ({rules.name}) is unknown here and counts as one a second: restart a worker to publish it"
        )
    if rules.held_until_us > now_us:
        return f"{rules.meaning} ({rules.name}) rests: {rules.why or 'held'}"
    if rules.cap is not None:
        return f"{rules.meaning} ({rules.name}): {rules.used:,} of {rules.cap:,} used"
    if rules.speed < 1:
        return f"{rules.meaning} ({rules.name}), slowed to {rules.speed:.0%} of it: {rules.slowed_by or 'too fast'}"
    return f"{rules.meaning} ({rules.name})"


def read_explanations(ledger: Ledger, sender: str) -> list[Explanation]:
    """One for each lane of a sender; none if there is no such sender."""
    views = read_lanes(ledger)
    redis: Any = ledger.redis
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for view in views:
            pipe.hget(ledger.key(f"lane:{view.name}"), "bk")
        (seconds, micros), *lists = pipe.execute()
    draws = {view.name: (names or b"").decode().split() for view, names in zip(views, lists, strict=True)}
    backlogs: dict[str, int] = {}
    for view in views:
        for bucket in draws[view.name]:
            backlogs[bucket] = backlogs.get(bucket, 0) + sum(view.backlog.values())
    mine = [view for view in views if view.sender == sender]
    now_us = seconds * 1_000_000 + micros
    buckets = _read_buckets(ledger, {b for view in mine for b in draws[view.name]}, now_us)
    return [explain(view, [buckets[b] for b in draws[view.name]], backlogs, now_us=now_us) for view in mine]


def _read_buckets(ledger: Ledger, names: set[str], now_us: int) -> dict[str, Bucket]:
    redis: Any = ledger.redis
    ordered = sorted(names)
    with redis.pipeline(transaction=False) as pipe:
        for name in ordered:
            pipe.hgetall(ledger.key(f"b:{name}"))
        rows = pipe.execute()
    return {name: _bucket(name, row, now_us) for name, row in zip(ordered, rows, strict=True)}


def _bucket(name: str, row: Mapping[bytes, bytes], now_us: int) -> Bucket:
    def number(field: bytes) -> int:
        return int(float(row.get(field, b"0")))

    hold, probe = number(b"hold"), number(b"probe")
    known = any(field in row for field in (b"t", b"cap", b"gate"))
    share = speed(row.get(b"sp", b"").decode(), now_us)
    return Bucket(
        name=name,
        interval_us=math.ceil(number(b"t") / share) if b"t" in row else None if known else UNPUBLISHED_US,
        cap=number(b"cap") if b"cap" in row else None,
        used=number(b"used"),
        reset_us=number(b"reset"),
        held_until_us=max(hold, probe) if max(hold, probe) > now_us else 0,
        why=SILENCE if probe > hold else row.get(b"why", b"").decode(errors="replace"),
        speed=share,
        slowed_by=row.get(b"spw", b"").decode(errors="replace"),
        published=known,
    )
