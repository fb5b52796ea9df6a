"""A receipt that is late, or behind many others, keeps its text from going twice: silence counts only where we hear."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from faults.heard import hear_many
from service_kit import Service, running_service, wait_until

from worker.sandbox import SandboxOptions


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_web_away_for_70_s_in_the_middle_of_a_grace_doubles_nothing(tmp_path: Path) -> None:
    """The provider ignores keys. It tries each receipt six times; the last try, 77.5 s after the first, is the one that we
    hear. The grace of 40 s would have ended long before."""
    options = SandboxOptions(
        magic=False, callback_attempts=6, callback_backoff_s=2.5, sent_delay_s=8, final_delay_s=9, delay_jitter=0
    )
    with running_service(tmp_path, sandbox=options, grace="40s", liveness="2s") as service:
        service.sandbox("faults", {"honour_keys": False, "latency_ms": 20_000})
        web = service.start_web()
        doomed = service.start_worker()
        to = [f"+1312{2_000_000 + i:07d}" for i in range(20)]
        ticket = service.notifier.enqueue("notice", to=to, text="hello")
        wait_until(lambda: len(service.sent()) == 20, what="20 to be accepted")
        doomed.kill()
        service.start_worker()
        web.kill()
        gone_s = time.monotonic()
        service.sandbox("faults", {"latency_ms": 20})
        wait_until(lambda: service.states(ticket.id) == {"uncertain": 20}, what="doubt")
        wait_until(lambda: time.monotonic() - gone_s > 70, timeout_s=80, what="70 s")
        assert service.states(ticket.id) == {"uncertain": 20}, "decided while nobody could hear"
        service.start_web()
        assert service.wait_final(ticket.id, timeout_s=90) == [{"delivered": 20}]
        assert len(service.sent()) == 20


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param(5_000, marks=pytest.mark.slow),
        pytest.param(50_000, marks=pytest.mark.chaos),
    ],
)
def test_a_worker_killed_with_the_receipt_that_matters_behind_thousands_of_others_doubles_nothing(
    tmp_path: Path, ahead: int
) -> None:
    """The provider ignores keys. The receipt is heard within the grace, which is over before any worker looks at it."""
    grace_s = 45
    wait_s = 30 + ahead / 5000  # for the doubt to begin, and the others to be there first
    options = SandboxOptions(
        magic=False, callback_attempts=6, sent_delay_s=wait_s, final_delay_s=wait_s + 1, delay_jitter=0
    )
    with running_service(tmp_path, sandbox=options, grace=f"{grace_s}s", liveness="2s") as service:
        service.sandbox("faults", {"honour_keys": False, "latency_ms": 20_000})
        service.start_web()
        first = service.start_worker()
        ticket = service.notifier.enqueue("notice", to=[f"+1312{2_000_000 + i:07d}" for i in range(20)], text="hello")
        wait_until(lambda: len(service.sent()) == 20, what="20 to be accepted")
        first.kill()
        service.sandbox("faults", {"latency_ms": 20})
        interim = service.start_worker()
        wait_until(lambda: service.states(ticket.id) == {"uncertain": 20}, what="doubt", child=interim)
        doubt_s = time.monotonic()
        interim.kill()
        hear_many(service, service.sent(ref=f"{ticket.id}-0")[0], ahead)
        batch = wait_until(
            lambda: batch_with(service, f"{ticket.id}-7", "message.finalized"), what="the receipt", timeout_s=60
        )
        assert time.monotonic() - doubt_s < grace_s - 1, "it came too late to prove anything"
        wait_until(lambda: time.monotonic() - doubt_s > grace_s, timeout_s=grace_s + 5, what="the end of the grace")
        redis: Any = service.ledger.redis
        assert redis.zrank(service.ledger.key("rx"), batch) >= ahead // 50
        second = service.start_worker(fault=f"reconcile.after@{batch}:kill")
        wait_until(lambda: service.reached(second), what="it to hold the receipt", child=second, timeout_s=900)
        second.kill()
        service.start_worker()
        assert service.wait_final(ticket.id, timeout_s=90) == [{"delivered": 20}]
        assert len(service.sent()) == 20
        assert service.sandbox("summary")["texted_twice"] == []


def batch_with(service: Service, message: str, event_type: str) -> str | None:
    """The newest batch that holds an event of this type about ``message``."""
    redis: Any = service.ledger.redis
    for batch in redis.zrevrange(service.ledger.key("rx"), 0, 60):
        body = redis.get(service.ledger.key(f"rx:{batch.decode()}")) or b""
        if f"ref={message}".encode() in body and event_type.encode() in body:
            return str(batch.decode())
    return None
