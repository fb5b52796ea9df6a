"""``notify send``, ``status``, ``cancel``: hand over by hand, and look what became of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.session import cli_settings, open_ledger, open_notifier
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from rich.text import Text

    from producers.notifier import Notifier
    from worker.settings import Config, Settings

Id = Annotated[str, typer.Argument(metavar="ID", help="What `notify send` or the API answered: 32 hex digits.")]
STYLES = {
    "delivered": "green",
    "failed": "red",
    "rejected": "red",
    "unconfirmed": "yellow",
    "uncertain": "yellow",
    "expired": "magenta",
    "cancelled": "magenta",
    "opted_out": "magenta",
}


def send(
    *,
    job_type: Annotated[str, typer.Argument(metavar="JOB_TYPE", help="A job type of notify.toml.")],
    to: Annotated[
        list[str], typer.Option("--to", metavar="NUMBER", help="A number in E.164 form; repeat it for several.")
    ],
    text: Annotated[str | None, typer.Option(help="The text, for a job type without a template.")] = None,
    var: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable of the template.")] = None,
    media: Annotated[list[str] | None, typer.Option(metavar="URL", help="An attachment; repeat it.")] = None,
    subject: Annotated[str | None, typer.Option(help="The subject of an MMS.")] = None,
    whatsapp: Annotated[str | None, typer.Option(metavar="JSON", help="The WhatsApp object.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Not before: RFC 3339 with an offset.")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who holds it until --at: local, or provider (Telnyx). Else its job type's."),
    ] = None,
    valid_for: Annotated[str | None, typer.Option(metavar="5m", help="After this, nothing is sent any more.")] = None,
    priority: Annotated[str | None, typer.Option(help="urgent, normal or bulk, instead of the job type's.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key again sends nothing new.")] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Kept with the notification.")] = None,
    callback_url: Annotated[str | None, typer.Option(metavar="URL", help="Where its end is told.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go out; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue a notification, and print its id."""
    given: dict[str, Any] = {
        "job_type": job_type, "to": to[0] if len(to) == 1 else to, "text": text, "variables": _variables(var or []),
        "media_urls": media, "subject": subject, "whatsapp": _object("whatsapp", whatsapp), "send_at": at, "schedule": schedule,
        "valid_for": valid_for, "priority": priority, "idempotency_key": key, "metadata": _object("metadata", metadata),
        "callback_url": callback_url,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value}
    settings = cli_settings()
    notifier = open_notifier(settings)
    if dry_run:
        _show_trial(_trial(fields, settings, notifier), as_json=as_json)
        return
    enqueued = notifier.enqueue_as(settings.client, fields)
    if as_json:
        print_json({"id": enqueued.ticket.id, "messages": enqueued.ticket.messages, "repeated": enqueued.repeated})
        return
    count = enqueued.ticket.messages
    print(
        f"{enqueued.ticket.id}  {count} message{'s' * (count != 1)}{' (had been enqueued before)' * enqueued.repeated}"
    )


def status(
    id: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many messages to show.")] = 20,
    after: Annotated[int, typer.Option(min=-1, help="Show those after this index.")] = -1,
    as_json: AsJson = False,
) -> None:
    """Show where a notification stands: its counts, its messages, and the way of each."""
    from producers.errors import NotFound
    from producers.ledger.reading import read_notification
    from worker.web import presenting

    settings = cli_settings()
    view = read_notification(open_ledger(settings), id, limit=limit, after=after) if _is_id(id) else None
    if view is None:
        raise NotFound(id[:40])
    answer = presenting.notification(view, _config(settings))
    if as_json:
        print_json({**answer, "client": view.client, "is_final": view.is_final})
        return
    print(f"{view.id}  {view.job_type}  client {view.client}  {'final' if view.is_final else 'under way'}")
    print("  ".join(f"{state} {count}" for state, count in view.state_counts.items()))
    print_table(
        ["#", "to", "channel", "state", ">tries", "way", "why"], [_row(message) for message in answer["messages"]]
    )
    if answer["next"]:
        print(f"more: notify status {view.id} --after {answer['next']}")


def cancel(id: Id, as_json: AsJson = False) -> None:
    """Stop what has not left yet. 0 also when nothing could be stopped any more."""
    from producers.errors import NotFound

    settings = cli_settings()
    if not _is_id(id):
        raise NotFound(id[:40])
    stopped, asked_back = open_notifier(settings).stop_any(id)
    if as_json:
        more = {"asked_back": asked_back} if asked_back else {}  # as the API answers
        print_json({"id": id, "cancelled": stopped, **more})
        return
    if stopped or not asked_back:
        print(f"{stopped} message{'s' * (stopped != 1)} stopped" if stopped else "nothing could be stopped any more")
    if asked_back:
        many = "s" * (asked_back != 1)
        print(f"{asked_back} message{many} asked back from Telnyx: notify status {id} shows what it answers")


def _is_id(text: str) -> bool:
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)


def _config(settings: Settings) -> Config:
    """The file's configuration, or one that says nothing: a status can be read on a machine without it."""
    from worker.settings import Config

    return settings.loaded_config or Config(senders={}, job_types={})


def _trial(fields: dict[str, Any], settings: Settings, notifier: Notifier) -> dict[str, Any]:
    from worker.web.dry_run import dry_run
    from worker.web.problems import Problem

    try:
        return dry_run(
            fields,
            config=settings.config,
            job_types=notifier.job_types(),
            ledger=notifier.ledger,
            now_us=time.time_ns() // 1000,
        )
    except Problem as problem:
        raise Failure(str(problem), Exit.USAGE) from None


def _show_trial(trial: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(trial)
        return
    print(f"{trial['parts']} part{'s' * (trial['parts'] != 1)}, {trial['encoding'] or 'no segments'}")
    if trial["parts"] > 1:
        for number, text in enumerate(trial["part_texts"], 1):
            print(f"  {number}: {text!r}")
    if trial["forces_ucs2"]:
        print("forced to UCS-2 by: " + ", ".join(trial["forces_ucs2"]))
    print(f"would leave at {trial['leaves_at']}" if trial["leaves_at"] else "would wait: the lane is paused or gone")
    for row in trial["senders"]:
        print(f"{row['messages']:,} from {row['sender']}")
    for step in trial["route"] or ():
        if step["verdict"] == "skipped":
            print(f"not from {step['sender'] or 'routes[' + str(step['route']) + ']'}: {step['words']}")
    for row in trial["filtered"]:
        print(f"not to {row['to']}: {row['reason']}")
    for row in trial["delayed"]:
        print(f"to {row['to']} at {row['leaves_at']}: {row['reason']}")


def _variables(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Failure(f'--var must be NAME=VALUE, got "{pair}": write --var code=123456', Exit.USAGE)
        found[name] = value
    return found


def _object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Failure(f"--{option} must be a JSON object: {error}", Exit.USAGE) from None
    if not isinstance(value, dict):
        raise Failure(f"--{option} must be a JSON object, got {type(value).__name__}", Exit.USAGE)
    return value


def _row(message: dict[str, Any]) -> list[object]:
    to = message["to"] if isinstance(message["to"], str) else ", ".join(message["to"])
    last = message["timeline"][-1] if message["timeline"] else None
    error = message["errors"][-1] if message["errors"] else None
    reason = last["reason"] if last and last["reason"] != message["state"] else ""
    why = f"{error['code']}: {error['title']}" if error else reason or ""
    index = message["id"].split("-", 1)[1] if "-" in message["id"] else ""
    return [index, to, message["channel"] or "", _state(message), message["attempts"], _way(message), why]


def _state(message: dict[str, Any]) -> Text:
    """The state; of what Telnyx holds for later, until when."""
    from rich.text import Text

    state, held_until = message["state"], message["provider_send_at"]
    shown = f"{state} (scheduled at Telnyx for {held_until[:19]}Z)" if held_until and state == "accepted" else state
    return Text(shown, style=STYLES.get(state, ""))


def _way(message: dict[str, Any]) -> str:
    """The timeline in one cell: the first time whole, then what was added to it."""
    from datetime import datetime

    steps = message["timeline"]
    if not steps:
        return ""
    start = datetime.fromisoformat(steps[0]["at"])
    parts = [f"{steps[0]['at'][11:23]} {steps[0]['state']}"]
    for step in steps[1:]:
        parts.append(f"+{(datetime.fromisoformat(step['at']) - start).total_seconds():.3f} {step['state']}")
    return " → ".join(parts)
