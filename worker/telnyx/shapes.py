"""Read Telnyx's JSON as it really comes: objects where the page says strings, strings where the spec says objects.

Every function takes any JSON value and never raises. Strings lose lone surrogates, which Redis could not store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "as_dict",
    "as_float",
    "as_id",
    "as_int",
    "as_list",
    "as_number",
    "as_text",
    "member_statuses",
    "members",
    "micros",
]

MAX_INT = 2**53  # above it, JSON numbers are not exact in Lua
# A provider's id becomes part of a key, of a list with commas, and of the URL of a poll. Telnyx's are uuids.
_ID = re.compile(r"(?!\.)[!-~]{1,100}")
_NOT_IN_ID = frozenset("/?#%,")


def as_text(value: Any) -> str | None:
    """A string as it is, a number as text, anything else None. ``code`` has come both ways."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value)


def as_id(value: Any) -> str | None:
    """The id of a message, None for what can be none."""
    text = as_text(value)
    return text if text and _ID.fullmatch(text) and not _NOT_IN_ID & set(text) else None


def as_int(value: Any) -> int | None:
    number = as_float(value)
    return int(number) if number is not None and abs(number) < MAX_INT else None


def as_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as no element, any other value as one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def as_number(value: Any) -> str | None:
    """The number or sender of ``from``, ``to[]`` or ``cc[]``, which come as objects and as plain strings."""
    return as_text(value.get("phone_number")) if isinstance(value, dict) else as_text(value)


def members(value: Any) -> list[str]:
    """Every number in a ``to`` or ``cc``, in order."""
    return [number for entry in as_list(value) if (number := as_number(entry))]


def member_statuses(value: Any) -> Iterator[tuple[str, str]]:
    """Number and raw status of every recipient that has both."""
    for entry in as_list(value):
        number, status = as_number(entry), as_text(entry.get("status")) if isinstance(entry, dict) else None
        if number and status:
            yield number, status


def micros(value: Any) -> int:
    """An ISO 8601 time in microseconds since 1970; without a zone it is UTC. 0 where there is no readable time."""
    if not isinstance(value, str):
        return 0
    try:
        parsed = datetime.fromisoformat(value)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        elapsed = aware - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return 0
    return max(0, (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds)
