"""The connection breaks when a script has run and its reply is on the way: nobody knows that it ran, and nothing goes wrong.

Each script in turn, in the process that calls it. The provider ignores keys, so a message that were taken or queued twice
would be seen here as a person who is texted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from app_kit import running_app
from faults.load import NUMBERS, Load
from faults.reply_cutter import ReplyCutter, losing_replies
from service_kit import Service, running_service, terminate, wait_until

from producers import Notifier
from worker.embedded import EmbeddedServer
from worker.sandbox import SandboxOptions

FAULTS = {"honour_keys": False, "latency_ms": 60}
OF_A_WORKER = ("load", "admit", "grant", "take", "finish", "receipt", "beat", "fetch", "ack")
OF_AN_HEIR = ("reap", "wake")
OF_A_CALLER = ("claim", "settle")
SCRIPTS = ("submit", "cancel", *OF_A_WORKER, *OF_AN_HEIR, *OF_A_CALLER, "hear", "publish")


class Site(NamedTuple):
    service: Service
    cutter: ReplyCutter


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with a proxy beside its server, for those whose replies get lost."""
    options = SandboxOptions(magic=False, callback_backoff_s=0.5, callback_attempts=6, faults=FAULTS)
    directory = tmp_path_factory.mktemp("replies")
    with EmbeddedServer() as server, losing_replies(server.port) as cutter:
        timing = {"grace": "12s", "liveness": "2s", "poll_after": "10s"}
        with running_service(directory, server.url, sandbox=options, **timing) as service:
            service.start_web()
            yield Site(service, cutter)


def test_a_lost_reply_of_submit_makes_no_second_notification(site: Site) -> None:
    service, cutter = site
    cutter.cut("submit", every=2, most=5)
    notifier = Notifier(cutter.url, namespace=service.namespace)
    for i in range(10):
        to = [f"+1312{next(NUMBERS):07d}" for _ in range(3)]
        key = f"key {i}" if i % 2 else None
        ticket = notifier.enqueue("notice", to=to, text="hello", idempotency_key=key)
        assert notifier.status(ticket.id).state_counts == {"new": 3}
        assert notifier.cancel(ticket.id) == 3
    assert cutter.lost == 5


def test_a_lost_reply_of_cancel_stops_everything_all_the_same(site: Site) -> None:
    service, cutter = site
    to = [f"+1312{next(NUMBERS):07d}" for _ in range(300)]
    ticket = service.notifier.enqueue("notice", to=to, text="hello")
    cutter.cut("cancel", every=1, most=2)
    notifier = Notifier(cutter.url, namespace=service.namespace)
    notifier.cancel(ticket.id)
    assert cutter.lost == 2
    assert notifier.status(ticket.id).state_counts == {"cancelled": 300}
    assert notifier.cancel(ticket.id) == 0


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_A_WORKER)
def test_a_worker_that_loses_replies_loses_and_doubles_no_message(site: Site, script: str) -> None:
    service, cutter = site
    cutter.cut(script, every=3, most=4)
    worker = service.start_worker(redis_url=cutter.url)
    load = Load(service)
    load.add_some(many=60)
    wait_until(lambda: cutter.lost == 4 or load.feed(), what=f"four replies of {script} to be lost", timeout_s=60)
    load.assert_all_got_one()
    assert terminate(worker) == 0


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_AN_HEIR)
def test_the_heir_of_a_dead_worker_that_loses_replies_still_settles_what_that_one_held(site: Site, script: str) -> None:
    service, cutter = site
    load = Load(service)
    doomed = service.start_worker(fault="answer.before:kill:10")
    load.add_some()
    wait_until(lambda: service.reached(doomed), what="the point to be reached")
    doomed.kill()
    cutter.cut(script, every=1, most=5)  # the call that finds the dead one is among them
    heir = service.start_worker(redis_url=cutter.url)
    load.add_some()
    load.assert_all_got_one(timeout_s=90)
    wait_until(lambda: cutter.lost == 5, what="five lost replies")
    assert terminate(heir) == 0


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_A_CALLER)
def test_a_worker_that_loses_replies_over_callbacks_tells_its_app_everything(site: Site, script: str) -> None:
    """What it claimed without knowing is due again when its lease is over."""
    service, cutter = site
    cutter.cut(script, every=2, most=3)
    worker = service.start_worker(redis_url=cutter.url)
    with running_app(service.environ["NOTIFY_SECRET"]) as app:
        ids = [
            service.notifier.enqueue(
                "notice", to=[f"+1312{next(NUMBERS):07d}" for _ in range(3)], text="hi", callback_url=app.url
            ).id
            for _ in range(4)
        ]
        service.wait_final(*ids)
        wait_until(
            lambda: (
                {e["notification"] for e in app.heard if e["type"] == "notification.finished"} == set(ids)
                and len({e["message"] for e in app.of("message.final")}) == 12
            ),
            timeout_s=90,
            what="everything to be told",
        )
        wait_until(lambda: not service.ledger.redis.keys(service.ledger.key("cb:*")), timeout_s=60, what="no debts")
        told = {e.id for e in service.notifier.events() if e.notification in ids}
        assert {e["id"] for e in app.heard} == told, "a repeat has the id of the first time"
    assert cutter.lost == 3
    assert terminate(worker) == 0


@pytest.mark.slow
def test_a_worker_whose_configuration_is_published_unheard_starts_and_works(site: Site) -> None:
    service, cutter = site
    cutter.cut("publish", every=1, most=1)
    worker = service.start_worker(redis_url=cutter.url)
    load = Load(service)
    load.add_some()
    load.assert_all_got_one()
    assert cutter.lost == 1
    assert terminate(worker) == 0


@pytest.mark.slow
def test_a_web_process_that_loses_replies_keeps_every_receipt(site: Site) -> None:
    """Half of the answers are lost, so only receipts tell that these texts went out."""
    service, cutter = site
    cutter.cut("hear", every=2, most=5)
    service.start_web(redis_url=cutter.url)
    worker = service.start_worker()
    service.sandbox("faults", {**FAULTS, "cut_after_accept": 0.5})
    load = Load(service)
    load.add_some(many=30)
    wait_until(lambda: cutter.lost == 5 or load.feed(), what="five replies of hear to be lost", timeout_s=60)
    load.assert_all_got_one(timeout_s=90)
    service.sandbox("faults", {**FAULTS, "cut_after_accept": 0})
    assert terminate(worker) == 0
    service.start_web()
