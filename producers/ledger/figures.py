"""Read the figures that scripts keep of what became of messages (``lib/stats.lua``): exact, by minute, by day, and in all.

Each figure was written inside the transition that it speaks of. A correction (delivered after all) is counted when it
comes, and takes the message away from the end that it had: so the net counts of all time equal the messages' states.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from producers.ledger.states import STATES

BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0)  # as STAT_BOUNDS_MS
MINUTES_KEPT = 180
STAGES: dict[str, str] = {"p": "provider", "s": "carrier", "d": "handset"}
Stage = Literal["provider", "carrier", "handset"]


class Labels(NamedTuple):
    """Whose figure it is. ``lane`` is empty for what never had one, ``carrier`` where nobody told; "other": too many."""

    job_type: str
    lane: str
    carrier: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a window by their field: ``kind`` as in ``lib/stats.lua``, labels, and what more it says."""

    now_us: int
    rows: dict[tuple[str, Labels, str], int]

    def of(self, kind: str) -> dict[tuple[Labels, str], int]:
        return {(labels, more): n for (k, labels, more), n in self.rows.items() if k == kind}


@dataclass(slots=True)
class Latency:
    """How long one stage took: counts by bucket (the last one is beyond all bounds) and the sum."""

    buckets: list[int]
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def quantile_s(self, q: float) -> float | None:
        """Interpolated inside its bucket; None without any, or where it lies beyond the last bound."""
        rank = q * self.count
        below, start = 0, 0.0
        for n, bound in zip(self.buckets, BOUNDS_S, strict=False):
            if n and below + n >= rank:
                return start + (bound - start) * max(rank - below, 0.0) / n
            below, start = below + n, bound
        return None


def read_figures(ledger: Ledger, *, minutes: int = 0, days: int = 0) -> Figures:
    """The figures of the last so many minutes (at most ``MINUTES_KEPT``) or days (UTC), the running one included.

    With neither: all that ever happened; those never shrink while Redis keeps its data.
    """
    if minutes:
        return ledger.run(_call("minutes", min(minutes, MINUTES_KEPT)))
    return ledger.run(_call("days", days) if days else _call("all", 0))


def _call(what: str, many: int) -> Call[Figures]:
    return Call("figures", [what, many], _decode)


def _decode(reply: list[Any]) -> Figures:
    rows: Counter[tuple[str, Labels, str]] = Counter()
    for flat in reply[1:]:
        for i in range(0, len(flat), 2):
            parts = flat[i].decode(errors="replace").split("|")
            if len(parts) == 5:
                rows[parts[0], Labels(*parts[1:4]), parts[4]] += int(flat[i + 1])
    return Figures(int(reply[0]), dict(rows))


class End(NamedTuple):
    """A final state, in words, with its reason: a provider's code, or a word of ours."""

    labels: Labels
    state: str
    reason: str


def ends(figures: Figures) -> Counter[End]:
    """How many messages ended in which way, corrections applied. In a window a count may be below zero."""
    found: Counter[End] = Counter()
    for (kind, labels, more), n in figures.rows.items():
        if kind[0] == "e":
            found[End(labels, STATES[kind[1]], more)] += n
        elif kind[0] == "x":
            before, _, after = more.partition(">")
            found[End(labels, STATES[kind[1]], before)] -= n
            found[End(labels, STATES[kind[2]], after)] += n
    return Counter({end: n for end, n in found.items() if n})


def latencies(figures: Figures) -> dict[tuple[Stage, Labels], Latency]:
    """The three stages: enqueue (or release) to provider, provider to carrier, provider to handset."""
    found: dict[tuple[Stage, Labels], Latency] = {}
    for (kind, labels, _), n in figures.rows.items():
        stage: Any = STAGES.get(kind[0].lower())
        if stage is None or not (kind[1:].isdigit() or kind in "PSD"):
            continue
        latency = found.setdefault((stage, labels), Latency([0] * (len(BOUNDS_S) + 1)))
        if kind[0].islower():
            latency.buckets[int(kind[1:]) - 1] += n
        else:
            latency.sum_s += n / 1000
    return found
