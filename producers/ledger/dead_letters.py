"""Read dead letters: what ended without arriving, newest first. Reads only; ``calls.leg`` sends one again.

``dead`` lists the newest leg of each such entry, for as long as its content is kept (a day, and at most 100,000 of them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from producers.ledger.ledger import Ledger
from producers.ledger.reading import entry_of, leg_id
from producers.ledger.states import STATES

T = TypeVar("T")

PAGE = 200
_REASON = re.compile(r"\.([0-9a-z_]+)(?:~\d+)?$")  # of the last step, if it has one
DEAD_WORDS = tuple(STATES[letter] for letter in "RFX")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """The newest leg of an entry, dead or not.

    Attributes:
        id: Of the leg; ``entry`` is that of its first one.
        to: A number, or the comma list of a group.
        at_us: When it was listed, or 0 if it is not.
        reason: The last word of its timeline; "" if it has none.
        error: (code, title, phase letter) of its last error, or None.
        rendered: Whether it ever was what could be sent. If not, ``request`` is what there is to render, "" if nothing.
        why_not: Why it cannot be replayed, as far as reading tells: a word of ``leg.lua``, or "".
    """

    id: str
    entry: str
    leg: int
    to: str = field(repr=False)
    job_type: str
    lane: str
    state: str
    at_us: int
    reason: str
    error: tuple[str, str, str] | None
    rendered: bool
    request: str = field(repr=False)
    why_not: str


def read_dead(ledger: Ledger, *, limit: int, wanted: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    """The newest ``limit`` dead letters that are wanted."""
    found: list[DeadLetter] = []
    for page in pages(dead_ids(ledger)):
        found += [letter for letter in read_letters(ledger, page) if wanted(letter)]
        if len(found) >= limit:
            break
    return found[:limit]


def dead_ids(ledger: Ledger) -> list[str]:
    """The ids of all dead letters, newest first."""
    redis: Any = ledger.redis
    return [mid.decode() for mid in redis.zrange(ledger.key("dead"), 0, -1, desc=True)]


def pages(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """``rows`` in pieces that are good for one round trip."""
    for i in range(0, len(rows), PAGE):
        yield rows[i : i + PAGE]


def newest_ids(ledger: Ledger, ids: Iterable[str]) -> list[str]:
    """The id of the newest leg of the entry that each of ``ids``, of whatever leg, belongs to; each entry once."""
    entries = list(dict.fromkeys(entry_of(mid) for mid in ids))
    with ledger.redis.pipeline(transaction=False) as pipe:
        for entry in entries:
            pipe.hget(ledger.key(f"m:{entry}"), "nl")
        newest = pipe.execute()
    return [leg_id(entry, int(number or 1)) for entry, number in zip(entries, newest, strict=True)]


def read_letters(ledger: Ledger, ids: Sequence[str]) -> list[DeadLetter]:
    """The messages of these ids, each the newest leg of its entry; those whose record is gone are left out."""
    with ledger.redis.pipeline(transaction=False) as pipe:
        for mid in ids:
            pipe.hgetall(ledger.key(f"m:{mid}"))
            pipe.hget(ledger.key(f"n:{mid[:32]}"), "jt")
            pipe.get(ledger.key(f"c:{mid}"))
            pipe.exists(ledger.key(f"t:{mid[:32]}"))
            pipe.zscore(ledger.key("dead"), mid)
        replies = pipe.execute()
    rows = [replies[i : i + 5] for i in range(0, len(replies), 5)]
    return [_letter(mid, row) for mid, row in zip(ids, rows, strict=True) if b"s" in row[0]]


def _letter(mid: str, row: Sequence[Any]) -> DeadLetter:
    flat, shared_job_type, kept, shared, score = row
    f = {k.decode(): v.decode(errors="replace") for k, v in flat.items() if not k.isdigit()}
    pieces = f.get("ct")
    if pieces not in (None, "c"):
        kept = b"".join(flat[str(i).encode()] for i in range(1, int(pieces or 0) + 1))
    rendered = "ln" in f
    has_content = bool(kept) or (rendered and pieces is None and "mn" in f and bool(shared))
    why_not = ""
    if STATES[f["s"]] not in DEAD_WORDS:
        why_not = "not_dead"
    elif "gr" in f and "D" in f.get("gm", ""):
        why_not = "partly_delivered"
    elif not has_content:
        why_not = "content_erased"
    reason = _REASON.search(f.get("tl", ""))
    last_error = f.get("er", "").rpartition(";")[2].partition("@")[0]
    return DeadLetter(
        id=mid,
        entry=entry_of(mid),
        leg=int(f.get("lg", 1)),
        to=f.get("to", ""),
        job_type=f.get("jt") or (shared_job_type or b"").decode(),
        lane=f.get("ln", ""),
        state=STATES[f["s"]],
        at_us=int(score or 0),
        reason=reason[1] if reason else "",
        error=(last_error[1:], f.get("et", ""), last_error[:1]) if last_error else None,
        rendered=rendered,
        request="" if rendered else (kept or b"").decode(errors="replace"),
        why_not=why_not,
    )
