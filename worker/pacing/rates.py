"""From a rate to what a bucket holds: its emission interval and its tolerance, in microseconds.

A bucket is GCRA with a burst of one: slots are never closer than the interval. So rounding goes up, to the slower side.
"""

from typing import Final, Literal

from worker.settings.quantities import MICROSECONDS, Rate, parse_rate

TOLERANCE_MIN_US = 10_000  # a busy host wakes a thread that late on a normal day
TOLERANCE_MAX_US = 1_000_000  # a slow sender's slot is not worth waiting longer for: the next one comes
CONFIGURED: Final = "configured"  # in place of a rate set at run time: what notify.toml says

__all__ = ["MICROSECONDS", "Rate", "interval_us", "parse_rate", "rate_per_s", "run_time_rate", "speed", "tolerance_us"]


def interval_us(rate: Rate) -> int:
    """Microseconds between two units at this rate, at least 1, rounded up so that the rate is never exceeded."""
    return max(1, -(-rate.per_us // rate.units))


def run_time_rate(text: str) -> int | Literal["configured"]:
    """Microseconds a unit, or "configured", of what an operator wrote.

    Raises:
        PydanticCustomError: it is neither; see :func:`parse_rate`.
    """
    return CONFIGURED if text.strip().lower() == CONFIGURED else interval_us(parse_rate(text))


def tolerance_us(interval: int) -> int:
    """How late a slot may still be used.

    Less than one interval late adds at most one message to any window, however the host stalls; a floor, for no host is
    punctual to the microsecond; a ceiling, so that a message never waits long for a hand that died.
    """
    return min(max(TOLERANCE_MIN_US, interval), TOLERANCE_MAX_US)


def rate_per_s(interval: int) -> float:
    """Units a second at this interval."""
    return 1_000_000 / interval


def speed(slowed: str, now_us: int) -> float:
    """The share of its rate that a bucket may use now, by its field "sp" ("" or "<millionths>:<since us>").

    The provider slowed it down; it grows back by a tenth of the rate each minute. The scripts reckon alike.
    """
    if not slowed:
        return 1.0
    millionths, since_us = slowed.split(":")
    return min(1.0, int(millionths) / 1e6 + 0.1 * max(0, (now_us - int(since_us)) // 60_000_000))
