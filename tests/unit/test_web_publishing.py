"""What is published beside the configuration: the midnights of daily caps."""

from datetime import UTC, datetime
from typing import Any

from worker.publishing import midnights

CAPS: dict[str, dict[str, Any]] = {
    "d:acme": {"cap": 10, "tz": "America/Los_Angeles", "reserve": 0.1},
    "s:alerts": {"t_us": 1},
}


def _us(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


def test_only_daily_caps_have_midnights() -> None:
    assert set(midnights(CAPS, now_us=_us(2026, 7, 1))) == {"d:acme"}


def test_midnights_are_those_of_the_cap_s_own_zone() -> None:
    days = [_us(2026, 6, 30, 7), _us(2026, 7, 1, 7), _us(2026, 7, 2, 7)]
    assert midnights(CAPS, now_us=_us(2026, 7, 1, 6, 59), days=2)["d:acme"] == days


def test_a_day_with_a_clock_change_is_as_long_as_it_is() -> None:
    _, first, second = midnights(CAPS, now_us=_us(2026, 10, 31, 20), days=2)["d:acme"]
    assert (first, second) == (_us(2026, 11, 1, 7), _us(2026, 11, 2, 8))
    assert second - first == 25 * 3_600_000_000


def test_midnights_reach_from_the_last_one_to_forty_days_ahead_in_order() -> None:
    """The last one too: where our clock is ahead of the server's, it is still to come there."""
    now = _us(2026, 1, 1, 8, 0, 30)
    times = midnights(CAPS, now_us=now)["d:acme"]
    assert times[0] == _us(2026, 1, 1, 8) < now < times[1]
    assert len(times) == 41 and times == sorted(times)
