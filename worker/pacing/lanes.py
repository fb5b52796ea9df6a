"""Read lanes: what waits for each sender, at which rate it leaves, and what holds it.

Reads only; ``calls.lane`` changes them. For people: API, command line, and the estimate of a dry run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from producers.ledger.ledger import Ledger
from producers.ledger.states import CLASSES
from worker.pacing.rates import speed

State = Literal["open", "held", "slowed", "paused", "draining", "drained", "gone"]


SILENCE = "no_clear_answer"  # single requests probe until one is answered


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """One lane.

    Attributes:
        state: ``paused`` by a person; ``draining`` by a person: what was submitted before leaves, later messages wait, and
            ``drained`` once none of the former waits in the lane (what is scheduled, or waits for another try, has yet to
            come); ``held`` until ``held_until_us`` (a limit of the provider, a cap of the
            day); ``slowed``: the provider said repeatedly that we are too fast; ``gone``: its sender is no longer
            configured, so nothing leaves.
        reason: Why it is paused, drained, held or slowed, else None.
        backlog: Messages by class: urgent, normal, bulk.
        leaving: Of a lane that is drained, how many of its backlog were there before; else None.
        interval_us: Between two units at its own rate, as it is now.
        speed: The share that it may use now of the rate of ``slowest``, the most slowed-down bucket that it draws on; 1: none.
        free_at_us: When its own bucket has the next slot; in the past if it is idle.
    """

    name: str
    sender: str
    state: State
    reason: str | None
    held_until_us: int | None
    backlog: dict[str, int]
    interval_us: int
    speed: float
    slowest: str
    overridden: bool
    free_at_us: int
    scopes: tuple[str, ...]
    leaving: int | None = None

    def wait_us(self, klass: int, now_us: int) -> int:
        """How long a message of this class that came now would wait, as far as this lane alone decides."""
        ahead = sum(count for word, count in self.backlog.items() if CLASSES[word] <= klass)
        start = max(self.free_at_us, self.held_until_us or 0, now_us)
        return start - now_us + ahead * self.interval_us


def lane_names(ledger: Ledger) -> list[str]:
    redis: Any = ledger.redis
    return sorted(name.decode() for name in redis.smembers(ledger.key("lanes")))


def read_lanes(ledger: Ledger, names: Sequence[str] | None = None) -> list[LaneView]:
    """The lanes of these names, or all, in order; unknown ones are left out."""
    wanted = lane_names(ledger) if names is None else list(names)
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for name in wanted:
            pipe.hgetall(ledger.key(f"lane:{name}"))
            for klass in CLASSES.values():
                pipe.zcard(ledger.key(f"q:{name}:{klass}"))
        (seconds, micros), *replies = pipe.execute()
    now_us = seconds * 1_000_000 + micros
    found = [
        (name, _texts(replies[4 * i]), replies[4 * i + 1 : 4 * i + 4])
        for i, name in enumerate(wanted)
        if replies[4 * i].get(b"bk")
    ]
    buckets = _read_buckets(ledger, {bucket for _, lane, _ in found for bucket in lane["bk"].split()})
    leaving = _still_leaving(ledger, {name: lane for name, lane, _ in found if "dr" in lane})
    return [_view(name, {**lane, **leaving.get(name, {})}, counts, buckets, now_us) for name, lane, counts in found]


def _still_leaving(ledger: Ledger, drained: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Of lanes that are drained: how many wait that were there before, as a field "leaving"."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        for name, lane in drained.items():
            for klass in CLASSES.values():
                pipe.zcount(ledger.key(f"q:{name}:{klass}"), "-inf", lane[f"d{klass}"])
        counts = pipe.execute() if drained else []
    each = len(CLASSES)
    return {name: {"leaving": str(sum(counts[each * i : each * (i + 1)]))} for i, name in enumerate(drained)}


def _texts(flat: dict[bytes, bytes]) -> dict[str, str]:
    return {field.decode(): value.decode(errors="replace") for field, value in flat.items()}


def _read_buckets(ledger: Ledger, names: set[str]) -> dict[str, dict[str, Any]]:
    ordered = sorted(names)
    with ledger.redis.pipeline(transaction=False) as pipe:
        for name in ordered:
            pipe.hgetall(ledger.key(f"b:{name}"))
        pipe.hmget(ledger.key("rates"), ordered or ["-"])
        *flat, overrides = pipe.execute()
    return {
        name: {**_texts(fields), "overridden": override is not None}
        for name, fields, override in zip(ordered, flat, overrides, strict=False)
    }


def _view(
    name: str, lane: dict[str, str], counts: Sequence[int], buckets: dict[str, dict[str, Any]], now_us: int
) -> LaneView:
    draws = [buckets[bucket] for bucket in lane["bk"].split()]
    own = draws[0]
    held_until_us, held_by = max((_rest_until_us(bucket, now_us) for bucket in draws), key=lambda rest: rest[0])
    speeds = {name: speed(buckets[name].get("sp", ""), now_us) for name in lane["bk"].split()}
    slowest = min(speeds, key=speeds.__getitem__)
    state: State = "open"
    if lane.get("ok") != "1":
        state = "gone"
    elif "ps" in lane:
        state = "paused"
    elif "leaving" in lane:
        state = "drained" if lane["leaving"] == "0" else "draining"
    elif held_until_us > now_us:
        state = "held"
    elif speeds[slowest] < 1:
        state = "slowed"
    drained_by = lane.get("drw")
    reasons = {"paused": lane.get("ps"), "draining": drained_by, "drained": drained_by, "held": held_by}
    return LaneView(
        name=name,
        sender=lane.get("sd", name),
        state=state,
        reason={**reasons, "slowed": buckets[slowest].get("spw")}.get(state),
        held_until_us=held_until_us if held_until_us > now_us else None,
        backlog=dict(zip(CLASSES, counts, strict=True)),
        interval_us=math.ceil(int(float(own.get("t", 0))) / next(iter(speeds.values()))),
        speed=speeds[slowest],
        slowest=slowest,
        overridden=bool(own["overridden"]),
        free_at_us=int(float(own.get("tat", 0))),
        scopes=tuple(lane.get("scp", "").split()),
        leaving=int(lane["leaving"]) if "leaving" in lane else None,
    )


def _rest_until_us(bucket: dict[str, Any], now_us: int) -> tuple[int, str]:
    """Until when a bucket lets nothing through, and why; a slot that merely comes later is no rest."""
    hold = int(float(bucket.get("hold", 0)))
    if (probe := int(float(bucket.get("probe", 0)))) > max(hold, now_us):
        return probe, SILENCE
    if "cap" in bucket:
        reset = int(float(bucket.get("reset", 0)))
        if int(float(bucket.get("used", 0))) >= int(float(bucket["cap"])) and reset > max(hold, now_us):
            return reset, "daily_cap"
    return hold, str(bucket.get("why", ""))
