"""Sum up the figures for people: what became of messages, how long it took, what it cost, by one of their labels.

Pure but for one call that reads. A figure counts in the minute in which it happened, so a correction (delivered after all)
takes away from an end that may lie before the window: a count of a window may be below zero, those of all time are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from producers.ledger.figures import Figures, Labels, Latency, Stage, ends, latencies
from producers.ledger.ledger import Ledger
from worker.telnyx.errors import describe

By = Literal["all", "job_type", "channel", "sender", "carrier"]
BYS: tuple[By, ...] = get_args(By)
MINUTES_MOST_S = 10_800  # beyond it, whole days
REASONS = {  # of ours, where no code of the provider's tells
    "silent": "no receipt came, and no answer told",
    "validity": "its validity was over",
    "give_up": "the job type asks no second time",
    "opted_out": "the person said STOP",
    "tries": "it was tried as often as it may be",
    "cancelled": "an app or a person cancelled it",
    "other_leg": "another leg arrived first",
}


@dataclass(slots=True)
class Summary:
    """The figures of one value of a label. ``failures`` pairs a state and reason with a count."""

    label: str
    states: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    stages: dict[Stage, Latency] = field(default_factory=dict)
    segments: int = 0
    cost_millionths: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    clicks: int = 0

    @property
    def handed_over(self) -> int:
        found = self.stages.get("provider")
        return found.count if found else 0


@dataclass(frozen=True, slots=True)
class LaneNames:
    """Of each lane, its sender and its channel, also of a sender that has left the configuration."""

    senders: Mapping[str, str]
    channels: Mapping[str, str]

    def label(self, by: By, labels: Labels) -> str:
        if by == "all":
            return "all"
        if by == "job_type":
            return labels.job_type
        if by == "carrier":
            return labels.carrier
        if by == "channel":
            return self.channels.get(labels.lane, "")
        return self.senders.get(labels.lane, labels.lane)


def read_lane_names(ledger: Ledger) -> LaneNames:
    redis: Any = ledger.redis
    lanes = sorted(name.decode() for name in redis.smembers(ledger.key("lanes")))
    with redis.pipeline(transaction=False) as pipe:
        for lane in lanes:
            pipe.hmget(ledger.key(f"lane:{lane}"), "sd", "ch")
        rows = pipe.execute()
    senders, channels = (
        {lane: row[i].decode() for lane, row in zip(lanes, rows, strict=True) if row[i]} for i in (0, 1)
    )
    return LaneNames(senders, channels)


def summarize(figures: Figures, by: By, names: LaneNames) -> list[Summary]:
    """One summary for each value of the label, those with the most messages first; one in all for "all"."""
    found: dict[str, Summary] = {}

    def of(labels: Labels) -> Summary:
        label = names.label(by, labels)
        return found.setdefault(label, Summary(label))

    for end, n in ends(figures).items():
        summary = of(end.labels)
        summary.states[end.state] += n
        if end.state in ("failed", "unconfirmed", "rejected"):
            summary.failures[end.state, end.reason] += n
    for (stage, labels), latency in latencies(figures).items():
        _add(of(labels).stages, stage, latency)
    for (kind, labels, more), n in figures.rows.items():
        _add_sum(of, kind, labels, more, n)
    return sorted(found.values(), key=lambda summary: (-sum(summary.states.values()), summary.label))


def _add(stages: dict[Stage, Latency], stage: Stage, latency: Latency) -> None:
    known = stages.get(stage)
    if known is None:
        stages[stage] = Latency(list(latency.buckets), latency.sum_s)
    else:
        known.buckets = [a + b for a, b in zip(known.buckets, latency.buckets, strict=True)]
        known.sum_s += latency.sum_s


def _add_sum(of: Callable[[Labels], Summary], kind: str, labels: Labels, more: str, n: int) -> None:
    if kind == "g":
        of(labels).segments += n
    elif kind == "k":
        of(labels).clicks += n
    elif kind in ("c", "r"):
        of(labels).cost_millionths[more] += n if kind == "c" else -n
    elif kind[0] == "o":
        of(labels).refusals[kind[1:], more] += n


def reason_words(state: str, reason: str) -> str:
    """What a reason of the figures means. Codes are the provider's, words are ours."""
    if reason in REASONS:
        return REASONS[reason]
    if reason.isdigit():
        return describe(reason, "send" if state == "rejected" else "receipt")
    return reason.replace("_", " ") or "no reason was given"


def shown(summary: Summary) -> dict[str, Any]:
    """A summary as JSON."""
    return {
        "label": summary.label,
        "handed_over": summary.handed_over,
        "states": {state: n for state, n in summary.states.items() if n},
        "failures": [
            {"state": state, "reason": reason, "words": reason_words(state, reason), "count": n}
            for (state, reason), n in summary.failures.most_common()
            if n
        ],
        "latency_s": {stage: _shown_latency(latency) for stage, latency in summary.stages.items()},
        "segments": summary.segments,
        "cost": {currency: f"{n / 1_000_000:.4f}" for currency, n in summary.cost_millionths.items() if n},
        "requests_not_accepted": [
            {"outcome": outcome, "reason": reason, "count": n}
            for (outcome, reason), n in summary.refusals.most_common()
        ],
        "clicks": summary.clicks,
    }


def _shown_latency(latency: Latency) -> dict[str, float | int | None]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    return {
        "count": latency.count,
        "mean": rounded(latency.sum_s / latency.count if latency.count else None),
        "p50": rounded(latency.quantile_s(0.5)),
        "p95": rounded(latency.quantile_s(0.95)),
        "p99": rounded(latency.quantile_s(0.99)),
    }
