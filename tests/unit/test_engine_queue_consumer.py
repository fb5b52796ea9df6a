"""The consumer beside a server that misbehaves; on a real one, see the integration tests."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import MagicMock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, TimeoutError

from producers.pointers import PointerMessage, pointer
from worker.engine import queue_consumer
from worker.engine.bell import Bells
from worker.engine.queue_consumer import QueueConsumer, QueueState

ERRORS = [
    RedisConnectionError("gone"), TimeoutError("silent"), ReadOnlyError("READONLY"), OutOfMemoryError("OOM"),
]  # fmt: skip


class Broker:
    """A server that answers what it is told to."""

    def __init__(self) -> None:
        self.client = MagicMock()
        self.client.smembers.return_value = set()
        self.client.exists.return_value = 1
        self.broker_id, self.namespace = "me", "{t}:d"
        self.waiting: list[bytes | None] = []
        self.error: RedisError | None = None
        self.asked: list[int] = []
        self.settled: list[tuple[str, str, str]] = []

    def fetch(self, queue: str, count: int) -> list[bytes | None]:
        self.asked.append(count)
        if self.error is not None:
            raise self.error
        given, self.waiting = self.waiting[:count], self.waiting[count:]
        return given

    def settle(self, queue: str, rows: Sequence[tuple[str, str, str]]) -> None:
        if self.error is not None:
            raise self.error
        self.settled += rows

    def fail(self, error: RedisError) -> None:
        self.error = error
        for name in ("smembers", "hget", "exists"):
            getattr(self.client, name).side_effect = error


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rests: list[float] = []
    monkeypatch.setattr(queue_consumer.time, "sleep", rests.append)
    return rests


def body(number: int) -> bytes:
    message: PointerMessage = pointer("expand", "expand", number)
    message.options["redis_message_id"] = f"id{number}"
    return message.encode()


def consumer(broker: Broker, *, prefetch: int = 2, state: QueueState | None = None) -> QueueConsumer:
    bells = Bells(["expand"])
    bells.hears = False  # waits 50 ms at most
    return QueueConsumer(broker, state or QueueState("expand"), prefetch=prefetch, bells=bells, stopping=lambda: False)


@pytest.mark.parametrize("error", ERRORS)
def test_next_never_raises_and_rests_longer_with_each_failure(error: RedisError, rested: list[float]) -> None:
    broker = Broker()
    broker.fail(error)
    ours = consumer(broker)
    assert [next(ours) for _ in range(6)] == [None] * 6
    assert rested == sorted(rested)
    assert rested[0] < rested[-1] <= 1


@pytest.mark.parametrize("error", ERRORS)
def test_ack_nack_and_requeue_neither_block_nor_raise(error: RedisError, rested: list[float]) -> None:
    broker = Broker()
    broker.waiting = [body(1), body(2), body(3)]
    ours = consumer(broker, prefetch=3)
    one, two, three = (next(ours) for _ in range(3))
    assert one and two and three
    broker.fail(error)
    ours.ack(one)
    ours.nack(two)
    ours.requeue([three])
    ours.ack(one)  # once more: known already
    assert rested == []
    assert next(ours) is None


def test_an_ack_that_could_not_be_written_is_written_later(rested: list[float]) -> None:
    broker, state = Broker(), QueueState("expand")
    broker.waiting = [body(1)]
    ours = consumer(broker, state=state)
    message = next(ours)
    assert message
    broker.error = ERRORS[0]
    ours.ack(message)
    assert next(ours) is None
    assert state.done == [("id1", "me")]
    broker.error = None
    again = consumer(broker, state=state)  # Dramatiq may have replaced the consumer meanwhile
    next(again)
    assert state.done == []
    assert broker.settled == [("me", "id1", "done")]


def test_no_more_than_the_prefetch_is_handed_out_and_not_acknowledged() -> None:
    broker = Broker()
    broker.waiting = [body(number) for number in range(5)]
    ours = consumer(broker, prefetch=2)
    first, second, none = next(ours), next(ours), next(ours)
    assert first
    assert second
    assert none is None
    ours.ack(first)
    assert next(ours) is not None
    assert broker.asked == [2, 1]


def test_ids_of_its_own_that_were_not_handed_out_go_back_after_a_lost_answer(rested: list[float]) -> None:
    broker = Broker()
    ours = consumer(broker)
    broker.error = TimeoutError("the answer was lost")
    assert next(ours) is None
    broker.error = None
    broker.client.smembers.return_value = {b"id7"}
    broker.client.hget.return_value = body(7)
    next(ours)
    assert broker.settled == [("me", "id7", "back")]


def test_a_stopping_process_fetches_nothing() -> None:
    broker = Broker()
    broker.waiting = [body(1)]
    ours = QueueConsumer(broker, QueueState("expand"), prefetch=2, bells=Bells(["expand"]), stopping=lambda: True)
    assert next(ours) is None
    assert broker.asked == []
