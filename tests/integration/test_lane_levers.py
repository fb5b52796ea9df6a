"""What stops, slows and orders lanes besides their rate: drains, feedback, gates, probes, turns. In virtual time."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import time_machine
from ledger_kit import HOUR_US, admit, finish, lane, publication, queue, state, submit, take_now, view

from producers.ledger import calls
from producers.ledger.calls import Fact, Taken
from producers.ledger.ledger import Ledger
from worker.pacing.explain import read_explanations
from worker.pacing.lanes import LaneView, read_lanes
from worker.reconciliation import ledger_fact
from worker.telnyx.receipts import fact_from_receipt

START = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
S = 1_000_000


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ledger(clock: Any) -> Iterator[Ledger]:
    ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    publish(ledger)
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.redis.close()


def publish(ledger: Ledger, **other: Any) -> None:
    """Two senders, of which ``slow`` has a campaign; the account has no limit, so only a gate."""
    lanes = {
        "alerts": lane("alerts", "s:alerts", "p:one", "a:sms", profile="one"),
        "slow": lane("slow", "s:slow", "c:C1", "d:acme", "a:sms"),
    }
    buckets = {
        "s:alerts": {"t_us": 100_000}, "s:slow": {"t_us": 100_000}, "c:C1": {"t_us": 10_000}, "p:one": {"gate": True},
        "a:sms": {"gate": True}, "d:acme": {"cap": 1000, "reserve": 0.1, "tz": "UTC"},
    }  # fmt: skip
    midnight = int(START.timestamp()) * S + 12 * HOUR_US
    ledger.run(calls.publish(publication(lanes, {**buckets, **other}, digest=f"levers{other}"), {"d:acme": [midnight]}))


def later(ledger: Ledger, clock: Any, seconds: float) -> None:
    """Time passes for a process that lives."""
    while seconds > 0:
        clock.shift(min(seconds, 5))
        seconds -= 5
        ledger.run(calls.beat("p1", "again"))
        ledger.run(calls.wake())


def one(ledger: Ledger, clock: Any) -> Taken:
    """The next message that may leave, at its slot."""
    for _ in range(400):
        found = take_now(ledger, hands=1)
        if found:
            return found[0]
        clock.shift(0.025)
    raise AssertionError("nothing may leave for ten seconds")


def shown(ledger: Ledger, name: str = "alerts") -> LaneView:
    (found,) = read_lanes(ledger, [name])
    return found


# --- drain


def test_a_drained_lane_lets_go_what_was_submitted_before_and_keeps_what_came_later(ledger: Ledger, clock: Any) -> None:
    before = [queue(ledger) for _ in range(3)]
    late_expansion = submit(ledger, job_type="other")
    clock.shift(0.001)
    ledger.run(calls.lane("alerts", "drain", "moving away"))
    clock.shift(0.001)
    after = [queue(ledger) for _ in range(3)]
    urgent = queue(ledger, klass=0)
    admit(ledger, late_expansion)  # submitted before, expanded after
    assert (shown(ledger).state, shown(ledger).reason) == ("draining", "moving away")
    assert shown(ledger).leaving == 4
    assert "4 that were there before leave, 4 later ones wait" in read_explanations(ledger, "alerts")[0].words
    left = {one(ledger, clock).message for _ in range(4)}
    assert left == {*before, f"{late_expansion}-0"}
    later(ledger, clock, 3)
    assert take_now(ledger) == []
    assert shown(ledger).state == "drained"
    assert "drained (moving away)" in read_explanations(ledger, "alerts")[0].words
    ledger.run(calls.lane("alerts", "resume"))
    assert one(ledger, clock).message == urgent
    assert {one(ledger, clock).message for _ in range(3)} == set(after)


def test_what_a_drain_lets_go_is_retried_and_a_second_drain_lets_nobody_else_in(ledger: Ledger, clock: Any) -> None:
    before = queue(ledger)
    ledger.run(calls.lane("alerts", "drain"))
    clock.shift(0.001)
    queue(ledger)
    ledger.run(calls.lane("alerts", "drain"))
    finish(ledger, one(ledger, clock), "retry", why="40008", delay_us=2 * S, uses_a_try=True)
    later(ledger, clock, 3)
    assert one(ledger, clock).message == before
    later(ledger, clock, 3)
    assert take_now(ledger) == []


def test_a_drain_outlives_a_deploy(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.lane("alerts", "drain"))
    clock.shift(0.001)
    queue(ledger)
    publish(ledger, **{"s:alerts": {"t_us": 50_000}})
    later(ledger, clock, 1)
    assert take_now(ledger) == []
    assert shown(ledger).state == "drained"


# --- feedback


def refuse(ledger: Ledger, taken: Taken, *, hold_s: float = 2, scope: Any = "account") -> None:
    finish(
        ledger, taken, "slow_down", why="http_429", code="10011", hold_us=round(hold_s * S), scope=scope, feedback=True
    )


def test_a_gate_rests_every_lane_of_the_account_and_lets_all_go_when_it_opens(ledger: Ledger, clock: Any) -> None:
    for name in ("alerts", "slow"):
        for _ in range(3):
            queue(ledger, lane=name)
    refuse(ledger, one(ledger, clock))
    for _ in range(15):
        clock.shift(0.1)
        assert take_now(ledger) == []
    assert (shown(ledger).state, shown(ledger, "slow").state) == ("held", "held")
    clock.shift(0.6)
    assert {t.message[:32] for t in take_now(ledger, hands=2)}
    assert shown(ledger, "slow").state == "open"
    for _ in range(40):
        clock.shift(0.025)
        for taken in take_now(ledger):
            finish(ledger, taken, "accepted")
    assert sum(sum(view.backlog.values()) for view in read_lanes(ledger)) == 0


@pytest.mark.parametrize("scope", ["account", "campaign", "brand"])
def test_a_resume_of_all_that_is_shared_ends_the_rest_of_each(ledger: Ledger, clock: Any, scope: str) -> None:
    for _ in range(4):
        queue(ledger, lane="slow")
    refuse(ledger, one(ledger, clock), hold_s=3600, scope=scope)
    ledger.run(calls.lane("slow", "resume"))
    assert shown(ledger, "slow").state == "held", "it protects other senders too"
    ledger.run(calls.lane("slow", "resume", "shared"))
    assert shown(ledger, "slow").state == "open"
    assert len({one(ledger, clock).message for _ in range(4)}) == 4
    assert take_now(ledger) == []


def test_only_what_left_after_the_rest_and_within_a_minute_of_it_halves_the_rate(ledger: Ledger, clock: Any) -> None:
    for _ in range(20):
        queue(ledger)
    first, second = one(ledger, clock), one(ledger, clock)
    refuse(ledger, first)
    refuse(ledger, second)  # it was under way
    assert shown(ledger).speed == 1
    later(ledger, clock, 3)
    refuse(ledger, one(ledger, clock))
    assert shown(ledger).speed == 0.5, "the account has no rate of its own, so the sender's is halved"
    assert shown(ledger).interval_us == 200_000
    later(ledger, clock, 62.5)
    assert (shown(ledger).state, shown(ledger).reason) == ("slowed", "http_429")
    assert shown(ledger).speed == pytest.approx(0.6)
    refuse(ledger, one(ledger, clock))
    assert shown(ledger).speed == pytest.approx(0.6), "a minute and more after the last rest"
    later(ledger, clock, 4 * 60)
    assert shown(ledger).speed == pytest.approx(1)


def test_a_rate_set_by_a_person_ends_a_slow_down(ledger: Ledger, clock: Any) -> None:
    for _ in range(3):
        queue(ledger)
        refuse(ledger, one(ledger, clock), scope="sender")
        later(ledger, clock, 3)
    assert shown(ledger).speed == 0.25
    ledger.run(calls.lane("alerts", "rate", 50_000))
    assert (shown(ledger).speed, shown(ledger).interval_us) == (1, 50_000)


def test_a_slow_down_paces_what_leaves(ledger: Ledger, clock: Any) -> None:
    for _ in range(60):
        queue(ledger)
    for _ in range(2):
        refuse(ledger, one(ledger, clock), scope="sender", hold_s=1)
        later(ledger, clock, 1.5)
    clock.shift(1)
    take_now(ledger)
    left = 0
    for _ in range(80):
        clock.shift(0.05)
        left += len(take_now(ledger))
    assert 19 <= left <= 21, "5/s for four seconds"


@pytest.mark.parametrize(
    ("code", "bucket"), [("40016", "b:d:acme"), ("40018", "b:c:C1"), ("40011", "b:s:slow"), ("40010", "b:s:slow")]
)
def test_a_carriers_limit_in_a_receipt_rests_what_it_counts_by(
    ledger: Ledger, clock: Any, code: str, bucket: str
) -> None:
    queue(ledger, lane="slow")
    taken = one(ledger, clock)
    finish(ledger, taken, "accepted")
    event = {
        "event_type": "message.finalized", "id": "e1",
        "payload": {
            "id": f"pid-{taken.message}", "to": [{"phone_number": "+13125550100", "status": "delivery_failed"}],
            "errors": [{"code": code, "title": "limit"}],
        },
    }  # fmt: skip
    now_s = ledger.redis.time()[0]
    fact = ledger_fact(fact_from_receipt(event, {}), "w", now_s=now_s)
    assert ledger.run(calls.receipt("", [fact])) == ["applied"]
    assert state(ledger, taken.message) == "failed"
    held_us = int(ledger.redis.hget(ledger.key(bucket), "hold") or 0) - now_s * S
    midnight_pacific_s = (8 + 12) * 3600  # it is 04:00 there
    assert held_us // S == {"40016": midnight_pacific_s, "40010": 300}.get(code, 60)
    queue(ledger, lane="slow")
    assert take_now(ledger) == []
    clock.shift(1)
    ledger.run(calls.receipt("", [fact]))  # a copy says nothing new
    assert int(ledger.redis.hget(ledger.key(bucket), "hold") or 0) - now_s * S == held_us


def test_a_spend_limit_rests_the_profile_alone(ledger: Ledger, clock: Any) -> None:
    queue(ledger)
    finish(ledger, one(ledger, clock), "configuration", why="40333", hold_us=HOUR_US, delay_us=HOUR_US, scope="profile")
    queue(ledger)
    queue(ledger, lane="slow")
    assert one(ledger, clock).message.endswith("-0")
    assert (shown(ledger).state, shown(ledger).reason, shown(ledger, "slow").state) == ("held", "40333", "open")


def test_while_nothing_clear_comes_back_one_request_a_time_asks(ledger: Ledger, clock: Any) -> None:
    for _ in range(30):
        queue(ledger)
    finish(ledger, one(ledger, clock), "uncertain", why="read_timeout", hold_us=5 * S, silence=True)
    assert (shown(ledger).state, shown(ledger).reason) == ("held", "no_clear_answer")
    asked: list[Taken] = []
    for _ in range(400):
        clock.shift(0.05)
        found = take_now(ledger)
        asked += found
        for taken in found:
            finish(ledger, taken, "uncertain", why="read_timeout")
    assert 3 <= len(asked) <= 4, "in twenty seconds"
    ledger.run(calls.ear("w1"))
    finish(ledger, one(ledger, clock), "accepted")
    clock.shift(0.2)
    assert len(take_now(ledger)) == 2, "it goes on at once, at its rate"


# --- turns at a shared limit


def shared(ledger: Ledger) -> None:
    lanes = {n: lane(n, f"s:{n}", "a:sms") for n in ("x", "y", "z")}
    buckets = {f"s:{n}": {"t_us": 1_000} for n in lanes} | {"a:sms": {"t_us": 100_000}}
    ledger.run(calls.publish(publication(lanes, buckets, digest="shared"), {}))


def leave(ledger: Ledger, clock: Any, seconds: float) -> list[Taken]:
    found: list[Taken] = []
    for _ in range(round(seconds / 0.05)):
        clock.shift(0.05)
        found += take_now(ledger, hands=4)
    return found


def test_a_lane_with_urgent_messages_goes_first_at_a_shared_limit_and_others_keep_a_tenth(
    ledger: Ledger, clock: Any
) -> None:
    shared(ledger)
    for name, klass, job_type in (("x", 2, "bulk"), ("y", 1, "normal")):
        admit(ledger, submit(ledger, messages=300, klass=klass, job_type=job_type), lane=name)
    leave(ledger, clock, 2)
    admit(ledger, submit(ledger, messages=300, klass=0, job_type="otp"), lane="z")
    clock.shift(0.1)
    leave(ledger, clock, 0.3)  # what was granted before is taken
    kinds = [t.job_type for t in leave(ledger, clock, 10)]
    assert len(kinds) >= 98
    assert kinds.count("otp") / len(kinds) >= 0.88
    assert kinds.count("bulk") >= 8, "the lowest keeps its turn"


def test_lanes_of_one_class_take_turns_at_a_shared_limit(ledger: Ledger, clock: Any) -> None:
    shared(ledger)
    for name in ("x", "y", "z"):
        admit(ledger, submit(ledger, messages=300, job_type=name), lane=name)
    kinds = [t.job_type for t in leave(ledger, clock, 9)]
    counts = [kinds.count(name) for name in ("x", "y", "z")]
    assert max(counts) - min(counts) <= 3, counts  # the first to come had two before the others came


def test_one_urgent_message_overtakes_lanes_that_have_none(ledger: Ledger, clock: Any) -> None:
    shared(ledger)
    for name in ("x", "y"):
        admit(ledger, submit(ledger, messages=300), lane=name)
    leave(ledger, clock, 2)
    queue(ledger, lane="z", klass=0, job_type="otp")
    kinds = [t.job_type for t in leave(ledger, clock, 0.5)]
    assert "otp" in kinds[:3], kinds


def test_receipts_without_a_limit_rest_nothing(ledger: Ledger, clock: Any) -> None:
    queue(ledger)
    taken = one(ledger, clock)
    finish(ledger, taken, "accepted")
    fact = Fact(ref=taken.message, provider_id=f"pid-{taken.message}", state="F", error=("w", "40004", "refused"))
    ledger.run(calls.receipt("", [fact]))
    assert shown(ledger).state == "open"


def test_a_group_that_the_day_has_no_room_for_holds_up_nobody_and_goes_when_it_has(ledger: Ledger, clock: Any) -> None:
    def publish_cap(cap: int) -> None:
        buckets = {"s:alerts": {"t_us": 10_000}, "d:acme": {"cap": cap, "tz": "UTC", "reserve": 0.0}}
        lanes = {"alerts": lane("alerts", "s:alerts", "d:acme")}
        ledger.run(calls.publish(publication(lanes, buckets, digest=f"cap {cap}"), {}))

    publish_cap(3)
    group = queue(ledger, to=",".join(f"+1312555010{i}" for i in range(4)))
    single = queue(ledger)
    assert one(ledger, clock).message == single
    assert state(ledger, group) == "scheduled"
    publish_cap(10)
    later(ledger, clock, 601)
    assert one(ledger, clock).message == group


def test_an_answer_that_is_said_again_rests_nothing_again(ledger: Ledger, clock: Any) -> None:
    queue(ledger)
    taken = one(ledger, clock)
    for _ in range(2):
        finish(ledger, taken, "accepted", hold_us=5_000_000, feedback=True)
        hold = ledger.redis.hget(ledger.key("b:s:alerts"), "hold")
        clock.shift(6)
        assert shown(ledger).state == "open"
    assert hold


def test_what_came_back_unsent_is_tried_again_under_the_same_number(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    finish(ledger, one(ledger, clock), "not_sent", why="late")
    finish(ledger, one(ledger, clock), "retry", why="40008", uses_a_try=True)
    finish(ledger, one(ledger, clock), "accepted")
    seen = view(ledger, mid)
    assert [step.attempt for step in seen.timeline if step.state == "sending"] == [1, 1, 2]
    assert seen.attempts == 2
