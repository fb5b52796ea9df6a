"""``notify schedules``: what recurs, when it comes next, how it went last; and one tick made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.session import cli_settings, open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from worker.settings import Config, Schedule

TICKS = 3

app = typer.Typer(
    help="Show the notifications that recur; make one by hand.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_schedules(
    count: Annotated[int, typer.Option("--next", min=1, max=100, help="How many coming ticks to show.")] = TICKS,
    as_json: AsJson = False,
) -> None:
    """Show every schedule: its coming ticks in its own zone, how its last one went, and what becomes of missed ones."""
    from worker.schedules import last_run

    settings = cli_settings()
    config, ledger = settings.config, open_ledger(settings)
    now_s = _now_s(ledger)
    rows = [
        _row(name, schedule, config, ran=last_run(ledger, name), now_s=now_s, count=count)
        for name, schedule in config.schedules.items()
    ]
    if as_json:
        print_json({"schedules": rows})
        return
    if not rows:
        print("no schedules: add [schedules.some_name] to notify.toml, as docs/schedules.md has it")
        return
    table = [
        [row["name"], row["cron"], row["timezone"], row["job_type"], row["to"], "\n".join(row["next"]) or "never",
         _ran(row["last"]), row["missed"]]
        for row in rows
    ]  # fmt: skip
    print_table(["schedule", "cron", "zone", "job type", "to", "next", "last", "missed"], table)


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule of notify.toml.")],
    tick: Annotated[str, typer.Option(metavar="TIME", help="The tick: RFC 3339 with an offset.")],
    as_json: AsJson = False,
) -> None:
    """Make the notification of one tick, one that was missed for instance. What a clock has made is not made again."""
    from producers.notifier import Notifier
    from worker.schedules import Schedules, is_tick, load_recipients, next_s, zone_of

    settings = cli_settings()
    config, ledger = settings.config, open_ledger(settings)
    schedule = _schedule(name, config)
    zone = zone_of(schedule, config)
    at_s = _tick(tick, _now_s(ledger))
    if not is_tick(schedule, zone, at_s):
        coming = next_s(schedule, zone, at_s)
        nearest = f"the next one is {_local(coming, zone)}" if coming else "none comes after it"
        raise Failure(f'"{tick}" is no tick of {name} ({schedule.cron}, {zone}): {nearest}', Exit.USAGE)
    recipients = load_recipients(config)
    notifier = Notifier(
        settings.redis_url, namespace=settings.namespace
    )  # the clock's client, so that its keys are these
    count = Schedules(config, ledger, notifier, recipients).make(name, at_s)
    if as_json:
        print_json({"name": name, "tick": _local(at_s, zone), "recipients": count})
        return
    print(f"{name} at {_local(at_s, zone)}: {count:,} recipient{'s' * (count != 1)}")


def _row(name: str, schedule: Schedule, config: Config, *, ran: Any, now_s: int, count: int) -> dict[str, Any]:
    from worker.schedules import coming_ticks, zone_of

    zone = zone_of(schedule, config)
    to = schedule.recipients or schedule.to
    return {
        "name": name,
        "cron": schedule.cron,
        "timezone": zone,
        "job_type": schedule.job_type,
        "to": to if isinstance(to, str) else f"{len(to or ())} numbers",
        "next": [_local(tick, zone) for tick in coming_ticks(schedule, zone, now_s, count)],
        "last": {"tick": _local(ran.tick, zone), "outcome": ran.outcome, "at": _local(ran.at_s, zone)} if ran else None,
        "missed": schedule.missed,
    }


def _ran(last: dict[str, Any] | None) -> str:
    return f"{last['tick']} {last['outcome']}" if last else "not yet"


def _local(at_s: int, zone: str) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).isoformat()


def _now_s(ledger: Any) -> int:
    return int(ledger.redis.time()[0])


def _schedule(name: str, config: Config) -> Schedule:
    from worker.settings.problems import choose

    schedule = config.schedules.get(name)
    if schedule is None:
        remedy = choose(name, config.schedules, otherwise=f"add [schedules.{name}] to notify.toml")
        raise Failure(f'no schedule "{name}": {remedy}', Exit.NO)
    return schedule


def _tick(text: str, now_s: int) -> int:
    from producers.fields import send_at_of
    from producers.problems import Problems

    problems = Problems()
    at_us = send_at_of(text, "--tick", problems, now_us=now_s * 1_000_000)
    if at_us is None:
        raise Failure(f"--tick is {problems.errors[0].value}: {problems.errors[0].remedy}", Exit.USAGE)
    if at_us > now_s * 1_000_000:
        raise Failure(f'--tick is "{text}", which is still to come: the clock makes it then', Exit.USAGE)
    return at_us // 1_000_000
