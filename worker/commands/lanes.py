"""``notify lanes``: what waits for each sender, and the levers. A lever acts on all lanes of its sender (SMS and MMS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.commands.session import cli_settings, open_ledger
from worker.terminal import AsJson, Exit, Failure, pace, print_json, print_table

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from worker.pacing.explain import Bucket, Explanation
    from worker.pacing.lanes import LaneView
    from worker.settings import Settings

app = typer.Typer(help="Show the lanes; pause, drain, resume or re-rate a sender.", rich_markup_mode=None)
Sender = Annotated[str, typer.Argument(metavar="SENDER", help="A sender of notify.toml.")]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    explain: Annotated[
        str | None, typer.Option(metavar="SENDER", help="Say which limit rules a sender, and when its backlog is gone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every lane: backlog, rate, and what holds it."""
    if context.invoked_subcommand is not None:
        return
    from worker.pacing.lanes import read_lanes

    settings = cli_settings()
    ledger = open_ledger(settings)
    if explain is not None:
        _explain(explain, ledger, as_json=as_json)
    else:
        _show(read_lanes(ledger), settings, as_json=as_json)


@app.command()
def pause(
    sender: Sender,
    reason: Annotated[str, typer.Option(help="Shown to whoever looks.")] = "operator",
    as_json: AsJson = False,
) -> None:
    """Let nothing leave until it is resumed. What is in flight goes on."""
    _change(sender, "pause", reason[:64], as_json=as_json)


@app.command()
def drain(
    sender: Sender,
    reason: Annotated[str, typer.Option(help="Shown to whoever looks.")] = "operator",
    as_json: AsJson = False,
) -> None:
    """Let what was submitted until now leave; later messages wait until it is resumed."""
    _change(sender, "drain", reason[:64], as_json=as_json)


@app.command()
def resume(
    sender: Sender,
    shared: Annotated[
        bool, typer.Option("--shared", help="Also end what rests its profile, brand, campaign and account.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let messages leave again; ends the sender's own hold and slow-down too."""
    _change(sender, "resume", "shared" if shared else "", as_json=as_json)


@app.command()
def rate(
    sender: Sender,
    value: Annotated[
        str, typer.Argument(metavar="RATE", help="20/s, 60/min or 500/h; configured: what notify.toml says.")
    ],
    as_json: AsJson = False,
) -> None:
    """Set the rate. It outlives deploys, until it is set again or given back to the configuration."""
    from pydantic_core import PydanticCustomError

    from worker.pacing.rates import run_time_rate

    try:
        interval = run_time_rate(value)
    except PydanticCustomError as wrong:
        remedy = (wrong.context or {}).get("remedy") or "write 20/s, 60/min or 500/h"
        raise Failure(f'the rate "{value}" {wrong.message()}: {remedy}', Exit.USAGE) from None
    _change(sender, "rate", interval, as_json=as_json)


def _explain(sender: str, ledger: Ledger, *, as_json: bool) -> None:
    from worker.pacing.explain import read_explanations

    _lanes_of(sender, ledger)  # an unknown sender is an error with the nearest name
    rows = [_explained(explanation) for explanation in read_explanations(ledger, sender)]
    if as_json:
        print_json({"lanes": rows})
        return
    for row in rows:
        print(f"{row['lane']}: {row['words']}; {row['waiting']:,} waiting, {_gone(row)}")
        table = [
            [b["name"], b["meaning"], b["rate"], "rules" if b["name"] == row["rules"] else "", b["why"]]
            for b in row["buckets"]
        ]
        print_table(["bucket", "what it is", ">rate", "", "held"], table)


def _gone(row: dict[str, Any]) -> str:
    if not row["waiting"]:
        return "nothing to wait for"
    return f"gone by {row['done_at']}" if row["done_at"] else "not gone by itself"


def _explained(explanation: Explanation) -> dict[str, Any]:
    from worker.times import rfc3339
    from worker.web.presenting import hold_reason

    def rate(bucket: Bucket) -> str:
        if not bucket.published:
            return "unknown: counts as one a second"
        if bucket.cap is not None:
            return f"{bucket.used:,} of {bucket.cap:,} today"
        if bucket.interval_us is None:
            return "no limit"
        return pace(1_000_000 / max(bucket.interval_us, 1))

    buckets = [
        {
            "name": b.name,
            "meaning": b.meaning,
            "rate": rate(b),
            "why": (hold_reason(b.why) or "") if b.held_until_us > 0 else "",
        }
        for b in explanation.buckets
    ]
    return {
        "lane": explanation.lane.name,
        "words": explanation.words,
        "rules": explanation.rules.name,
        "waiting": sum(explanation.lane.backlog.values()),
        "done_at": rfc3339(explanation.done_us) if explanation.done_us else None,
        "buckets": buckets,
    }


def _change(sender: str, what: Literal["pause", "drain", "resume", "rate"], value: str | int, *, as_json: bool) -> None:
    from producers.ledger import calls
    from worker.pacing.lanes import read_lanes

    settings = cli_settings()
    ledger = open_ledger(settings)
    lanes = _lanes_of(sender, ledger)
    for lane in lanes[:1] if what == "rate" else lanes:  # both lanes draw on the sender's one bucket
        ledger.run(calls.lane(lane, what, value))
    _show(read_lanes(ledger, lanes), settings, as_json=as_json)


def _lanes_of(sender: str, ledger: Ledger) -> list[str]:
    from producers.problems import nearest
    from worker.pacing.lanes import read_lanes

    views = read_lanes(ledger)
    lanes = [view.name for view in views if view.sender == sender]
    if not lanes:
        known = sorted({view.sender for view in views})
        listed = f"the senders are: {', '.join(known)}" if known else "nothing is published yet: start web or a worker"
        raise Failure(f'no sender "{sender}": {nearest(sender, known, otherwise=listed)}', Exit.NO)
    return lanes


def _show(views: list[LaneView], settings: Settings, *, as_json: bool) -> None:
    from worker.web import presenting

    senders = settings.loaded_config.senders if settings.loaded_config else {}
    rows = [presenting.lane(view, senders.get(view.sender)) for view in views]
    if as_json:
        print_json({"lanes": rows})
        return
    if not rows:
        print("no lanes: nothing is published yet; start `notify web` or `notify worker`")
        return
    print_table(
        ["lane", "channel", "state", ">rate", ">urgent", ">normal", ">bulk", "why"], [_row(row) for row in rows]
    )


def _row(lane: dict[str, Any]) -> list[object]:
    rate = f"{pace(lane['rate_per_s'])}{' (set)' * lane['overridden']}"
    why = " until ".join(part for part in (lane["reason"], lane["held_until"]) if part)
    counts = [f"{lane['backlog'][word]:,}" for word in ("urgent", "normal", "bulk")]
    return [lane["name"], lane["channel"] or "", lane["state"], rate, *counts, why]
