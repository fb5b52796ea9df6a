"""Processes that really die: nothing is lost and nobody is texted twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from service_kit import running_service, terminate, wait_until


@pytest.mark.parametrize(
    "honour_keys",
    [pytest.param(True, id="keys"), pytest.param(False, id="no keys")],
)
@pytest.mark.slow
def test_a_killed_workers_requests_under_way_end_and_nobody_gets_one_twice(tmp_path: Path, honour_keys: bool) -> None:
    """20 requests have left and are accepted, none is answered; the worker dies; receipts tell the rest.

    With keys ignored by the provider, only the receipts heard during the grace keep a text from going twice.
    """
    with running_service(tmp_path, grace="5s", liveness="2s") as service:
        service.sandbox("faults", {"latency_ms": 4000, "honour_keys": honour_keys})
        service.start_web()
        first = service.start_worker()
        ticket = service.notifier.enqueue("notice", to=[f"+1312555{i:04d}" for i in range(2000, 2040)], text="hello")
        wait_until(lambda: len(service.sent()) >= 20, what="20 requests to be under way")
        first.kill()
        in_doubt = service.states(ticket.id)
        assert in_doubt.get("sending", 0) + in_doubt.get("sent", 0) + in_doubt.get("delivered", 0) >= 20
        service.sandbox("faults", {"latency_ms": 20})
        second = service.start_worker()
        assert service.wait_final(ticket.id, timeout_s=60) == [{"delivered": 40}]
        assert service.sandbox("summary")["texted_twice"] == []
        assert len(service.sent()) == 40
        assert terminate(second) == 0


@pytest.mark.slow
def test_two_workers_hold_the_rate_together_and_the_killing_of_one_doubles_nothing(tmp_path: Path) -> None:
    with running_service(tmp_path, rate="40/s", grace="3s", liveness="2s") as service:
        service.start_web()
        workers = [service.start_worker(), service.start_worker()]
        ticket = service.notifier.enqueue("notice", to=[f"+1312555{i:04d}" for i in range(3000, 3200)], text="hello")
        wait_until(lambda: len(service.sent()) >= 60, what="60 to arrive")
        workers[0].kill()
        service.wait_final(ticket.id, timeout_s=60)
        assert service.states(ticket.id) == {"delivered": 200}
        assert service.sandbox("summary")["texted_twice"] == []
        stamps = sorted(m["arrived_at"] for m in service.sent())
        busiest = max(sum(1 for t in stamps if start <= t < start + 1_000_000) for start in stamps)
        # rate + max(1, 1 %), and what the network and a busy receiver bunch together
        assert busiest <= 40 + 1 + 4, f"{busiest} in a second"


@pytest.mark.parametrize(
    "whole_group",
    [pytest.param(False, id="the master", marks=pytest.mark.slow), pytest.param(True, id="every process")],
)
def test_sigterm_however_often_drains_and_ends_with_0(tmp_path: Path, whole_group: bool, redis_url: str) -> None:
    with running_service(tmp_path, redis_url) as service:
        service.sandbox("faults", {"latency_ms": 1500})
        service.start_web()
        worker = service.start_worker(processes=2)
        ticket = service.notifier.enqueue("notice", to=[f"+1312555{i:04d}" for i in range(4000, 4100)], text="hello")
        wait_until(lambda: len(service.sent()) >= 20, what="20 requests to be under way")

        def knock() -> bool:
            if whole_group:
                import os

                os.killpg(worker.pid, signal.SIGTERM)
            else:
                worker.signal(signal.SIGTERM)
            return worker.exit_code() is not None

        knock()
        wait_until(knock, timeout_s=25, what="the tree to end")
        assert worker.exit_code() == 0, worker.tail(30)
        states = service.states(ticket.id)
        assert "sending" not in states and "uncertain" not in states, states
        second = service.start_worker()
        service.wait_final(ticket.id, timeout_s=40)
        assert service.states(ticket.id) == {"delivered": 100}
        assert service.sandbox("summary")["texted_twice"] == []
        assert terminate(second) == 0


def test_web_and_clock_end_with_0_at_sigterm(tmp_path: Path, redis_url: str) -> None:
    with running_service(tmp_path, redis_url) as service:
        web, clock = service.start_web(), service.start("clock")
        wait_until(lambda: "clock" in clock.tail(50), what="the clock to say something", child=clock)
        for child in (web, clock):
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGTERM)
            assert child.wait(timeout_s=25) == 0, child.tail(20)
