"""When a process doubts its server, and what it does then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis import exceptions as e

from producers.ledger.calls import Finish, Taken, Words
from worker.sending import failover as failover_module
from worker.sending.failover import QUIET_S, Failover, may_have_failed_over
from worker.sending.memory import Memory


def taken(number: int, *, token: str = "", attempt: int = 1) -> Taken:
    return Taken(f"m{number}", token or f"t{number}", ["+13125550100"], b"{}", "notice", attempt, False)


def result(number: int, outcome: Any = "accepted", *, token: str = "") -> Finish:
    return Finish(message=f"m{number}", token=token or f"t{number}", outcome=outcome)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Server:
    """Answers reposts and finishes; `words` says what it knows of each message."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.gen = 0
        self.words: dict[str, str] = {}
        self.errors: list[Exception] = []
        self.held: dict[bytes, bytes] = {}
        self.redis = self

    def key(self, rest: str) -> str:
        return rest

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.held if key == "held:me" else {}

    async def run(self, call: Any) -> Any:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append((call.script, len(call.args) - 1))
        words = Words("held" for _ in call.args[1:])
        if call.script == "repost":
            words = Words(next((w for m, w in self.words.items() if f'"{m}"' in a), "held") for a in call.args[1:])
        words.gen = self.gen
        return words


class Rig:
    def __init__(self) -> None:
        self.server, self.clock, self.reconnected = Server(), Clock(), 0
        self.memory = Memory()
        self.failover = Failover(
            self.server,  # type: ignore[arg-type]
            process=lambda: "me",
            reconnect=self._reconnect,
            memory=self.memory,
            now=self.clock,
        )

    async def _reconnect(self) -> None:
        self.reconnected += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


def in_loop(test: Callable[[Rig], Coroutine[Any, Any, None]], *, runs: bool = True) -> None:
    async def body() -> None:
        rig = Rig()
        task = asyncio.ensure_future(rig.failover.run()) if runs else None
        await test(rig)
        if task is not None:
            task.cancel()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "doubts"),
    [
        (e.ConnectionError("reset"), True),
        (e.BusyLoadingError("LOADING"), True),
        (e.TimeoutError("silent"), True),
        (e.ReadOnlyError("READONLY You can't write against a read only replica."), True),
        (e.ResponseError("MASTERDOWN Link with MASTER is down"), True),
        (e.OutOfMemoryError("OOM"), False),
        (e.ResponseError("user_script:3: attempt to index"), False),
        (e.MaxConnectionsError("Too many connections"), False),
        (e.AuthenticationError("WRONGPASS"), False),
    ],
)
def test_only_a_lost_server_may_have_forgotten(error: Exception, doubts: bool) -> None:
    assert may_have_failed_over(error) is doubts


def test_takes_are_told_before_results_and_then_it_rests_for_two_seconds() -> None:
    async def test(rig: Rig) -> None:
        rig.memory.took("me", taken(1), "b")
        rig.memory.finished([result(1)], rig.clock())
        rig.failover.lost(e.ConnectionError(), rig.clock())
        assert rig.failover.rests
        await rig.failover.told()
        assert rig.server.calls == [("repost", 1), ("finish", 1)]
        assert rig.failover.rests
        rig.clock.now_s += QUIET_S
        assert not rig.failover.rests

    in_loop(test)


def test_it_says_so_until_the_server_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover_module, "_FIRST_WAIT_S", 0.001)

    async def test(rig: Rig) -> None:
        rig.memory.took("me", taken(1), "b")
        rig.server.errors = [e.ConnectionError(), e.BusyLoadingError(), e.TimeoutError()]
        rig.failover.lost(e.ConnectionError(), rig.clock())
        await rig.failover.told()
        assert rig.server.calls == [("repost", 1)]
        assert rig.reconnected == 4  # each time on connections of its own

    in_loop(test)


def test_what_a_failed_take_gave_goes_back_at_once_unless_it_is_being_asked_for_again() -> None:
    async def test(rig: Rig) -> None:
        rig.failover.unanswered("me", "a")
        rig.failover.unanswered("me", "b")
        rig.failover.asked("b")
        rig.server.held = {b"m1": b"a.1", b"m2": b"b.1", b"m3": b"a.2"}
        rig.failover.lost(e.TimeoutError(), rig.clock())
        await rig.failover.told()
        assert rig.server.calls == [("repost", 0), ("finish", 2)]

    in_loop(test)


def test_a_fault_of_ours_does_not_silence_the_process_for_ever() -> None:
    async def test(rig: Rig) -> None:
        rig.server.errors = [e.ResponseError("user_script:1: a bug")]
        rig.failover.lost(e.ConnectionError(), rig.clock())
        await rig.failover.told()

    in_loop(test)


def test_a_count_that_goes_backward_gives_no_leave() -> None:
    async def test(rig: Rig) -> None:
        mark = rig.failover.mark()
        assert rig.failover.answered(mark, 7)
        rig.server.gen = 3
        assert not rig.failover.answered(rig.failover.mark(), 3)
        assert rig.failover.rests
        await rig.failover.told()
        assert rig.failover.answered(rig.failover.mark(), 4)  # from here on the new server's count holds

    in_loop(test)


def test_what_another_process_found_is_news_only_to_who_does_not_know_it() -> None:
    async def test(rig: Rig) -> None:
        rig.failover.heard_of()
        assert rig.failover.rests
        await rig.failover.told()
        told = len(rig.server.calls)
        rig.failover.heard_of()  # the echo of what was said
        await rig.failover.told()
        assert len(rig.server.calls) == told
        rig.clock.now_s += QUIET_S
        assert not rig.failover.rests

    in_loop(test)


def test_an_answer_that_comes_while_the_server_is_in_doubt_gives_no_leave() -> None:
    async def test(rig: Rig) -> None:
        mark = rig.failover.mark()
        rig.failover.lost(e.ConnectionError(), rig.clock())
        assert not rig.failover.answered(mark, 1)
        await rig.failover.told()
        assert rig.failover.answered(mark, 1)

    in_loop(test)


def test_answers_that_overtake_each_other_raise_no_doubt() -> None:
    async def test(rig: Rig) -> None:
        first, second = rig.failover.mark(), rig.failover.mark()
        assert rig.failover.answered(second, 2)
        assert rig.failover.answered(first, 1)
        assert not rig.failover.rests

    in_loop(test)


def test_a_connection_that_broke_before_the_server_was_told_is_old_news() -> None:
    async def test(rig: Rig) -> None:
        rig.failover.lost(e.ConnectionError(), rig.clock())
        await rig.failover.told()
        rig.clock.now_s += QUIET_S
        rig.failover.lost(e.TimeoutError(), rig.clock() - QUIET_S - 1)
        assert not rig.failover.rests
        rig.failover.lost(e.TimeoutError(), rig.clock())
        assert rig.failover.rests

    in_loop(test)


def test_the_result_of_what_is_expanded_later_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover_module, "EARLY_EVERY_S", 0.005)

    async def test(rig: Rig) -> None:
        rig.memory.took("me", taken(1), "b")
        rig.memory.finished([result(1)], rig.clock())
        rig.server.words = {"m1": "early"}
        rig.failover.lost(e.ConnectionError(), rig.clock())
        await rig.failover.told()
        rig.clock.now_s += 60
        rig.memory.forget(rig.clock())
        asked = len(rig.server.calls)
        await rig.until(lambda: len(rig.server.calls) > asked)
        rig.server.words = {}
        await rig.until(lambda: rig.server.calls[-1] == ("finish", 1))
        assert len(rig.memory) == 0

    in_loop(test)


def test_a_take_is_remembered_until_some_seconds_after_its_result() -> None:
    memory = Memory()
    for number in (1, 2):
        memory.took("me", taken(number), "b")
    memory.finished([result(1)], 10.0)
    memory.forget(14.9)
    assert [take.message for take in memory.takes()] == ["m1", "m2"]
    memory.forget(15.1)
    assert [take.message for take in memory.takes()] == ["m2"]
    memory.forget(9_999.0)  # under way all the time
    assert [take.message for take in memory.takes()] == ["m2"]


def test_of_a_message_only_the_latest_take_is_told() -> None:
    memory = Memory()
    memory.took("me", taken(1, token="a"), "b")
    memory.finished([result(1, "slow_down", token="a")], 10.0)
    memory.took("me", taken(1, token="b", attempt=2), "b")
    memory.finished([result(1, token="a")], 11.0)
    assert [(take.token, take.may_have_left) for take in memory.takes()] == [("b", True)]
    assert memory.results() == {}
    memory.forget(99.0)
    assert len(memory) == 1


def test_a_clear_answer_says_that_nothing_left() -> None:
    memory = Memory()
    for number, outcome in enumerate(("accepted", "uncertain", "rejected", "retry", "not_sent")):
        memory.took("me", taken(number), "b")
        memory.finished([result(number, outcome)], 1.0)
    assert [(t.message, t.may_have_left) for t in memory.takes()] == [
        ("m0", True), ("m1", True), ("m2", False), ("m3", False),
    ]  # fmt: skip
    assert len(memory.results()["me"]) == 5


def test_what_is_remembered_is_bounded() -> None:
    memory = Memory(most=3)
    for number in range(5):
        memory.took("me", taken(number), "b")
    assert [take.message for take in memory.takes()] == ["m2", "m3", "m4"]
