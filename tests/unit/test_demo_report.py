"""The demo's arithmetic: what it says about a day must be what the sandbox saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.demo.day import Fed, script
from worker.demo.report import Evidence, make_report, most_in_a_second, share_used
from worker.demo.stage import CONFIG
from worker.settings import load_config, warnings

S = 1_000_000
ID = "0" * 31


def message(
    n: int, state: str, *, attempts: int = 1, reasons: Sequence[str | None] = (None,), errors=()
) -> dict[str, Any]:
    steps = [
        {"at": "2026-11-24T12:00:00.000Z", "state": "sending", "leg": 1, "attempt": 1, "reason": reason}
        for reason in reasons
    ]
    return {
        "id": f"{ID}{n}-0", "channel": "short_code", "state": state, "attempts": attempts, "timeline": steps,
        "errors": list(errors),
    }  # fmt: skip


def evidence(messages: Sequence[dict[str, Any]], **changes: Any) -> Evidence:
    fed = [Fed(id=m["id"][:32], job_type="otp", messages=1, units=1, asked_us=S) for m in messages]
    arrivals = [(S + 40_000, "12345", m["id"], 200) for m in messages if m["state"] == "delivered"]
    given: dict[str, Any] = {
        "fed": fed, "answers": {m["id"][:32]: {"messages": [m]} for m in messages}, "arrivals": arrivals,
        "summary": {"texted_twice": []}, "senders": {"alerts": ("short_code", 25.0)}, "sender_of": {"otp": "alerts"},
        "refused": [], "problems": [], "in_hands": [], "exit_codes": {"web": 0}, "took_s": 20.0,
    }  # fmt: skip
    return Evidence(**{**given, **changes})


def failed(report) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


def test_a_day_on_which_all_promises_held_is_ok():
    report = make_report(evidence([message(1, "delivered"), message(2, "cancelled", reasons=["cancelled"])]))
    assert report.ok, failed(report)
    assert report.channels == {"short_code": {"delivered": 1, "cancelled": 1}}
    assert report.urgent is not None
    assert report.urgent.p50_ms == 40


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"summary": {"texted_twice": [{"ref": "x"}]}}, "nobody was texted twice"),
        ({"arrivals": []}, "what is delivered was sent"),
        ({"exit_codes": {"web": -15}}, "SIGTERM ends with 0"),
        ({"problems": ["a STOP was answered 503"]}, "the script went as written"),
        ({"answers": {f"{ID}1": {"messages": []}}}, "every message is accounted for"),
        ({"answers": {f"{ID}1": {"messages": [message(1, "sent")]}}}, "every message is final"),
        ({"answers": {f"{ID}1": {"messages": [message(1, "opted_out")]}}}, "no means no"),
    ],
)
def test_each_broken_promise_fails_its_check_and_the_day(changes, name):
    report = make_report(evidence([message(1, "delivered")], **changes))
    assert failed(report) == [name]
    assert not report.ok


def test_the_killed_workers_messages_are_told_apart():
    held = [message(1, "delivered", attempts=2, reasons=[None, "died", "resend"]), message(2, "delivered")]
    arrivals = [
        (S, "12345", held[0]["id"], 200),
        (9 * S, "12345", held[0]["id"], 208),
        (S, "12345", held[1]["id"], 200),
    ]
    report = make_report(evidence(held, in_hands=[m["id"] for m in held], arrivals=arrivals))
    assert report.killed is not None
    assert (report.killed.in_hands, report.killed.doubted, report.killed.asked_again, report.killed.replayed) == (
        2,
        1,
        1,
        1,
    )


def test_what_was_not_delivered_says_why():
    refused = message(1, "rejected", errors=[{"code": "40310", "title": "Invalid 'to' address"}])
    report = make_report(evidence([refused, message(2, "expired", reasons=["validity"])]))
    assert ("rejected", "40310: Invalid 'to' address", 1) in report.not_delivered
    assert ("expired", "too old before its turn came", 1) in report.not_delivered


@given(st.lists(st.tuples(st.integers(0, 5 * S), st.integers(1, 8)), max_size=40).map(sorted))
def test_no_second_holds_more_than_was_found(arrivals):
    most = most_in_a_second(arrivals)
    windows = [sum(units for at, units in arrivals if end - S < at <= end) for end, _ in arrivals]
    assert most == max(windows, default=0)


def test_a_sender_that_is_never_idle_uses_all_of_its_rate():
    assert share_used([(i * 40_000, 1) for i in range(100)], 25.0) == pytest.approx(1.0)
    assert share_used([(i * 80_000, 1) for i in range(100)], 25.0) == pytest.approx(0.5)
    assert share_used([(0, 1), (40_000, 1)], 25.0) is None


def test_the_demos_configuration_is_whole_and_every_channel_is_in_it():
    from worker.settings import CHANNELS

    config = load_config(CONFIG)
    assert {sender.channel for sender in config.senders.values()} == set(CHANNELS) - {"auto"}
    assert {config.senders[job.sender].channel for job in config.job_types.values()} == set(CHANNELS) - {"auto"}
    assert warnings(config) == []


def test_the_script_kills_a_worker_while_codes_and_bulk_are_under_way():
    acts = script()
    names = [act.run.__name__ for act in acts]
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)
    kill = names.index("_kill")
    assert names[:kill].count("_code") >= 5
    assert names[kill:].count("_code") >= 5
    assert names.index("_lose_receipts") < kill < names.index("_hear_again")
