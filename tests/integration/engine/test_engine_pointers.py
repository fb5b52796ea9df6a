"""Pointers, as producers push them from inside somebody else's process."""

from __future__ import annotations

import threading

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.encoder import PickleEncoder

from producers.ledger.ledger import Ledger
from producers.pointers import (
    CHORES,
    EXPAND,
    EXPAND_URGENT,
    POLLS_A_JOB,
    RECEIPTS,
    PointerMessage,
    Pointers,
    bell_channel,
)
from tests.integration.engine.test_engine_consumers import keys_of


@pytest.fixture
def pointers(ledger: Ledger) -> Pointers:
    return Pointers(ledger.redis, ledger.namespace)


def waiting(ledger: Ledger, queue: str) -> list[PointerMessage]:
    keys = keys_of(ledger, queue)
    ids = ledger.redis.lrange(keys.waiting, 0, -1)
    return [PointerMessage.decode(ledger.redis.hget(keys.bodies, mid)) for mid in ids]


def test_each_pointer_names_its_actor_and_carries_ids_only(pointers: Pointers, ledger: Ledger) -> None:
    pointers.expand("a" * 32, True)
    pointers.expand("b" * 32, False, "3")
    pointers.reconcile("batch")
    pointers.poll([(f"m-{i}", f"p{i}") for i in range(POLLS_A_JOB + 1)])
    named = {
        queue: [(m.actor_name, m.args) for m in waiting(ledger, queue)] for queue in (EXPAND_URGENT, EXPAND, RECEIPTS)
    }
    assert named == {
        EXPAND_URGENT: [("expand_urgent", ("a" * 32, None))],
        EXPAND: [("expand", ("b" * 32, "3"))],
        RECEIPTS: [("reconcile", ("batch",))],
    }
    assert [(m.actor_name, len(m.args[0])) for m in waiting(ledger, CHORES)] == [("poll", POLLS_A_JOB), ("poll", 1)]


def test_many_are_pushed_in_order(pointers: Pointers, ledger: Ledger) -> None:
    ids = [f"{number:032x}" for number in range(1200)]
    pointers.expand_many([(nid, False, 10_000) for nid in ids])
    assert [m.args[0] for m in waiting(ledger, EXPAND)] == ids


def test_the_broker_and_the_encoder_of_the_host_app_are_left_alone(
    pointers: Pointers, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dramatiq.message, "global_encoder", PickleEncoder())
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    pointers.expand("a" * 32, False)
    assert waiting(ledger, EXPAND)[0].args == ("a" * 32, None)
    assert dramatiq.broker.global_broker is None
    assert isinstance(dramatiq.get_encoder(), PickleEncoder)


def test_the_bell_is_rung_after_the_push(pointers: Pointers, ledger: Ledger) -> None:
    found: list[int] = []
    pubsub = ledger.redis.pubsub()
    pubsub.subscribe(bell_channel(ledger.namespace))
    pubsub.get_message(timeout=5)

    def listen() -> None:
        while (message := pubsub.get_message(timeout=5)) is not None:
            if message["type"] == "message":
                assert message["data"] == b"expand"
                found.append(ledger.redis.llen(keys_of(ledger, EXPAND).waiting))
                return

    thread = threading.Thread(target=listen)
    thread.start()
    pointers.expand("a" * 32, False)
    thread.join(10)
    pubsub.close()
    assert found == [1]
