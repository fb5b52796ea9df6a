"""Say an instant as people and JSON do."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # of UTC: a datetime without a zone is printed several times faster


def rfc3339(at_us: int) -> str:
    """Microseconds of the epoch in UTC, to the millisecond."""
    return (_EPOCH + timedelta(milliseconds=at_us // 1000)).isoformat(timespec="milliseconds") + "Z"
