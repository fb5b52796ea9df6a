"""From a granted slot to a recorded result, on a real ledger; the gateway and a lost answer are stand-ins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError

from producers.ledger import calls
from producers.ledger.calls import Finish, Slot
from producers.ledger.connection import connect_async
from producers.ledger.ledger import AsyncLedger, Ledger
from producers.ledger.reading import read_message
from tests.integration.engine.test_engine_consumers import CONFIG, fill
from worker.publication import publication
from worker.publishing import publish
from worker.sending.failover import Failover
from worker.sending.finisher import Finisher
from worker.sending.sender import OUT_WITHIN, Sender
from worker.sending.slots import DueSlot, LaneSpec, lane_specs
from worker.sending.takes import TakeSchedule
from worker.settings import parse_config
from worker.telnyx.builder import Request
from worker.telnyx.outcomes import Outcome

PROCESS = "f" * 32
TOLERANCE_S = 10.0
Numbers = Callable[[int], list[str]]


@dataclass
class Hand:
    events: list[str] = field(default_factory=list)

    def posted(self) -> None:
        self.events.append("posted")

    def give_back(self, *, missed: bool = False) -> None:
        self.events.append("missed" if missed else "back")


@dataclass
class Gateway:
    """Notes what it is asked to send, and when."""

    answer: Outcome | BaseException = field(
        default_factory=lambda: Outcome(kind="accepted", reason="ok", provider_id="p1")
    )
    sent: list[tuple[float, Request]] = field(default_factory=list)
    resends: list[bool] = field(default_factory=list)
    deadlines_s: list[float | None] = field(default_factory=list)

    async def send(self, request: Request, *, is_resend: bool = False, deadline_s: float | None = None) -> Outcome:
        self.sent.append((time.monotonic(), request))
        self.resends.append(is_resend)
        self.deadlines_s.append(deadline_s)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Flaky(AsyncLedger):
    """A ledger whose first answers are lost after the call ran, or whose first calls never arrive."""

    lost_answers = lost_calls = 0

    async def run(self, call: Any) -> Any:
        if self.lost_calls:
            self.lost_calls -= 1
            raise RedisConnectionError("connecting to the server failed")
        answer = await super().run(call)
        if self.lost_answers:
            self.lost_answers -= 1
            raise TimeoutError("no answer")
        return answer


class Line:
    """The sending half of a process."""

    def __init__(self, redis_url: str, namespace: str, lanes: dict[str, LaneSpec], gateway: Gateway) -> None:
        self.ledger = Flaky(connect_async(redis_url), namespace)
        self.results: list[Finish] = []
        self.missed: list[str] = []
        self.lapsed: list[str] = []
        self.failover = Failover(self.ledger, process=lambda: PROCESS)
        self.finisher = Finisher(self.ledger, self.failover)
        self.sender = Sender(gateway, lanes=lanes, public_url=None, record=self._record, more=lambda: None)
        self.takes = TakeSchedule(
            self.ledger,
            process=lambda: PROCESS,
            failover=self.failover,
            lanes=lanes,
            on_taken=self.sender.taken,
            on_missed=self._missed,
            on_unsafe=self.sender.unsafe,
            on_lapsed=self.lapsed.append,
        )
        self._running = [asyncio.ensure_future(work) for work in (self.finisher.run(), self.failover.run())]

    def _record(self, process: str, result: Finish) -> None:
        self.results.append(result)
        self.finisher.add(process, result)

    def _missed(self, due: DueSlot, why: str) -> None:
        self.missed.append(why)
        self.sender.missed(due, why)

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not (condition() and self.finisher.pending == 0):
                await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await self.ledger.redis.aclose()


@pytest.fixture
def lanes(ledger: Ledger) -> dict[str, LaneSpec]:
    config = parse_config(CONFIG)
    publish(ledger, config, 1)
    ledger.run(calls.beat(PROCESS, "first"))
    # 20 ms of tolerance would make every test of this file one of how busy the machine is.
    ledger.redis.hset(ledger.key("b:s:fast"), "tol", int(TOLERANCE_S * 1e6))
    return lane_specs(config, publication(config, release=1), None)


def granted(ledger: Ledger, *, ahead_s: float = 0.0) -> list[DueSlot]:
    """What the server grants now, each with a hand of its own. ``ahead_s`` shifts our clock."""
    sent_s = time.monotonic()
    answer = ledger.run(calls.grant(PROCESS, 100, lane_quota=100, quotas={}))
    return [DueSlot(s, sent_s + (s.at_us - answer.now_us) / 1e6 + ahead_s, Hand()) for s in answer.slots]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.fixture
def line(redis_url: str, namespace: str, lanes: dict[str, LaneSpec]) -> Callable[[Gateway], Line]:
    return lambda gateway: Line(redis_url, namespace, lanes, gateway)


MakeLine = Callable[[Gateway], Line]


def test_each_slot_sends_one_message_and_never_before_its_instant(
    line: MakeLine, ledger: Ledger, numbers: Numbers
) -> None:
    notification = fill(ledger, numbers(10))
    gateway = Gateway()

    async def work() -> None:
        ours = line(gateway)
        due = granted(ledger)
        assert len(due) >= 4
        ours.takes.add(due)
        await ours.until(lambda: len(ours.results) == len(due))
        instants_s = sorted(slot.at_s for slot in due)
        left_s = sorted(at_s for at_s, _ in gateway.sent)
        assert all(left >= instant for left, instant in zip(left_s, instants_s, strict=True))
        assert all(slot.hand.events == ["posted", "back"] for slot in due)  # type: ignore[attr-defined]
        assert {request.key for _, request in gateway.sent} == {f"{notification}-{i}" for i in range(len(due))}
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.attempts, message.provider_id) == ("accepted", 1, "p1")


def test_what_was_connected_too_late_goes_back_unsent_and_the_fourth_time_goes_anyway(
    line: MakeLine, ledger: Ledger, numbers: Numbers
) -> None:
    notification = fill(ledger, numbers(1))
    gateway = Gateway(answer=Outcome(kind="not_sent", reason="late"))

    async def work() -> None:
        ours = line(gateway)
        for tries in range(1, 5):
            (due,) = granted(ledger)
            ours.takes.add([due])
            await ours.until(lambda: len(ours.results) == tries)  # noqa: B023
            assert ledger.redis.hget(ledger.key(f"m:{notification}-0"), "an") == b"0", "no request left"
            deadline_s = gateway.deadlines_s[-1]
            if tries == 4:
                assert deadline_s is None
            else:
                assert deadline_s is not None
                assert deadline_s - due.at_s == pytest.approx(TOLERANCE_S * OUT_WITHIN)
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.attempts) == ("queued", 0)


@pytest.mark.parametrize("lost", ["lost_answers", "lost_calls"])
def test_a_take_without_an_answer_is_repeated_and_takes_nothing_twice(
    lost: str, line: MakeLine, ledger: Ledger, numbers: Numbers
) -> None:
    fill(ledger, numbers(10))
    gateway = Gateway()

    async def work() -> None:
        ours = line(gateway)
        due = granted(ledger, ahead_s=0.1)
        setattr(ours.ledger, lost, 2)
        ours.takes.add(due)
        await ours.until(lambda: len(ours.results) + len(ours.missed) == len(due))
        keys = [request.key for _, request in gateway.sent]
        assert len(keys) == len(set(keys))
        assert ledger.redis.hlen(ledger.key(f"held:{PROCESS}")) == 0  # nothing that we hold and do not know of
        await ours.aclose()

    run(work())


def test_a_process_that_stalled_after_the_take_sends_nothing(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    notification = fill(ledger, numbers(1))
    gateway = Gateway()

    async def work() -> None:
        ours = line(gateway)
        due = granted(ledger)
        late = [slot._replace(at_s=slot.at_s - 2 * TOLERANCE_S) for slot in due]  # by our clock, that long has passed
        ours.takes.add(late)
        await ours.until(lambda: len(ours.results) == 1)
        assert gateway.sent == []
        assert ours.results[0].outcome == "not_sent"
        assert due[0].hand.events == ["missed"]  # type: ignore[attr-defined]
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.attempts) == ("queued", 0)


def test_a_slot_that_the_server_calls_late_is_missed(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    fill(ledger, numbers(1))

    async def work() -> None:
        ours = line(Gateway())
        due = granted(ledger)
        old = [slot._replace(slot=Slot("fast", slot.slot.at_us - 10_000_000)) for slot in due]
        ours.takes.add(old)
        await ours.until(lambda: len(ours.missed) == 1)
        assert ours.missed == ["gone"]
        assert due[0].hand.events == ["missed"]  # type: ignore[attr-defined]
        await ours.aclose()

    run(work())


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), asyncio.CancelledError()], ids=["a bug", "cancelled"])
def test_a_failure_of_ours_after_the_bytes_may_have_left_is_uncertain(
    line: MakeLine, ledger: Ledger, numbers: Numbers, failure: BaseException
) -> None:
    notification = fill(ledger, numbers(1))

    async def work() -> None:
        ours = line(Gateway(answer=failure))
        ours.takes.add(granted(ledger))
        await ours.until(lambda: len(ours.results) == 1)
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert message.state == "uncertain"


def test_the_gateway_is_told_of_a_resend(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    """It judges 409 and 422 otherwise then: the key may have gone out with other bytes."""
    notification = fill(ledger, numbers(1))

    async def work() -> None:
        gateway = Gateway(answer=Outcome(kind="conflict", reason="10036"))
        ours = line(gateway)
        ours.takes.add(granted(ledger))
        await ours.until(lambda: len(ours.results) == 1)
        # it waits some seconds now: let its timer ring
        ledger.redis.zadd(ledger.key("timers"), {f"{notification}-0": 0})
        ledger.run(calls.wake())
        ours.takes.add(granted(ledger))
        await ours.until(lambda: len(ours.results) == 2)
        assert gateway.resends == [False, True]
        assert gateway.sent[0][1] == gateway.sent[1][1], "the same bytes and key"
        await ours.aclose()

    run(work())


def test_a_message_that_no_request_can_be_made_of_is_rejected_once_its_tries_are_used_whoever_counts(
    line: MakeLine, ledger: Ledger, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification = fill(ledger, numbers(1))
    tries = int(ledger.redis.hget(ledger.key("cfg"), "max_tries") or 0)  # type: ignore[arg-type]
    monkeypatch.setattr("worker.sending.sender.POISON_DELAY_S", 0.001)
    monkeypatch.setattr("worker.sending.sender.build", lambda *_args, **_kw: 1 / 0)
    gateway = Gateway()

    async def work() -> None:
        for _ in range(tries):  # each time another process, which knows nothing of the others
            ours = line(gateway)
            async with asyncio.timeout(30):
                while not (due := granted(ledger)):
                    ledger.run(calls.wake())
                    await asyncio.sleep(0.01)
            ours.takes.add(due)
            await ours.until(lambda: len(ours.results) == 1)  # noqa: B023
            await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.timeline[-1].reason, gateway.sent) == ("rejected", "poison", [])
    assert (message.attempts, message.errors[-1]["title"]) == (0, "no request can be made of it: ZeroDivisionError")


def test_a_lapsed_process_takes_nothing_and_hears_of_it(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    fill(ledger, numbers(3))

    async def work() -> None:
        ours = line(Gateway())
        due = granted(ledger)
        ledger.redis.delete(ledger.key(f"alive:{PROCESS}"))
        ours.takes.add(due)
        await ours.until(lambda: len(ours.missed) == len(due))
        assert set(ours.lapsed) == {PROCESS}
        await ours.aclose()

    run(work())


def test_results_are_pending_until_the_ledger_has_taken_them(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    notification = fill(ledger, numbers(1))

    async def work() -> None:
        ours = line(Gateway())
        due = granted(ledger)
        ours.takes.add(due)
        async with asyncio.timeout(30):
            while not ours.results:
                ours.ledger.lost_calls = 0
                await asyncio.sleep(0)
        ours.ledger.lost_calls, ours.ledger.lost_answers = 3, 1
        assert ours.finisher.pending == 1
        await ours.until(lambda: True)
        assert ours.ledger.lost_calls == ours.ledger.lost_answers == 0
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert message.state == "accepted"


def test_a_result_that_breaks_the_script_holds_up_no_other(line: MakeLine, ledger: Ledger, numbers: Numbers) -> None:
    notification = fill(ledger, numbers(4))
    ledger.redis.set(ledger.key("m:broken-0"), "not a hash")

    async def work() -> None:
        ours = line(Gateway())
        due = granted(ledger)
        ours.finisher.add(PROCESS, Finish(message="broken-0", token="t", outcome="uncertain"))
        ours.takes.add(due)
        await ours.until(lambda: len(ours.results) == len(due))
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert message.state == "accepted"


def test_nothing_is_taken_while_the_server_may_have_forgotten_what_was_sent(
    line: MakeLine, ledger: Ledger, numbers: Numbers
) -> None:
    notification = fill(ledger, numbers(3))
    gateway = Gateway()

    async def work() -> None:
        ours = line(gateway)
        ours.failover.lost(RedisConnectionError("reset by the test"), time.monotonic())
        due = granted(ledger)
        ours.takes.add(due)
        await ours.until(lambda: len(ours.missed) == len(due))
        assert set(ours.missed) == {"rest"}
        assert gateway.sent == []
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.attempts) == ("queued", 0)


def test_what_a_server_gave_that_has_forgotten_takes_goes_back_unsent(
    line: MakeLine, ledger: Ledger, numbers: Numbers
) -> None:
    notification = fill(ledger, numbers(1))
    gateway = Gateway()

    async def work() -> None:
        ours = line(gateway)
        assert ours.failover.answered(0, 1_000)  # so many takes and finishes had been told of; the server knows of none
        due = granted(ledger)
        ours.takes.add(due)
        await ours.until(lambda: len(ours.results) == len(due))
        assert [result.outcome for result in ours.results] == ["not_sent"]
        assert gateway.sent == []
        await ours.aclose()

    run(work())
    message = read_message(ledger, f"{notification}-0")
    assert message
    assert (message.state, message.attempts) == ("queued", 0)
