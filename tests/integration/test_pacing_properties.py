"""The pacing against a model of its rules: any interleaving, in virtual time, on a fake server and on a real one."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
from ledger_kit import lane
from pacing_kit import Left, Workers, fill, publish, virtual
from pacing_model import PacingMachine, search
from virtual_time import MINUTE_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import GRANT_HI_US
from producers.ledger.connection import connect

__all__ = ["virtual"]


def test_no_interleaving_breaks_the_rules_of_pacing_on_a_fake_server() -> None:
    search(examples=3, steps=20, same_every_time=True)


def test_no_interleaving_breaks_the_rules_of_pacing_on_a_real_server(redis_url: str) -> None:
    search(examples=10, steps=35, redis=connect(redis_url, answer_s=10), same_every_time=True)


@pytest.mark.slow
def test_no_interleaving_of_many_breaks_the_rules_of_pacing(redis_url: str) -> None:
    search(examples=60, steps=50, redis=connect(redis_url, answer_s=10))


def test_the_search_reaches_what_it_is_for() -> None:
    """Else a search that finds nothing says nothing."""
    machine = PacingMachine()
    try:
        machine.begin([("a", 2, 12), ("a.mms", 1, 6), ("b", 1, 12), ("c", 1, 5), ("d", 2, 12)])
        machine.work(12)
        machine.disturb_all()
        machine.settle()
        assert all(len(machine.own_slots[own]) > 5 for own in ("s:a", "s:b", "s:d"))
        assert machine.departures["s:c"][0].units > 1
        assert sum(machine.used_on.values()) == 17
    finally:
        machine.ledger.close()


def paced(**intervals_us: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lanes of their own pace; ``a_sms`` is the account that all of them draw on."""
    shared = {"a:sms": {"t_us": intervals_us.pop("a_sms")}} if "a_sms" in intervals_us else {}
    lanes = {name: lane(name, f"s:{name}", *shared) for name in intervals_us}
    return lanes, {f"s:{name}": {"t_us": t} for name, t in intervals_us.items()} | shared


@pytest.mark.parametrize("processes", [1, 3])
def test_a_backlog_uses_its_rate(virtual: VirtualLedger, processes: int) -> None:
    intervals = {"slow": SECOND_US, "middle": 100_000, "fast": 40_000}
    publish(virtual, *paced(**intervals))
    for name, t_us in intervals.items():
        fill(virtual, name, 20 * SECOND_US // t_us)
    left = Counter(row.lane for row in Workers(virtual, processes).run_for(15 * SECOND_US))
    for name, t_us in intervals.items():
        assert left[name] >= 0.99 * 15 * SECOND_US / t_us - 1


def test_a_shared_pace_that_is_over_full_is_used_up_and_no_lane_waits_for_ever(virtual: VirtualLedger) -> None:
    publish(virtual, *paced(a=10_000, b=30_000, c=200_000, d=1_000_000, e=1_000_000, a_sms=20_000))
    for name in "abcde":
        fill(virtual, name, 800)
    left = Workers(virtual, 3).run_for(20 * SECOND_US)
    assert len(left) >= 0.99 * 1000
    counts = Counter(row.lane for row in left)
    assert counts["d"] >= 19 and counts["e"] >= 19, "who asks for little gets it"
    assert counts["c"] >= 98, "and so does who asks for less than an equal share"
    assert counts["b"] >= 400 and counts["a"] >= 400, "and the others share the rest alike"


def test_who_asks_for_little_does_not_queue_behind_all_who_ask_for_more(virtual: VirtualLedger) -> None:
    """Twenty lanes want half of a pace each; the one that wants less than a twenty-first of it gets what it wants."""
    greedy = {f"greedy{n}": 20_000 for n in range(20)}
    publish(virtual, *paced(**greedy, little=500_000, a_sms=10_000))
    for name in (*greedy, "little"):
        fill(virtual, name, 200)
    counts = Counter(row.lane for row in Workers(virtual).run_for(20 * SECOND_US))
    assert counts["little"] >= 38
    assert max(counts.values()) - min(counts[name] for name in greedy) <= 10, "and the others share the rest alike"


def test_a_turn_far_ahead_from_elsewhere_puts_nobody_behind_all_others_for_long(virtual: VirtualLedger) -> None:
    publish(virtual, *paced(a=10_000, b=10_000, c=10_000, d=10_000, a_sms=20_000))
    virtual.redis.hset(virtual.key("lane:d"), "wt", 1_000_000)
    for name in "abcd":
        fill(virtual, name, 200)
    counts = Counter(row.lane for row in Workers(virtual).run_for(8 * SECOND_US))
    assert max(counts.values()) - counts["d"] <= 10, counts


def test_a_lane_whose_urgent_message_is_gone_waits_again_as_what_it_has_left(virtual: VirtualLedger) -> None:
    publish(virtual, *paced(a=10_000, b=10_000, a_sms=40_000))
    fill(virtual, "a", 100, klass=2)
    workers = Workers(virtual)
    workers.run_for(SECOND_US)
    urgent = fill(virtual, "a", 1, klass=0)[0]
    given = virtual.redis.zcard(virtual.key("g:a"))
    virtual.run(calls.cancel(urgent.split("-")[0], 0))
    normal = fill(virtual, "b", 1, klass=1)[0]
    left = [row.message for row in workers.run_for(SECOND_US)]
    assert left.index(normal) == given, "bulk took the turn that an urgent message had waited for"


def test_the_sms_and_mms_of_a_number_take_turns_at_its_pace(virtual: VirtualLedger) -> None:
    lanes = {"one": lane("one", "s:one", "a:sms"), "one.mms": lane("one", "s:one", "a:mms")}
    publish(virtual, lanes, {"s:one": {"t_us": 100_000}, "a:sms": {"gate": True}, "a:mms": {"gate": True}})
    for name in lanes:
        fill(virtual, name, 300)
    left = Workers(virtual).run_for(20 * SECOND_US)
    counts = Counter(row.lane for row in left)
    assert sum(counts.values()) >= 198
    assert min(counts[name] for name in lanes) >= 80, f"one starves the other: {counts}"


def test_urgent_lanes_go_first_at_a_shared_pace_but_for_every_tenth_turn(virtual: VirtualLedger) -> None:
    """However often something urgent comes, wherever: it waits for few others, and the others go on."""
    publish(virtual, *paced(a=10_000, b=10_000, c=10_000, d=10_000, a_sms=40_000))
    for name in "abcd":
        fill(virtual, name, 500, klass=2)
    workers, rng = Workers(virtual), random.Random(4)
    came: dict[str, int] = {}
    for _ in range(60):
        workers.run_for(rng.randint(20_000, 400_000))
        for mid in fill(virtual, rng.choice("abcd"), rng.randint(1, 3), klass=0):
            came[mid] = workers.true_us
    workers.run_for(5 * SECOND_US)
    left = workers.left
    places = {row.message: i for i, row in enumerate(left)}
    waited = Counter(
        sum(row.at_us > at + GRANT_HI_US and row.message not in came for row in left[: places[mid]])
        for mid, at in came.items()
    )
    # The pace's tenth turn and the lane's tenth message are for others, and each may cost what is given away ahead meanwhile.
    assert max(waited) <= 4, f"one waited for {max(waited)} that were not urgent"
    assert waited[0] + waited[1] >= 0.9 * len(came), f"so many waited for so many: {waited}"
    bulk = [row.at_us for row in left if row.message not in came]
    assert max(b - a for a, b in itertools.pairwise(bulk)) <= 15 * 40_000, "urgent messages stopped all others"


def test_a_lane_whose_process_has_enough_of_it_costs_the_shared_pace_nothing(virtual: VirtualLedger) -> None:
    publish(virtual, *paced(a=10_000, b=10_000, a_sms=20_000))
    for name in "ab":
        fill(virtual, name, 600)
    workers = Workers(virtual, 1)
    workers.quotas = {"a": 0}
    left = workers.run_for(8 * SECOND_US)
    assert {row.lane for row in left} == {"b"}
    assert len(left) >= 0.99 * 400


def test_what_may_not_go_yet_costs_no_commands(virtual: VirtualLedger) -> None:
    """A thousand lanes behind a full account: a grant that has nothing to give looks at none of them."""
    names = [f"l{i}" for i in range(300)]
    publish(virtual, *paced(**dict.fromkeys(names, 10_000), a_sms=MINUTE_US))
    for name in names:
        fill(virtual, name, 1)
    workers = Workers(virtual)
    workers.run_for(10 * SECOND_US)
    virtual.visits()
    workers.run_for(20 * SECOND_US)
    assert sum(virtual.visits().values()) == 0


def gaps(left: list[Left]) -> list[int]:
    return [b - a for a, b in itertools.pairwise(sorted(row.at_us for row in left))]


@pytest.mark.parametrize(("was", "now"), [(SECOND_US, 20_000), (100_000, 10_000), (20_000, 10_000), (20_000, 100_000)])
def test_a_new_rate_holds_from_the_next_message_on(virtual: VirtualLedger, was: int, now: int) -> None:
    """Slots that were granted by the old rate still stand, and none of the new ones comes too close to them."""
    publish(virtual, *paced(a=was))
    fill(virtual, "a", 400)
    workers = Workers(virtual)
    workers.run_for(2_500_000)
    publish(virtual, *paced(a=now))
    changed = workers.true_us
    left = workers.run_for(2_000_000)
    assert left[0].at_us - changed <= min(was, GRANT_HI_US + now) + 12_000
    assert len(left) >= 0.9 * 2_000_000 / now - GRANT_HI_US // now - 1
    assert min(gaps(left)) >= min(was, now) - 2_000  # a take may be late by the step of these workers
