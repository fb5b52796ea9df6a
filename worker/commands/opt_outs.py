"""``notify opt-outs``: whether a person may be texted, and on whose word. Numbers are shown as they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.opt_out_lists import add_commands
from worker.commands.session import open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger

app = typer.Typer(
    help="Look up, set, lift, import and export opt-outs; read Telnyx's list; the audit.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Number = Annotated[str, typer.Argument(metavar="NUMBER", help="In E.164 form: +13125550100.")]
Scope = Annotated[str, typer.Option(help="global, profile:<id> or sender:<name>.")]


@app.command()
def get(number: Number, scope: Scope = "global", as_json: AsJson = False) -> None:
    """Show whether a person is opted out in a scope, and why."""
    person, where = person_of(number), _scope(scope)
    ledger = open_ledger()
    _check_sender(where, ledger)
    _show(ledger, person, where, as_json=as_json)


@app.command()
def add(number: Number, scope: Scope = "global", as_json: AsJson = False) -> None:
    """Opt a person out: from now on nothing is taken for them, also of what is queued."""
    _say(number, scope, out=True, as_json=as_json)


@app.command()
def remove(number: Number, scope: Scope = "global", as_json: AsJson = False) -> None:
    """Lift what an operator or app set. A person's own STOP stays: only their START lifts it."""
    _say(number, scope, out=False, as_json=as_json)


def _say(number: str, scope: str, *, out: bool, as_json: bool) -> None:
    from producers.ledger import calls

    person, where = person_of(number), _scope(scope)
    ledger = open_ledger()
    _check_sender(where, ledger)
    direction: Any = "out" if out else "in"
    ledger.run(calls.opt(person, direction, scopes=[where], source="cli", by_operator=True))
    _show(ledger, person, where, as_json=as_json)


def _show(ledger: Ledger, person: str, scope: str, *, as_json: bool) -> None:
    from worker.compliance.opt_outs import read_opt_out
    from worker.web import presenting

    answer = presenting.opt_out(person, scope, read_opt_out(ledger, person, scope))
    if as_json:
        print_json(answer)
        return
    if not answer["at"]:
        print(f"{person} is not opted out ({scope}); nobody ever said anything")
        return
    word = "is opted out" if answer["opted_out"] else "is not opted out"
    whose = "an operator or app" if answer["by_operator"] else "the person"
    print(f"{person} {word} ({scope}): said by {whose}, {answer['source']}, at {answer['at']}")


def person_of(number: str) -> str:
    from producers.phone import NotANumber, is_bsuid, normalise

    if is_bsuid(number):
        return number
    try:
        return normalise(number)
    except NotANumber as wrong:
        raise Failure(f'"{number}" is no number: {wrong.remedy}', Exit.USAGE) from None


def _scope(scope: str) -> str:
    from worker.compliance.opt_outs import is_scope

    if not is_scope(scope):
        raise Failure(f'--scope is "{scope}": write global, profile:<id> or sender:<name>', Exit.USAGE)
    return scope.lower() if scope.startswith("profile:") else scope


def _check_sender(scope: str, ledger: Ledger) -> None:
    """Refuse a sender that nobody knows: an opt-out under a mistyped name would silence nobody."""
    from producers.problems import nearest
    from worker.pacing.lanes import read_lanes

    kind, _, name = scope.partition(":")
    if kind != "sender":
        return
    known = sorted({view.sender for view in read_lanes(ledger)})
    if known and name not in known:
        remedy = nearest(name, known, otherwise=f"the senders are: {', '.join(known)}")
        raise Failure(f'--scope names the sender "{name}", which is not known: {remedy}', Exit.USAGE)


add_commands(app)
