"""Numbers into and out of the commands: from arguments and CSV files, to tables and CSV."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.terminal import Exit, Failure

COLUMN = "phone_number"
_SHORT_CODE = re.compile(r"\d{5,6}")
_SHOWN = 10


def read_numbers(given: Sequence[str], file: Path | None) -> list[str]:
    """Every number of the arguments and of ``file`` (``-`` is standard input), each once, in order.

    Raises:
        Failure: one cannot be read, or there is none; nothing was asked of Telnyx yet.
    """
    rows = list(given) + (_from_file(file) if file is not None else [])
    found: dict[str, None] = {}
    wrong: list[str] = []
    for row in rows:
        number = _number(row)
        if number is None:
            wrong.append(row)
        else:
            found[number] = None
    if wrong:
        listed = ", ".join(f'"{row}"' for row in wrong[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise Failure(f"not a number: {listed}{more}: write +13125550100, or a short code's 5 or 6 digits", Exit.USAGE)
    if not found:
        raise Failure("no number is given: name some, or give a CSV file by --file", Exit.USAGE)
    return list(found)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV with a header, on standard output; what it says can be read by --file."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def flat(row: Mapping[str, Any]) -> list[str]:
    """A number as one row of a table or CSV: the columns of ``LISTED``."""
    health = row.get("health")
    success = health.get("success_ratio") if isinstance(health, Mapping) else None
    tags = row.get("tags")
    return [
        str(row.get("phone_number") or ""),
        str(row.get("type") or ""),
        str(row.get("country_code") or ""),
        str(row.get("messaging_profile_id") or ""),
        str(row.get("messaging_product") or ""),
        " ".join(features(row)),
        f"{success:.0%}" if isinstance(success, int | float) else "",
        ";".join(map(str, tags)) if isinstance(tags, list) else "",
    ]


LISTED = (COLUMN, "type", "country", "messaging_profile_id", "product", "features", "delivered", "tags")


def features(row: Mapping[str, Any]) -> list[str]:
    """``sms`` and ``mms``, those that the number can do at all."""
    found = row.get("features")
    return (
        [kind for kind, ways in (found or {}).items() if isinstance(ways, Mapping) and any(ways.values())]
        if isinstance(found, Mapping)
        else []
    )


def _from_file(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failure(f"cannot read {file} ({why}): give a CSV file with a column {COLUMN}", Exit.USAGE) from None
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0]]
    if COLUMN in header:
        column, rows = header.index(COLUMN), rows[1:]
    elif _number(rows[0][0]) is None:
        raise Failure(f"{file} has no column {COLUMN}: name one so, or leave the header out", Exit.USAGE)
    else:
        column = 0
    return [row[column].strip() if column < len(row) else "" for row in rows]


def _number(text: str) -> str | None:
    from producers.phone import NotANumber, normalise

    text = text.strip()
    if _SHORT_CODE.fullmatch(text):
        return text
    try:
        return normalise(text)
    except NotANumber:
        return None
