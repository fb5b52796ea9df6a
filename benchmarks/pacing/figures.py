"""Count rates from stamps. Pure.

Windows are half-open: ``[t, t + w)``. A window is worst where it begins with a stamp, so those alone are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NS = 1_000_000_000


def worst_window(stamps_ns: Sequence[int], window_s: float) -> int:
    """The most stamps in any half-open window of this length."""
    stamps, window_ns = sorted(stamps_ns), int(window_s * NS)
    worst = last = 0
    for first, stamp in enumerate(stamps):
        while last < len(stamps) and stamps[last] < stamp + window_ns:
            last += 1
        worst = max(worst, last - first)
    return worst


def held(stamps_ns: Sequence[int], rate: float, *, until_ns: int) -> float:
    """The rate between the first stamp and the last, as a share of ``rate``; 0 with fewer than two.

    Intervals are counted, not stamps in a fixed window, which at 1/s would be off by 3 % in 30 s for its borders alone. A
    lane that fell silent before ``until_ns`` is charged for the silence beyond one and a half intervals.
    """
    stamps = sorted(stamps_ns)
    if len(stamps) < 2:
        return 0.0
    last_ns = max(stamps[-1], until_ns - int(1.5 * NS / rate))
    return (len(stamps) - 1) / ((last_ns - stamps[0]) / NS * rate)


def per_second(stamps_ns: Sequence[int], *, start_ns: int, seconds: int) -> list[int]:
    """How many stamps in each whole second after ``start_ns``."""
    counts = [0] * seconds
    for stamp in stamps_ns:
        second = (stamp - start_ns) // NS
        if 0 <= second < seconds:
            counts[second] += 1
    return counts


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed; nan without values."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the worst windows of one lane may hold."""

    second: float
    ten_seconds: float
    raw_second: float


def allowed(rate: float) -> Allowed:
    """By send stamps and by net arrivals: one more than the rate, or 1 %. Raw arrivals: 4 %, and at least one more."""
    more = max(1.0, 0.01 * rate)
    return Allowed(rate + more, 10 * rate + more, rate + max(1.0, 0.04 * rate))
