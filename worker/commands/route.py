"""``notify route``: which sender a job type would take for a person now, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.session import cli_settings, open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from worker.settings import Config, JobType

MARKS = {"taken": "taken", "skipped": "skipped", "not_needed": "-"}


def route(
    *,
    job_type: Annotated[str, typer.Argument(metavar="JOB_TYPE", help="A job type of notify.toml.")],
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="The person, in E.164 form.")],
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each candidate, and why it is taken or not.")
    ] = False,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="To leave then: RFC 3339 with an offset.")] = None,
    media: Annotated[list[str] | None, typer.Option(metavar="URL", help="An attachment that it would have.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which sender a message would leave from. Writes nothing; 1 if there is none."""
    from worker.choosing import Chooser, read_facts
    from worker.commands.opt_outs import person_of
    from worker.routing import Refusal, Route
    from worker.routing import route as route_content
    from worker.telnyx.builder import Content

    settings = cli_settings()
    config = settings.config
    job = _job(job_type, config)
    person = person_of(number)
    at_us = _instant(at) if at is not None else None
    content = Content(media_urls=tuple(media or job.media_urls))

    def way(name: str) -> Route | Refusal:
        return route_content(name, config.senders[name], content)

    facts = read_facts(open_ledger(settings), config, [(job, [person])])
    chosen = Chooser(job, config=config, facts=facts, at_us=at_us).choose(person, way, whole=True)
    row = _row(job_type, person, chosen, config)
    if as_json:
        print_json(row)
    else:
        _show(row, job, explain=explain)
    if row["refusal"]:
        raise typer.Exit(Exit.NO)


def _job(name: str, config: Config) -> JobType:
    from worker.settings.problems import choose as nearest_of

    job = config.job_types.get(name)
    if job is None:
        remedy = nearest_of(name, config.job_types, otherwise="add it to notify.toml")
        raise Failure(f'no job type "{name}": {remedy}', Exit.NO)
    return job


def _instant(text: str) -> int:
    from producers.fields import send_at_of
    from producers.problems import Problems

    problems = Problems()
    now_us = time.time_ns() // 1000
    at_us = send_at_of(text, "--at", problems, now_us=now_us)
    if at_us is None:
        problem = problems.errors[0]
        raise Failure(f"--at is {problem.value}: {problem.remedy}", Exit.USAGE)
    if at_us < now_us:
        raise Failure(f'--at is "{text}", which has passed: choose a time to come', Exit.USAGE)
    return at_us


def _row(job_type: str, person: str, chosen: Any, config: Config) -> dict[str, Any]:
    from worker.routing import Refusal
    from worker.web.routes import steps_of

    refusal = chosen.way if isinstance(chosen.way, Refusal) else None
    sender = config.senders.get(chosen.sender)
    return {
        "job_type": job_type,
        "to": person,
        "sender": chosen.sender or None,
        "lane": None if refusal else chosen.way.lane,
        "channel": sender.channel if sender else None,
        "from": sender.from_ if sender else None,
        "refusal": {"code": refusal.code, "title": refusal.title} if refusal else None,
        "steps": steps_of(chosen),
    }


def _show(row: dict[str, Any], job: JobType, *, explain: bool) -> None:
    if row["refusal"]:
        print(f"rejected ({row['refusal']['code']}): {row['refusal']['title']}")
    else:
        whence = row["from"] or "a number that Telnyx chooses"
        print(f"{row['sender']} ({row['channel']}, {whence}), lane {row['lane']}")
    if explain:
        names = [", ".join(route.senders) for route in job.routes]
        table = [
            [
                "sender" if step["route"] is None else f"routes[{step['route']}]",
                step["sender"] or names[step["route"]],
                MARKS[step["verdict"]],
                step["words"],
            ]
            for step in row["steps"]
        ]
        print_table(["", "sender", "", "why"], table)
