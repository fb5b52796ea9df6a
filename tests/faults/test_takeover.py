"""What a death or a restart costs: how soon the living take over, and how much of the rate a rolling restart keeps."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, wait_until

from worker.children import Child

pytestmark = pytest.mark.slow

TAKEN_OVER_WITHIN_S = 15.0
HELD = 0.97


def held_by(service: Service) -> dict[str, int]:
    """How many messages each process holds."""
    redis: Any = service.ledger.redis
    return {process: redis.hlen(service.ledger.key(f"held:{process}")) for process in service.living()}


@pytest.mark.timeout(300)
def test_a_living_worker_takes_over_what_killed_ones_held_within_15_s(tmp_path: Path) -> None:
    """With the default limit of 10 s. Four die, each at another instant between two of its beats."""
    with running_service(tmp_path, rate="200/s", liveness="10s", grace="60s") as service:
        service.start_web()
        service.start_worker()
        survivor = next(iter(service.living()))
        doomed: dict[str, Child] = {}
        for _ in range(4):
            before = service.living()
            child = service.start_worker(threads=8)
            doomed[(service.living() - before).pop()] = child
        service.sandbox("faults", {"latency_ms": 17_000})  # nobody finishes by itself before it is killed
        to = [f"+1312{2_000_000 + i:07d}" for i in range(400)]
        service.notifier.enqueue("notice", to=to, text="hello")
        wait_until(lambda: all(held_by(service).get(p, 0) >= 10 for p in doomed), what="each to hold some")
        killed: dict[str, tuple[float, int]] = {}
        took_s: list[float] = []
        deadline = time.monotonic() + 60
        while len(took_s) < 4 and time.monotonic() < deadline:
            now = time.monotonic()
            if len(killed) < 4 and (not killed or now - max(t for t, _ in killed.values()) > 0.7):
                process = next(p for p in doomed if p not in killed)
                doomed[process].kill()
                killed[process] = (time.monotonic(), held_by(service)[process])
            left = held_by(service)
            for process in [p for p in killed if not left.get(p)]:
                since_s, count = killed.pop(process)
                doomed.pop(process)
                took_s.append(time.monotonic() - since_s)
                print(f"{count} messages taken over after {took_s[-1]:.1f} s")
            time.sleep(0.05)
        assert survivor in service.living()
        assert len(took_s) == 4
        print(f"taken over within {max(took_s):.1f} s, all of them")
        assert max(took_s) <= TAKEN_OVER_WITHIN_S


@pytest.mark.timeout(300)
def test_a_rolling_restart_of_two_trees_under_load_keeps_the_rate(tmp_path: Path) -> None:
    with running_service(tmp_path, rate="100/s", liveness="10s") as service:
        service.sandbox("faults", {"latency_ms": 100})
        service.start_web()
        trees = [service.start_worker(), service.start_worker()]
        to = [f"+1312{2_000_000 + i:07d}" for i in range(20_000)]
        ticket = service.notifier.enqueue("notice", to=to, text="hello")
        record = service.telnyx.sandbox.record
        wait_until(lambda: record.accepted >= 300, what="the rate to be reached")
        begun, first = time.time_ns() // 1000, record.accepted
        for nth in range(2):
            trees[nth].signal(signal.SIGTERM)
            assert trees[nth].wait(timeout_s=30) == 0
            trees[nth] = service.start_worker()
            target = record.accepted + 300
            wait_until(lambda target=target: record.accepted >= target, what="three more seconds")
        ended, last = time.time_ns() // 1000, record.accepted
        service.notifier.cancel(ticket.id)
        held = (last - first) / ((ended - begun) / 1e6) / 100
        print(f"held {held:.3f} of the rate over {(ended - begun) / 1e6:.0f} s with both trees restarted")
        assert service.sandbox("summary")["texted_twice"] == []
        assert held >= HELD
