"""``notify opt-outs`` of many at once: import, export, list; Telnyx's own list; the audit.

``import`` writes to the ledger itself, some hundred rows a call: no job is needed that could be lost, and whoever runs it sees
what became of each row.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.commands.session import open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger

BAD_SHOWN = 20

By = Literal["operator", "person"]
File = Annotated[Path, typer.Argument(metavar="FILE", help="CSV; - reads standard input.")]


def add_commands(app: typer.Typer) -> None:
    app.command("import")(import_file)
    app.command("export")(export)
    app.command("list")(list_some)
    app.command("sync")(sync)
    app.command("audit")(audit)


def import_file(
    file: File,
    *,
    scope: Annotated[str, typer.Option(help="Of rows that name none.")] = "global",
    by: Annotated[By, typer.Option(help="Whose word: START lifts a person's, never an operator's.")] = "operator",
    from_line: Annotated[int, typer.Option(min=1, help="Go on at this line.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Opt out everybody in a CSV file. Safe to repeat. 1 if a row was bad: the others are in."""
    from worker.compliance.durability import sync_to_disk
    from worker.compliance.opt_out_files import NoColumnError, read_rows
    from worker.compliance.opt_out_import import LostError, import_rows
    from worker.compliance.opt_outs import is_scope

    if not is_scope(scope):
        raise Failure(f'--scope is "{scope}": write global, profile:<id> or sender:<name>', Exit.USAGE)
    ledger = open_ledger()
    with _open(file) as lines:
        rows = read_rows(lines, scope=scope, by_operator=by == "operator", evidence=file.name[:36])
        wanted = (row for row in rows if row.line >= from_line)
        try:
            done = import_rows(ledger, wanted, progress=(lambda rows: None) if as_json else _show_progress)
        except NoColumnError as wrong:
            raise Failure(f"{file}: {wrong}", Exit.USAGE) from None
        except (csv.Error, UnicodeDecodeError) as wrong:
            raise Failure(f"{file} cannot be read as CSV in UTF-8: {wrong}", Exit.USAGE) from None
        except LostError as lost:
            remedy = f"repeat it, or go on with --from-line {lost.line}"
            raise Failure(f"Redis stopped answering ({lost.why}): {remedy}", Exit.UNREACHABLE) from None
    if done.rows and not as_json and sys.stderr.isatty():
        print(file=sys.stderr)
    synced = sync_to_disk(ledger.redis, lambda one: one.hincrby(ledger.key("counts"), "opt_outs_synced", 1))
    bad = done.bad
    if as_json:
        shown = [{"line": row.line, "problem": row.problem} for row in bad]
        print_json({"rows": done.rows, "changed": done.changed, "synced": synced, "bad": shown})
    else:
        print(f"{done.rows:,} rows read, {done.changed:,} opt-outs changed, {len(bad):,} bad rows; on disk: {synced}")
        for row in bad[:BAD_SHOWN]:
            print(f"line {row.line}: {row.problem}", file=sys.stderr)
        if len(bad) > BAD_SHOWN:
            print(f"... and {len(bad) - BAD_SHOWN:,} more: --json lists all", file=sys.stderr)
    if done.broken:
        raise Failure(
            f"some rows broke the ledger ({done.broken} groups) and are not in: notify dead --aside says why", Exit.NO
        )
    if bad:
        raise typer.Exit(int(Exit.NO))


def _open(file: Path) -> Any:
    if str(file) == "-":
        return sys.stdin
    try:
        return file.open(encoding="utf-8-sig", newline="")
    except OSError as wrong:
        raise Failure(f"{file} cannot be opened: {wrong.strerror}", Exit.USAGE) from None


def _show_progress(rows: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- writes to standard output.")] = Path("-"),
    *,
    scope: Annotated[str, typer.Option(help="Only this scope.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what was lifted.")] = False,
) -> None:
    """Write all opt-outs as CSV, with whose word it was, since when, and the evidence. Import takes it back."""
    ledger = open_ledger()
    if str(file) == "-":
        _write_csv(ledger, sys.stdout, scope=scope, lifted=everything)
        return
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            written = _write_csv(ledger, out, scope=scope, lifted=everything)
    except OSError as wrong:
        raise Failure(f"{file} cannot be written: {wrong.strerror}", Exit.USAGE) from None
    print(f"{written:,} rows written to {file}", file=sys.stderr)


def _write_csv(ledger: Ledger, out: Any, *, scope: str, lifted: bool) -> int:
    from worker.compliance.opt_out_files import COLUMNS

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in _rows(ledger, scope=scope, lifted=lifted):
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row.values()])
        count += 1
    return count


def list_some(
    *,
    scope: Annotated[str, typer.Option(help="Only this scope.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show some of those who are opted out, in no order; export has all."""
    rows = list(itertools.islice(_rows(open_ledger(), scope=scope, lifted=False), limit))
    if as_json:
        print_json(rows)
        return
    _table(rows, "nobody is opted out")


def _rows(ledger: Ledger, *, scope: str, lifted: bool) -> Iterator[dict[str, Any]]:
    from worker.compliance.opt_out_files import opt_outs_in
    from worker.times import rfc3339

    where = scope.lower() if scope.startswith("profile:") else scope
    for number, found_in, by, said in opt_outs_in(ledger, scope=where, lifted=lifted):
        yield {
            "number": number, "scope": found_in, "opted_out": said.out, "by": by, "at": rfc3339(said.at_us),
            "source": said.source, "evidence": said.evidence,
        }  # fmt: skip


def sync(
    *,
    full: Annotated[bool, typer.Option("--full", help="Have a worker read the whole list now.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="With --full: lift whatever it lacks, however much.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far the reading of Telnyx's list of opt-outs is; --full asks for all of it. 1 if it was never read."""
    from producers.pointers import CHORES, Pointers, pointer
    from worker.compliance.opt_out_list import ask_for_list, read_sync

    if lift and not full:
        raise Failure("--lift goes with --full: it says what the next whole list may do", Exit.USAGE)
    ledger = open_ledger()
    if full:
        ask_for_list(ledger, lift=lift)
        Pointers(ledger.redis, ledger.namespace).push([pointer(CHORES, "sync_opt_outs")])
    state, now_us = read_sync(ledger)
    shown = _sync_rows(state, now_us)
    if as_json:
        print_json(shown)
    else:
        shown["problem"] = shown["problem"] and _words_of(shown["problem"])
        for name, value in shown.items():
            print(f"{name.replace('_', ' '):<22} {'-' if value is None else value}")
    if not full and not state.new_us:
        raise typer.Exit(int(Exit.NO))


def _words_of(problem: str) -> str:
    """Why the list could not be read, for people. Workers try again by themselves."""
    words = {
        "http_401": "Telnyx refuses the workers' key: check TELNYX_API_KEY",
        "http_403": "Telnyx refuses the workers' key this list: check TELNYX_API_KEY",
        "http_429": "Telnyx takes no more requests now: tried again soon",
        "cut": "the connection broke: tried again soon",
    }
    found = words.get(problem, "Telnyx answers with an error: tried again soon" if problem.startswith("http_5") else "")
    return f"{problem}: {found}" if found else problem


def _sync_rows(state: Any, now_us: int) -> dict[str, Any]:
    def age_s(at_us: int) -> int | None:
        return max(0, (now_us - at_us) // 1_000_000) if at_us else None

    return {
        "news_read_s_ago": age_s(state.new_us),
        "whole_list_s_ago": state.whole_age_s(now_us),
        "rows_in_it": state.newer_rows if state.newer else None,
        "lifted_by_it": state.lifted,
        "too_many_to_lift": state.held or None,
        "under_way": state.phase or None,
        "asked_for": bool(state.wanted),
        "problem": state.error or None,
    }


def audit(
    *,
    message: Annotated[str, typer.Option(help="Only of this message or notification.")] = "",
    what: Annotated[str, typer.Option(help="suppressed, spared, late, withdrawn, out or in.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Who was not texted, and on whose word; the newest first. Persons are masked."""
    from worker.compliance.audit import read_audit
    from worker.times import rfc3339

    kinds = ("suppressed", "spared", "late", "withdrawn", "out", "in")
    if what and what not in kinds:
        raise Failure(f'--what is "{what}": write one of {", ".join(kinds)}', Exit.USAGE)
    entries = itertools.islice(read_audit(open_ledger(), message=message, what=what), limit)
    rows = [
        {
            "at": rfc3339(e.at_us), "what": e.what, "person": e.person, "message": e.message or None, "scope": e.scope or None,
            "where": e.where, "source": e.source or None, "said_at": rfc3339(e.said_us) if e.said_us else None,
            "evidence": e.evidence or None,
        }
        for e in entries
    ]  # fmt: skip
    if as_json:
        print_json(rows)
        return
    _table(rows, "nothing is on record")


def _table(rows: Iterable[dict[str, Any]], empty: str) -> None:
    rows = list(rows)
    if not rows:
        print(empty)
        return
    print_table(
        [name.replace("_", " ") for name in rows[0]], [["-" if v is None else v for v in row.values()] for row in rows]
    )
