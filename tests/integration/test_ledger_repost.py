"""A server that has forgotten what was taken is told again, and then nothing leaves twice; on a fake server and a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from ledger_kit import admit, finish, lane, publication, queue, state, submit, take_now, view

from producers.ledger import calls
from producers.ledger.calls import Finish, Take, Taken
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger


@pytest.fixture(params=["fake", "real"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "fake":
        ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    else:
        url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("namespace")
        ledger = Ledger(connect(url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    for process in ("p1", "p2"):
        ledger.run(calls.beat(process, "first"))
    yield ledger
    ledger.redis.close()


class Replica:
    """What a replica that lags knows: the keys as they were when it was made."""

    def __init__(self, ledger: Ledger) -> None:
        self._redis: Any = ledger.redis
        self._pattern = f"{ledger.prefix}*"
        self._keys = {key: (self._redis.dump(key), self._redis.pttl(key)) for key in self._redis.keys(self._pattern)}

    def take_over(self) -> None:
        for key in self._redis.keys(self._pattern):
            self._redis.delete(key)
        for key, (value, ttl_ms) in self._keys.items():
            self._redis.restore(key, max(ttl_ms, 0), value)


def remembered(taken: Taken, process: str = "p1", *, may_have_left: bool = True) -> Take:
    return Take(taken.message, taken.token, process, taken.attempt, "b1", may_have_left)


def repost(ledger: Ledger, *takes: Take, process: str = "p1") -> list[str]:
    return list(ledger.run(calls.repost(process, takes)))


def test_a_forgotten_take_is_held_again_and_its_result_counts(ledger: Ledger) -> None:
    mid = queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    replica.take_over()
    assert state(ledger, mid) == "queued"
    assert repost(ledger, remembered(taken)) == ["held"]
    assert state(ledger, mid) == "sending"
    assert view(ledger, mid).attempts == 1
    assert take_now(ledger, "p2") == []
    assert finish(ledger, taken, "accepted") == "applied"
    assert state(ledger, mid) == "accepted"


def test_what_was_told_twice_is_told_once(ledger: Ledger) -> None:
    mid = queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger)
    replica.take_over()
    assert repost(ledger, remembered(taken), remembered(taken)) == ["held", "known"]
    version = ledger.redis.hget(ledger.key(f"m:{mid}"), "v")
    assert repost(ledger, remembered(taken)) == ["known"]
    assert ledger.redis.hget(ledger.key(f"m:{mid}"), "v") == version


@pytest.mark.parametrize("outcome", ["accepted", "rejected", "retry", "slow_down", "not_sent", "uncertain", None])
def test_a_server_that_forgot_nothing_is_left_as_it_is(ledger: Ledger, outcome: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    if outcome:
        finish(ledger, taken, outcome, why="x")
    before = ledger.redis.hgetall(ledger.key(f"m:{mid}"))
    assert repost(ledger, remembered(taken)) == ["known"]
    assert ledger.redis.hgetall(ledger.key(f"m:{mid}")) == before


def test_a_forgotten_take_of_what_waited_for_its_next_try_is_held_again(ledger: Ledger) -> None:
    mid = queue(ledger)
    (first,) = take_now(ledger)
    finish(ledger, first, "retry", why="busy", uses_a_try=True, delay_us=3_600_000_000)
    replica = Replica(ledger)
    ledger.redis.zadd(ledger.key("timers"), {mid: 0})
    ledger.run(calls.wake())
    (second,) = take_now(ledger)
    replica.take_over()
    assert state(ledger, mid) == "scheduled"
    assert repost(ledger, remembered(second)) == ["held"]
    assert (state(ledger, mid), view(ledger, mid).attempts) == ("sending", 2)
    finish(ledger, second, "uncertain", why="read_timeout")
    assert state(ledger, mid) == "uncertain"


def test_what_another_has_taken_since_may_be_out_twice_and_is_marked_so(ledger: Ledger) -> None:
    mid = queue(ledger)
    replica = Replica(ledger)
    (ours,) = take_now(ledger, "p1")
    replica.take_over()
    (theirs,) = take_now(ledger, "p2")
    assert repost(ledger, remembered(ours)) == ["doubled"]
    assert repost(ledger, remembered(ours)) == ["known"]
    assert view(ledger, mid).attempts == 2
    finish(ledger, theirs, "rejected", process="p2", why="x", code="40310")
    assert state(ledger, mid) == "unconfirmed"  # nobody may say that nothing left


def test_of_two_forgotten_takes_the_later_one_holds_in_whatever_order_they_are_told(ledger: Ledger) -> None:
    for order in ((0, 1), (1, 0)):
        mid = queue(ledger)
        replica = Replica(ledger)
        (first,) = take_now(ledger, "p1")
        finish(ledger, first, "slow_down", why="x")
        (second,) = take_now(ledger, "p2")
        replica.take_over()
        takes = (remembered(first, may_have_left=False), remembered(second, "p2"))
        for i in order:
            repost(ledger, takes[i], process=takes[i].process)
        finish(ledger, first, "slow_down", why="x")
        assert state(ledger, mid) == "sending"
        assert finish(ledger, second, "accepted", process="p2") == "applied"


def test_the_holder_of_what_is_told_again_is_alive(ledger: Ledger) -> None:
    mid = queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger, "p1")
    replica.take_over()
    ledger.redis.delete(ledger.key("alive:p1"))  # it goes on as p2
    assert repost(ledger, remembered(taken), process="p2") == ["held"]
    assert ledger.redis.hexists(ledger.key("held:p2"), mid)
    assert not ledger.redis.exists(ledger.key("held:p1"))


@pytest.mark.parametrize("many", [False, True])
def test_what_is_expanded_again_after_it_was_sent_is_not_queued_again(ledger: Ledger, many: bool) -> None:
    id = submit(ledger, messages=3) if many else submit(ledger)
    replica = Replica(ledger)
    admit(ledger, id)
    taken = take_now(ledger)
    assert len(taken) == (3 if many else 1)
    for t in taken:
        finish(ledger, t, "accepted")
    replica.take_over()
    takes = [remembered(t) for t in taken]
    assert repost(ledger, *takes) == ["early"] * len(taken)
    admit(ledger, id)
    assert take_now(ledger, "p2") == []
    assert repost(ledger, *takes) == ["known"] * len(taken)
    for t in taken:
        assert finish(ledger, t, "accepted") == "applied"
        assert state(ledger, t.message) == "accepted"
    assert not ledger.redis.exists(ledger.key("lost"))


def test_a_notification_that_was_forgotten_whole_is_gone(ledger: Ledger) -> None:
    replica = Replica(ledger)
    queue(ledger)
    (taken,) = take_now(ledger)
    replica.take_over()
    assert repost(ledger, remembered(taken)) == ["gone"]


def test_an_unreadable_take_costs_its_neighbours_nothing(ledger: Ledger) -> None:
    queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger)
    replica.take_over()
    call = calls.repost("p1", [remembered(taken)])
    args = [*call.args[:1], "{", *call.args[1:]]
    assert list(ledger.run(calls.Call(call.script, args, call.decode))) == ["poison", "held"]


def test_every_take_and_every_finish_is_counted(ledger: Ledger) -> None:
    queue(ledger)
    assert ledger.run(calls.repost("p1", [])).gen == 0
    (taken,) = take_now(ledger)
    known = ledger.run(calls.repost("p1", [])).gen
    assert known >= 1
    result = Finish(message=taken.message, token=taken.token, outcome="accepted", provider_id="p")
    assert ledger.run(calls.finish("p1", [result])).gen == known + 1
    assert ledger.run(calls.take("p1", "t", [])).gen == known + 2
    assert ledger.run(calls.repost("p1", [])).gen == known + 2


def forgotten_and_taken_by_another(ledger: Ledger, **other: Any) -> tuple[str, Taken, Taken]:
    """A message that p1 took, that the server forgot so, and that p2 took then."""
    mid = queue(ledger, **other)
    replica = Replica(ledger)
    (ours,) = take_now(ledger, "p1")
    replica.take_over()
    (theirs,) = take_now(ledger, "p2")
    return mid, ours, theirs


def test_a_clear_verdict_on_the_second_take_says_nothing_of_the_first(ledger: Ledger) -> None:
    mid, ours, theirs = forgotten_and_taken_by_another(ledger)
    finish(ledger, theirs, "slow_down", process="p2", why="x")
    assert repost(ledger, remembered(ours)) == ["doubled"]
    assert repost(ledger, remembered(ours)) == ["known"]
    (third,) = take_now(ledger, "p2")
    assert third.may_be_out
    finish(ledger, third, "rejected", process="p2", why="x", code="40310")
    assert state(ledger, mid) == "unconfirmed"


def test_a_late_verdict_of_the_second_take_does_not_clear_what_the_first_may_have_sent(ledger: Ledger) -> None:
    mid, ours, theirs = forgotten_and_taken_by_another(ledger)
    ledger.redis.zadd(ledger.key("timers"), {mid: 0})  # as after 30 s
    ledger.run(calls.wake())
    assert state(ledger, mid) == "uncertain"
    assert repost(ledger, remembered(ours)) == ["doubled"]
    finish(ledger, theirs, "rejected", process="p2", why="x", code="40310")
    assert state(ledger, mid) == "unconfirmed"


@pytest.mark.parametrize("verdict", ["slow_down", "retry", "not_sent"])
@pytest.mark.parametrize("told_first", [True, False])
def test_what_two_have_taken_is_never_asked_again_if_its_job_type_gives_up(
    ledger: Ledger, verdict: Any, told_first: bool
) -> None:
    mid, ours, theirs = forgotten_and_taken_by_another(ledger, job_type="careful")
    if told_first:
        assert repost(ledger, remembered(ours)) == ["doubled"]
    finish(ledger, theirs, verdict, process="p2", why="x")
    if not told_first:
        assert repost(ledger, remembered(ours)) == ["held" if verdict == "not_sent" else "doubled"]
    assert take_now(ledger, "p2") == []
    assert state(ledger, mid) == ("sending" if verdict == "not_sent" and not told_first else "unconfirmed")


def test_what_was_sent_before_it_was_forgotten_does_not_expire_when_it_is_expanded_again(ledger: Ledger) -> None:
    id = submit(ledger)
    replica = Replica(ledger)
    admit(ledger, id)
    (taken,) = take_now(ledger)
    replica.take_over()
    assert repost(ledger, remembered(taken)) == ["early"]
    ledger.redis.hset(ledger.key(f"m:{id}-0"), "vu", 1)  # its validity has ended meanwhile
    admit(ledger, id)
    assert state(ledger, f"{id}-0") == "sending"
    finish(ledger, taken, "accepted")
    assert state(ledger, f"{id}-0") == "accepted"


def test_what_was_forgotten_counts_for_the_day_again(ledger: Ledger) -> None:
    limited = publication(
        {"alerts": lane("alerts", "s:alerts", "d:acme", profile="p1")},
        {"s:alerts": {"t_us": 10_000}, "d:acme": {"cap": 10, "tz": "UTC", "reserve": 0.1}},
        digest="capped",
    )
    ledger.run(calls.publish(limited, {}))

    def used() -> int:
        return int(ledger.redis.hget(ledger.key("b:d:acme"), "used") or 0)  # type: ignore[arg-type]

    _, ours, theirs = forgotten_and_taken_by_another(ledger)
    assert used() == 1
    assert repost(ledger, remembered(ours), remembered(theirs, "p2")) == ["doubled", "known"]
    assert used() == 2, "both may have left"
    held = queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger)
    assert taken.message == held
    replica.take_over()
    assert used() == 2
    assert repost(ledger, remembered(taken), remembered(taken)) == ["held", "known"]
    assert used() == 3


def test_a_forgotten_take_counts_for_the_frequency_of_its_person(ledger: Ledger) -> None:
    rules = {"notice": json.dumps({"f": [["m", 1, 3_600, 1, 3_600]]})}
    ledger.run(calls.publish({**publication(digest="two"), "rules": rules, "timezone": "UTC"}, {}, {"UTC": "0"}))
    mid = queue(ledger)
    replica = Replica(ledger)
    (taken,) = take_now(ledger)
    replica.take_over()
    assert repost(ledger, remembered(taken)) == ["held"]
    finish(ledger, taken, "accepted")
    another = queue(ledger)
    assert take_now(ledger) == []
    assert (state(ledger, mid), state(ledger, another)) == ("accepted", "scheduled")
