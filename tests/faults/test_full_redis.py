"""A server at its memory limit: new work is refused in plain words, and what was accepted still ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import publication, submit
from redis.exceptions import OutOfMemoryError

from producers.errors import EnqueueError
from producers.ledger import calls
from producers.ledger.calls import Admission
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.pointers import EXPAND, EXPAND_URGENT, Pointers
from tests.integration.engine.test_engine_consumers import Engine, fetch, keys_of
from tests.service_kit import Service, running_service, terminate, wait_until
from worker.embedded import EmbeddedServer
from worker.reconciliation import LATE_TRIES, reconcile

Numbers = Callable[[int], list[str]]
LONE, MANY = 5, 10


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path, mode="poll", poll_after="1s") as running:
        yield running


def set_limit(service: Service, limit: int) -> None:
    redis: Any = service.ledger.redis
    redis.config_set("maxmemory", limit)


@pytest.mark.slow
def test_what_a_full_server_has_accepted_ends_also_through_processes_that_start_meanwhile(
    service: Service, numbers: Numbers
) -> None:
    worker = service.start_worker()
    service.ledger.run(calls.lane("alerts", "pause", "until it is full"))
    people = iter(numbers(LONE + MANY + 2))
    many = service.notifier.enqueue("notice", to=[next(people) for _ in range(MANY)], text="hello")
    wait_until(lambda: service.states(many.id) == {"queued": MANY}, what="expansion")
    worker.kill()
    lone = service.notifier.enqueue_many(
        [{"job_type": "notice", "to": next(people), "text": "hello"} for _ in range(LONE)]
    )

    set_limit(service, 1)
    with pytest.raises(EnqueueError, match="out of memory") as refused:
        service.notifier.enqueue("notice", to=next(people), text="hello")
    assert not refused.value.may_exist
    service.ledger.run(calls.lane("alerts", "resume"))
    worker = service.start_worker()
    ended = service.wait_final(many.id, *(ticket.id for ticket in lone), timeout_s=90)
    assert sum((counts.get("delivered", 0) for counts in ended), 0) == MANY + LONE

    set_limit(service, 0)
    after = service.notifier.enqueue("otp", to=next(people), variables={"code": "1"})
    assert service.wait_final(after.id)[0]["delivered"] == 1
    assert len(service.sent()) == MANY + LONE + 1
    assert terminate(worker) == 0


@pytest.fixture
def full_ledger() -> Iterator[Ledger]:
    """A ledger on a server of its own, with a configuration; ``maxmemory`` is for the test to set."""
    with EmbeddedServer(appendonly=False) as server:
        ledger = Ledger(connect(server.url), "full")
        ledger.run(calls.publish(publication(), {}))
        yield ledger
        ledger.redis.close()


def test_many_recipients_who_are_not_expanded_wait_until_there_is_room(full_ledger: Ledger) -> None:
    ledger, redis = full_ledger, full_ledger.redis
    id = submit(ledger, messages=2)
    redis.config_set("maxmemory", 1)
    loaded = ledger.run(calls.load(id, None))
    assert loaded is not None
    items = [Admission(to=number, lane="alerts") for number, _ in json.loads(loaded.chunk)]
    admission = calls.admit(id, loaded.cursor, '{"text":"hello"}', items)
    keys = redis.dbsize()
    with pytest.raises(OutOfMemoryError):
        ledger.run(admission)
    assert redis.dbsize() == keys  # a refusal writes nothing
    redis.config_set("maxmemory", 0)
    assert ledger.run(admission).queued == 2


@pytest.mark.parametrize("fate", ["ack", "nack", "requeue"])
def test_a_full_server_takes_back_what_was_fetched(full_ledger: Ledger, fate: str) -> None:
    engine = Engine(full_ledger)
    Pointers(full_ledger.redis, "full").expand_many([("a" * 32, True, 1), ("b" * 32, False, 1)])
    full_ledger.redis.config_set("maxmemory", 1)
    consumer = engine.consume(EXPAND_URGENT)
    message = fetch(consumer)
    getattr(consumer, fate)([message] if fate == "requeue" else message)
    consumer.close()
    keys = keys_of(full_ledger, EXPAND_URGENT)
    assert full_ledger.redis.exists(keys.unacknowledged(engine.identity.current)) == 0
    assert full_ledger.redis.llen(keys.waiting) == (fate == "requeue")
    assert full_ledger.redis.zcard(keys.aside) == (fate == "nack")
    assert fetch(engine.consume(EXPAND)).args[0] == "b" * 32


@pytest.mark.parametrize("tries", [0, LATE_TRIES])
def test_a_full_server_takes_what_could_not_be_read_and_what_is_read_once_more(full_ledger: Ledger, tries: int) -> None:
    """Else a receipt behind a poisonous one would wait for room, and its text stay in doubt until it is sent again."""
    ledger, redis = full_ledger, full_ledger.redis
    batch = "b" * 32
    heard_us = ledger.run(calls.hear(batch, json.dumps(["{broken", "{}"]).encode()))
    redis.zadd(ledger.key("rx"), {batch: heard_us - 3_600_000_000})
    redis.hset(ledger.key("rxt"), batch, tries)
    redis.config_set("maxmemory", 1)
    reconcile(batch, ledger=ledger)
    assert redis.zcard(ledger.key("rx")) == 0
    assert [fields[b"why"] for _, fields in redis.xrange(ledger.key("odd"))] == [b"not_a_receipt"] * 2
