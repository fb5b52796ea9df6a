"""In which time zones a person may be, by their number, and when those zones are how far from UTC.

Scripts know no time zones, so a message whose job type has rules carries the names of its zones, and Redis holds a table
of each. Invariants, each with a test:

- A number that several zones share has them all: its message leaves when none of them is quiet.
- A number that tells nothing (toll-free, +1 500, an unknown area code, a WhatsApp id) has none: the default zone holds.
- A zone's field fits a record's value (64 bytes), whatever number of zones a country has.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

NANP_AREA_MOST = 4  # of +1 an area code has one zone, seldom two; what knows no area code gives all 42
FIELD_MOST = 60  # a record's value has 64 bytes
YEARS = 5  # of coming clock changes; every expansion tells them anew
UNKNOWN = "Etc/Unknown"


def zones_of_number(number: str) -> tuple[str, ...]:
    """The zones that ``number`` (E.164) may be in, () where it does not tell.

    Only area codes count for +1, for new area codes and the numbers of examples are no valid numbers to phonenumbers. Elsewhere a
    mobile number that is tied to no place has the zones of its whole country.
    """
    import phonenumbers
    from phonenumbers import timezone

    if number.startswith("+1"):
        digits = number[1:]
        if not digits.isdigit():
            return ()
        parsed = phonenumbers.PhoneNumber(country_code=1, national_number=int(digits[1:] or "0"))
        found = tuple(timezone.time_zones_for_geographical_number(parsed))
        return () if len(found) > NANP_AREA_MOST or UNKNOWN in found else found
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ()
    found = tuple(timezone.time_zones_for_number(parsed))
    if UNKNOWN in found:
        found = tuple(timezone.time_zones_for_geographical_number(parsed))
    return () if UNKNOWN in found else found


class ZoneFields:
    """What records say of zones, and the tables that scripts need to read it. One for each call to the ledger.

    Args:
        now: From when on the tables count.
    """

    def __init__(self, now: datetime) -> None:
        self._year_start = now.year  # tables of one year are equal, so they are made once
        self.tables: dict[str, str] = {}

    def of(self, numbers: Iterable[str]) -> str:
        """The record's field for a message to ``numbers``; "" for the default zone."""
        by_table: dict[str, str] = {}
        for number in numbers:
            for name in zones_of_number(number):
                table = zone_table(name, self._year_start)
                if table is not None and (table not in by_table or name < by_table[table]):
                    by_table[table] = name
        self.tables.update({name: table for table, name in by_table.items()})
        field = ",".join(sorted(by_table.values()))
        if len(field) <= FIELD_MOST:
            return field
        short = "~" + hashlib.sha256(field.encode()).hexdigest()[:12]
        self.tables[short] = f"={field}"
        return short


@lru_cache(maxsize=1024)
def zone_table(name: str, year: int) -> str | None:
    """``offset;from:offset;...`` in seconds, from the start of ``year`` on; None for a zone that this machine lacks."""
    try:
        zone = zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None
    at = datetime(year, 1, 1, tzinfo=UTC) - timedelta(days=2)
    end = datetime(year + YEARS, 1, 1, tzinfo=UTC)
    parts = [str(_offset_s(zone, at))]
    while at < end:
        following = at + timedelta(days=10)  # no two changes are closer: Morocco's Ramadan takes a month
        if _offset_s(zone, following) != _offset_s(zone, at):
            change = _change_between(zone, at, following)
            parts.append(f"{int(change.timestamp())}:{_offset_s(zone, change)}")
        at = following
    return ";".join(parts)


def _change_between(zone: zoneinfo.ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the offset becomes that of ``after``."""
    low, high = int(before.timestamp()), int(after.timestamp())
    wanted = _offset_s(zone, after)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, datetime.fromtimestamp(middle, UTC)) == wanted:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)


def _offset_s(zone: zoneinfo.ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0
