"""A worker paused past its slot and its life goes on: it sends nothing on an old take, and loses nothing it learned."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from faults.load import Load
from service_kit import Service, running_service, terminate, wait_until

from worker.children import Child

pytestmark = pytest.mark.slow


def await_freeze(service: Service, child: Child) -> int:
    """The id of the process that has stopped itself, once the living have taken it for dead."""
    before = service.living()
    pid: int = wait_until(lambda: service.reached(child), what="the point to be reached", child=child)
    heir = service.start_worker()
    wait_until(lambda: not before & service.living(), what="the frozen one to be taken for dead", child=heir)
    return pid


def test_a_worker_frozen_before_its_requests_sends_none_of_them_when_it_goes_on(tmp_path: Path) -> None:
    """Others have sent them meanwhile, and the provider ignores keys: any request of an old take would be a second text."""
    with running_service(tmp_path, grace="5s", liveness="2s") as service:
        service.sandbox("faults", {"honour_keys": False, "latency_ms": 60})
        service.start_web()
        frozen = service.start_worker(fault="request.before:stop:10")
        load = Load(service)
        load.add_some()
        pid = await_freeze(service, frozen)
        load.assert_all_got_one()
        before = len(service.sent())
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: "process_had_lapsed" in frozen.tail(400), what="it to go on under a new id", child=frozen)
        wait_until(lambda: "slot_missed" in frozen.tail(400), what="it to look at its old takes", child=frozen)
        assert len(service.sent()) == before
        load.add_some()
        load.assert_all_got_one()
        assert terminate(frozen) == 0


def test_what_a_frozen_worker_had_been_answered_counts_when_it_goes_on(tmp_path: Path) -> None:
    """Every receipt is lost and the grace is long, so nobody but the frozen one knows that these texts went out."""
    with running_service(tmp_path, grace="10m", liveness="2s", poll_after="2s") as service:
        service.sandbox("faults", {"honour_keys": False, "latency_ms": 60, "lose_receipts": 1})
        service.start_web()
        frozen = service.start_worker(fault="answer.before:stop:10")
        load = Load(service)
        load.add_some()
        pid = await_freeze(service, frozen)
        wait_until(lambda: any("uncertain" in service.states(id) for id in load.ids), what="doubt about what it held")
        os.kill(pid, signal.SIGCONT)
        load.assert_all_got_one()
        assert terminate(frozen) == 0
