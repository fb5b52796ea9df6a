"""Schedules on a real server: one tick, one notification, over any number of clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pytest

from producers.ledger.ledger import Ledger
from producers.notifier import Notifier
from worker import schedules as room
from worker.publishing import publish
from worker.schedules import Schedules
from worker.settings import Config, parse_config

TICK = 1_796_115_600  # 2026-12-01 09:00 UTC
ISO = "2026-12-01T09:00:00Z"
BASE = """
[senders.s]
channel = "short_code"
from = "12345"
rate = "1/s"
[job_types.digest]
sender = "s"
[defaults]
timezone = "UTC"
"""
FIXED = BASE + '[schedules.daily]\ncron = "0 9 * * *"\njob_type = "digest"\nto = "+13122340001"\ntext = "hello"\n'
CALLED = BASE + '[schedules.daily]\ncron = "0 9 * * *"\njob_type = "digest"\nrecipients = "a:b"\ntext = "hello"\n'
People = Callable[[datetime], Iterable[Any]]


@pytest.fixture
def clock_of(redis_url: str, namespace: str, ledger: Ledger) -> Callable[..., Schedules]:
    def make(text: str, people: People | None = None, *, is_published: bool = True) -> Schedules:
        config: Config = parse_config(text)
        if is_published:
            publish(ledger, config, 0)
        notifier = Notifier(redis_url, namespace=namespace)
        return Schedules(config, ledger, notifier, {} if people is None else {"daily": people})

    return make


def made(ledger: Ledger, namespace: str) -> int:
    """Notifications that are in the ledger: each has its pointers or chunks under keys of its own."""
    redis: Any = ledger.redis
    return len({key.split(b":")[-1].split(b"-")[0] for key in redis.scan_iter(match=f"{{{namespace}}}:m:*")}) + len(
        list(redis.scan_iter(match=f"{{{namespace}}}:n:*"))
    )


def test_one_tick_makes_one_notification_whoever_runs_it_and_however_often(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str
) -> None:
    clocks = [clock_of(FIXED) for _ in range(3)]
    for clock in clocks:
        assert clock.run(TICK - 60) == 60
    assert made(ledger, namespace) == 0
    clocks[0].run(TICK)
    redis: Any = ledger.redis
    redis.hset(
        ledger.key(room.KEY), "daily", redis.hget(ledger.key(room.KEY), "daily").replace(b"1796115600", b"1796115540")
    )
    for clock in clocks:  # as if the first had died before it marked the tick
        clock.run(TICK + 1)
    assert made(ledger, namespace) == 1
    clocks[1].run(TICK + 86_400)
    assert made(ledger, namespace) == 2


def test_a_callable_is_told_the_tick_and_its_people_get_their_own_variables(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str
) -> None:
    told = []

    def people(tick: datetime) -> Iterable[Any]:
        told.append(tick.isoformat())
        yield "+13122340001"
        yield {"to": "+13122340002", "variables": {}}

    clock = clock_of(CALLED, people)
    clock.run(TICK - 1)
    clock.run(TICK)
    assert told == ["2026-12-01T09:00:00+00:00"]
    assert made(ledger, namespace) == 1


def test_a_clock_whose_callable_names_others_makes_no_second_notification(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str
) -> None:
    one, other = clock_of(CALLED, lambda _t: ["+13122340001"]), clock_of(CALLED, lambda _t: ["+13122340002"])
    one.run(TICK - 1)
    before: Any = ledger.redis.hgetall(ledger.key(room.KEY))
    one.run(TICK)
    ledger.redis.hset(ledger.key(room.KEY), mapping=before)  # the other had read it before the first marked it
    other.run(TICK)
    assert made(ledger, namespace) == 1
    assert ledger.redis.hget(ledger.key(room.KEY), "daily").startswith(b"1796115600 ")


def test_many_people_are_parted_and_repeating_makes_none_twice(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str, numbers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_RECIPIENTS", 40)
    clock = clock_of(CALLED, lambda _t: numbers(100))
    clock.run(TICK - 1)
    before: Any = ledger.redis.hgetall(ledger.key(room.KEY))
    clock.run(TICK)
    assert made(ledger, namespace) == 3
    ledger.redis.hset(ledger.key(room.KEY), mapping=before)
    clock.run(TICK + 5)
    assert made(ledger, namespace) == 3


def test_people_who_cannot_be_had_are_asked_for_again_then_given_up_and_hold_up_no_other(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str
) -> None:
    text = CALLED + '[schedules.other]\ncron = "0 9 * * *"\njob_type = "digest"\nto = "+13122340009"\ntext = "hello"\n'
    asked = []

    def people(_tick: datetime) -> Iterable[Any]:
        asked.append(1)
        raise ConnectionError("the database of +13122340001 is away")

    clock = clock_of(text, people)
    clock.run(TICK - 1)
    clock.run(TICK)
    assert made(ledger, namespace) == 1
    clock.run(TICK + 30)
    assert len(asked) == 2
    clock.run(TICK + room.TRY_FOR_S + 1)
    clock.run(TICK + room.TRY_FOR_S + 31)
    assert len(asked) == 3


def test_what_can_never_be_sent_is_not_tried_again(clock_of: Callable[..., Schedules], ledger: Ledger) -> None:
    asked = []

    def people(_tick: datetime) -> Iterable[Any]:
        asked.append(1)
        return ["12"]

    clock = clock_of(CALLED, people)
    for now in (TICK - 1, TICK, TICK + 30):
        clock.run(now)
    assert len(asked) == 1


def test_before_anything_is_published_a_tick_waits(
    clock_of: Callable[..., Schedules], ledger: Ledger, namespace: str
) -> None:
    clock = clock_of(FIXED, is_published=False)
    clock.run(TICK - 1)
    clock.run(TICK)
    assert made(ledger, namespace) == 0
    late = clock_of(FIXED)
    late.run(TICK + 30)
    assert made(ledger, namespace) == 1
