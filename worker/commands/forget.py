"""``notify forget``: remove what is kept of a person."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from worker.commands.session import open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json


def forget(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="In E.164 form: +13125550100.")],
    as_json: AsJson = False,
) -> int:
    """Remove what is kept of a person: messages, what they wrote, frequency, windows. Opt-outs stay, and are obeyed."""
    from producers.phone import NotANumber, is_bsuid, normalise
    from worker.forgetting import Forgotten
    from worker.forgetting import forget as forget_person

    try:
        person = number if is_bsuid(number) else normalise(number)
    except NotANumber as wrong:
        raise Failure(f"NUMBER: {wrong.remedy}", Exit.USAGE) from None

    def progress(done: Forgotten) -> None:
        if sys.stderr.isatty():
            print(f"\rlooked at {done.keys:,} keys", end="", file=sys.stderr, flush=True)

    done = forget_person(open_ledger(), person, progress=progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if as_json:
        print_json(asdict(done))
    else:
        print(
            f"{done.messages} messages forgotten, {done.stopped} of them stopped before they left; "
            f"{done.entries} entries and {done.others} keys removed; opt-outs stay"
        )
        if done.left:
            print(f"{done.left} may still be under way: run it again once they have ended")
    return int(Exit.NO if done.left else Exit.DONE)
