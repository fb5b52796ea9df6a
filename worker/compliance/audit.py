"""Read the audit of opt-outs: who was not texted, in which scope and on whose word; and each word that changed something.

Written by the scripts, in the same step that ends a message or sets an opt-out, so what is not in it did not happen (until
the stream is full: it keeps the newest hundred thousand). Persons are masked there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.ledger.ledger import Ledger
from worker.compliance.opt_outs import SOURCES

ENTRIES_A_TRIP = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the audit.

    ``what``: suppressed (a message did not leave), spared (a transactional one left all the same), late (it was under way
    when the word came, or the provider had it and would not give it back), withdrawn (the provider gave it back), out, in.
    ``where``: admit, take or leg; in_flight or provider of what had left us; person or operator of a word.
    """

    cursor: str
    at_us: int
    what: str
    person: str
    message: str
    scope: str
    where: str
    source: str
    said_us: int
    evidence: str


def read_audit(ledger: Ledger, *, message: str = "", what: str = "") -> Iterator[Entry]:
    """The newest entry first. ``message``: only of this message or notification; ``what``: only of this kind."""
    redis: Any = ledger.redis
    last = "+"
    while True:
        rows = redis.xrevrange(ledger.key("audit"), last, "-", count=ENTRIES_A_TRIP)
        for id, fields in rows:
            entry = _entry(id.decode(), {k.decode(): v.decode(errors="replace") for k, v in fields.items()})
            if what in ("", entry.what) and (not message or _is_of(entry.message, message)):
                yield entry
        if len(rows) < ENTRIES_A_TRIP:
            return
        last = f"({rows[-1][0].decode()}"


def _is_of(message: str, wanted: str) -> bool:
    return message == wanted or message.startswith(f"{wanted}-")


def _entry(cursor: str, fields: dict[str, str]) -> Entry:
    return Entry(
        cursor=cursor,
        at_us=int(fields["t"]),
        what=fields["y"],
        person=fields["p"],
        message=fields["m"],
        scope=fields["s"],
        where=fields["w"],
        source=SOURCES.get(fields["f"], fields["f"]),
        said_us=int(fields["o"] or 0),
        evidence=fields["e"],
    )
