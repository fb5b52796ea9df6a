"""A STOP lands while a message stands at each step of its way, in a worker that is frozen there and then goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.heard import hear_many
from service_kit import Service, running_service, wait_until

from producers.ledger import calls
from worker.compliance.audit import read_audit
from worker.compliance.opt_outs import opted_out_among
from worker.sandbox import SandboxOptions

# Before the bytes of its request are written nothing has left; from `take.after` on it has leave to go, and a worker that is
# resumed within its slot's tolerance uses it: then the word is on record as late.
BEFORE_LEAVE = [
    "load.before",
    "load.after",
    "admit.before",
    "admit.after",
    "grant.before",
    "grant.after@slots",
    "take.before",
]
AFTER_LEAVE = ["take.after", "request.before", "request.after", "answer.before", "finish.before", "finish.after"]
PERSONS = {point: f"+1312556{i:04d}" for i, point in enumerate([*BEFORE_LEAVE, *AFTER_LEAVE])}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = SandboxOptions(magic=False, faults={"latency_ms": 20})
    # alive while it is frozen, so that nobody else takes its message up
    with running_service(tmp_path_factory.mktemp("stops"), sandbox=options, grace="3s", liveness="60s") as service:
        service.start_web()
        yield service


@pytest.mark.parametrize("point", PERSONS)
def test_a_stop_that_lands_there_stops_the_message_or_is_on_record_as_late(site: Service, point: str) -> None:
    person = PERSONS[point]
    worker = site.start_worker(fault=f"{point}:stop")
    ticket = site.notifier.enqueue("notice", to=person, text="hello")
    frozen = wait_until(lambda: site.reached(worker), what=f"{point} to be reached", child=worker)
    try:
        said = site.sandbox("inbound", {"from": person, "to": "12345", "text": "STOP", "webhook_url": hook(site)})
        assert [c["status"] for c in said["callbacks"]] == [200]
        os.kill(frozen, signal.SIGCONT)
        (counts,) = site.wait_final(ticket.id)
    finally:
        worker.kill()
    sent = site.sent(to=person.replace("+", "%2B"))
    audit = [entry.what for entry in read_audit(site.ledger, message=f"{ticket.id}-0")]
    if point in BEFORE_LEAVE:
        assert (sent, counts, audit) == ([], {"opted_out": 1}, ["suppressed"])
    elif sent:  # it had left, or was about to
        assert "late" in audit or point == "finish.after", counts
    else:  # it came too late for its slot and was not taken again, or Telnyx refused it
        assert counts == {"opted_out": 1} and audit and set(audit) <= {"suppressed", "late"}


def hook(site: Service) -> str:
    return f"{site.environ['PUBLIC_URL']}/webhooks/telnyx"


def test_a_stop_whose_callback_was_lost_is_read_from_the_list_without_a_clock(tmp_path: Path) -> None:
    with running_service(tmp_path, sandbox=SandboxOptions(magic=False)) as service:
        service.sandbox("inbound", {"from": "+13125569999", "to": "12345", "text": "STOP"})  # nobody to call yet
        service.start_web()
        service.start_worker()
        key = service.ledger.key("o:any:9999")
        wait_until(lambda: service.ledger.redis.hget(key, "+13125569999"), what="the list to be read", timeout_s=60)
        ticket = service.notifier.enqueue("notice", to="+13125569999", text="hello")
        assert service.wait_final(ticket.id) == [{"opted_out": 1}]
        assert service.sent() == []


def test_fifty_thousand_receipts_that_nobody_has_applied_do_not_delay_a_stop(tmp_path: Path) -> None:
    person = "+13125568888"
    with running_service(tmp_path, sandbox=SandboxOptions(magic=False)) as service:
        service.start_web()
        first = service.start_worker()
        other = service.notifier.enqueue("notice", to="+13125567777", text="hello")
        service.wait_final(other.id)
        service.ledger.run(calls.lane("alerts", "pause", "until they have said stop"))
        ticket = service.notifier.enqueue("notice", to=person, text="hello")
        wait_until(lambda: service.states(ticket.id) == {"queued": 1}, what="it to wait", child=first)
        first.kill()
        hear_many(service, service.sent()[0], 50_000)
        heard = receipts_waiting(service)
        assert heard >= 1_000
        began_s = time.monotonic()
        said = service.sandbox("inbound", {"from": person, "to": "12345", "text": "STOP", "webhook_url": hook(service)})
        answered_s = time.monotonic() - began_s
        assert [c["status"] for c in said["callbacks"]] == [200]
        assert opted_out_among(service.ledger, [person], ["global", "sender:alerts"]) == {person}
        assert receipts_waiting(service) == heard, "no receipt had to be applied for that"
        service.ledger.run(calls.lane("alerts", "resume"))
        worker = service.start_worker()
        wait_until(lambda: service.states(ticket.id) == {"opted_out": 1}, what="take to refuse it", child=worker)
        left = receipts_waiting(service)
        print(
            f"a STOP behind {heard:,} batches of 50 receipts: 200 after {answered_s * 1000:.0f} ms; {left:,} left when refused"
        )
        assert left > 0, "it waited for all of them"
        assert [entry.what for entry in read_audit(service.ledger, message=f"{ticket.id}-0")] == ["suppressed"]
        assert service.sent(to=person.replace("+", "%2B")) == []


def receipts_waiting(service: Service) -> int:
    redis: Any = service.ledger.redis
    return int(redis.zcard(service.ledger.key("rx")))
