"""What Telnyx and carriers say of our rate, in virtual time: rest, slow down, grow back, probe."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ledger_kit import finish, lane, publication, queue, take_now
from pacing_kit import Left, Workers, accepted, fill, publish, refused, virtual
from virtual_time import HOUR_US, MINUTE_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import GRANT_HI_US, Fact, Finish, Rest, RestScope, Taken
from producers.ledger.ledger import Ledger
from worker.publishing import midnights
from worker.telnyx.errors import classify

__all__ = ["virtual"]
T_US, LATENCY_US = 100_000, 350_000
REST_US = 2 * SECOND_US


class Telnyx:
    """Refuses what leaves in the given spans of time, and accepts all else."""

    def __init__(self, ledger: VirtualLedger, *, scope: RestScope = "sender") -> None:
        self.started_us, self.scope = ledger.now_us, scope
        self.refuses: list[tuple[int, int]] = []
        self.refused = 0

    def refuse(self, from_us: int, until_us: int) -> None:
        self.refuses.append((from_us, until_us))

    def __call__(self, left: Left, taken: Taken) -> Finish:
        at = left.at_us - self.started_us
        if any(first <= at < last for first, last in self.refuses):
            self.refused += 1
            return refused(left, taken, hold_us=REST_US, scope=self.scope)
        return accepted(left, taken)


def one_lane(ledger: VirtualLedger, *more: str, t_us: int = T_US, **buckets: Any) -> None:
    publish(ledger, {"a": lane("a", "s:a", *more)}, {"s:a": {"t_us": t_us}} | buckets)


def interval_us(workers: Workers, us: int = 10 * SECOND_US) -> float:
    """How far apart messages leave for a while from now on."""
    times = [row.at_us for row in workers.run_for(us)]
    return (times[-1] - times[0]) / (len(times) - 1)


def slowed_down(ledger: VirtualLedger, times: int, *, t_us: int = T_US) -> Workers:
    """A lane that has met so many refusals since the first, each of them right after the rest of the one before."""
    one_lane(ledger, t_us=t_us)
    telnyx = Telnyx(ledger)
    workers = Workers(ledger, answer=telnyx)
    fill(ledger, "a", 600)
    for _ in range(times + 1):
        before = len(workers.left)
        telnyx.refuses = [(workers.true_us - telnyx.started_us, 1 << 62)]
        while len(workers.left) == before:  # the first to leave is refused, and the rest begins
            workers.run_for(t_us)
        telnyx.refuses = []
        workers.run_for(REST_US - t_us)
    return workers


def test_the_first_refusal_is_a_rest_and_nothing_else(virtual: VirtualLedger) -> None:
    """Also when the answers of all that had left before the rest say the same."""
    one_lane(virtual)
    telnyx = Telnyx(virtual)
    workers = Workers(virtual, answer=telnyx, latency_us=LATENCY_US)
    fill(virtual, "a", 400)
    telnyx.refuse(SECOND_US, SECOND_US + LATENCY_US)
    left = workers.run_for(5 * SECOND_US)
    since = [row.at_us - telnyx.started_us for row in left]
    told, ends = SECOND_US + LATENCY_US, SECOND_US + LATENCY_US + REST_US
    assert not [at for at in since if told + GRANT_HI_US < at < ends], "it rests"
    assert next(at for at in since if at > ends) <= ends + LATENCY_US + T_US
    assert interval_us(workers) == pytest.approx(T_US, rel=0.01)


@pytest.mark.parametrize(("times", "factor"), [(1, 2), (2, 4), (3, 8)])
def test_each_repetition_within_a_minute_halves_the_rate(virtual: VirtualLedger, times: int, factor: int) -> None:
    workers = slowed_down(virtual, times)
    assert interval_us(workers, 20 * SECOND_US) == pytest.approx(factor * T_US, rel=0.02)


def test_answers_of_what_left_before_a_rest_do_not_slow_down_further(virtual: VirtualLedger) -> None:
    one_lane(virtual)
    telnyx = Telnyx(virtual)
    workers = Workers(virtual, answer=telnyx, latency_us=LATENCY_US)
    fill(virtual, "a", 600)
    telnyx.refuse(SECOND_US, 6 * SECOND_US)  # two rests: the second halves, whatever else comes back
    workers.run_for(int(7.5 * SECOND_US))
    assert interval_us(workers) == pytest.approx(2 * T_US, rel=0.02)


def test_a_refusal_more_than_a_minute_after_the_rest_is_a_first_one(virtual: VirtualLedger) -> None:
    one_lane(virtual, t_us=SECOND_US)
    telnyx = Telnyx(virtual)
    workers = Workers(virtual, answer=telnyx)
    fill(virtual, "a", 200)
    for start in (SECOND_US, 65 * SECOND_US):
        telnyx.refuse(start, start + SECOND_US)
    workers.run_for(70 * SECOND_US)
    assert telnyx.refused == 2
    assert interval_us(workers) == pytest.approx(SECOND_US, rel=0.01)


def test_the_rate_grows_back_by_a_tenth_a_minute_to_exactly_the_configured_one(virtual: VirtualLedger) -> None:
    workers = slowed_down(virtual, 1, t_us=SECOND_US)
    began = workers.true_us
    for minute, share in enumerate((0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0)):
        workers.run_for(began + minute * MINUTE_US + 5 * SECOND_US - workers.true_us)
        assert interval_us(workers, 40 * SECOND_US) == pytest.approx(SECOND_US / share, rel=0.02), f"minute {minute}"
    assert not virtual.redis.hexists(virtual.key("b:s:a"), "sp")


@pytest.mark.parametrize("how", ["rate", "resume"])
def test_an_operators_rate_or_resume_ends_the_slowing_down_at_once(virtual: VirtualLedger, how: Any) -> None:
    """At a 64th of one a second the next slot would be a minute away."""
    workers = slowed_down(virtual, 5, t_us=SECOND_US)
    assert virtual.run(calls.lane("a", how, SECOND_US if how == "rate" else ""))
    virtual.run(calls.lane("a", "resume"))  # the rest itself is another matter
    first = workers.run_for(2 * SECOND_US)
    assert first, "it still waits out what the slow pace had drawn"
    assert interval_us(workers) == pytest.approx(SECOND_US, rel=0.01)


@pytest.mark.parametrize("scope", ["account", "profile"])
def test_a_gate_rests_all_behind_it_and_slows_only_the_sender_that_is_refused(
    virtual: VirtualLedger, scope: RestScope
) -> None:
    gates = {"p:one": {"gate": True}, "a:sms": {"gate": True}}
    lanes = {name: lane(name, f"s:{name}", "p:one", "a:sms") for name in "ab"} | {"free": lane("free", "s:free")}
    publish(virtual, lanes, {f"s:{name}": {"t_us": T_US} for name in lanes} | gates)
    for name in lanes:
        fill(virtual, name, 500)
    telnyx = Telnyx(virtual, scope=scope)
    workers = Workers(virtual, answer=lambda left, taken: (telnyx if left.lane == "a" else accepted)(left, taken))
    workers.run_for(SECOND_US)
    telnyx.refuse(SECOND_US, int(3.5 * SECOND_US))
    resting = Counter(row.lane for row in workers.run_for(REST_US))
    assert resting["free"] >= 19 and resting["a"] <= 2 and resting["b"] <= 2
    workers.run_for(3 * SECOND_US)  # and after the rest the first of lane a is refused again
    counts = Counter(row.lane for row in workers.run_for(10 * SECOND_US))
    assert counts["b"] >= 99 and counts["free"] >= 99
    assert 48 <= counts["a"] <= 52


def test_a_carriers_daily_limit_rests_its_brand_until_midnight_pacific(virtual: VirtualLedger) -> None:
    """40016 comes in receipts, once for each message that had left; other brands go on."""
    zone = ZoneInfo("America/Los_Angeles")
    lanes = {"mine": lane("mine", "s:mine", "d:acme"), "other": lane("other", "s:other", "d:zen")}
    buckets: dict[str, Any] = {f"s:{name}": {"t_us": 60 * T_US} for name in lanes}
    buckets |= {name: {"cap": 100_000, "tz": zone.key, "reserve": 0.1} for name in ("d:acme", "d:zen")}
    publish(virtual, lanes, buckets, midnights(buckets, now_us=virtual.now_us))
    virtual.at(virtual.now_us - virtual.now_us % (24 * HOUR_US) + 32 * HOUR_US - 8 * MINUTE_US)  # before 0:00 in winter
    for name in lanes:
        fill(virtual, name, 200)
    workers = Workers(virtual)
    mine = [row for row in workers.run_for(MINUTE_US) if row.lane == "mine"]
    verdict = classify("receipt", "40016", now_s=virtual.now_us / 1e6)
    assert verdict.hold_s and verdict.scope == "brand"
    rest = Rest(round(verdict.hold_s * 1e6), verdict.scope, "40016", feedback=True)
    facts = [Fact(ref=row.message, provider_id=None, state="F", error=("w", "40016", ""), rest=rest) for row in mine]
    assert set(virtual.run(calls.receipt("", facts))) == {"applied"}
    midnight = virtual.now_us + rest.hold_us
    assert midnight % (24 * HOUR_US) == 8 * HOUR_US
    left = workers.run_for(midnight - virtual.now_us + 5 * MINUTE_US)
    times = [row.at_us for row in left if row.lane == "mine"]
    assert midnight <= times[0] <= midnight + 60 * T_US
    assert {b - a for a, b in itertools.pairwise(times)} == {60 * T_US}, "and it is not slowed down"
    assert max(b - a for a, b in itertools.pairwise(row.at_us for row in left if row.lane == "other")) == 60 * T_US


def test_while_nothing_clear_comes_back_one_request_asks_each_five_seconds(virtual: VirtualLedger) -> None:
    one_lane(virtual, "a:sms", **{"a:sms": {"gate": True}})
    fill(virtual, "a", 500)
    broken_until = virtual.now_us + 40 * SECOND_US

    def answer(left: Left, taken: Taken) -> Finish:
        if left.at_us >= broken_until:
            return accepted(left, taken)
        return Finish(
            message=taken.message, token=taken.token, outcome="not_sent", delay_us=SECOND_US, hold_us=5 * SECOND_US,
            scope="account", silence=True,
        )  # fmt: skip

    workers = Workers(virtual, answer=answer)
    workers.run_for(5 * SECOND_US)
    probes = [row.at_us for row in workers.run_for(broken_until - virtual.now_us)]
    assert 6 <= len(probes) <= 8
    assert all(4_900_000 <= b - a <= 5_300_000 for a, b in itertools.pairwise(probes))
    first = workers.run_for(7 * SECOND_US)
    assert len(first) >= 10, "a clear answer ends it at once"
    assert interval_us(workers) == pytest.approx(T_US, rel=0.01)


def test_only_who_was_asked_ends_the_probing(ledger: Ledger) -> None:
    """A request that cannot be made says nothing about whether anybody answers."""
    lanes = {"alerts": lane("alerts", "s:alerts", "a:sms", profile="p1")}
    buckets = {"s:alerts": {"t_us": 1_000, "tol_us": 60_000_000}, "a:sms": {"t_us": 1_000}}
    ledger.run(calls.publish(publication(lanes, buckets), {}))
    ledger.run(calls.beat("p1", "first"))
    for _ in range(3):
        queue(ledger)
    silent, local, asked = take_now(ledger, hands=3)
    finish(ledger, silent, "uncertain", why="cut", hold_us=5_000_000, scope="account", silence=True)

    def probes() -> bool:
        return bool(ledger.redis.hexists(ledger.key("b:a:sms"), "probe"))

    assert probes()
    finish(ledger, local, "rejected", why="unsendable")
    assert probes()
    finish(ledger, asked, "rejected", why="40310")
    assert not probes()
