"""Say an instant as people and JSON do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at_us: int) -> str:
    """Microseconds of the epoch in UTC, to the millisecond."""
    at = _EPOCH + timedelta(milliseconds=at_us // 1000)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
