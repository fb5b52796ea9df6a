"""How commands answer: text for people or JSON for programs, and exit codes that a script can rely on.

Answers go to standard output, problems to standard error, so that a pipe carries answers alone. With ``--json`` a problem
is an object on standard output too: ``{"error": {"message": …}}``. Colours end where NO_COLOR is set or nobody looks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.ledger.connection import server_of

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160  # columns where the output is no terminal: nothing is cut off for a program that reads tables
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


__all__ = ["AsJson", "Exit", "Failure", "console", "pace", "print_json", "print_table", "server_of", "show_failure"]


class Exit(IntEnum):
    """Exit codes, as documented."""

    DONE = 0
    NO = 1  # not found, a failed check
    USAGE = 2  # or configuration
    UNREACHABLE = 3  # Redis or Telnyx


class Failure(Exception):
    """A command could not do what was asked. The message names the problem, the value and the remedy."""

    def __init__(self, message: str, code: Exit, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = dict(details or {})


def console(*, stderr: bool = False) -> Console:
    """A console that is as wide as the terminal, and wide enough for whole tables elsewhere."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False)


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A plain table. A header that starts with ``>`` is aligned to the right; text is never read as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for header in headers:
        table.add_column(header.lstrip(">"), justify="right" if header.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console().print(table)


def show_failure(failure: Failure, *, as_json: bool) -> None:
    """Say what went wrong: to people on standard error, to programs on standard output."""
    if as_json:
        print_json({"error": {"message": str(failure), **failure.details}})
        return
    print(f"notify: {failure}", file=sys.stderr)


def pace(per_s: float | None) -> str:
    """A rate in the unit in which it is a number that people can read."""
    if not per_s:
        return "none"
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if per_s * seconds >= 1:
            return f"{per_s * seconds:.4g}/{unit}"
    return f"{per_s * 3600:.3g}/h"
