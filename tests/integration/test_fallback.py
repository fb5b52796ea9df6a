"""Fallback in the scripts, in virtual time: the next leg comes once, at its time, and never where it must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import time_machine
from ledger_kit import HOUR_US, START, TO, finish, lane, publication, state, submit, take_now, view

from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Step, Take, Taken
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_notification

AFTER_US = 60_000_000
FIRST, NEXT, LAST = '{"text":"code 1"}', '{"whatsapp":"code 1"}', '{"text":"the long way"}'
CHAIN = [Step("wa", AFTER_US, NEXT), Step("late", 2 * AFTER_US, LAST)]


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ledger(clock: Any) -> Iterator[Ledger]:
    ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    lanes = {
        name: lane(name, f"s:{name}", profile="p1" if name == "alerts" else "p2") for name in ("alerts", "wa", "late")
    }
    buckets = {f"s:{name}": {"t_us": 10_000} for name in lanes}
    ledger.run(calls.publish(publication(lanes, buckets), {}))
    ledger.run(calls.beat("p1", "first"))
    ledger.run(calls.ear("w1"))
    yield ledger
    ledger.redis.close()


def enqueue(ledger: Ledger, *, steps: Any = CHAIN, **other: Any) -> str:
    """One urgent message that may fall back; returns its id."""
    id = submit(ledger, **{"klass": 0, "valid_for_us": HOUR_US, **other})
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="alerts", content=FIRST, steps=steps)]))
    return f"{id}-0"


def pass_by(ledger: Ledger, clock: Any, seconds: float) -> None:
    """Let time pass as it does for a service that lives and hears."""
    while seconds > 0:
        clock.shift(min(4.5, seconds))
        seconds -= 4.5
        ledger.run(calls.ear("w1"))
        ledger.run(calls.beat("p1", "again"))
        while ledger.run(calls.wake())[1]:
            pass


def take_one(ledger: Ledger, clock: Any) -> Taken:
    clock.shift(0.02)
    (taken,) = take_now(ledger, hands=1)
    return taken


def hand_over(ledger: Ledger, clock: Any) -> Taken:
    taken = take_one(ledger, clock)
    finish(ledger, taken, "accepted")
    return taken


def receipt(ledger: Ledger, mid: str, letter: str, **other: Any) -> None:
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter, **other)]))


def legs(ledger: Ledger, mid: str) -> list[str]:
    redis: Any = ledger.redis
    found = []
    for number in range(1, 9):
        s = redis.hget(ledger.key(f"m:{mid}" + (f"-{number}" if number > 1 else "")), "s")
        if s is None:
            return found
        found.append(s.decode())
    return found


def events(ledger: Ledger) -> list[tuple[str, str]]:
    redis: Any = ledger.redis
    return [(f[b"y"].decode(), f[b"s"].decode()) for _, f in redis.xrange(ledger.key("ev"))]


def kept_steps(ledger: Ledger) -> list[bytes]:
    redis: Any = ledger.redis
    return [*redis.keys(ledger.key("fb:*")), *redis.keys(ledger.key("tf:*"))]


def test_a_failure_falls_back_at_once_and_the_entry_never_ends_in_between(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    receipt(ledger, mid, "F", error=("w", "40001", "landline"))
    assert state(ledger, mid) == "queued"
    taken = hand_over(ledger, clock)
    assert (taken.message, taken.content, taken.to) == (f"{mid}-2", NEXT.encode(), [TO])
    assert events(ledger) == [], "nothing has ended"
    receipt(ledger, f"{mid}-2", "D")
    assert events(ledger) == [("message.final", "D"), ("notification.finished", "")]
    seen = view(ledger, mid)
    assert (seen.state, seen.leg, seen.attempts) == ("delivered", 2, 2)
    assert [(step.leg, step.state) for step in seen.timeline if step.state in ("failed", "delivered", "new")] == [
        (1, "new"), (1, "failed"), (2, "new"), (2, "delivered"),
    ]  # fmt: skip
    assert kept_steps(ledger) == []
    assert ledger.redis.zcard(ledger.key("dead")) == 0


def test_a_refusal_falls_back_at_once(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    finish(ledger, take_one(ledger, clock), "rejected", code="40310", why="40310")
    assert legs(ledger, mid) == ["R", "Q"]


def test_silence_falls_back_when_its_time_from_the_hand_over_is_over_and_asks_before(
    ledger: Ledger, clock: Any
) -> None:
    mid = enqueue(ledger)
    pass_by(ledger, clock, 30)  # it waits: nothing is handed over
    hand_over(ledger, clock)
    polls = []
    for _ in range(59):
        clock.shift(1)
        polls += [p for p in ledger.run(calls.wake())[0] if p.kind == "poll"]
    assert legs(ledger, mid) == ["A"]
    assert len(polls) == 1, "the provider was asked"
    pass_by(ledger, clock, 1)
    assert legs(ledger, mid) == ["A", "Q"]
    assert view(ledger, mid).timeline[-2].reason == "fallback"
    ledger.run(calls.beat("p1", "first"))
    assert hand_over(ledger, clock).message == f"{mid}-2"
    pass_by(ledger, clock, 119)
    assert legs(ledger, mid) == ["A", "A"]
    pass_by(ledger, clock, 2)
    assert legs(ledger, mid) == ["A", "A", "Q"], "the chain goes on, by its own time"
    assert kept_steps(ledger) == []
    pass_by(ledger, clock, 100)
    assert len(legs(ledger, mid)) == 3


def test_a_receipt_that_comes_first_leaves_no_leg_and_nothing_kept(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    pass_by(ledger, clock, 59)
    receipt(ledger, mid, "D")
    pass_by(ledger, clock, 200)
    assert legs(ledger, mid) == ["D"]
    assert kept_steps(ledger) == []


def test_a_receipt_that_comes_while_the_leg_waits_stops_it(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    pass_by(ledger, clock, 61)
    receipt(ledger, mid, "D")
    assert legs(ledger, mid) == ["D", "C"]
    clock.shift(1)
    assert take_now(ledger) == []
    assert kept_steps(ledger) == [], "the rest of the chain is gone too"
    assert events(ledger) == [("message.final", "D"), ("notification.finished", "")]


def test_a_receipt_that_comes_while_the_leg_is_under_way_ends_the_chain(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    pass_by(ledger, clock, 61)
    hand_over(ledger, clock)
    receipt(ledger, mid, "D")
    receipt(ledger, f"{mid}-2", "F")
    pass_by(ledger, clock, 150)
    assert legs(ledger, mid) == ["D", "F"]
    assert state(ledger, mid) == "delivered"
    assert kept_steps(ledger) == []


def test_a_failure_after_silence_has_fallen_back_makes_no_second_leg(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger, steps=CHAIN[:1])
    hand_over(ledger, clock)
    pass_by(ledger, clock, 61)
    receipt(ledger, mid, "F")
    receipt(ledger, mid, "F")
    assert legs(ledger, mid) == ["F", "Q"]
    assert events(ledger) == []


def test_what_is_in_doubt_falls_back_by_its_first_request_and_is_not_asked_again(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    finish(ledger, take_one(ledger, clock), "uncertain", why="timeout")
    ledger.run(calls.lane("alerts", "pause"))  # so that the resend waits
    pass_by(ledger, clock, 61)
    assert legs(ledger, mid) == ["X", "Q"]
    assert view(ledger, mid).state == "queued"
    ledger.run(calls.lane("alerts", "resume"))
    clock.shift(1)
    assert [t.message for t in take_now(ledger)] == [f"{mid}-2"]


def test_what_is_in_doubt_and_never_asked_again_falls_back_when_nobody_will_say(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger, job_type="careful")
    finish(ledger, take_one(ledger, clock), "uncertain", why="timeout")
    pass_by(ledger, clock, 5)
    assert legs(ledger, mid) == ["X", "Q"]


def test_what_was_called_off_falls_back_nowhere(ledger: Ledger, clock: Any) -> None:
    waiting, sent = enqueue(ledger), enqueue(ledger)
    del waiting
    first, second = take_one(ledger, clock), take_one(ledger, clock)
    for taken in (first, second):
        finish(ledger, taken, "accepted")
        ledger.run(calls.cancel(taken.message[:32], 0))
    receipt(ledger, first.message, "F")
    pass_by(ledger, clock, 100)
    assert (legs(ledger, first.message), legs(ledger, second.message)) == (["F"], ["A"])
    assert sent in (first.message, second.message)
    assert kept_steps(ledger) == []


@pytest.mark.parametrize("end", ["cancelled", "expired", "opted_out"])
def test_an_end_of_what_had_not_left_is_an_end(ledger: Ledger, clock: Any, end: str) -> None:
    mid = enqueue(ledger)
    if end == "cancelled":
        ledger.run(calls.cancel(mid[:32], 0))
    elif end == "expired":
        clock.shift(3700)
        pass_by(ledger, clock, 2)
    else:
        ledger.run(calls.opt(TO, "out", scopes=["global"], source="api"))
        clock.shift(0.02)
        assert take_now(ledger) == []
    assert view(ledger, mid).state == end
    assert len(legs(ledger, mid)) == 1
    assert kept_steps(ledger) == []


def test_an_opt_out_holds_for_each_leg(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="webhook"))
    receipt(ledger, mid, "F")
    assert legs(ledger, mid) == ["F"]
    assert events(ledger)[-2:] == [("message.final", "F"), ("notification.finished", "")]


def test_a_leg_that_its_person_has_opted_out_of_is_passed_over(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    ledger.run(calls.opt(TO, "out", scopes=["sender:wa"], source="webhook"))
    receipt(ledger, mid, "F")
    assert legs(ledger, mid) == ["F", "Q"]
    assert hand_over(ledger, clock).content == LAST.encode()


def test_the_first_validity_holds_for_each_leg(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger, valid_for_us=90_000_000)
    hand_over(ledger, clock)
    ledger.run(calls.lane("wa", "pause"))
    pass_by(ledger, clock, 61)
    assert legs(ledger, mid) == ["A", "Q"]
    pass_by(ledger, clock, 40)
    assert legs(ledger, mid) == ["A", "E"]
    receipt(ledger, mid, "F")
    assert len(legs(ledger, mid)) == 2, "too late for another"
    late = enqueue(ledger, valid_for_us=90_000_000)
    hand_over(ledger, clock)
    pass_by(ledger, clock, 30)
    clock.shift(61)
    receipt(ledger, late, "F")
    assert legs(ledger, late)[0] == "F"
    assert "Q" not in legs(ledger, late)


def test_a_sender_that_is_gone_is_passed_over(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    lanes = {name: lane(name, f"s:{name}", profile="p1") for name in ("alerts", "late")}
    ledger.run(calls.publish(publication(lanes, {f"s:{name}": {"t_us": 10_000} for name in lanes}, digest="two"), {}))
    receipt(ledger, mid, "F")
    assert hand_over(ledger, clock).content == LAST.encode()


def test_of_many_the_steps_are_kept_once_and_each_falls_back_by_itself(ledger: Ledger, clock: Any) -> None:
    id = submit(ledger, messages=3, valid_for_us=HOUR_US)
    loaded = ledger.run(calls.load(id, None))
    assert loaded is not None
    own = [Step("wa", AFTER_US, '{"whatsapp":"own"}')]
    items = [Admission(to=f"+1312000000{i}", lane="alerts", steps=CHAIN, shares_steps=True) for i in range(2)]
    items.append(Admission(to="+13120000002", lane="alerts", content=FIRST, steps=own))
    ledger.run(calls.admit(id, "0", FIRST, items, CHAIN))
    assert len(kept_steps(ledger)) == 2
    for _ in range(3):
        hand_over(ledger, clock)
    for i in range(3):
        receipt(ledger, f"{id}-{i}", "F")
    found = [hand_over(ledger, clock) for _ in range(3)]
    assert sorted((t.message, t.content) for t in found) == [
        (f"{id}-0-2", NEXT.encode()), (f"{id}-1-2", NEXT.encode()), (f"{id}-2-2", b'{"whatsapp":"own"}'),
    ]  # fmt: skip
    for i in range(3):
        receipt(ledger, f"{id}-{i}-2", "D")
    seen = read_notification(ledger, id)
    assert seen is not None
    assert seen.state_counts == {"delivered": 3}
    assert kept_steps(ledger) == []
    assert [kind for kind, _ in events(ledger)].count("notification.finished") == 1


def test_a_chain_that_ends_without_arriving_is_a_dead_letter_and_its_replay_falls_back_no_more(
    ledger: Ledger, clock: Any
) -> None:
    mid = enqueue(ledger, steps=CHAIN[:1])
    hand_over(ledger, clock)
    receipt(ledger, mid, "F")
    hand_over(ledger, clock)
    receipt(ledger, f"{mid}-2", "F")
    assert view(ledger, mid).state == "failed"
    assert ledger.redis.zrange(ledger.key("dead"), 0, -1) == [f"{mid}-2".encode()]
    assert ledger.run(calls.leg(mid, 3, "replay", valid_for_us=HOUR_US)).outcome == "made"
    assert hand_over(ledger, clock).content == NEXT.encode()
    receipt(ledger, f"{mid}-3", "F")
    assert legs(ledger, mid) == ["F", "F", "F"]


def test_a_leg_that_left_before_the_server_forgot_it_is_not_sent_again(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    redis: Any = ledger.redis
    kept = {key: redis.dump(key) for key in redis.keys("*")}
    receipt(ledger, mid, "F")
    taken = take_one(ledger, clock)
    assert taken.message == f"{mid}-2"
    redis.flushall()
    for key, value in kept.items():
        redis.restore(key, 0, value)
    ledger.run(calls.beat("p1", "first"))
    again = Take(taken.message, taken.token, "p1", taken.attempt, "b1")
    assert ledger.run(calls.repost("p1", [again])) == ["early"]
    receipt(ledger, mid, "F")  # the provider repeats what it got no answer for
    assert legs(ledger, mid) == ["F", "S"]
    clock.shift(1)
    assert take_now(ledger) == []
    assert finish(ledger, taken, "accepted") == "applied"


def test_a_leg_of_whose_entry_somebody_has_another_is_not_taken(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger)
    hand_over(ledger, clock)
    receipt(ledger, mid, "F")
    ledger.redis.hset(ledger.key(f"m:{mid}"), "s", "D")  # whatever had let that happen
    clock.shift(0.02)
    assert take_now(ledger) == []
    assert legs(ledger, mid) == ["D", "C"]


def test_a_message_without_fallback_has_no_field_of_it(ledger: Ledger, clock: Any) -> None:
    mid = enqueue(ledger, steps=())
    hand_over(ledger, clock)
    assert not {b"fb", b"fw", b"fd"} & set(ledger.redis.hkeys(ledger.key(f"m:{mid}")))
    assert kept_steps(ledger) == []
