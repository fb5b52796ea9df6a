"""The reply of a call gets lost and its caller says it again, two seconds later: the ledger is as if it had been said once.

Each script in virtual time, at the ledger; those whose callers do more than say the same again are tested below, in whole
processes in ``test_lost_replies``, or change nothing. A script that is in none of these fails the first test.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ledger_kit
import pytest
from faults import test_lost_replies
from ledger_kit import HOUR_US, TO, finish, lane, publication, queue, state, submit, take_now
from virtual_time import SECOND_US, VirtualLedger

from producers.endpoints import endpoint_of
from producers.ledger import callbacks, calls
from producers.ledger.callbacks import LEASE_US, Claimed, Settled
from producers.ledger.calls import Admission, Fact, Finish, OptRow, Submission, Take, Taken, Withdrawal
from producers.ledger.scripts import LUA, Call

REPEATED_AFTER_US = 2_100_000  # an answer is awaited for two seconds
CHANGE_NOTHING = {
    "load": "it reads the next chunk; whoever repeats it reads the same",
    "figures": "it reads counts",
    "foresee": "it reads rules, and says when a message could leave",
    "sticky": "it reads which senders people heard from",
}
OTHERWISE = {  # and the test here that says how
    "claim": "test_callbacks_of_a_lost_reply_are_due_again_when_their_lease_is_over",
    "fetch": "test_pointers_of_a_lost_reply_stay_with_their_process_which_gives_them_back",
    "point": "test_a_pointer_that_is_said_twice_is_done_once",
    "aside": "test_what_is_put_aside_twice_is_shown_twice_and_nothing_else",
}
HERE = {"endpoint": endpoint_of("https://app.example.com/events"), "extras": b'{"metadata":{"order":7}}'}
OF_THE_LAST_TIME = {  # these say that somebody lives, holds or notes a thing from now on, or that a lane is to be looked at
    "beat-first", "ear", "opt_sync-take", "opt_sync-keep", "reread-batch", "reread-event", "lane-rate-50000",
    "lane-rate-configured",
}  # fmt: skip
COUNTERS = ("gen", "visits")  # of takes and finishes that were said at all, whatever came of them; and the test's own
QUEUE, PROCESS = "expand", "broker-1"
PUBLICATION = publication(
    {"alerts": lane("alerts", "s:alerts", profile="p1"), "next": lane("next", "s:next", profile="p2")},
    {"s:alerts": {"t_us": 10_000}, "s:next": {"t_us": 10_000}},
)


class Case(NamedTuple):
    script: str
    name: str
    prepare: Callable[[VirtualLedger], Call[Any]]
    first: Any
    again: Any

    def __str__(self) -> str:
        return f"{self.script}-{self.name}".strip("-")


CASES: list[Case] = []


def case(
    script: str, first: Any, again: Any, name: str = ""
) -> Callable[[Callable[[VirtualLedger], Call[Any]]], Callable[[VirtualLedger], Call[Any]]]:
    """A call that changes something, by what prepares for it, and its answers: of the first time and of the second."""

    def add(prepare: Callable[[VirtualLedger], Call[Any]]) -> Callable[[VirtualLedger], Call[Any]]:
        CASES.append(Case(script, name, prepare, first, again))
        return prepare

    return add


# --- from the notification to the answer


@case("submit", "created", "repeated")
def _(ledger: VirtualLedger) -> Call[Any]:
    fields: dict[str, Any] = {
        "id": ledger_kit.new_id(), "client": "tests", "fingerprint": "f1", "job_type": "notice", "klass": 1,
        "valid_for_us": HOUR_US, "send_at_us": 0, "messages": 1, "group": False, "content": b"{}", "extras": b"{}",
        "recipients": [TO],
    }  # fmt: skip
    call = calls.submit(Submission(**fields))
    return Call(call.script, call.args, lambda r: call.decode(r).outcome)


@case("attempt", 1, 1)
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.attempt(submit(ledger, messages=3), "0", "try-1")


@case("admit", (1, 0, None), (0, 0, None), "one")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.admit(submit(ledger), None, "", [Admission(to="", lane="alerts", content="{}", sticky="alerts")])


@case("admit", (200, 0, "1"), (0, 0, None), "many")
def _(ledger: VirtualLedger) -> Call[Any]:
    id = submit(ledger, messages=250)
    return calls.admit(id, "0", "{}", [Admission(to=f"+1312{i:07d}", lane="alerts") for i in range(200)])


@case("zones", 1, 1)
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.zones({"America/New_York": "-18000"})


def taken_now(ledger: VirtualLedger, **other: Any) -> Taken:
    mid = queue(ledger, **other)
    (taken,) = take_now(ledger)
    assert taken.message == mid
    return taken


def _first_word(call: Call[Any]) -> Call[Any]:
    return Call(call.script, call.args, lambda r: call.decode(r)[0])


@case("finish", "applied", "known", "accepted")
def _(ledger: VirtualLedger) -> Call[Any]:
    taken = taken_now(ledger)
    return _first_word(
        calls.finish("p1", [Finish(message=taken.message, token=taken.token, outcome="accepted", provider_id="x")])
    )


@case("finish", "ok", "stale", "retry")
def _(ledger: VirtualLedger) -> Call[Any]:
    taken = taken_now(ledger)
    result = Finish(
        message=taken.message, token=taken.token, outcome="slow_down", delay_us=9_000_000, uses_a_try=True,
        hold_us=5_000_000, feedback=True,
    )  # fmt: skip
    return _first_word(calls.finish("p1", [result]))


@case("cancel", (1, None), (0, None))
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.cancel(queue(ledger, **HERE)[:32], 0)


@case("leg", "made", "exists")
def _(ledger: VirtualLedger) -> Call[Any]:
    taken = taken_now(ledger, **HERE)
    finish(ledger, taken, "rejected", code="40310", title="no", why="40310")
    call = calls.leg(taken.message, 2, "replay", valid_for_us=HOUR_US)
    return Call(call.script, call.args, lambda r: call.decode(r).outcome)


@case("withdraw", ["done"], ["known"])
def _(ledger: VirtualLedger) -> Call[Any]:
    id = submit(ledger, send_at_us=ledger.now_us + HOUR_US)
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="alerts", content="{}", ahead=True)]))
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted", raw="queued")
    ledger.run(calls.cancel(id, 0))
    return calls.withdraw([Withdrawal(f"{id}-0", "late")])


@case("repost", ["held"], ["known"])
def _(ledger: VirtualLedger) -> Call[Any]:
    mid = queue(ledger)
    return calls.repost("p1", [Take(mid, "t-forgotten.1", "p1", 1, "b1")])


@case("forget", (1, 1, 0), (0, 0, 0))
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.forget(TO, [queue(ledger, **HERE)])


# --- receipts, and what people say


@case("hear", None, None)
def _(ledger: VirtualLedger) -> Call[Any]:
    call = calls.hear("b1", b"[]")
    return Call(call.script, call.args, lambda r: None)


@case("reread", 1, 1, "batch")
def _(ledger: VirtualLedger) -> Call[Any]:
    ledger.run(calls.hear("b1", b"[]"))
    return calls.reread("b1", None, kept_s=60, name="try-1")


@case("reread", 0, 0, "event")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.reread("b1", 3, kept_s=60)


@case("receipt", ["applied"], ["known"])
def _(ledger: VirtualLedger) -> Call[Any]:
    taken = taken_now(ledger, **HERE)
    finish(ledger, taken, "accepted")
    ledger.run(calls.hear("b1", b"[]"))
    return calls.receipt("b1", [Fact(ref=taken.message, provider_id=None, state="D", parts=2, cost=(4_000, "USD"))])


@case("click", "counted", "known")
def _(ledger: VirtualLedger) -> Call[Any]:
    taken = taken_now(ledger, **HERE)
    finish(ledger, taken, "accepted")
    return calls.click("c1", f"pid-{taken.message}", "https://s.example/x")


@case("opt", 1, 0)
def _(ledger: VirtualLedger) -> Call[Any]:
    mid = taken_now(ledger, **HERE).message
    assert state(ledger, mid) == "sending"
    said = json.dumps({"from": TO, "to": ["+13125550001"], "text": "stop"})
    return calls.opt(
        TO, "out", scopes=["profile:p1", "sy:alerts"], occurred_us=ledger.now_us - SECOND_US, source="webhook",
        evidence="e1", inbound=said,
    )  # fmt: skip


@case("opt_rows", (2, 0), (0, 0))
def _(ledger: VirtualLedger) -> Call[Any]:
    at_us = ledger.now_us - SECOND_US
    rows = [OptRow(TO, True, ["profile:p1"], at_us), OptRow("+13125550177", True, ["profile:p1"], at_us)]
    return calls.opt_rows(rows, source="list", list_number=3)


@case("opt_file", (1, 0), (0, 0))
def _(ledger: VirtualLedger) -> Call[Any]:
    (call,) = calls.opt_file([OptRow(TO, True, ["global"], ledger.now_us - SECOND_US)], source="import")
    return call


@case("opt_sweep", (1, 1), (0, 0))
def _(ledger: VirtualLedger) -> Call[Any]:
    at_us = ledger.now_us - 3 * SECOND_US
    ledger.run(calls.opt_rows([OptRow(TO, True, ["profile:p1"], at_us)], source="list", list_number=1))
    began = {"older_began_us": at_us + SECOND_US, "newer_began_us": at_us + 2 * SECOND_US}
    return calls.opt_sweep("lift", [f"profile:p1:{TO[-4:]}"], older=2, **began)


def _held(call: Call[Any]) -> Call[Any]:
    return Call(call.script, call.args, lambda r: call.decode(r) and call.decode(r).fields)


@case("opt_sync", {"phase": "read"}, {"phase": "read"}, "take")
def _(ledger: VirtualLedger) -> Call[Any]:
    return _held(calls.opt_sync("us", "take", changes={"phase": "read"}))


@case("opt_sync", {"phase": "read"}, {"phase": "read"}, "keep")
def _(ledger: VirtualLedger) -> Call[Any]:
    ledger.run(calls.opt_sync("us", "take", changes={"older": 4}))
    return _held(calls.opt_sync("us", "keep", changes={"phase": "read", "older": ""}))


@case("opt_sync", {"phase": "read"}, None, "leave")
def _(ledger: VirtualLedger) -> Call[Any]:
    ledger.run(calls.opt_sync("us", "take"))
    return _held(calls.opt_sync("us", "leave", changes={"phase": "read"}))


# --- what processes and operators do


@case("beat", True, True, "first")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.beat("p2", "first")


@case("beat", True, True, "last")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.beat("p1", "last")


@case("ear", None, None)
def _(ledger: VirtualLedger) -> Call[Any]:
    ledger.run(calls.ear("w1"))
    call = calls.ear("w1")
    return Call(call.script, call.args, lambda r: None)


@case("publish", "published", "same")
def _(ledger: VirtualLedger) -> Call[Any]:
    queue(ledger, lane="next")
    lanes = {"alerts": lane("alerts", "s:alerts", profile="p3")}
    newer = publication(lanes, {"s:alerts": {"t_us": 20_000}}, digest="two", release=2)
    return calls.publish(newer, {}, {"UTC": "0"})


def _lane(what: Any, value: str | int = "") -> Callable[[VirtualLedger], Call[Any]]:
    def prepare(ledger: VirtualLedger) -> Call[Any]:
        finish(ledger, taken_now(ledger), "slow_down", delay_us=SECOND_US, hold_us=SECOND_US, feedback=True)
        queue(ledger)
        if what == "resume":
            ledger.run(calls.lane("alerts", "pause", "operator"))
        return calls.lane("alerts", what, value)

    return prepare


for _what, _value in [
    ("pause", "why"),
    ("drain", "why"),
    ("resume", ""),
    ("resume", "shared"),
    ("rate", 50_000),
    ("rate", "configured"),
]:
    case("lane", True, True, f"{_what}-{_value}")(_lane(_what, _value))


def fetched(ledger: VirtualLedger) -> str:
    """A pointer that a process has fetched; returns its id."""
    ledger.run(calls.point([(QUEUE, "pointer-1", b"body"), (QUEUE, "pointer-2", b"body")]))
    assert ledger.run(calls.fetch(QUEUE, PROCESS, 1)) == [b"body"]
    return "pointer-1"


@case("ack", 0, 0, "done")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.ack(QUEUE, [(PROCESS, fetched(ledger), "done")], kept=10)


@case("ack", 0, 0, "back")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.ack(QUEUE, [(PROCESS, fetched(ledger), "back")], kept=10)


@case("ack", 1, 1, "aside")
def _(ledger: VirtualLedger) -> Call[Any]:
    return calls.ack(QUEUE, [(PROCESS, fetched(ledger), "aside")], kept=10)


# --- callbacks


def claimed(ledger: VirtualLedger) -> list[Claimed]:
    ledger.run(calls.cancel(submit(ledger, **HERE), 0))
    return ledger.run(callbacks.claim(64, {}))


def _settle(outcome: Any) -> Callable[[VirtualLedger], Call[Any]]:
    def prepare(ledger: VirtualLedger) -> Call[Any]:
        return callbacks.settle([Settled(one, outcome, "http_500") for one in claimed(ledger)])

    return prepare


for _outcome, _again in [
    ("told", "known"),
    ("skip", "known"),
    ("gone", "known"),
    ("failed", "again"),
    ("refused", "known"),
]:
    _first = {"failed": "again", "refused": "dead"}.get(_outcome, "done")
    case("settle", [_first] * 2, [_again] * 2, _outcome)(_settle(_outcome))


@case("settle", ["again"], ["known"], "again")
def _(ledger: VirtualLedger) -> Call[Any]:
    ledger.run(callbacks.settle([Settled(one, "refused", "no") for one in claimed(ledger)]))
    return callbacks.call_again([callbacks.read_dead_callbacks(ledger, limit=1)[0].id])


# --- each of them, once and twice


def everything(ledger: VirtualLedger) -> dict[str, Any]:
    """Each key with all that it holds and when it ends."""
    redis: Any = ledger.redis
    read = {
        b"string": redis.get, b"hash": redis.hgetall, b"set": redis.smembers, b"stream": redis.xrange,
        b"list": lambda key: redis.lrange(key, 0, -1), b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
    }  # fmt: skip
    found = {}
    for key in sorted(redis.keys("*")):
        ttl_ms = redis.pttl(key)
        found[key.decode().removeprefix(ledger.prefix)] = (read[redis.type(key)](key), ttl_ms)
    for counter in COUNTERS:
        found.pop(counter, None)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], VirtualLedger]]:
    """Ledgers one after the other, each as if it were the first."""
    opened: list[VirtualLedger] = []

    def close() -> None:
        for ledger in opened:
            ledger.redis.flushall()
            ledger.close()
        opened.clear()

    def make() -> VirtualLedger:
        close()
        for counter in ("_ids", "_tokens"):
            monkeypatch.setattr(ledger_kit, counter, itertools.count(1))
        ledger = VirtualLedger()
        opened.append(ledger)
        ledger.run(calls.publish(PUBLICATION, {}))
        ledger.run(calls.beat("p1", "first"))
        return ledger

    yield make
    close()


def test_every_script_is_said_twice_somewhere() -> None:
    known = {each.script for each in CASES}
    known |= CHANGE_NOTHING.keys() | OTHERWISE.keys() | set(test_lost_replies.SCRIPTS)
    assert known == {file.stem for file in LUA.glob("*.lua")}
    assert set(OTHERWISE.values()) <= globals().keys()


@pytest.mark.parametrize("each", CASES, ids=str)
def test_said_again_after_a_lost_reply_it_is_as_if_said_once(each: Case, fresh: Callable[[], VirtualLedger]) -> None:
    def told(*said: bool) -> dict[str, Any]:
        """All that is there after the call was said, or not, now and two seconds later."""
        ledger = fresh()
        call = each.prepare(ledger)
        before, answers = everything(ledger), []
        for i, is_said in enumerate(said):
            if i:
                ledger.pass_us(REPEATED_AFTER_US)
            if is_said:
                answers.append(ledger.run(call))
        assert answers == [each.first, each.again][: len(answers)]
        after = everything(ledger)
        assert differences(before, after), "it was to change something"
        return after

    twice = told(True, True)
    once = told(False, True) if str(each) in OF_THE_LAST_TIME else told(True, False)
    assert not differences(twice, once)


# --- those that are not just said again


def test_callbacks_of_a_lost_reply_are_due_again_when_their_lease_is_over(fresh: Callable[[], VirtualLedger]) -> None:
    ledger = fresh()
    lost = claimed(ledger)
    assert len(lost) == 2
    ledger.pass_us(REPEATED_AFTER_US)
    assert ledger.run(callbacks.claim(64, {})) == [], "they may be under way"
    ledger.pass_us(LEASE_US)
    found = ledger.run(callbacks.claim(64, {}))
    assert [(one.item, one.tries) for one in found] == [(one.item, 0) for one in lost]
    assert ledger.run(callbacks.settle([Settled(one, "told") for one in found])) == ["done", "done"]


def test_pointers_of_a_lost_reply_stay_with_their_process_which_gives_them_back(
    fresh: Callable[[], VirtualLedger],
) -> None:
    ledger = fresh()
    lost = fetched(ledger)
    assert ledger.run(calls.fetch(QUEUE, PROCESS, 10)) == [b"body"], "the other one"
    redis: Any = ledger.redis
    assert lost.encode() in redis.smembers(ledger.key(f"d:__acks__.{PROCESS}.{QUEUE}"))
    ledger.run(calls.ack(QUEUE, [(PROCESS, lost, "back")], kept=10))
    assert ledger.run(calls.fetch(QUEUE, PROCESS, 10)) == [b"body"]


def test_a_pointer_that_is_said_twice_is_done_once(fresh: Callable[[], VirtualLedger]) -> None:
    ledger = fresh()
    for _ in range(2):
        assert ledger.run(calls.point([(QUEUE, "pointer-1", b"body")])) == 1
    assert ledger.run(calls.fetch(QUEUE, PROCESS, 1)) == [b"body"]
    ledger.run(calls.ack(QUEUE, [(PROCESS, "pointer-1", "done")], kept=10))
    assert ledger.run(calls.fetch(QUEUE, PROCESS, 10)) == [None], "it has no body any more, so nobody does it"


def test_what_is_put_aside_twice_is_shown_twice_and_nothing_else(fresh: Callable[[], VirtualLedger]) -> None:
    ledger = fresh()
    before = everything(ledger)
    for _ in range(2):
        ledger.run(calls.aside("poison", "event", kept=10))
    assert list(differences(everything(ledger), before)) == ["odd"]
    assert ledger.redis.xlen(ledger.key("odd")) == 2
