"""``notify stats``: what became of messages, how fast, and what it cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.session import open_ledger
from worker.terminal import AsJson, Exit, Failure, print_json, print_table

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from worker.statistics import Summary

DAY_S = 86_400


def stats(
    *,
    by: Annotated[
        str,
        typer.Option(metavar="LABEL", help="One row for each job_type, channel, sender or carrier; all: one in all."),
    ] = "job_type",
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="15m, 2h, 7d; all: since the first message. Beyond 3h: whole days (UTC)."),
    ] = "1h",
    as_json: AsJson = False,
) -> None:
    """Show what became of messages: ends, reasons of failures, latencies, segments and cost."""
    from producers.ledger.figures import read_figures
    from worker.statistics import BYS, read_lane_names, shown, summarize

    label: Any = by.replace("-", "_")
    if label not in BYS:
        raise Failure(f'--by is "{by}", must be one of {", ".join(BYS)}: write --by sender', Exit.USAGE)
    minutes, days = _window(since)
    ledger = open_ledger()
    figures = read_figures(ledger, minutes=minutes, days=days)
    window = f"the last {minutes} minutes" if minutes else f"the last {days} days (UTC)" if days else "all time"
    summaries = summarize(figures, label, read_lane_names(ledger))
    if as_json:
        rows = [shown(summary) for summary in summaries]
        print_json({"window": window, "by": label, "rows": rows, "parts_differ": _differing(ledger)})
        return
    if not summaries:
        print(f"nothing was sent and nothing ended in {window}; try --since all")
        return
    _show(label, window, summaries)
    differ = _differing(ledger)
    if differ:
        print(f"of {differ} messages in all, Telnyx counted other parts than we did: the log has them (parts_differ)")


def _differing(ledger: Ledger) -> int:
    """Of how many texts Telnyx ever counted other parts than we did."""
    redis: Any = ledger.redis
    return int(redis.hget(ledger.key("counts"), "parts_differ") or 0)


def _window(since: str) -> tuple[int, int]:
    """How many minutes, or else how many days; neither for all time."""
    from pydantic_core import PydanticCustomError

    from worker.settings.quantities import parse_duration_s
    from worker.statistics import MINUTES_MOST_S

    if since == "all":
        return 0, 0
    try:
        seconds = parse_duration_s(since)
    except PydanticCustomError:
        remedy = "must be a time as 15m, 2h, 7d, or all: write --since 2h"
        raise Failure(f'--since is "{since}", {remedy}', Exit.USAGE) from None
    if seconds <= MINUTES_MOST_S:
        return max(1, math.ceil(seconds / 60)), 0
    return 0, math.ceil(seconds / DAY_S)


STATES = ("delivered", "failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out")


def _show(by: str, window: str, summaries: list[Summary]) -> None:
    from worker.statistics import reason_words

    headers = [by, ">handed over", *(f">{state}" for state in STATES), ">segments", ">cost", ">clicks"]
    rows = [
        [
            summary.label or "(unknown)",
            f"{summary.handed_over:,}",
            *(f"{summary.states[state]:,}" for state in STATES),
            f"{summary.segments:,}",
            " ".join(f"{n / 1e6:.2f} {currency}" for currency, n in summary.cost_millionths.items() if n),
            f"{summary.clicks:,}",
        ]
        for summary in summaries
    ]
    print_table(headers, rows, title=f"messages in {window}")
    times = [
        [
            summary.label or "(unknown)",
            stage,
            f"{latency.count:,}",
            *(_seconds(latency.quantile_s(q)) for q in (0.5, 0.95, 0.99)),
        ]
        for summary in summaries
        for stage, latency in sorted(
            summary.stages.items(), key=lambda row: ("provider", "carrier", "handset").index(row[0])
        )
    ]
    if times:
        print_table([by, "until it reached the", ">messages", ">half within", ">95 % within", ">99 % within"], times)
    reasons = [
        [summary.label or "(unknown)", state, reason or "-", f"{n:,}", reason_words(state, reason)]
        for summary in summaries
        for (state, reason), n in summary.failures.most_common()
        if n
    ]
    if reasons:
        print_table([by, "state", "code", ">messages", "what it means"], reasons)


def _seconds(value: float | None) -> str:
    if value is None:
        return "over 6 h"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
