"""Receipts are gathered into batches, and nobody is answered before theirs is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from producers.ledger.scripts import Call
from producers.pointers import PointerMessage
from worker.web.hearing import BATCH_MOST, BATCH_MOST_BYTES, Hearing


class Ledger:
    """Keeps what ``hear`` brings; can be told to stall or to fail."""

    def __init__(self) -> None:
        self.batches: dict[str, list[str]] = {}
        self.pointed: list[str] = []
        self.trips = 0
        self.waiting = False
        self.fails = False
        self.pointers_fail = False
        self.open = asyncio.Event()
        self.open.set()
        self.pointers_open = asyncio.Event()
        self.pointers_open.set()

    async def run(self, call: Call[int]) -> int:
        await self.open.wait()
        if self.fails:
            raise RedisConnectionError("away")
        batch, body = call.args
        self.batches[str(batch)] = json.loads(body)  # type: ignore[arg-type]
        return 0

    async def push(self, messages: Sequence[PointerMessage]) -> None:
        self.waiting = True
        await self.pointers_open.wait()
        self.trips += 1
        if self.pointers_fail:
            raise RedisConnectionError("away")
        self.pointed += [message.args[0] for message in messages]

    @property
    def receipts(self) -> list[str]:
        return sorted(receipt for batch in self.batches.values() for receipt in batch)


def scenario(body: Callable[[Ledger, Hearing], Coroutine[Any, Any, None]], *, gather_s: float = 0.001) -> None:
    async def play() -> None:
        ledger = Ledger()
        async with asyncio.timeout(20):
            await body(ledger, Hearing(ledger.run, ledger.push, gather_s=gather_s, point_every_s=0))

    asyncio.run(play())


def test_what_arrives_together_is_kept_in_one_batch() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        await asyncio.gather(*(hearing.keep(b"%d" % i) for i in range(5)))
        assert [sorted(batch) for batch in ledger.batches.values()] == [["0", "1", "2", "3", "4"]]

    scenario(body)


def test_a_batch_has_at_most_fifty_receipts() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        await asyncio.gather(*(hearing.keep(b"%03d" % i) for i in range(120)))
        assert max(len(batch) for batch in ledger.batches.values()) == BATCH_MOST
        assert ledger.receipts == [f"{i:03d}" for i in range(120)]

    scenario(body)


def test_a_full_batch_does_not_wait() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        await asyncio.gather(*(hearing.keep(b"x") for _ in range(BATCH_MOST)))
        assert len(ledger.batches) == 1

    scenario(body, gather_s=3600)


def test_a_batch_stays_within_its_bytes() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        await asyncio.gather(*(hearing.keep(b"x" * (BATCH_MOST_BYTES // 2)) for _ in range(6)))
        assert [len(batch) for batch in ledger.batches.values()] == [2, 2, 2]

    scenario(body)


def test_nobody_is_answered_before_the_ledger_has_it() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        ledger.open.clear()
        waiting = asyncio.create_task(hearing.keep(b"x"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        ledger.open.set()
        await waiting
        assert ledger.receipts == ["x"]

    scenario(body)


def test_a_failure_reaches_every_receipt_of_its_batch() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        ledger.fails = True
        answers = await asyncio.gather(*(hearing.keep(b"x") for _ in range(7)), return_exceptions=True)
        assert all(isinstance(answer, RedisConnectionError) for answer in answers)
        assert len(answers) == 7 and ledger.pointed == []
        ledger.fails = False
        await hearing.keep(b"y")
        assert ledger.receipts == ["y"]

    scenario(body)


def test_one_caller_that_gives_up_does_not_take_the_others_along() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        ledger.open.clear()
        impatient, patient = (asyncio.create_task(hearing.keep(b"%d" % i)) for i in range(2))
        await asyncio.sleep(0.02)
        impatient.cancel()
        await asyncio.sleep(0)
        ledger.open.set()
        await patient
        assert ledger.receipts == ["0", "1"]

    scenario(body)


def test_pointers_never_delay_an_answer() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        ledger.pointers_open.clear()
        await hearing.keep(b"0")
        while not ledger.waiting:
            await asyncio.sleep(0.001)
        for i in range(1, 3):
            await hearing.keep(b"%d" % i)
        ledger.pointers_open.set()
        await hearing.finish()
        assert sorted(ledger.pointed) == sorted(ledger.batches)
        assert ledger.trips == 2  # what gathered behind the first trip went in one

    scenario(body)


@pytest.mark.parametrize("waits", [False, True])
def test_finish_keeps_and_points_at_what_is_under_way(waits: bool) -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        task = asyncio.create_task(hearing.keep(b"x"))
        await asyncio.sleep(0.02 if waits else 0)
        await hearing.finish()
        await task
        assert ledger.receipts == ["x"] and len(ledger.pointed) == 1

    scenario(body, gather_s=0.001 if waits else 3600)


def test_a_lost_pointer_harms_no_later_one() -> None:
    async def body(ledger: Ledger, hearing: Hearing) -> None:
        ledger.pointers_fail = True
        await hearing.keep(b"x")
        while not ledger.trips:
            await asyncio.sleep(0.001)
        ledger.pointers_fail = False
        await hearing.keep(b"y")
        await hearing.finish()
        assert len(ledger.pointed) == 1 and len(ledger.batches) == 2

    scenario(body)
