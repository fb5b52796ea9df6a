"""Print the report for people."""

from __future__ import annotations

from worker.demo.report import Report
from worker.terminal import console, pace, print_table

STATES = ("delivered", "failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out")


def show(report: Report) -> None:
    """The tables, then the checks; whatever failed comes last, where people look."""
    print(f"\n{report.notifications} notifications, {report.messages} messages, {report.took_s:.0f} s")
    _channels(report)
    _paces(report)
    if report.urgent:
        u = report.urgent
        print(
            f"Urgent, on a sender with bulk waiting: {u.count} codes from enqueue to Telnyx, "
            f"median {u.p50_ms:.0f} ms, longest {u.max_ms:.0f} ms"
        )
    if report.killed:
        k = report.killed
        ended = ", ".join(f"{count} {state}" for state, count in k.ended.items())
        print(
            f"kill -9 of a worker with {k.in_hands} messages in its hands: the other worker took up {k.doubted} of them "
            f"(of the rest a receipt told first) and asked again for {k.asked_again} with the same key; Telnyx had "
            f"{k.replayed} of these already. They ended {ended}"
        )
    rows = [(state, why, count) for state, why, count in report.not_delivered]
    rows += [("refused", f"by the API, 422: {remedy}", count) for remedy, count in report.refused.items()]
    print_table(["not delivered", "why", ">messages"], rows)
    _checks(report)


def _channels(report: Report) -> None:
    rows = [
        [channel, sum(states.values()), *(states.get(state, 0) or "" for state in STATES)]
        for channel, states in report.channels.items()
    ]
    print_table(["channel", ">messages", *(f">{state.replace('_', ' ')}" for state in STATES)], rows)


def _paces(report: Report) -> None:
    rows = [
        [
            row.sender,
            pace(row.allowed_per_s),
            row.most_in_a_second,
            "" if row.share_used is None else f"{100 * row.share_used:.0f} %",
        ]
        for row in report.paces
    ]
    print_table(["sender", ">allowed", ">most in any second *", ">used while a backlog was there"], rows)
    print("* as it arrived: a message that was late on its way there is counted in the next second\n")


def _checks(report: Report) -> None:
    screen = console()
    for check in sorted(report.checks, key=lambda check: not check.ok):
        mark, style = ("ok    ", "green") if check.ok else ("FAILED", "bold red")
        screen.print(f"[{style}]{mark}[/] ", end="")
        screen.print(f"{check.name}: {check.detail}", markup=False, style="" if check.ok else "bold red")
