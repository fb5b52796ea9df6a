"""``notify dead`` and ``notify replay``: what ended without arriving, why, and sending it again once the cause is gone.

Numbers are masked unless one asks for them: such lists are copied into tickets.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.dead_callbacks import replay_callbacks, show_dead_callbacks
from worker.commands.session import cli_settings, open_ledger, open_notifier
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from producers.ledger.dead_letters import DeadLetter
    from producers.ledger.ledger import Ledger
    from worker.replaying import Replayed
    from worker.settings import Settings

JobType = Annotated[str | None, typer.Option("--job-type", metavar="JOB_TYPE", help="Only of this job type.")]
State = Annotated[str | None, typer.Option("--state", help="Only rejected, failed or unconfirmed ones.")]
Sender = Annotated[str | None, typer.Option("--sender", metavar="SENDER", help="Only of this sender.")]
VALID_FOR_S = 86_400  # of a job type that is gone
WITHOUT_ASKING = ("rejected", "failed")  # an unconfirmed one may have arrived: who wants those twice says so


def dead(
    *,
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Show this message whole: <notification>-<index>.")
    ] = None,
    aside: Annotated[
        bool, typer.Option("--aside", help="Instead: receipts and pointers that could not be used.")
    ] = False,
    callbacks: Annotated[
        bool, typer.Option("--callbacks", help="Instead: callbacks to apps that were given up.")
    ] = False,
    job_type: JobType = None,
    state: State = None,
    sender: Sender = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many to list.")] = 50,
    show_numbers: Annotated[bool, typer.Option("--show-numbers", help="Do not mask phone numbers.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what ended without arriving, newest first, with the reason; they are kept for 24 hours."""
    settings = cli_settings()
    ledger = open_ledger(settings)
    if aside:
        _show_asides(ledger, limit, as_json=as_json)
        return
    if callbacks:
        show_dead_callbacks(ledger, limit, as_json=as_json)
        return
    if id is not None:
        _show_one(id, ledger, settings, show_numbers=show_numbers, as_json=as_json)
        return
    from producers.ledger.dead_letters import read_dead

    letters = read_dead(ledger, limit=limit, wanted=_filter(job_type, state, sender, settings, ledger))
    rows = [_row(letter, settings, show_numbers=show_numbers) for letter in letters]
    if as_json:
        print_json({"dead": rows})
        return
    if not rows:
        print("no dead letters")
        return
    print_table(
        ["id", "to", "job type", "state", "when", "why", "replay"],
        [
            [row["id"], ", ".join(row["to"]), row["job_type"], row["state"], row["at"] or "", row["why"],
             "yes" if row["replayable"] else f"no: {row['why_not']}"]
            for row in rows
        ],
    )  # fmt: skip


def replay(
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Messages, as `notify dead` lists them.")
    ] = None,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="All rejected and failed ones, or those that the filters name.")
    ] = False,
    job_type: JobType = None,
    state: State = None,
    sender: Sender = None,
    callbacks: Annotated[
        bool, typer.Option("--callbacks", help="Instead: call apps again, by the ids of `notify dead --callbacks`.")
    ] = False,
    valid_for: Annotated[
        str | None, typer.Option("--valid-for", metavar="5m", help="How long each may wait; else as its job type says.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --all.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again, each as a new message with a key of its own. 1 if any was refused."""
    if bool(ids) == all_of_them:
        raise Failure("name the messages, or give --all: `notify dead` lists them", Exit.USAGE)
    if callbacks:
        replay_callbacks(open_ledger(cli_settings()), ids or [], as_json=as_json)
        return
    if ids and (job_type or state or sender):
        raise Failure("filters go with --all: name messages, or give --all and filters", Exit.USAGE)
    from worker.log import configure_logging

    configure_logging("warning", json=False)  # to standard error: what is rendered anew may have something to say
    settings = cli_settings()
    ledger = open_ledger(settings)
    chosen = (
        _named(ids, ledger) if ids else _all(ledger, _filter(job_type, state, sender, settings, ledger, acting=True))
    )
    if all_of_them and chosen and not yes:
        _confirm(len(chosen))
    done = _replay(chosen, ledger, settings, _valid_for(valid_for, settings))
    _tell(done, as_json=as_json)
    if any(row.outcome == "refused" for row in done):
        raise typer.Exit(int(Exit.NO))


def _filter(
    job_type: str | None,
    state: str | None,
    sender: str | None,
    settings: Settings,
    ledger: Ledger,
    *,
    acting: bool = False,
) -> Callable[[DeadLetter], bool]:
    from producers.ledger.dead_letters import DEAD_WORDS
    from producers.problems import nearest

    if state is not None and state not in DEAD_WORDS:
        remedy = nearest(state, list(DEAD_WORDS), otherwise=f"write one of {', '.join(DEAD_WORDS)}")
        raise Failure(f'--state is "{state}": {remedy}', Exit.USAGE)
    _check_sender(sender, settings, ledger)
    states = (state,) if state else WITHOUT_ASKING if acting else DEAD_WORDS

    def wanted(letter: DeadLetter) -> bool:
        return (
            letter.state in states
            and job_type in (None, letter.job_type)
            and sender in (None, _sender_of(letter, settings))
        )

    return wanted


def _check_sender(sender: str | None, settings: Settings, ledger: Ledger) -> None:
    """Raises Failure for a sender that neither was nor is configured, so that a typo does not read as "no dead letters"."""
    from producers.problems import nearest
    from worker.pacing.lanes import lane_names

    config = settings.loaded_config
    known = {name.removesuffix(".mms") for name in lane_names(ledger)} | set(config.senders if config else ())
    if sender is None or sender in known:
        return
    remedy = nearest(sender, sorted(known), otherwise=f"the senders are: {', '.join(sorted(known))}")
    raise Failure(f'no sender "{sender}": {remedy}', Exit.NO)


def _sender_of(letter: DeadLetter, settings: Settings) -> str:
    """Of what never reached a lane, the sender that its job type names here."""
    if letter.lane:
        return letter.lane.removesuffix(".mms")
    job = settings.loaded_config.job_types.get(letter.job_type) if settings.loaded_config else None
    return job.sender if job else ""


def _row(letter: DeadLetter, settings: Settings, *, show_numbers: bool) -> dict[str, Any]:
    from producers.masking import mask
    from worker.times import rfc3339
    from worker.web import presenting

    code, title, phase = letter.error or ("", "", "")
    # of what is no dead letter (it has arrived, or is on its way) nothing needs an excuse
    words = None if letter.why_not == "not_dead" else presenting.why_dead(code, title, phase, letter.reason)
    return {
        "id": letter.id,
        "to": [number if show_numbers else mask(number) for number in letter.to.split(",")],
        "job_type": letter.job_type,
        "sender": _sender_of(letter, settings),
        "state": letter.state,
        "leg": letter.leg,
        "at": rfc3339(letter.at_us) if letter.at_us else None,
        "reason": letter.reason or None,
        "code": code or None,
        "why": words,
        "replayable": not letter.why_not,
        "why_not": letter.why_not or None,
    }


def _show_one(id: str, ledger: Ledger, settings: Settings, *, show_numbers: bool, as_json: bool) -> None:
    from producers.ledger.reading import entry_of, read_message
    from producers.masking import mask
    from worker.replaying import REFUSALS
    from worker.settings import Config
    from worker.web import presenting

    (letter,) = _named([id], ledger)
    view = read_message(ledger, entry_of(id))
    if view is None:
        raise Failure(f"no message {id[:60]}: unknown, or older than [storage] retention", Exit.NO)
    config = settings.loaded_config or Config(senders={}, job_types={})
    whole = presenting.message(view, _sender_of(letter, settings), config)
    if not show_numbers:
        whole["to"] = [mask(n) for n in whole["to"]] if isinstance(whole["to"], list) else mask(whole["to"])
        whole["members"] = [{**member, "to": mask(member["to"])} for member in whole["members"]]
    row = _row(letter, settings, show_numbers=show_numbers)
    told = {key: row[key] for key in ("job_type", "sender", "leg", "why", "replayable", "why_not")}
    if as_json:
        print_json({**whole, **told})
        return
    print(f"{whole['id']}  {whole['state']}  {row['job_type']}  to {', '.join(row['to'])}")
    if row["why"]:
        print(f"why: {row['why']}")
    print("replay: " + (f"notify replay {whole['id']}" if row["replayable"] else f"no: {REFUSALS[row['why_not']]}"))
    steps = [[s["at"], s["leg"], s["state"], s["attempt"], s["reason"] or ""] for s in whole["timeline"]]
    print_table(["at", ">leg", "state", ">attempt", "reason"], steps)
    if whole["errors"]:
        print_table(
            ["at", "phase", "code", "what it means"],
            [[e["at"], e["phase"], e["code"], e["title"]] for e in whole["errors"]],
        )


def _show_asides(ledger: Ledger, limit: int, *, as_json: bool) -> None:
    from worker.commands.asides import read_asides
    from worker.times import rfc3339

    rows = [
        {"at": rfc3339(put.at_us), "where": put.where, "why": put.why, "about": put.about, "id": put.id}
        for put in read_asides(ledger, limit)
    ]
    if as_json:
        print_json({"aside": rows})
    elif not rows:
        print("nothing was put aside")
    else:
        print_table(["at", "where", "why", "about"], [[r["at"], r["where"], r["why"], r["about"]] for r in rows])


def _named(ids: list[str], ledger: Ledger) -> list[DeadLetter]:
    """The newest legs of the entries of these ids. Fails on the first that is none."""
    import re

    from producers.ledger.dead_letters import newest_ids, read_letters

    for id in ids:
        if not re.fullmatch(r"[0-9a-f]{32}-\d{1,9}(-\d{1,9})?", id):
            raise Failure(
                f'"{id[:60]}" is no message: write <notification>-<index>, as `notify dead` lists it', Exit.USAGE
            )
    letters = read_letters(ledger, newest_ids(ledger, ids))
    there = {letter.entry for letter in letters}
    for id in ids:
        if "-".join(id.split("-")[:2]) not in there:
            raise Failure(f"no message {id}: unknown, not expanded yet, or older than [storage] retention", Exit.NO)
    return letters


def _all(ledger: Ledger, wanted: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    from producers.ledger.dead_letters import dead_ids, pages, read_letters

    return [letter for page in pages(dead_ids(ledger)) for letter in read_letters(ledger, page) if wanted(letter)]


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise Failure(f"{count:,} messages would be sent again: say --yes", Exit.USAGE)
    typer.confirm(f"Send {count:,} message{'s' * (count != 1)} again?", abort=True, err=True)


def _valid_for(given: str | None, settings: Settings) -> Callable[[DeadLetter], int]:
    """How long a leg may wait: as given, or as its job type says, published or here."""
    from producers.errors import NotReady
    from worker.settings import parse_duration_s

    if given is not None:
        try:
            seconds = parse_duration_s(given)
        except ValueError:
            seconds = 0
        if not 1 <= seconds <= 604_800:
            raise Failure(f'--valid-for is "{given}": write 30s, 5m, 2h or 3d, at most 7d', Exit.USAGE)
        return lambda letter: seconds
    try:
        published = open_notifier(settings).job_types()
    except NotReady:
        published = {}
    return lambda letter: int(published.get(letter.job_type, {}).get("valid_for_s", VALID_FOR_S))


def _replay(
    letters: list[DeadLetter], ledger: Ledger, settings: Settings, valid_for_s: Callable[[DeadLetter], int]
) -> list[Replayed]:
    from producers.ledger.dead_letters import pages
    from worker.replaying import replay as send_again

    return [
        row
        for page in pages(letters)
        for row in send_again(page, ledger=ledger, config=settings.loaded_config, valid_for_s=valid_for_s)
    ]


def _tell(done: list[Replayed], *, as_json: bool) -> None:
    counts = Counter(row.outcome for row in done)
    made = counts["made"] + counts["exists"]
    if as_json:
        rows = [
            {"id": row.entry, "leg": row.message or None, "why": row.why or None, "words": row.words or None}
            for row in done
        ]
        print_json({"replayed": made, "refused": counts["refused"], "messages": rows})
        return
    for row in done:
        if row.outcome == "refused":
            print(f"{row.entry}  refused, {row.why}: {row.words}")
        elif len(done) <= 50:
            print(f"{row.entry}  again as {row.message}")
    print(f"{made:,} queued again, {counts['refused']:,} refused" if done else "no dead letters")
