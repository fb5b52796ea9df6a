"""Durations, rates and times of day, as people write them in ``notify.toml``.

Each reader takes what stands in the file and returns plain numbers with a unit, or raises an error that shows the same
quantity rightly written, since nearly every mistake here is one of spelling.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from worker.settings.problems import wrong

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MICROSECONDS = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
# Intervals are whole microseconds: under 100 us, rounding them would cost over 1 % of the rate.
FASTEST_PER_S = 10_000

_DURATION = re.compile(r"(\d{1,9})([smhd])")
_RATE = re.compile(r"([1-9]\d{0,8})/(s|min|h)")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Rate:
    """``units`` in each ``per_us`` microseconds; what a unit is (message, segment, recipient) the holder says."""

    units: int
    per_us: int

    def __str__(self) -> str:
        period = next((name for name, us in MICROSECONDS.items() if us == self.per_us), f"{self.per_us}us")
        return f"{self.units}/{period}"

    @property
    def per_s(self) -> float:
        return self.units * 1_000_000 / self.per_us


@dataclass(frozen=True)
class Hours:
    """A window of the day in minutes after midnight; one whose end is before its start runs over midnight."""

    start_min: int
    end_min: int

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.start_min, self.end_min))


def parse_duration_s(value: object) -> int:
    """Seconds of ``30s``, ``5m``, ``2h``, ``3d``.

    Raises:
        PydanticCustomError: not written that way; it carries the remedy.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise wrong("must be a duration: 30s, 5m, 2h or 3d", f'write "{_meant_duration(value)}"')
    return int(found[1]) * SECONDS[found[2]]


def duration_s(low: str, high: str) -> Callable[[object], int]:
    """A reader of durations from ``low`` to ``high``."""
    low_s, high_s = parse_duration_s(low), parse_duration_s(high)

    def read(value: object) -> int:
        seconds = parse_duration_s(value)
        if not low_s <= seconds <= high_s:
            raise wrong(
                f"must be from {low} to {high}", f'write "{low if seconds < low_s else high}" or what lies between'
            )
        return seconds

    return read


def parse_rate(value: object) -> Rate:
    """The rate that ``20/s``, ``60/min`` or ``500/h`` says, at most 10,000/s.

    Raises:
        PydanticCustomError: not written that way; it carries the remedy.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise wrong("must be a whole number a second, minute or hour: 20/s, 60/min or 500/h", _meant_rate(value))
    rate = Rate(int(found[1]), MICROSECONDS[found[2]])
    if rate.per_s > FASTEST_PER_S:
        raise wrong(f"must be at most {FASTEST_PER_S}/s", f'write "{FASTEST_PER_S}/s"')
    return rate


def parse_rate_or_auto(value: object) -> Rate | Literal["auto"]:
    """As ``parse_rate``, and the word ``auto``."""
    return "auto" if value == "auto" else parse_rate(value)


def parse_hours(value: object) -> Hours:
    """The window that ``21:00-08:00`` says: its start is in it, its end is not."""
    found = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise wrong("must be a window of the day", 'write "21:00-08:00"')
    window = Hours(int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4]))
    if window.start_min == window.end_min:
        raise wrong("must not start and end at the same minute", 'write "21:00-08:00"')
    return window


def _meant_duration(value: object) -> str:
    """What the writer probably meant: ``60`` and ``"1 minute"`` have a right spelling that we can name."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return f"{value}s"
    found = re.fullmatch(r"\s*(\d{1,9})\s*([a-zA-Z]*)\s*", value) if isinstance(value, str) else None
    if found is None:
        return "30s"
    unit = found[2][:1].lower() or "s"
    return f"{found[1]}{unit if unit in SECONDS else 's'}"


def _meant_rate(value: object) -> str:
    """As ``_meant_duration``: ``0.5/s`` is ``30/min``, ``"100 per second"`` is ``100/s``."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(?:/|per)?\s*([a-zA-Z]*)\s*", str(value))
    unit = (found[2][:1].lower() or "s") if found else ""
    period = {"s": "s", "m": "min", "h": "h"}.get(unit)
    if found is None or period is None or isinstance(value, bool):
        return 'write "20/s"'
    asked = Fraction(found[1])
    periods = list(MICROSECONDS)
    for longer in periods[periods.index(period) :]:
        units = asked * MICROSECONDS[longer] / MICROSECONDS[period]
        if units >= 1 and units.denominator == 1:
            return f'write "{units}/{longer}"'
    return 'write "20/s"'
