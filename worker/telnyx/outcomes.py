"""What one request to Telnyx came to. Pure: reads answers and failures, does no I/O, knows no SDK.

The question behind every line: can the person have got a text? Invariants, each with a test named after it:

- ``accepted`` needs an id from a 2xx answer; a 2xx without one, or about another message, is ``uncertain``.
- ``not_sent`` is said only where no connection existed, so no byte can have left.
- Everything unclear after that is ``uncertain``.
- No body, no full number and no key stands in an outcome.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from worker.telnyx.errors import Class, Reset, Scope, Verdict, classify, clean_title, effective_code
from worker.telnyx.facts import ref_in
from worker.telnyx.shapes import as_float, as_id, as_int, as_number, as_text, member_statuses

__all__ = [
    "Kind",
    "NotFound",
    "Outcome",
    "Unavailable",
    "errors_in",
    "from_response",
    "not_sent",
    "parse_json",
    "retry_after_s",
    "uncertain",
]

Kind = Literal[
    "accepted",
    "rejected",
    "retry",
    "slow_down",
    "opted_out",
    "configuration",
    "uncertain",
    "not_sent",
    "conflict",
]

_KIND_OF: Final[dict[Class, Kind]] = {
    Class.PERMANENT: "rejected",
    Class.RETRY: "retry",
    Class.SLOW_DOWN: "slow_down",
    Class.OPT_OUT: "opted_out",
    Class.CONFIGURATION: "configuration",
    Class.INDETERMINATE: "uncertain",
    Class.CONFLICT_RETRY: "conflict",
}
UNSENDABLE: Final = "unsendable"  # no request could be made: nobody was asked
MAX_RETRY_AFTER_S: Final = 3600.0  # an answer that asks for more is more likely a mistake than a plan
_UNIX_TIME_FROM: Final = 1e9  # x-ratelimit-reset is seconds left on one page of Telnyx's, a Unix time on another
_REASON = re.compile(r"[a-z0-9_]{1,24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One verdict for the ledger.

    ``reason`` is a machine word for the timeline, ``[a-z0-9_]{1,24}``: Telnyx's code where there is one. ``hold_s`` and
    ``scope`` say which bucket should rest and how long. ``provider_status`` maps each recipient to Telnyx's raw status.
    """

    kind: Kind
    reason: str
    provider_id: str | None = None
    provider_status: dict[str, str] = field(default_factory=dict, repr=False)
    from_number: str | None = field(default=None, repr=False)
    parts: int | None = None
    wait_seconds: float | None = None
    encoding: str | None = None
    replayed: bool = False
    code: str = ""
    title: str = ""
    http_status: int | None = None
    retry_after_s: float | None = None
    hold_s: float | None = None
    scope: Scope = ""
    resets: Reset = ""
    alert: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class NotFound:
    """Telnyx does not know the message: older than 10 days, or never made. No proof that it was not sent."""

    code: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The question got no usable answer, so nothing follows for the message. Ask again later."""

    reason: str
    retry_after_s: float | None = None
    alert: bool = False


def not_sent(reason: str) -> Outcome:
    return Outcome(kind="not_sent", reason=reason)


def uncertain(reason: str, http_status: int | None = None) -> Outcome:
    return Outcome(kind="uncertain", reason=reason, http_status=http_status)


def from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    channel: str,
    is_resend: bool,
    now_s: float,
    ref: str | None = None,
) -> Outcome:
    """Judge an answer that arrived whole. ``headers`` must find names whatever their case.

    ``ref`` is the reference in the request's ``webhook_url``: an answer that repeats another one is no answer to it.
    """
    payload = parse_json(body)
    if 200 <= status < 300:
        return _from_success(status, headers, payload, ref)
    code, title = _leading_error(payload)
    verdict = classify(
        "send", code, title=title, status=status, channel=channel, is_resend=is_resend, now_s=now_s, keyed=True
    )
    wait_s = retry_after_s(headers, now_s) if status in {429, 503} else None
    return Outcome(
        kind=_KIND_OF[verdict.class_],
        reason=_reason(verdict, status),
        code=code,
        title=verdict.title,
        http_status=status,
        retry_after_s=wait_s,
        hold_s=_hold_s(verdict, wait_s),
        scope=verdict.scope,
        resets=verdict.resets,
        alert=verdict.alert,
        note=verdict.note,
    )


def parse_json(body: bytes) -> Any:
    """The JSON value, or None where there is none: a proxy's HTML page is as possible as an empty body."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def errors_in(payload: Any) -> list[tuple[str, str]]:
    """Codes and titles of an answer; some operations declare a bare error object instead of ``errors``."""
    if not isinstance(payload, dict):
        return []
    found = payload.get("errors", payload.get("error", payload if "code" in payload else None))
    rows = found if isinstance(found, list) else [found]
    return [
        (
            effective_code(as_text(row.get("code")) or "", as_text(row.get("detail")) or ""),
            as_text(row.get("title")) or "",
        )
        for row in rows
        if isinstance(row, dict)
    ]


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the answer asks us to wait: ``retry-after`` in seconds or as a date, else ``x-ratelimit-reset``."""
    if (given := headers.get("retry-after")) is not None:
        wait_s = _seconds(given)
        if wait_s is None:
            wait_s = _date_s(given, now_s)
        if wait_s is not None:
            return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)
    reset = _seconds(headers.get("x-ratelimit-reset", ""))
    if reset is None:
        return None
    return min(max(reset - now_s if reset > _UNIX_TIME_FROM else reset, 0.0), MAX_RETRY_AFTER_S)


def _from_success(status: int, headers: Mapping[str, str], payload: Any, ref: str | None) -> Outcome:
    if not isinstance(payload, dict):
        return uncertain("unreadable", status)
    data = payload.get("data")
    provider_id = as_id(data.get("id")) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not provider_id:
        return uncertain("no_id", status)
    if ref and ref_in(data.get("webhook_url")) not in (None, ref):
        return uncertain("foreign_answer", status)
    code, title = _leading_error(data)
    return Outcome(
        kind="accepted",
        reason="accepted",
        provider_id=provider_id,
        provider_status=dict(member_statuses(data.get("to"))),
        from_number=as_number(data.get("from")),
        parts=as_int(data.get("parts")),
        wait_seconds=as_float(data.get("wait_seconds")),
        encoding=as_text(data.get("encoding")),
        replayed=headers.get("idempotent-replayed", "").lower() == "true",
        code=code,
        title=clean_title(title),
        http_status=status,
    )


def _leading_error(payload: Any) -> tuple[str, str]:
    """The first error that has a code; Telnyx lists the decisive one first."""
    rows = errors_in(payload)
    return next((row for row in rows if row[0]), rows[0] if rows else ("", ""))


def _reason(verdict: Verdict, status: int) -> str:
    code = verdict.code.lower()
    return code if _REASON.fullmatch(code) else f"http_{status}"


def _hold_s(verdict: Verdict, wait_s: float | None) -> float | None:
    """Retry-After replaces our guess, but shortens neither a midnight nor a queue that is full for minutes."""
    if verdict.class_ is not Class.SLOW_DOWN or wait_s is None:
        return verdict.hold_s
    if verdict.code == "40318" or verdict.resets:
        return max(wait_s, verdict.hold_s or 0.0)
    return wait_s


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date_s(text: str, now_s: float) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return None
