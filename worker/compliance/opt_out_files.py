"""Opt-outs as CSV: what a file says, row by row, and what stands in the ledger.

A file is either a plain list of numbers, or has a header: ``number`` (also ``to`` or ``phone``), and, where wanted, ``scope``,
``opted_out`` (false lifts), ``by`` (person or operator) and ``at`` (RFC 3339). What is exported can be imported. A bad row costs
its neighbours nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from producers.ledger.calls import OptRow
from producers.ledger.ledger import Ledger
from producers.phone import NotANumber, is_bsuid, normalise
from worker.compliance.opt_outs import Saying, is_scope, said_in

COLUMNS = ("number", "scope", "opted_out", "by", "at", "source", "evidence")
_NUMBER_NAMES = ("number", "to", "phone", "phone_number", "msisdn")
_YES, _NO = frozenset({"", "true", "yes", "1", "out"}), frozenset({"false", "no", "0", "in"})


class NoColumnError(ValueError):
    """The header names no column with numbers."""


class GoodRow(NamedTuple):
    line: int
    row: OptRow
    by_operator: bool


class BadRow(NamedTuple):
    line: int
    problem: str  # no number is quoted


class _Rest(NamedTuple):
    """What a row says besides its number."""

    scope: str
    out: bool
    at_us: int
    evidence: str
    by_operator: bool


def read_rows(lines: Iterable[str], *, scope: str, by_operator: bool, evidence: str = "") -> Iterator[GoodRow | BadRow]:
    """What a file asks for. ``scope`` and ``by_operator`` hold where a row says nothing.

    Raises:
        NoColumnError: there is a header, and no column of numbers in it.
    """
    reader = csv.reader(lines)
    names: Sequence[str] = ()
    place, known = 0, _Known(scope, by_operator, evidence)
    for cells in reader:
        if not cells or not (cells[0] or any(cells)):
            continue
        if not names:
            if not any(cell.strip() for cell in cells):
                continue
            found = header_of(cells)
            names = found or ("number", "scope")
            place = names.index("number")
            known.names = [*names[:place], *names[place + 1 :]]
            if found:
                continue
        number = cells.pop(place).strip() if place < len(cells) else ""
        if not number and not any(cell.strip() for cell in cells):
            continue
        try:
            person = _person(number)
        except NotANumber as wrong:
            yield BadRow(reader.line_num, f"number: {wrong.remedy}")
            continue
        rest = known.of(cells)
        if isinstance(rest, str):
            yield BadRow(reader.line_num, rest)
        else:
            row = OptRow(person, rest.out, (rest.scope,), rest.at_us, rest.evidence)
            yield GoodRow(reader.line_num, row, rest.by_operator)


def _person(number: str) -> str:
    number = number.lstrip("\ufeff")
    return number if is_bsuid(number) else normalise(number)


class _Known:
    """What rows say besides their numbers, each told once: most rows of a file say the same."""

    MOST = 10_000

    def __init__(self, scope: str, by_operator: bool, evidence: str) -> None:
        self.names: Sequence[str] = ()
        self._scope, self._by_operator, self._evidence = scope, by_operator, evidence
        self._told: dict[tuple[str, ...], _Rest | str] = {}

    def of(self, cells: Sequence[str]) -> _Rest | str:
        """What these cells say, or what is wrong with them."""
        key = tuple(cells)
        told = self._told.get(key)
        if told is None:
            if len(self._told) >= self.MOST:
                self._told.clear()
            cleaned = (cell.strip() for cell in cells)
            told = self._told[key] = self._read(dict(zip(self.names, cleaned, strict=False)))
        return told

    def _read(self, cells: Mapping[str, str]) -> _Rest | str:
        where = cells.get("scope") or self._scope
        if not is_scope(where):
            return "scope: write global, profile:<id> or sender:<name>"
        word, by = cells.get("opted_out", "").lower(), cells.get("by", "").lower()
        if word not in _YES | _NO:
            return "opted_out: write true or false"
        if by not in ("", "person", "operator"):
            return "by: write person or operator"
        try:
            at_us = _micros(cells.get("at", ""))
        except ValueError:
            return "at: write a time with its zone, as 2026-11-24T12:00:00Z"
        where = where.lower() if where.startswith("profile:") else where
        evidence = cells.get("evidence") or self._evidence
        return _Rest(where, word in _YES, at_us, evidence, by == "operator" if by else self._by_operator)


def header_of(cells: Sequence[str]) -> Sequence[str] | None:
    """The columns, if these cells are a header; None for a first row that already has a number.

    Raises:
        NoColumnError: neither.
    """
    names = [cell.strip().lower().lstrip("\ufeff") for cell in cells]
    if any(name in _NUMBER_NAMES for name in names):
        return ["number" if name in _NUMBER_NAMES else name for name in names]
    if any(character.isdigit() for character in names[0]):
        return None
    raise NoColumnError(
        f"the header has no column `number`; it has {', '.join(ascii(name[:20]) for name in names[:8])}"
    )


def _micros(text: str) -> int:
    if not text:
        return 0
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError
    return int(at.timestamp() * 1_000_000)


def opt_outs_in(ledger: Ledger, *, scope: str = "", lifted: bool = False) -> Iterator[tuple[str, str, str, Saying]]:
    """(number, scope, "person" or "operator", what was said) of all that stands, in no order, a few thousand at a time.

    Looks at every key of the server, for nothing else knows all scopes. One that changes meanwhile may come twice.
    """
    redis: Any = ledger.redis
    prefix = ledger.key("o:")
    pattern = "".join(f"\\{c}" if c in "[]*?\\" else c for c in f"{prefix}{scope}") + (":*" if scope else "*")
    cursor = 0
    while True:
        cursor, keys = redis.scan(cursor, match=pattern, count=1_000)
        names = [key.decode(errors="replace").removeprefix(prefix).rpartition(":")[0] for key in keys]
        with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found = pipe.execute() if keys else []
        for where, bucket in zip(names, found, strict=True):
            if where == "any" or (scope and where != scope):
                continue
            for field, value in bucket.items():
                name, said = field.decode(errors="replace"), said_in(value)
                if said is not None and (said.out or lifted):
                    yield name.rstrip("*"), where, "operator" if name.endswith("*") else "person", said
        if cursor == 0:
            return
