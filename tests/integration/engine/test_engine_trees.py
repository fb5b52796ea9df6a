"""Whole worker trees: rate, urgency, shutdown, death."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

from tests.integration.engine.conftest import Rig

Numbers = Callable[[int], list[str]]
Wait = Callable[..., Any]

RATE, COUNT = 50, 200
STOPS_WITHIN_S = 25

pytestmark = pytest.mark.slow  # tests/faults and the demo show the main of it in every run


def most_in_a_second(arrivals_s: list[float]) -> int:
    most = first = 0
    for last, at_s in enumerate(arrivals_s):
        while arrivals_s[first] <= at_s - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_two_processes_hold_one_senders_rate_and_send_nothing_twice(
    rig: Rig, numbers: Numbers, wait_until: Wait
) -> None:
    rig.start_worker(processes=2)
    ticket = rig.notifier.enqueue("bulk", to=numbers(COUNT), text="hello")
    wait_until(lambda: rig.states(ticket.id) == {"accepted": COUNT}, timeout_s=60)
    summary = rig.telnyx.summary()
    assert summary["accepted"] == summary["requests"] == COUNT
    assert summary["texted_twice"] == []
    arrivals_s = rig.telnyx.arrivals_s()
    # The way to the sandbox delays some more than others: what it bunches together in one second, another lacks.
    assert most_in_a_second(arrivals_s) <= RATE + 1 + RATE // 10
    assert arrivals_s[-1] - arrivals_s[0] >= (COUNT - 1) / RATE - 0.1


def test_an_urgent_message_overtakes_the_backlog_of_its_sender(rig: Rig, numbers: Numbers, wait_until: Wait) -> None:
    rig.start_worker()
    bulk = rig.notifier.enqueue("bulk", to=numbers(500), text="hello")
    wait_until(lambda: rig.telnyx.summary()["accepted"] >= 10, timeout_s=60)
    urgent = rig.notifier.enqueue("bulk", to="+13125559999", text="now", priority="urgent")
    wait_until(lambda: rig.states(urgent.id) == {"accepted": 1}, timeout_s=8)
    assert rig.states(bulk.id)["queued"] > 0


@pytest.mark.parametrize("whom", ["every process", "the master"])
def test_repeated_sigterm_ends_a_tree_with_0_and_all_under_way_is_recorded(
    whom: str, rig: Rig, numbers: Numbers, wait_until: Wait
) -> None:
    rig.telnyx.faults(latency_ms=4000)
    tree = rig.start_worker(processes=2)
    ticket = rig.notifier.enqueue("bulk", to=numbers(400), text="hello")
    wait_until(lambda: rig.states(ticket.id).get("sending", 0) >= 10, timeout_s=60)
    began_s = time.monotonic()
    while tree.process.poll() is None and time.monotonic() - began_s < STOPS_WITHIN_S:
        (tree.signal_all if whom == "every process" else tree.signal_master)(signal.SIGTERM)
        with suppress(TimeoutExpired):
            tree.process.wait(0.05)
    assert tree.process.poll() == 0, tree.log.read_text()[-3000:]
    after = rig.states(ticket.id)
    assert after["accepted"] >= 10
    assert set(after) == {"accepted", "queued"}
    assert rig.telnyx.summary()["requests"] == after["accepted"]
    assert rig.living() == 0


def test_a_signal_during_its_start_ends_a_tree_with_0(rig: Rig, wait_until: Wait) -> None:
    tree = rig.start_worker(wait=False)
    wait_until(lambda: b"worker.engine.master" in Path(f"/proc/{tree.process.pid}/cmdline").read_bytes(), timeout_s=60)
    tree.signal_all(signal.SIGTERM)
    assert tree.process.wait(60) == 0, tree.log.read_text()[-3000:]


def test_what_a_killed_tree_had_under_way_is_in_doubt_and_the_rest_goes_on(
    rig: Rig, numbers: Numbers, wait_until: Wait
) -> None:
    rig.telnyx.faults(latency_ms=15_000)
    killed = rig.start_worker()
    ticket = rig.notifier.enqueue("bulk", to=numbers(60), text="hello")
    wait_until(lambda: rig.states(ticket.id).get("sending", 0) >= 20, timeout_s=60)
    killed.kill()
    taken = rig.states(ticket.id)["sending"]
    rig.telnyx.faults(latency_ms=0)
    rig.start_worker()
    wait_until(lambda: rig.states(ticket.id) == {"uncertain": taken, "accepted": 60 - taken}, timeout_s=60)
    in_doubt = [m for m in rig.notifier.status(ticket.id).messages if m.state == "uncertain"]
    assert {m.timeline[-1].reason for m in in_doubt} == {"died"}
    assert rig.living() == 1
    wait_until(lambda: not rig.ledger.redis.keys(rig.ledger.key("d:__acks__.*")))


def test_the_workers_of_a_killed_master_stop_by_themselves(rig: Rig, wait_until: Wait) -> None:
    tree = rig.start_worker()
    assert rig.living() == 1
    tree.signal_master(signal.SIGKILL)
    wait_until(lambda: rig.living() == 0, timeout_s=STOPS_WITHIN_S)


def test_refusals_for_rate_rest_the_sender_and_cost_no_tries(rig: Rig, numbers: Numbers, wait_until: Wait) -> None:
    rig.start_worker()
    rig.telnyx.faults(**{"429": 1.0})
    ticket = rig.notifier.enqueue("code", to=numbers(5), text="hello")
    wait_until(lambda: rig.telnyx.summary()["refused"], timeout_s=60)
    rig.telnyx.faults(**{"429": 0.0})
    wait_until(lambda: rig.states(ticket.id) == {"accepted": 5}, timeout_s=60)
    assert rig.telnyx.summary()["requests"] < 20


def test_a_lost_answer_leaves_its_message_in_doubt(rig: Rig, wait_until: Wait) -> None:
    rig.start_worker()
    rig.telnyx.faults(cut_after_accept=1.0)
    ticket = rig.notifier.enqueue("code", to="+13125559999", text="hello")
    wait_until(lambda: rig.states(ticket.id) == {"uncertain": 1}, timeout_s=60)
    assert rig.telnyx.summary()["accepted"] == 1
