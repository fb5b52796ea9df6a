"""Beating, going on under a new id, and clearing up after the dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.pointers import EXPAND_URGENT, LIST_QUEUES, RECEIPTS, Pointers
from tests.integration.engine.test_engine_consumers import CONFIG, Engine, fetch, fill, keys_of
from worker.engine.liveness import Liveness
from worker.publishing import publish
from worker.settings import parse_config

Wait = Callable[..., Any]
QUICK = CONFIG + '[timing]\nliveness = "2s"\n'


@pytest.fixture
def engine(ledger: Ledger) -> Engine:
    publish(ledger, parse_config(QUICK), 1)
    return Engine(ledger)


@pytest.fixture
def liveness(engine: Engine) -> Liveness:
    """Not started: its turns are called one by one, for its threads would outlive the test."""
    ledger = engine.ledger
    return Liveness(
        ledger,
        engine.identity,
        limit_s=2,
        stopping=lambda: False,
        orphaned=lambda: None,
    )


def test_a_process_that_had_lapsed_goes_on_under_a_new_id_for_grants_and_fetches(
    engine: Engine, liveness: Liveness, ledger: Ledger
) -> None:
    fill(ledger, ["+13125550001"])
    was = engine.identity.current
    assert engine.granter.next_job() is None  # no beat yet: taken for dead
    liveness._go_on_under_a_new_id()
    assert engine.identity.current != was
    assert engine.broker.broker_id == engine.identity.current
    assert not engine.identity.lapsed.is_set()
    assert ledger.redis.exists(ledger.key(f"alive:{engine.identity.current}"))
    assert any(engine.granter.next_job() for _ in range(5))


def test_what_a_dead_process_had_fetched_is_dropped_with_its_bodies(
    engine: Engine, liveness: Liveness, ledger: Ledger, wait_until: Wait
) -> None:
    dead = Engine(ledger)
    ledger.run(calls.beat(dead.identity.current, "first"))
    Pointers(ledger.redis, ledger.namespace).expand("a" * 32, True)
    fetch(dead.consume(EXPAND_URGENT))
    keys = keys_of(ledger, EXPAND_URGENT)
    ledger.redis.delete(ledger.key(f"alive:{dead.identity.current}"))
    ledger.run(calls.beat(engine.identity.current, "first"))

    def reaped() -> bool:
        ledger.run(calls.beat(engine.identity.current, "again"))
        liveness._reap()
        return not ledger.redis.sismember(ledger.key("procs"), dead.identity.current)

    wait_until(reaped, every_s=0.2)
    assert not ledger.redis.exists(keys.unacknowledged(dead.identity.current), keys.bodies)
    assert engine.identity.current.encode() in ledger.redis.smembers(ledger.key("procs"))


def test_what_ended_without_being_reaped_is_swept(engine: Engine, liveness: Liveness, ledger: Ledger) -> None:
    gone = Engine(ledger)
    Pointers(ledger.redis, ledger.namespace).reconcile("b1")
    fetch(gone.consume(RECEIPTS))
    ledger.run(calls.beat(engine.identity.current, "first"))
    liveness._sweep()
    left = [keys_of(ledger, queue).unacknowledged(gone.identity.current) for queue in LIST_QUEUES]
    assert not ledger.redis.exists(*left, keys_of(ledger, RECEIPTS).bodies)
    assert ledger.redis.zrange(ledger.key("d:__heartbeats__"), 0, -1) == [b"producers"]


def test_timers_become_pointers_on_their_queues(engine: Engine, liveness: Liveness, ledger: Ledger) -> None:
    ledger.run(calls.hear("b1", b"[]"))
    ledger.redis.zadd(ledger.key("timers"), {"rb1": 1})  # its pointer was lost: the timer is due
    liveness._wake()
    assert fetch(engine.consume(RECEIPTS)).args == ("b1",)
