"""``notify numbers``: the account's numbers, the profiles they are on, their tags.

One number is changed by itself; several by an order that Telnyx works off, which is followed to its end. An order outlives
this command, so after Ctrl-C it is followed again by its id. 0 only if every number came through.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.session import cli_settings, open_account
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from worker.commands.bulk_orders import Change, Followed
    from worker.telnyx.account import Account, Page

app = typer.Typer(
    help="List the account's numbers; put them on a profile, take them off, tag them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Numbers = Annotated[list[str] | None, typer.Argument(metavar="NUMBERS...", help="In E.164 form, or short codes.")]
File = Annotated[
    Path | None,
    typer.Option(metavar="CSV", help="More numbers: a column phone_number, or one a line; - is standard input."),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Mobile = Annotated[bool, typer.Option("--mobile", help="The account's mobile numbers instead.")]
OrderId = Annotated[str | None, typer.Option(metavar="ID", help="Follow an order that was made before.")]
Every = Annotated[float, typer.Option(min=0.05, max=60, help="Seconds between two looks at the order.")]
Within = Annotated[float, typer.Option(min=0, help="Seconds after which what is pending is reported so.")]
AssignOnly = Annotated[bool, typer.Option("--assign-only", help="Change no other setting (bulk orders only).")]


@app.command("list")
def list_(
    *,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Only those on this messaging profile.")] = None,
    number: Annotated[list[str] | None, typer.Option(help="Only this number; repeat it.")] = None,
    contains: Annotated[str | None, typer.Option(metavar="DIGITS", help="Only those that hold these digits.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only tollfree, longcode or shortcode.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="From the greatest number down.")] = False,
    mobile: Mobile = False,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Show every number, page after page."""
    from worker.commands.number_lists import LISTED, flat, read_numbers, write_csv

    if kind is not None and kind not in ("tollfree", "longcode", "shortcode"):
        raise Failure(f'--type is "{kind}": write tollfree, longcode or shortcode', Exit.USAGE)
    if mobile and (profile or number or contains or kind or descending):
        raise Failure("--mobile takes no filter, for Telnyx offers none there: leave the others out", Exit.USAGE)
    among = read_numbers(number, None) if number else []
    profile = _profile(profile) if profile else None
    with open_account(cli_settings()) as account:
        pages = (
            account.mobile_numbers()
            if mobile
            else account.numbers(profile=profile, among=among, contains=contains, kind=kind, descending=descending)
        )
        rows = [row for page in _with_progress(pages) for row in page.rows]
    if as_json:
        print_json({"numbers": rows})
    elif as_csv:
        write_csv(LISTED, map(flat, rows))
    elif rows:
        print_table([name.replace("_", " ") for name in LISTED], map(flat, rows))
        print(f"{len(rows):,} numbers")
    else:
        print("no numbers: buy some in the Telnyx portal, or ask with fewer filters")


@app.command()
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="In E.164 form, or Telnyx's id of it.")],
    mobile: Mobile = False,
    as_json: AsJson = False,
) -> None:
    """Show one number whole: profile, product, features, health, tags."""
    if not number.strip():
        raise Failure("the number is empty: write +13125550100", Exit.USAGE)
    with open_account(cli_settings()) as account:
        row = account.mobile_number(number) if mobile else account.number(number)
    if as_json:
        print_json(row)
        return
    print_table(["", ""], list(_pairs(row)))


@app.command()
def assign(
    numbers: Numbers = None,
    *,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="The messaging profile to put them on.")] = None,
    file: File = None,
    order: OrderId = None,
    assign_only: AssignOnly = False,
    every: Every = 1.0,
    within: Within = 1800.0,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Put numbers on a messaging profile. Ctrl-C leaves the order running; --order follows it again."""
    if order is None and not profile:
        raise Failure("--profile is missing: give the id of the messaging profile", Exit.USAGE)
    from worker.commands.bulk_orders import Change

    change = Change(
        what="assign",
        profile=_profile(profile) if profile else "",
        numbers=_wanted(numbers, file, order),
        order_id=order,
        assign_only=assign_only,
        every_s=every,
        within_s=within,
    )
    _change(change, as_csv=as_csv, as_json=as_json)


@app.command()
def unassign(
    numbers: Numbers = None,
    *,
    file: File = None,
    order: OrderId = None,
    assign_only: AssignOnly = False,
    every: Every = 1.0,
    within: Within = 1800.0,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Take numbers off their messaging profile: nothing can be sent from them, or heard, until they are on one."""
    from worker.commands.bulk_orders import Change

    change = Change(
        what="unassign",
        profile="",
        numbers=_wanted(numbers, file, order),
        order_id=order,
        assign_only=assign_only,
        every_s=every,
        within_s=within,
    )
    _change(change, as_csv=as_csv, as_json=as_json)


@app.command()
def tags(
    numbers: Numbers = None,
    *,
    add: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Add a tag; repeat it.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Take a tag off; repeat it.")] = None,
    put: Annotated[list[str] | None, typer.Option("--set", metavar="TAG", help="Have these tags alone.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Have no tag.")] = False,
    file: File = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Show the tags of numbers, or change them."""
    from worker.commands.number_lists import read_numbers, write_csv

    if sum((bool(add or remove), bool(put), clear)) > 1:
        raise Failure("--set, --clear and --add/--remove exclude each other: choose one of them", Exit.USAGE)
    wanted = read_numbers(numbers or [], file)
    rows: list[dict[str, Any]] = []
    with open_account(cli_settings()) as account:
        for number in wanted:
            rows.append(_tagged(account, number, add or [], remove or [], [] if clear else put))
    if as_json:
        print_json({"numbers": rows})
    else:
        table = [[row["phone_number"], ";".join(row["tags"]), row["error"]] for row in rows]
        if as_csv:
            write_csv(["phone_number", "tags", "error"], table)
        else:
            print_table(["phone number", "tags", "error"], table)
    raise typer.Exit(int(Exit.NO if any(row["error"] for row in rows) else Exit.DONE))


def _tagged(account: Account, number: str, add: list[str], remove: list[str], put: list[str] | None) -> dict[str, Any]:
    """The tags of ``number`` after the change. What is wrong with this number alone is no reason to leave the others."""
    from worker.telnyx.account import AccountError

    try:
        if put is not None:
            row = account.update_number(number, tags=list(dict.fromkeys(put)))
        else:
            row = account.number(number)
            old = _tags(row)
            new = [tag for tag in dict.fromkeys([*old, *add]) if tag not in remove]
            if new != old:
                row = account.update_number(number, tags=new)
    except AccountError as error:
        if error.why not in ("missing", "refused"):
            raise
        return {"phone_number": number, "tags": [], "error": str(error)}
    return {"phone_number": number, "tags": _tags(row), "error": ""}


def _tags(row: dict[str, Any]) -> list[str]:
    found = row.get("tags")
    return [str(tag) for tag in found] if isinstance(found, list) else []


def _change(change: Change, *, as_csv: bool, as_json: bool) -> None:
    from worker.commands.bulk_orders import run

    with open_account(cli_settings()) as account:
        followed = run(account, change)
    _report(followed, as_csv=as_csv, as_json=as_json)
    raise typer.Exit(int(Exit.DONE if followed.ok else Exit.NO))


def _wanted(numbers: list[str] | None, file: Path | None, order: str | None) -> list[str]:
    """The numbers that are asked for; an order knows its own, so there they are optional."""
    from worker.commands.number_lists import read_numbers

    if order is not None and not order.strip():
        raise Failure("--order is empty: write the id that was printed when the order was made", Exit.USAGE)

    return read_numbers(numbers or [], file) if order is None or numbers or file else []


def _report(followed: Followed, *, as_csv: bool, as_json: bool) -> None:
    from worker.commands.number_lists import write_csv

    if as_json:
        print_json(followed.as_dict())
        return
    rows = [(number, word) for word, numbers in followed.groups() for number in numbers]
    if as_csv:
        write_csv(["phone_number", "result"], rows)
        return
    if followed.order_id:
        print(f"order {followed.order_id}")
    counts = ", ".join(f"{len(numbers):,} {word}" for word, numbers in followed.groups())
    print(counts)
    for word, numbers in followed.groups():
        if word != "success" and numbers:
            print(f"{word}: {' '.join(numbers)}")
    if followed.why:
        print(followed.why)
    if followed.next_step:
        print(followed.next_step)


def _with_progress(pages: Iterator[Page]) -> Iterator[Page]:
    """The pages, with a bar on standard error where somebody looks."""
    from rich.progress import Progress

    from worker.terminal import console

    screen = console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("numbers", total=None)
        for page in pages:
            bar.update(task, total=page.total, advance=len(page.rows))
            yield page


def _pairs(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
            yield f"{prefix}{name}", shown


def _profile(text: str) -> str:
    from pydantic_core import PydanticCustomError

    from worker.settings.model import read_profile

    try:
        return read_profile(text)
    except PydanticCustomError as wrong:
        remedy = (wrong.context or {}).get("remedy", "")
        raise Failure(f'--profile is "{text}", {wrong.message()}: {remedy}', Exit.USAGE) from None
