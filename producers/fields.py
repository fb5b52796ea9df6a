"""Check the single fields of a request; each function here knows one field, and nothing of the job type.

Each returns the value in its one form, or None after it has said what is wrong. Values that may hold content or a
person's data are described, never quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from producers.problems import Problems, described, quoted

TEXT_MAX_CHARS = 10_000  # the ten segments of Telnyx are judged where the sender is known; this only bounds the bytes
VARIABLE_MAX_CHARS = 1000
VARIABLES_MAX = 100
MEDIA_MAX = 10  # developers.telnyx.com: error 40317
URL_MAX_CHARS = 2000  # developers.telnyx.com: error 10003
SUBJECT_MAX_CHARS = 255
METADATA_MAX_BYTES = 4096
WHATSAPP_MAX_BYTES = 32_768
KEY_MAX_CHARS = 255
VALID_FOR_MAX = timedelta(days=7)
SEND_AT_MAX = timedelta(days=366)
SCHEDULES = ("local", "provider")
UNSCHEDULED_CHANNELS = frozenset({"group_mms", "whatsapp"})  # Telnyx takes no send_at for them
PRIORITIES = {"urgent": 0, "normal": 1, "bulk": 2}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_duration = re.compile(r"([0-9]{1,9})([smhd])").fullmatch
_rfc3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}").fullmatch
_url_text = re.compile(r"https?://[!-~]+", re.IGNORECASE).fullmatch
_surrogate = re.compile("[\ud800-\udfff]").search


def text_of(value: object, field: str, problems: Problems) -> str | None:
    if not isinstance(value, str):
        problems.add(field, described(value), "write the text as a string")
    elif not value.strip():
        problems.add(field, described(value), "write something: a blank text cannot be sent")
    elif len(value) > TEXT_MAX_CHARS:
        problems.add(field, described(value), f"shorten it to {TEXT_MAX_CHARS:,} characters")
    elif _unsendable(value):
        problems.add(field, described(value), "remove its NUL characters and lone surrogates")
    else:
        return value
    return None


def variables_of(value: object, field: str, problems: Problems) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        problems.add(field, described(value), 'write an object, like {"code": "123456"}')
        return None
    if len(value) > VARIABLES_MAX:
        problems.add(field, described(dict(value)), f"give at most {VARIABLES_MAX} variables")
        return None
    before = problems.total
    for name, content in value.items():
        if not isinstance(name, str) or not _name(name):
            problems.add(field, quoted(name), "name variables with letters, digits and _, up to 64")
        elif not isinstance(content, str | int | float):
            problems.add(f"{field}.{name}", described(content), "give a string, number or boolean")
        elif not _fits(content):
            problems.add(f"{field}.{name}", described(content), _why_not(content))
    return dict(value) if problems.total == before else None


def _fits(content: str | int | float) -> bool:
    if isinstance(content, str):
        return len(content) <= VARIABLE_MAX_CHARS and not _unsendable(content)
    if isinstance(content, float):
        return content - content == 0  # not infinite, not NaN: JSON has neither
    return content.bit_length() <= 3300  # about 1,000 digits, without writing them out


def _why_not(content: str | int | float) -> str:
    if isinstance(content, float):
        return "give a finite number"
    if isinstance(content, str) and _unsendable(content):
        return "remove its NUL characters and lone surrogates"
    return f"shorten it to {VARIABLE_MAX_CHARS:,} characters of text"


def _unsendable(text: str) -> bool:
    return (not text.isascii() and _surrogate(text) is not None) or "\0" in text


def media_urls_of(value: object, field: str, problems: Problems) -> list[str] | None:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        problems.add(field, described(value), 'write a list of URLs, like ["https://example.com/a.jpg"]')
        return None
    if len(value) > MEDIA_MAX:
        problems.add(field, described(value), f"give at most {MEDIA_MAX} URLs")
        return None
    before = problems.total
    for index, url in enumerate(value):
        url_of(url, f"{field}[{index}]", problems)
    return list(value) if problems.total == before else None


def url_of(value: object, field: str, problems: Problems) -> str | None:
    # A URL may carry a token or a person's name: described, not quoted.
    if not isinstance(value, str) or not _url_text(value):
        problems.add(field, described(value), "write an http(s) URL without spaces; percent-encode what is not ASCII")
    elif len(value) > URL_MAX_CHARS:
        problems.add(field, described(value), f"shorten it to {URL_MAX_CHARS:,} characters")
    elif not _has_host(value):
        problems.add(field, described(value), "name the host, as in https://example.com/path")
    else:
        return value
    return None


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none, a broken IPv6 address
        return False


def subject_of(value: object, field: str, problems: Problems) -> str | None:
    if not isinstance(value, str) or not value.strip() or len(value) > SUBJECT_MAX_CHARS or _unsendable(value):
        problems.add(field, described(value), f"write 1 to {SUBJECT_MAX_CHARS} characters, not blank")
        return None
    return value


def send_at_of(value: object, field: str, problems: Problems, *, now_us: int) -> int | None:
    """The instant in microseconds of the epoch, as asked for: it may have passed."""
    when = value
    if isinstance(value, str) and _rfc3339(value):
        try:
            when = datetime.fromisoformat(value.upper().replace(" ", "T"))
        except ValueError:
            problems.add(field, quoted(value), "there is no such day or time: correct it")
            return None
    if not isinstance(when, datetime):
        problems.add(field, quoted(value), 'write RFC 3339 with an offset, like "2030-01-31T09:00:00-05:00"')
    elif when.utcoffset() is None:
        problems.add(field, quoted(when.isoformat()), "add its time zone: datetime(..., tzinfo=ZoneInfo(...))")
    elif (at_us := (when - _EPOCH) // _MICROSECOND) > now_us + SEND_AT_MAX // _MICROSECOND:
        problems.add(field, quoted(when.isoformat()), f"choose a time within {SEND_AT_MAX.days} days")
    else:
        return at_us
    return None


def valid_for_of(value: object, field: str, problems: Problems) -> int | None:
    """The duration in microseconds."""
    length = value
    if isinstance(value, str) and (found := _duration(value)):
        length = timedelta(seconds=min(int(found[1]) * _SECONDS[found[2]], 10**9))
    if not isinstance(length, timedelta):
        problems.add(field, quoted(value), 'write a duration like "30s", "5m", "2h", "3d", or a timedelta')
    elif not timedelta() < length <= VALID_FOR_MAX:
        problems.add(field, quoted(str(value)), f"choose more than 0 and at most {VALID_FOR_MAX.days}d")
    else:
        return length // _MICROSECOND
    return None


def schedule_of(value: object, field: str, problems: Problems) -> str | None:
    """Who holds a message until its ``send_at``."""
    if isinstance(value, str) and value in SCHEDULES:
        return value
    problems.add(field, quoted(value), "write local (held here until send_at) or provider (handed over ahead)")
    return None


def priority_of(value: object, field: str, problems: Problems) -> int | None:
    """The class: 0 urgent, 1 normal, 2 bulk."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    problems.add(field, quoted(value), "write urgent, normal or bulk")
    return None


def idempotency_key_of(value: object, field: str, problems: Problems) -> str | None:
    if isinstance(value, str) and 1 <= len(value) <= KEY_MAX_CHARS and value.isascii() and value.isprintable():
        return value
    problems.add(field, described(value), f"write 1 to {KEY_MAX_CHARS} printable ASCII characters")
    return None


def metadata_of(value: object, field: str, problems: Problems) -> dict[str, Any] | None:
    copied = json_object_of(value, field, problems)
    if copied is not None and len(compact_json(copied)) > METADATA_MAX_BYTES:
        problems.add(field, described(value), f"shorten it to {METADATA_MAX_BYTES:,} bytes of JSON")
        return None
    return copied


def json_object_of(value: object, field: str, problems: Problems) -> dict[str, Any] | None:
    """A deep copy of ``value``, which is an object of plain JSON values with keys that are strings."""
    if isinstance(value, Mapping):
        try:
            copied: dict[str, Any] = json.loads(compact_json(dict(value)))
            same = copied == dict(value)  # what JSON would change (a key 1, a tuple, a date) is no JSON
        except (TypeError, ValueError, RecursionError):
            same = False
        if same:
            return copied
    problems.add(field, described(value), "write an object of plain JSON values: strings, numbers, lists, objects")
    return None


def compact_json(value: object, *, sort_keys: bool = False) -> bytes:
    """JSON without spaces. Raises TypeError, ValueError or RecursionError for what JSON cannot say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.encode()
