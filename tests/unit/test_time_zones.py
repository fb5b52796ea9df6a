"""Which zones a number tells, and the tables that scripts read."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.compliance.time_zones import FIELD_MOST, ZoneFields, zone_table, zones_of_number

ZONES = ["America/Chicago", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "UTC"]


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+13125550100", ("America/Chicago",)),
        ("+18085550100", ("Pacific/Honolulu",)),
        ("+18005550100", ()),  # toll-free
        ("+15005550100", ()),
        ("+12995550100", ()),  # an area code that nobody knows
        ("+442079460000", ("Europe/London",)),
        ("+88213300655", ()),  # a satellite
        ("US.1349", ()),  # WhatsApp's id of a person
        ("+1", ()),
    ],
)
def test_a_number_tells_its_zones_or_none(number: str, zones: tuple[str, ...]) -> None:
    assert zones_of_number(number) == zones


def test_a_mobile_number_that_is_tied_to_no_place_may_be_anywhere_in_its_country() -> None:
    assert {"Australia/Sydney", "Australia/Perth"} <= set(zones_of_number("+61412345678"))


def test_a_field_fits_a_record_and_zones_of_one_time_are_named_once() -> None:
    fields = ZoneFields(datetime(2026, 1, 1, tzinfo=UTC))
    assert fields.of(["+447911123456"]) in ("Europe/Guernsey", "Europe/London")  # four names, one time
    assert fields.of(["+13125550100", "+18085550100"]) == "America/Chicago,Pacific/Honolulu"
    assert fields.of(["+18005550100"]) == ""
    long = fields.of(["+78005553535"])
    assert len(long) <= FIELD_MOST
    named = fields.tables[long].removeprefix("=").split(",")
    assert len(named) > 5
    assert all(name in fields.tables for name in named)


@given(zone=st.sampled_from(ZONES), at=st.integers(1_767_225_600, 1_767_225_600 + 5 * 31_536_000))
def test_a_table_gives_the_offset_that_the_zone_has(zone: str, at: int) -> None:
    first, *changes = (zone_table(zone, 2026) or "").split(";")
    offset = int(first)
    for change in changes:
        begins, after = change.split(":")
        if int(begins) <= at:
            offset = int(after)
    known = datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()
    assert known is not None
    assert offset == known.total_seconds()


def test_a_zone_that_this_machine_lacks_has_no_table() -> None:
    assert zone_table("Mars/Olympus", 2026) is None
