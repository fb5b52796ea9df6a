"""Consumers on a real server: what is fetched, put aside, given back, granted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from dramatiq.broker import MessageProxy

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.pointers import (
    EXPAND,
    EXPAND_URGENT,
    FORGOTTEN,
    QUEUES,
    Pointers,
    bell_channel,
    expand_pointer,
)
from worker.engine.bell import Bells, BellThread
from worker.engine.broker import NotifyBroker
from worker.engine.clock import ServerClock
from worker.engine.hands import Hands
from worker.engine.identity import Identity
from worker.engine.queue_consumer import Keys, QueueConsumer
from worker.engine.slot_consumer import Granter
from worker.publishing import publish
from worker.settings import parse_config

CONFIG = """
[senders.fast]
channel = "toll_free"
from = "+18885550001"
rate = "50/s"
[job_types.bulk]
sender = "fast"
"""
Numbers = Callable[[int], list[str]]


class Engine:
    """The consuming half of a process, without Dramatiq's threads."""

    def __init__(self, ledger: Ledger, *, hands: int = 100) -> None:
        self.ledger = ledger
        self.stopping = False
        self.bells = Bells(QUEUES)
        self.hands = Hands(hands, ring=lambda: self.bells.ring("send"))
        self.identity = Identity()
        self.clock = ServerClock()
        self.granter = Granter(
            ledger,
            identity=self.identity,
            hands=self.hands,
            clock=self.clock,
            bells=self.bells,
            lanes=["fast"],
            stopping=lambda: self.stopping,
        )
        self.broker = NotifyBroker(
            ledger.redis,
            ledger.namespace,
            bells=self.bells,
            granter=self.granter,
            stopping=lambda: self.stopping,
        )
        self.identity.follow(self.broker.use_id)

    def consume(self, queue: str) -> Any:
        return self.broker.consume(queue)


@pytest.fixture
def engine(ledger: Ledger) -> Iterator[Engine]:
    publish(ledger, parse_config(CONFIG), 1)
    made = Engine(ledger)
    ledger.run(calls.beat(made.identity.current, "first"))
    yield made
    made.stopping = True


@pytest.fixture
def pointers(ledger: Ledger) -> Pointers:
    return Pointers(ledger.redis, ledger.namespace)


def fetch(consumer: Any, *, timeout_s: float = 10) -> MessageProxy:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        message: MessageProxy | None = next(consumer)
        if message is not None:
            return message
    pytest.fail(f"nothing fetched in {timeout_s:g} s")


def keys_of(ledger: Ledger, queue: str) -> Keys:
    return Keys(f"{{{ledger.namespace}}}:d", queue)


def test_a_fetched_message_is_gone_once_acknowledged(engine: Engine, pointers: Pointers, ledger: Ledger) -> None:
    pointers.expand("a" * 32, True)
    consumer, keys = engine.consume(EXPAND_URGENT), keys_of(ledger, EXPAND_URGENT)
    message = fetch(consumer)
    assert (message.actor_name, message.args) == ("expand_urgent", ("a" * 32, None))
    assert ledger.redis.scard(keys.unacknowledged(engine.identity.current)) == 1
    consumer.ack(message)
    assert next(consumer) is None
    assert ledger.redis.exists(keys.unacknowledged(engine.identity.current), keys.bodies, keys.waiting) == 0


def test_an_undecodable_body_is_put_aside_alone(engine: Engine, pointers: Pointers, ledger: Ledger) -> None:
    pointers.expand("a" * 32, True)
    keys = keys_of(ledger, EXPAND_URGENT)
    ledger.redis.hset(keys.bodies, "poison", b"\x80\x04 pickled")
    ledger.redis.rpush(keys.waiting, "poison", "lost")  # and an id whose body is gone
    pointers.expand("b" * 32, True)
    consumer = engine.consume(EXPAND_URGENT)
    assert {fetch(consumer).args[0], fetch(consumer).args[0]} == {"a" * 32, "b" * 32}
    assert next(consumer) is None
    assert ledger.redis.zrange(keys.aside, 0, -1) == [b"poison"]
    assert ledger.redis.hget(keys.aside_bodies, "poison") == b"\x80\x04 pickled"
    assert ledger.redis.scard(keys.unacknowledged(engine.identity.current)) == 2
    assert ledger.redis.hlen(keys.bodies) == 2


def test_what_a_stopping_process_did_not_run_goes_back(engine: Engine, pointers: Pointers, ledger: Ledger) -> None:
    pointers.expand_many([("a" * 32, True, 10), ("b" * 32, True, 1)])
    consumer, keys = engine.consume(EXPAND_URGENT), keys_of(ledger, EXPAND_URGENT)
    first = fetch(consumer)  # the second one is fetched, and not yet handed out
    engine.stopping = True
    consumer.requeue([first])
    consumer.close()
    assert ledger.redis.llen(keys.waiting) == 2
    assert ledger.redis.scard(keys.unacknowledged(engine.identity.current)) == 0


def test_a_rejected_message_is_put_aside(engine: Engine, pointers: Pointers, ledger: Ledger) -> None:
    pointers.expand("a" * 32, True)
    consumer, keys = engine.consume(EXPAND_URGENT), keys_of(ledger, EXPAND_URGENT)
    consumer.nack(fetch(consumer))
    assert next(consumer) is None
    assert ledger.redis.zcard(keys.aside) == 1
    assert ledger.redis.hlen(keys.bodies) == 0


def test_a_bell_wakes_a_consumer_that_waits(
    engine: Engine, pointers: Pointers, redis_url: str, wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.bell.POLL_S", 600.0)  # without the bell it would wait that long
    # Its thread lives as long as the process, so it needs a client that no fixture closes.
    BellThread(connect(redis_url), engine.ledger.namespace, engine.bells).start()
    wait_until(lambda: engine.bells.hears)
    consumer = engine.consume(EXPAND)
    assert next(consumer) is None  # rung once when it began to hear; from here on it waits
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, consumer)
        pointers.expand("a" * 32, False)
        assert waiting.result(timeout=60) is not None


def test_a_bell_says_what_it_hears_of_a_failover_and_that_its_connection_broke(
    engine: Engine, ledger: Ledger, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    lost: list[float] = []
    forgotten = threading.Event()
    began_s = time.monotonic()
    thread = BellThread(
        connect(redis_url),
        ledger.namespace,
        engine.bells,
        lost=lambda _exc, heard_s: lost.append(heard_s),
        forgotten=forgotten.set,
    )
    thread.start()
    wait_until(lambda: engine.bells.hears)
    ledger.redis.publish(bell_channel(ledger.namespace), FORGOTTEN)
    wait_until(forgotten.is_set)
    ledger.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: lost)
    assert began_s <= lost[0] <= time.monotonic()
    wait_until(lambda: engine.bells.hears)


def test_the_broker_refuses_delays_and_announces_no_delay_queue(engine: Engine) -> None:
    engine.broker.declare_queue(EXPAND)
    assert engine.broker.get_declared_delay_queues() == set()
    with pytest.raises(ValueError, match="delay"):
        engine.broker.enqueue(expand_pointer("a" * 32, False), delay=10)


def fill(ledger: Ledger, to: list[str]) -> str:
    """Messages in the lane `fast`, without a producer or an actor."""
    many = len(to) > 1
    chunk = "[" + ",".join(f'["{number}",null]' for number in to) + "]"
    submission = calls.Submission(
        id="0" * 32, client="c", fingerprint="f", job_type="bulk", klass=1, valid_for_us=600_000_000, send_at_us=0,
        messages=len(to), group=False, content=b"{}", extras=b"{}",
        recipients=[chunk if many else to[0]],
    )  # fmt: skip
    ledger.run(calls.submit(submission))
    text = '{"text":"hello"}'
    items = [calls.Admission(to=number, lane="fast", content=None if many else text) for number in to]
    cursor, shared = ("0", text) if many else (None, "")
    assert ledger.run(calls.admit(submission.id, cursor, shared, items)).queued == len(to)
    return submission.id


def test_slots_are_spaced_by_the_rate_and_hold_a_hand_each(engine: Engine, ledger: Ledger, numbers: Numbers) -> None:
    fill(ledger, numbers(20))
    consumer = engine.consume("send")
    due = [slot for _ in range(3) for slot in engine.granter.pick_up(fetch(consumer).args[0])]
    assert engine.hands.used == len(due)
    instants_us = [slot.slot.at_us for slot in due]
    assert all(later - earlier >= 20_000 for earlier, later in pairwise(instants_us))
    assert all(abs(slot.at_s - time.monotonic()) < 2 for slot in due)


@pytest.mark.parametrize("way", ["ack", "nack", "requeue"])
def test_the_hands_of_a_job_that_never_ran_come_back(
    way: str, engine: Engine, ledger: Ledger, numbers: Numbers
) -> None:
    fill(ledger, numbers(20))
    consumer = engine.consume("send")
    message = fetch(consumer)
    assert engine.hands.used > 0
    other = engine.consume("send")  # Dramatiq replaces a consumer, and acknowledges through the new one
    getattr(other, way)([message] if way == "requeue" else message)
    assert engine.hands.used == 0
    assert engine.granter.pick_up(message.args[0]) == []


def test_one_lane_gets_at_most_half_of_the_hands(ledger: Ledger, numbers: Numbers) -> None:
    publish(ledger, parse_config(CONFIG.replace("50/s", "1000/s")), 1)
    engine = Engine(ledger, hands=10)
    ledger.run(calls.beat(engine.identity.current, "first"))
    fill(ledger, numbers(50))
    consumer = engine.consume("send")
    message = fetch(consumer)
    assert engine.hands.used == 5
    assert next(consumer) is None
    assert engine.hands.used == 5
    consumer.ack(message)
    fetch(consumer)
    assert engine.hands.used == 5


def test_a_lane_that_this_process_does_not_know_is_left_alone(ledger: Ledger, numbers: Numbers) -> None:
    publish(ledger, parse_config(CONFIG), 1)
    engine = Engine(ledger)
    engine.granter._lanes = []
    ledger.run(calls.beat(engine.identity.current, "first"))
    fill(ledger, numbers(5))
    assert [engine.granter.next_job() for _ in range(20)] == [None] * 20
    assert engine.hands.used == 0


def test_a_process_that_was_taken_for_dead_is_told(ledger: Ledger, numbers: Numbers) -> None:
    publish(ledger, parse_config(CONFIG), 1)
    engine = Engine(ledger)  # it never beat
    fill(ledger, numbers(5))
    assert engine.granter.next_job() is None
    assert engine.identity.lapsed.is_set()


def test_no_slots_while_redis_is_away_and_no_exception() -> None:
    ledger = Ledger(connect("redis://127.0.0.1:1/0"), "none")
    engine = Engine(ledger)
    assert [engine.granter.next_job() for _ in range(3)] == [None] * 3
    assert engine.hands.used == 0
    assert isinstance(engine.consume(EXPAND), QueueConsumer)


def test_a_process_that_rests_after_a_failover_asks_for_no_slots(ledger: Ledger, numbers: Numbers) -> None:
    publish(ledger, parse_config(CONFIG), 1)
    engine, resting = Engine(ledger), threading.Event()
    resting.set()
    engine.granter._rests = resting.is_set
    ledger.run(calls.beat(engine.identity.current, "first"))
    fill(ledger, numbers(5))
    assert [engine.granter.next_job() for _ in range(5)] == [None] * 5
    assert ledger.redis.exists(ledger.key("g:fast")) == 0
    resting.clear()
    assert any(engine.granter.next_job() for _ in range(20))
