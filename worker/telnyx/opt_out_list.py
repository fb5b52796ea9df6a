"""Telnyx's list of opt-outs, a page at a time: what to ask and how to read the answer. Pure.

``to`` is the person and ``from`` is us, the other way round than in a message. There is no order that Telnyx promises, no
filter by person, and a row that was lifted simply is not there any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from worker.telnyx.shapes import as_dict, as_int, as_list, as_number, as_text, micros

PAGE_SIZE = 250  # the most that Telnyx gives
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ListedOptOut:
    """One row. ``profile`` is None for one that Telnyx ties to a number alone."""

    person: str
    sender: str
    profile: str | None
    created_us: int
    keyword: str


@dataclass(frozen=True, slots=True)
class OptOutPage:
    """One page of the rows within a window of time. ``unreadable`` counts rows that no person could be read from."""

    rows: tuple[ListedOptOut, ...]
    total: int  # rows in the window, as of this page
    pages: int
    unreadable: int = 0


def list_path(*, since_s: int, until_s: int, page: int) -> str:
    """The path of page ``page`` (1 and up) of what was created in a window of whole seconds, both ends included."""
    query = {
        "created_at[gte]": _iso(since_s),
        "created_at[lte]": _iso(until_s),
        "page[number]": page,
        "page[size]": PAGE_SIZE,
        "redaction_enabled": "false",  # a string; by default persons may come masked, and would be nobody
    }
    return f"/messaging_optouts?{urlencode(query)}"


def read_page(payload: Any) -> OptOutPage | None:
    """The page in an answer's body; None if it is none, for an empty list must not be made of an odd answer."""
    body = as_dict(payload)
    meta = as_dict(body.get("meta"))
    total, pages = as_int(meta.get("total_results")), as_int(meta.get("total_pages"))
    if not isinstance(body.get("data"), list) or total is None or pages is None:
        return None
    rows, unreadable = [], 0
    for raw in as_list(body["data"]):
        row = _row(as_dict(raw))
        if row is None:
            unreadable += 1
        else:
            rows.append(row)
    return OptOutPage(tuple(rows), total, pages, unreadable)


def _row(raw: dict[str, Any]) -> ListedOptOut | None:
    person = as_number(raw.get("to")) or ""
    if person.isascii() and person.isdigit() and len(person) > 6:
        person = f"+{person}"
    created_us = micros(raw.get("created_at"))
    if not person or "*" in person or not created_us:
        return None
    profile = as_text(raw.get("messaging_profile_id"))
    return ListedOptOut(
        person=person,
        sender=as_number(raw.get("from")) or "",
        profile=profile.lower() if profile else None,
        created_us=created_us,
        keyword=(as_text(raw.get("keyword")) or "")[:20],
    )


def _iso(at_s: int) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
