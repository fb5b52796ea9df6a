"""Days, time zones and clocks that jump: what the pacing does with time itself."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ledger_kit import lane
from pacing_kit import Left, Workers, fill, publish, virtual
from virtual_time import DAY_US, HOUR_US, MINUTE_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import GRANT_HI_US
from worker.publishing import midnights

__all__ = ["virtual"]
T_US = 100_000


def capped(**brands: tuple[int, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One lane at ten a second for each brand: its cap a day and its zone."""
    lanes = {name: lane(name, f"s:{name}", f"d:{name}") for name in brands}
    buckets: dict[str, Any] = {f"s:{name}": {"t_us": T_US} for name in brands}
    buckets |= {f"d:{name}": {"cap": cap, "tz": zone, "reserve": 0.1} for name, (cap, zone) in brands.items()}
    return lanes, buckets


def go_to(ledger: VirtualLedger, day: tuple[int, int, int], hour: int, zone: str) -> None:
    moment = datetime.datetime(*day, hour, tzinfo=ZoneInfo(zone))
    ledger.at(int(moment.timestamp()) * SECOND_US)


def release(ledger: VirtualLedger, lanes: dict[str, Any], buckets: dict[str, Any]) -> None:
    publish(ledger, lanes, buckets, midnights(buckets, now_us=ledger.now_us))


def by_day(left: list[Left], zone: str) -> dict[datetime.date, list[datetime.datetime]]:
    days: dict[datetime.date, list[datetime.datetime]] = {}
    for row in left:
        moment = datetime.datetime.fromtimestamp(row.at_us / 1e6, ZoneInfo(zone))
        days.setdefault(moment.date(), []).append(moment)
    return days


ZONES = [
    ("America/Los_Angeles", (2026, 10, 25)),  # summer time ends on 1 November, at 2:00
    ("America/Los_Angeles", (2027, 3, 8)),  # and begins on 14 March
    ("UTC", (2026, 12, 25)),
    ("Asia/Kolkata", (2026, 10, 25)),
    ("Pacific/Apia", (2026, 12, 25)),
    ("America/Havana", (2026, 10, 28)),  # its midnight of 1 November comes twice, the one of 14 March not at all
    ("America/Havana", (2027, 3, 8)),
]


@pytest.mark.parametrize(("zone", "first_day"), ZONES)
def test_a_cap_starts_anew_exactly_at_the_midnights_of_its_zone(
    virtual: VirtualLedger, zone: str, first_day: tuple[int, int, int]
) -> None:
    """A fortnight: with a release a day at first, then none for ten days."""
    go_to(virtual, first_day, 18, zone)
    lanes, buckets = capped(acme=(4, zone))
    release(virtual, lanes, buckets)
    fill(virtual, "acme", 70)
    workers = Workers(virtual)
    for day in range(14):
        workers.run_for(DAY_US)
        if day < 4:
            release(virtual, lanes, buckets)
    days = by_day(workers.left, zone)
    assert [len(moments) for moments in days.values()] == [4] * 15, "a day's cap, each day"
    for day, moments in list(days.items())[1:]:
        midnight = datetime.datetime.combine(day, datetime.time(), tzinfo=ZoneInfo(zone))
        after_s = moments[0].timestamp() - midnight.timestamp()
        assert 0 <= after_s <= 0.25, f"{day}: the first left {after_s} s after midnight"


def test_brands_in_two_zones_start_anew_each_at_its_own_midnight(virtual: VirtualLedger) -> None:
    go_to(virtual, (2026, 10, 28), 12, "UTC")
    zones = {"west": "America/Los_Angeles", "east": "Asia/Kolkata"}
    release(virtual, *capped(west=(3, zones["west"]), east=(5, zones["east"])))
    for name in zones:
        fill(virtual, name, 60)
    left = Workers(virtual).run_for(7 * DAY_US)
    for name, cap in (("west", 3), ("east", 5)):
        days = by_day([row for row in left if row.lane == name], zones[name])
        assert {len(moments) for moments in days.values()} == {cap}
        assert all((m.hour, m.minute) == (0, 0) for moments in list(days.values())[1:] for m in moments)


def test_when_nobody_publishes_for_longer_than_midnights_are_known_a_cap_lasts_24_hours(virtual: VirtualLedger) -> None:
    zone = "America/Los_Angeles"
    go_to(virtual, (2026, 10, 1), 12, zone)
    lanes, buckets = capped(acme=(4, zone))
    publish(virtual, lanes, buckets, midnights(buckets, now_us=virtual.now_us, days=3))
    fill(virtual, "acme", 40)
    times = [row.at_us for row in Workers(virtual).run_for(8 * DAY_US)]
    assert len(times) == 4 * 9
    for first, fifth in zip(times[4:], times[8:], strict=False):
        assert fifth - first >= DAY_US - SECOND_US, "more than the cap in 24 hours"


def test_a_cap_that_is_raised_is_raised_at_once_and_a_lower_one_stops_at_once(virtual: VirtualLedger) -> None:
    go_to(virtual, (2026, 11, 20), 12, "UTC")
    workers = Workers(virtual)
    for cap, more in ((10, 10), (25, 15), (20, 0), (30, 5)):
        release(virtual, *capped(acme=(cap, "UTC")))
        if cap == 10:
            fill(virtual, "acme", 100)
        assert len(workers.run_for(5 * SECOND_US)) == more, f"with a cap of {cap}"


def test_a_raised_cap_is_for_bulk_too_less_the_reserve(virtual: VirtualLedger) -> None:
    go_to(virtual, (2026, 11, 20), 12, "UTC")
    workers = Workers(virtual)
    release(virtual, *capped(acme=(10, "UTC")))
    fill(virtual, "acme", 100, klass=2)
    assert len(workers.run_for(5 * SECOND_US)) == 9
    release(virtual, *capped(acme=(20, "UTC")))
    assert len(workers.run_for(5 * SECOND_US)) == 9


def test_a_brand_that_moves_to_another_zone_gets_no_second_cap_in_one_day(virtual: VirtualLedger) -> None:
    """Without care the old midnight would count as well, eight hours before the new one."""
    go_to(virtual, (2026, 11, 20), 12, "UTC")
    workers = Workers(virtual)
    release(virtual, *capped(acme=(5, "UTC")))
    fill(virtual, "acme", 100)
    workers.run_for(HOUR_US)
    release(virtual, *capped(acme=(5, "America/Los_Angeles")))
    workers.run_for(3 * DAY_US)
    days = Counter(len(moments) for moments in by_day(workers.left, "America/Los_Angeles").values())
    assert days == {5: 4}


def test_an_idle_brand_has_its_whole_cap_when_it_wakes(virtual: VirtualLedger) -> None:
    go_to(virtual, (2026, 11, 20), 12, "UTC")
    release(virtual, *capped(acme=(5, "UTC")))
    workers = Workers(virtual)
    fill(virtual, "acme", 4)
    assert len(workers.run_for(9 * DAY_US)) == 4
    fill(virtual, "acme", 20)
    assert len(workers.run_for(HOUR_US)) == 5


# --- a server whose clock jumps: another machine has taken over


def site() -> tuple[dict[str, Any], dict[str, Any]]:
    lanes = {
        "fast": lane("fast", "s:fast", "a:sms"),
        "slow": lane("slow", "s:slow", "c:x", "a:sms"),
        "gated": lane("gated", "s:gated", "p:one"),
    }
    intervals = {"s:fast": 20_000, "s:slow": 500_000, "s:gated": T_US, "c:x": 400_000, "a:sms": 17_000}
    return lanes, {name: {"t_us": t} for name, t in intervals.items()} | {"p:one": {"gate": True}}


@pytest.mark.parametrize("jump_us", [3 * HOUR_US, -HOUR_US, -40_000])
def test_a_clock_that_jumps_stops_no_lane_and_breaks_no_rate(virtual: VirtualLedger, jump_us: int) -> None:
    publish(virtual, *site())
    workers = Workers(virtual)
    for name, count in (("fast", 600), ("slow", 50), ("gated", 100)):
        fill(virtual, name, count)
    workers.run_for(2 * SECOND_US)
    workers.jump(jump_us)
    jumped_at = workers.true_us
    left = workers.run_for(5 * SECOND_US)
    for name, least in (("fast", 215), ("slow", 7), ("gated", 43)):
        assert sum(row.lane == name for row in left) >= least, f"lane {name} stopped"
    for name, t_us in (("fast", 20_000), ("slow", 500_000), ("gated", T_US)):
        times = sorted(row.at_us for row in workers.left if row.lane == name)
        for i, first in enumerate(times):
            for j in range(i + 1, len(times)):
                jumped = GRANT_HI_US / t_us + 1 if first - GRANT_HI_US <= jumped_at <= times[j] else 0
                allowed = (
                    (times[j] - first) / t_us + 2 + jumped
                )  # one of them for what is late by less than its interval
                assert j - i + 1 <= allowed + 1e-9, f"{name}: {j - i + 1} in {times[j] - first} us"


def test_a_lane_with_one_message_goes_on_after_the_clock_went_back(virtual: VirtualLedger) -> None:
    """Its granted slot lies an hour ahead then, and must not count as spoken for until it comes."""
    publish(virtual, *site())
    for name in ("fast", "slow", "gated"):
        fill(virtual, name, 1)
    virtual.run(calls.beat("dead", "first"))
    virtual.run(calls.grant("dead", 10, lane_quota=10, quotas={}))  # and dies
    workers = Workers(virtual)
    workers.jump(-HOUR_US)
    assert len(workers.run_for(3 * SECOND_US)) == 3
    fill(virtual, "gated", 1)
    assert len(workers.run_for(3 * SECOND_US)) == 1


def test_a_bulk_that_waits_for_midnight_still_waits_after_the_clock_went_back(virtual: VirtualLedger) -> None:
    go_to(virtual, (2026, 11, 20), 20, "UTC")
    release(virtual, *capped(acme=(10, "UTC")))
    fill(virtual, "acme", 100, klass=2)
    workers = Workers(virtual)
    assert len(workers.run_for(MINUTE_US)) == 9
    workers.jump(-HOUR_US)
    assert len(workers.run_for(4 * HOUR_US)) == 0
    assert len(workers.run_for(2 * HOUR_US)) == 9
