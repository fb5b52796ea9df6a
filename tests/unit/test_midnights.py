"""The midnights that daily caps start anew at, where days are not all alike."""

from __future__ import annotations

import datetime
import itertools
from zoneinfo import ZoneInfo

import pytest

from worker.publishing import midnights

HOUR_US = 3_600_000_000


def at_us(*moment: int, zone: str = "UTC", fold: int = 0) -> int:
    year, month, day, *rest = moment
    when = datetime.datetime(year, month, day, *rest, tzinfo=ZoneInfo(zone), fold=fold)
    return int(when.timestamp()) * 1_000_000


def coming(zone: str, now_us: int, days: int = 20) -> list[int]:
    return midnights({"d:acme": {"cap": 5, "tz": zone}}, now_us=now_us, days=days)["d:acme"]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Los_Angeles", (2026, 11, 1), 25),
        ("America/Los_Angeles", (2027, 3, 14), 23),
        ("America/Havana", (2026, 11, 1), 25),
        ("America/Havana", (2027, 3, 14), 23),
        ("UTC", (2026, 11, 1), 24),
        ("Asia/Kolkata", (2026, 11, 1), 24),
        ("Pacific/Apia", (2027, 3, 14), 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, day: tuple[int, int, int], hours: int) -> None:
    times = coming(zone, at_us(*day, 12, zone=zone) - 5 * 24 * HOUR_US)
    start = at_us(*day, zone=zone)
    assert start in times
    assert times[times.index(start) + 1] - start == hours * HOUR_US
    assert sorted({b - a for a, b in itertools.pairwise(times)} - {24 * HOUR_US}) == (
        [hours * HOUR_US] if hours != 24 else []
    )


def test_a_midnight_that_comes_twice_counts_once_and_the_first_time() -> None:
    """In Havana the clock goes from 1:00 back to 0:00."""
    first, second = (at_us(2026, 11, 1, zone="America/Havana", fold=fold) for fold in (0, 1))
    assert second - first == HOUR_US
    times = coming("America/Havana", first - HOUR_US)
    assert first in times and second not in times


def test_a_midnight_that_does_not_exist_is_the_instant_of_the_change() -> None:
    """In Havana the clock goes from 0:00 on to 1:00."""
    times = coming("America/Havana", at_us(2027, 3, 13, 12, zone="America/Havana"), days=1)
    assert times[-1] == at_us(2027, 3, 14, 1, zone="America/Havana")
