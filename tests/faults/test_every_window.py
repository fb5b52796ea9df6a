"""A process dies before and after every step: nothing is lost, nobody is texted twice, everything ends.

The provider ignores keys here, so it is us who keep a text from going twice: a resend goes out only after a grace in which
receipts could be heard. Every receipt arrives. What is armed, and how often it is reached first, is one table; it is
compared with the points in the code, so a step cannot be added without its windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from app_kit import running_app
from faults.load import NUMBERS, Load
from faults.test_asked_deaths import ASKED
from service_kit import Service, running_service, terminate, wait_until

from producers.fault_points import POINTS
from worker.children import Child
from worker.sandbox import SandboxOptions

# At which reach a worker dies, by point: some time after the start, so that requests and receipts are under way.
WORKER = {
    "load.before": "load.before:kill:2",
    "load.after": "load.after:kill:2",
    "admit.before": "admit.before:kill:2",
    "admit.after": "admit.after:kill:2",
    "successor.before": "successor.before:kill",
    "successor.after": "successor.after:kill",
    "grant.before": "grant.before:kill:8",
    "grant.after": "grant.after@slots:kill:4",
    "take.before": "take.before:kill:6",
    "take.after": "take.after:kill:6",
    "request.before": "request.before:kill:12",
    "request.after": "request.after:kill:12",
    "answer.before": "answer.before:kill:12",
    "answer.after": "answer.after:kill:12",
    "finish.before": "finish.before:kill:3",
    "finish.after": "finish.after:kill:3",
    "ack.before": "ack.before@expand:kill",
    "ack.after": "ack.after@expand:kill",
    "reconcile.before": "reconcile.before:kill:4",
    "reconcile.after": "reconcile.after:kill:4",
    "receipt.before": "receipt.before:kill:4",
    "receipt.after": "receipt.after:kill:4",
    "wake.before": "wake.before:kill:2",
    "reap.before": "reap.before:kill:2",
}
RECEIPT_ACKS = ["ack.before@receipts:kill:2", "ack.after@receipts:kill:2"]  # the same step of the other way
AFTER_A_DEATH = {"reap.after": "reap.after:kill"}  # somebody must have died before
UNHEARD = {"wake.after": "wake.after:kill", "poll.before": "poll.before:kill:2", "poll.after": "poll.after:kill:2"}
PRODUCER = {f"{step}.{edge}": f"{step}.{edge}:kill" for step in ("submit", "pointer") for edge in ("before", "after")}
CALLING = {
    f"{step}.{edge}": f"{step}.{edge}:kill" for step in ("claim", "callback", "settle") for edge in ("before", "after")
}
WITHDRAWING = {
    f"{step}.{edge}": f"{step}.{edge}:kill" for step in ("withdraw", "withdrawn") for edge in ("before", "after")
}
LISTENER = {f"{step}.{edge}": f"{step}.{edge}:kill:3" for step in ("hear", "bell") for edge in ("before", "after")}


def test_every_point_has_its_death() -> None:
    armed = [*WORKER, *AFTER_A_DEATH, *UNHEARD, *PRODUCER, *LISTENER, *CALLING, *WITHDRAWING, *ASKED]
    assert sorted(armed) == sorted(POINTS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with web running and a provider that ignores keys. Each test leaves nothing open in it."""
    directory = tmp_path_factory.mktemp("windows")
    options = SandboxOptions(
        magic=False, callback_backoff_s=0.5, callback_attempts=6, faults={"honour_keys": False, "latency_ms": 60}
    )
    with running_service(directory, sandbox=options, grace="5s", liveness="2s", poll_after="10s") as service:
        service.start_web()
        yield service


def await_death(service: Service, child: Child) -> None:
    """Until ``child`` has died at its point, and what was left of its tree too."""
    wait_until(lambda: service.reached(child), what="the point to be reached", child=child)
    child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("point", [*WORKER.values(), *RECEIPT_ACKS])
def test_a_worker_that_dies_there_loses_nothing_and_doubles_nothing(site: Service, point: str) -> None:
    load = Load(site)
    doomed = site.start_worker(fault=point)
    load.add_some(many=220 if point.startswith("successor") else 12)
    load.add_some()
    await_death(site, doomed)
    heir = site.start_worker()
    load.add_some()
    load.assert_all_got_one()
    assert terminate(heir) == 0


@pytest.mark.slow
def test_a_worker_that_dies_while_it_settles_what_a_dead_one_held_leaves_that_to_the_next(site: Service) -> None:
    load = Load(site)
    doomed = site.start_worker(fault=WORKER["request.after"])
    load.add_some()
    await_death(site, doomed)
    heir = site.start_worker(fault=AFTER_A_DEATH["reap.after"])
    await_death(site, heir)
    last = site.start_worker()
    load.assert_all_got_one()
    assert terminate(last) == 0


@pytest.mark.slow
@pytest.mark.parametrize("point", UNHEARD.values())
def test_a_worker_that_dies_over_polls_where_every_receipt_is_lost_lets_nothing_go_unheard(
    tmp_path: Path, point: str
) -> None:
    with running_service(tmp_path, grace="5s", liveness="2s", poll_after="2s") as service:
        service.sandbox("faults", {"lose_receipts": 1, "honour_keys": False})
        load = Load(service)
        doomed = service.start_worker(fault=point)
        load.add("notice", 10)
        load.add("otp", 1, variables={"code": "1234"})
        await_death(service, doomed)
        heir = service.start_worker()
        load.assert_all_got_one()
        assert terminate(heir) == 0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose worker lives on while web processes die. The grace outlasts the longest wait between two tries of
    the provider's callbacks, else a receipt could come too late whatever we did."""
    directory = tmp_path_factory.mktemp("fleet")
    options = SandboxOptions(
        magic=False,
        callback_backoff_s=0.5,
        callback_attempts=6,
        faults={"honour_keys": False, "latency_ms": 60, "cut_after_accept": 0.3},
    )
    with running_service(directory, sandbox=options, grace="12s", liveness="4s", poll_after="10s") as service:
        service.start_web()
        service.start_worker()
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("point", PRODUCER.values())
def test_a_producer_that_dies_there_and_repeats_with_its_key_has_one_notification(fleet: Service, point: str) -> None:
    doomed = fleet.start_web(fault=point)
    to = [f"+1312{next(NUMBERS):07d}" for _ in range(5)]
    body = {"job_type": "notice", "to": to, "text": "hello"}
    status, _ = fleet.call("POST", "/v1/notifications", body, Idempotency_Key=f"key {point}")
    assert status == 0, "it answered, and was to die"
    await_death(fleet, doomed)
    fleet.start_web()
    status, answer = fleet.call("POST", "/v1/notifications", body, Idempotency_Key=f"key {point}")
    assert status == 202, answer
    assert fleet.wait_final(answer["id"]) == [{"delivered": 5}]
    assert sorted(m["to"] for m in fleet.sent() if m["ref"].startswith(answer["id"])) == sorted(to)


@pytest.mark.slow
@pytest.mark.parametrize("point", LISTENER.values())
def test_a_web_process_that_dies_over_receipts_loses_none_that_a_resend_waits_for(fleet: Service, point: str) -> None:
    """Three in ten answers are lost, so only receipts tell that these texts went out."""
    load = Load(fleet)
    doomed = fleet.start_web(fault=point)
    load.add_some()
    load.add_some()
    await_death(fleet, doomed)
    fleet.start_web()
    load.assert_all_got_one()


@pytest.mark.slow
@pytest.mark.parametrize("point", CALLING.values())
def test_a_worker_that_dies_over_a_callback_leaves_its_app_owed_the_same_event(site: Service, point: str) -> None:
    doomed = site.start_worker(fault=point)
    with running_app(site.environ["NOTIFY_SECRET"]) as app:
        ids = [
            site.notifier.enqueue(
                "notice", to=[f"+1312556{n}{i:03d}" for i in range(3)], text="hi", callback_url=app.url
            ).id
            for n in range(3)
        ]
        await_death(site, doomed)
        heir = site.start_worker()
        site.wait_final(*ids)
        wait_until(
            lambda: (
                {(e["type"], e["notification"]) for e in app.heard if e["type"] == "notification.finished"}
                == {("notification.finished", id) for id in ids}
                and len({e["message"] for e in app.of("message.final")}) == 9
            ),
            timeout_s=60,
            what="everything to be told",
        )
        told = {e.id for e in site.notifier.events() if e.notification in ids}
        assert {e["id"] for e in app.heard} == told, "a repeat has the id of the first time"
        wait_until(lambda: not site.ledger.redis.keys(site.ledger.key("cb:*")), timeout_s=60, what="nothing to be owed")
        assert terminate(heir) == 0


@pytest.mark.slow
@pytest.mark.parametrize("point", WITHDRAWING.values())
def test_a_worker_that_dies_over_what_telnyx_is_to_give_back_leaves_it_to_the_next(site: Service, point: str) -> None:
    """It may have been given back already, and the answer died with the worker."""
    doomed = site.start_worker(fault=point)
    to = [f"+1312557{next(NUMBERS) % 10_000:04d}" for _ in range(3)]
    at = datetime.now(UTC) + timedelta(hours=1)
    id = site.notifier.enqueue("reminder", to=to, text="later", send_at=at, schedule="provider").id
    wait_until(lambda: site.states(id) == {"accepted": 3}, what="Telnyx to hold them", seen=lambda: site.states(id))
    assert site.notifier.stop_any(id) == (0, 3)
    await_death(site, doomed)
    heir = site.start_worker()
    assert site.wait_final(id, timeout_s=90) == [{"cancelled": 3}]
    ours = [m for m in site.sent() if m["ref"].startswith(id)]
    assert [m["status"] for m in ours] == ["cancelled"] * 3
    assert terminate(heir) == 0
