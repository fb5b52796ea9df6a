"""Legs, dead letters and poison in the scripts: on a fake server in virtual time where time must pass, else on a real one too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import time_machine
from ledger_kit import HOUR_US, START, TO, admit, finish, publication, queue, state, submit, take_now, view

from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Leg, Taken
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_message, read_notification

DAY_S = 24 * 3600


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that moves the clock runs on the fake server, every other one on both."""
    if "ledger" in metafunc.fixturenames:
        servers = ["fake"] if "clock" in metafunc.fixturenames else ["fake", "real"]
        metafunc.parametrize("ledger", servers, indirect=True)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "fake":
        request.getfixturevalue("clock")
        ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    else:
        url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("namespace")
        ledger = Ledger(connect(url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.redis.close()


def replay(ledger: Ledger, entry: str, number: int = 2, **other: Any) -> Leg:
    return ledger.run(calls.leg(entry, number, "replay", valid_for_us=HOUR_US, **other))


def wake(ledger: Ledger) -> None:
    while ledger.run(calls.wake())[1]:
        pass


def refused(ledger: Ledger, **other: Any) -> str:
    """A message that Telnyx refused; returns its id."""
    ledger.run(calls.beat("p1", "first"))
    mid = queue(ledger, **other)
    (taken,) = take_now(ledger)
    assert taken.message == mid
    finish(ledger, taken, "rejected", code="40310", title="Invalid 'to' address", why="40310")
    return mid


def deliver(ledger: Ledger, taken: Taken) -> None:
    finish(ledger, taken, "accepted", provider_id=f"pid-{taken.message}")
    ledger.run(calls.receipt("", [Fact(ref=taken.message, provider_id=f"pid-{taken.message}", state="D")]))


def dead(ledger: Ledger) -> list[str]:
    redis: Any = ledger.redis
    return [mid.decode() for mid in redis.zrange(ledger.key("dead"), 0, -1)]


def events(ledger: Ledger) -> list[tuple[str, str, str]]:
    redis: Any = ledger.redis
    return [(f[b"y"].decode(), f[b"m"].decode()[32:], f[b"s"].decode()) for _, f in redis.xrange(ledger.key("ev"))]


def counts(ledger: Ledger, id: str) -> dict[str, int]:
    seen = read_notification(ledger, id[:32])
    assert seen is not None
    return seen.state_counts


# --- legs


def test_a_leg_is_a_message_of_its_own_with_the_same_bytes_and_another_key(ledger: Ledger) -> None:
    mid = refused(ledger)
    assert replay(ledger, mid) == Leg("made", f"{mid}-2")
    assert state(ledger, mid) == "queued"
    (taken,) = take_now(ledger)
    assert (taken.message, taken.to, taken.content, taken.attempt) == (f"{mid}-2", [TO], b'{"text":"hello"}', 1)
    deliver(ledger, taken)
    seen = view(ledger, mid)
    assert (seen.id, seen.state, seen.attempts, seen.leg) == (mid, "delivered", 2, 2)
    assert seen.provider_id == f"pid-{mid}-2"
    assert [e["code"] for e in seen.errors] == ["40310"]
    assert [(s.leg, s.state) for s in seen.timeline] == [
        (1, "new"), (1, "queued"), (1, "sending"), (1, "rejected"),
        (2, "new"), (2, "queued"), (2, "sending"), (2, "accepted"), (2, "delivered"),
    ]  # fmt: skip
    assert seen.timeline[4].reason == "replay"
    assert counts(ledger, mid) == {"delivered": 1}


def test_a_repeated_call_gives_the_same_leg_and_another_number_none(ledger: Ledger) -> None:
    mid = refused(ledger)
    assert replay(ledger, mid, 3) == Leg("refused", "", "passed", "R")
    assert replay(ledger, mid) == Leg("made", f"{mid}-2")
    assert replay(ledger, mid) == Leg("exists", f"{mid}-2")
    assert replay(ledger, mid, 3) == Leg("refused", "", "not_dead", "Q"), "one leg at a time"
    assert len(take_now(ledger)) == 1


def test_legs_follow_each_other(ledger: Ledger) -> None:
    mid = refused(ledger)
    for number in (2, 3):
        assert replay(ledger, mid, number).message == f"{mid}-{number}"
        (taken,) = take_now(ledger)
        finish(ledger, taken, "rejected", code="40310", why="40310")
        assert dead(ledger) == [f"{mid}-{number}"]
    seen = view(ledger, mid)
    assert (seen.state, seen.attempts, len(seen.errors)) == ("rejected", 3, 3)
    only = read_message(ledger, f"{mid}-2")
    assert only is not None
    assert {s.leg for s in only.timeline} == {2}


@pytest.mark.parametrize("end", ["delivered", "cancelled", "opted_out", "sent", "queued"])
def test_only_what_ended_without_arriving_is_replayed(ledger: Ledger, end: str) -> None:
    mid = queue(ledger)
    if end == "cancelled":
        ledger.run(calls.cancel(mid[:32], 0))
    elif end == "opted_out":
        ledger.run(calls.opt(TO, "out", scopes=["global"], source="api"))
        take_now(ledger)
    elif end != "queued":
        (taken,) = take_now(ledger)
        finish(ledger, taken, "accepted", state="T" if end == "sent" else "D")
    assert state(ledger, mid) == end
    assert replay(ledger, mid).why == "not_dead"
    assert replay(ledger, "f" * 32 + "-0").why == "gone"


def test_who_opted_out_gets_no_leg_and_who_opts_out_later_does_not_get_it(ledger: Ledger, clock: Any) -> None:
    mid = refused(ledger)
    ledger.run(calls.opt(TO, "out", scopes=["sender:alerts"], source="webhook"))
    assert replay(ledger, mid) == Leg("refused", "", "opted_out", "R")
    assert dead(ledger) == [mid]
    clock.shift(1)
    ledger.run(calls.opt(TO, "in", scopes=["sender:alerts"], source="webhook"))
    assert replay(ledger, mid).outcome == "made"
    clock.shift(1)
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="webhook"))
    assert take_now(ledger) == []
    assert (state(ledger, mid), counts(ledger, mid)) == ("opted_out", {"opted_out": 1})


def test_content_is_kept_for_a_day_and_without_it_there_is_no_leg(ledger: Ledger, clock: Any) -> None:
    early, late = refused(ledger), refused(ledger)
    clock.shift(DAY_S - 60)
    assert replay(ledger, early).outcome == "made"
    clock.shift(120)
    assert replay(ledger, late).why == "content_erased"


def test_a_leg_may_leave_by_another_lane_with_other_content(ledger: Ledger) -> None:
    mid = refused(ledger)
    assert replay(ledger, mid, lane="gone", content="{}").why == "no_lane"
    assert replay(ledger, mid, lane="alerts", content='{"text":"other"}', units=3).outcome == "made"
    (taken,) = take_now(ledger)
    assert taken.content == b'{"text":"other"}'
    assert ledger.redis.hget(ledger.key(f"m:{mid}-2"), "un") == b"3"


def test_what_was_never_rendered_needs_lane_and_content(ledger: Ledger) -> None:
    id = submit(ledger)
    ledger.run(calls.admit(id, None, "", [Admission(to="", reject="content", title="x")]))
    assert replay(ledger, f"{id}-0").why == "not_rendered"
    assert replay(ledger, f"{id}-0", lane="alerts", content='{"text":"now"}').outcome == "made"
    assert take_now(ledger)[0].content == b'{"text":"now"}'


def test_a_leg_lives_as_long_as_it_was_given_from_its_own_start(ledger: Ledger, clock: Any) -> None:
    mid = refused(ledger, valid_for_us=60_000_000)
    clock.shift(3600)
    ledger.run(calls.leg(mid, 2, "replay", valid_for_us=30_000_000))
    ledger.run(calls.lane("alerts", "pause"))
    clock.shift(20)
    wake(ledger)
    assert state(ledger, mid) == "queued"
    clock.shift(12)
    wake(ledger)
    assert state(ledger, mid) == "expired"


def test_a_late_fact_of_the_first_leg_delivers_the_entry_and_stops_the_second(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    failed = [Fact(ref=mid, provider_id=f"pid-{mid}", state="F")]
    ledger.run(calls.receipt("", failed))
    replay(ledger, mid)
    assert dead(ledger) == []
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    seen = view(ledger, mid)
    assert (seen.state, seen.provider_id, counts(ledger, mid)) == ("delivered", f"pid-{mid}", {"delivered": 1})
    leg = read_message(ledger, f"{mid}-2")
    assert leg is not None
    assert (leg.state, leg.timeline[-1].reason) == ("cancelled", "other_leg")
    assert take_now(ledger) == []
    assert replay(ledger, mid, 3).why == "not_dead"


def test_a_correction_of_the_first_leg_below_delivered_leaves_the_entry_to_the_second(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="X")]))
    replay(ledger, mid)
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F")]))
    assert (state(ledger, mid), dead(ledger)) == ("queued", [])


def test_a_leg_under_way_gets_no_more_tries_once_another_is_delivered(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (first,) = take_now(ledger)
    finish(ledger, first, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F")]))
    replay(ledger, mid)
    (second,) = take_now(ledger)
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    finish(ledger, second, "retry", why="40006", uses_a_try=True)
    assert (state(ledger, mid), state(ledger, f"{mid}-2")) == ("delivered", "cancelled")
    assert dead(ledger) == []


def test_counts_are_of_entries_and_a_finished_notification_is_open_again_until_its_leg_ends(
    ledger: Ledger, clock: Any
) -> None:
    id = submit(ledger, messages=3)
    admit(ledger, id)
    clock.shift(1)
    taken = take_now(ledger)
    for t in taken[:2]:
        deliver(ledger, t)
    finish(ledger, taken[2], "rejected", why="40310", code="40310")
    mid = taken[2].message
    assert counts(ledger, id) == {"delivered": 2, "rejected": 1}
    assert ledger.redis.ttl(ledger.key(f"n:{id}")) > 0
    assert replay(ledger, mid).outcome == "made"
    assert counts(ledger, id) == {"delivered": 2, "queued": 1}
    assert ledger.redis.ttl(ledger.key(f"n:{id}")) == -1
    assert ledger.redis.ttl(ledger.key(f"m:{mid}")) == -1
    clock.shift(8 * DAY_S)  # past the validity, and past the retention of what had ended
    wake(ledger)
    assert counts(ledger, id) == {"delivered": 2, "expired": 1}
    lives = {ledger.redis.ttl(ledger.key(key)) for key in (f"n:{id}", f"m:{mid}", f"m:{mid}-2")}
    assert lives == {604_800}, "the legs leave together"
    finished = [row for row in events(ledger) if row[0] == "notification.finished"]
    assert len(finished) == 2
    seen = read_notification(ledger, id)
    assert seen is not None
    assert [m.id for m in seen.messages if m.leg == 2] == [mid]


def test_a_lone_notification_is_finished_again_when_its_leg_ends(ledger: Ledger) -> None:
    mid = refused(ledger)
    replay(ledger, mid)
    (taken,) = take_now(ledger)
    deliver(ledger, taken)
    assert events(ledger) == [
        ("message.final", "-0", "R"), ("notification.finished", "", ""),
        ("message.final", "-0", "D"), ("notification.finished", "", ""),
    ]  # fmt: skip


def test_cancel_stops_the_newest_leg(ledger: Ledger) -> None:
    mid = refused(ledger)
    replay(ledger, mid)
    assert ledger.run(calls.cancel(mid[:32], 0)) == (1, None)
    assert state(ledger, mid) == "cancelled"


GROUP = "+13125550001,+13125550002,+13125550003"


def test_a_group_is_replayed_whole_or_not_at_all(ledger: Ledger, clock: Any) -> None:
    some, none = queue(ledger, to=GROUP), queue(ledger, to=GROUP)
    for mid, letters in ((some, "DFF"), (none, "FFF")):
        clock.shift(1)
        (taken,) = take_now(ledger, hands=1)
        finish(ledger, taken, "accepted", to=[(n, "A") for n in taken.to])
        to = list(zip(GROUP.split(","), letters, strict=True))
        ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F", to=to)]))
        assert state(ledger, mid) == "failed"
    assert replay(ledger, some).why == "partly_delivered"
    ledger.run(calls.opt("+13125550002", "out", scopes=["global"], source="api"))
    assert replay(ledger, none).outcome == "made"
    clock.shift(1)
    (taken,) = take_now(ledger)
    assert taken.to == ["+13125550001", "+13125550003"]


@pytest.mark.parametrize("was", ["queued", "sending", "uncertain", "accepted"])
def test_a_fallback_overtakes_what_is_still_on_its_way(ledger: Ledger, clock: Any, was: str) -> None:
    mid = queue(ledger)
    if was != "queued":
        (taken,) = take_now(ledger)
        if was != "sending":
            finish(ledger, taken, was, why="x")
    assert state(ledger, mid) == was
    made = ledger.run(calls.leg(mid, 2, "fallback", valid_for_us=HOUR_US, lane="alerts", content="{}"))
    assert made == Leg("made", f"{mid}-2")
    assert (state(ledger, mid), counts(ledger, mid)) == ("queued", {"queued": 1})
    assert [t.message for t in take_now(ledger)] == [f"{mid}-2"]
    for _ in range(40):
        clock.shift(0.5)
        ledger.run(calls.ear("w1"))
        wake(ledger)
    ledger.run(calls.beat("p1", "first"))
    assert take_now(ledger) == [], "the leg before is not sent again"
    assert [row for row in events(ledger) if row[0] == "notification.finished"] == []


def test_a_take_that_is_repeated_after_a_fallback_overtook_it_still_has_its_content(ledger: Ledger) -> None:
    """Its first reply was lost; what is sent with nothing in it would be rejected."""
    queue(ledger)
    slots = ledger.run(calls.grant("p1", 1, lane_quota=1, quotas={})).slots
    pairs = [(slot, "b1") for slot in slots]
    (first,) = ledger.run(calls.take("p1", "k1", pairs)).answers
    assert isinstance(first, Taken)
    ledger.run(calls.leg(first.message, 2, "fallback", valid_for_us=HOUR_US))
    assert ledger.run(calls.take("p1", "k1", pairs)).answers == [first]


# --- dead letters


def test_dead_letters_are_what_ended_without_arriving_until_a_fact_says_otherwise(ledger: Ledger) -> None:
    rejected = refused(ledger)
    failed = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=failed, provider_id=f"pid-{failed}", state="F")]))
    gone = queue(ledger)
    ledger.run(calls.cancel(gone[:32], 0))
    unexpandable = submit(ledger)
    ledger.run(calls.admit(unexpandable, None, "", [Admission(to="", reject="parts", title="x")]))
    assert sorted(dead(ledger)) == sorted([rejected, failed, f"{unexpandable}-0"])
    ledger.run(calls.receipt("", [Fact(ref=failed, provider_id=f"pid-{failed}", state="D")]))
    assert sorted(dead(ledger)) == sorted([rejected, f"{unexpandable}-0"])


def test_dead_letters_leave_the_list_with_their_content(ledger: Ledger, clock: Any) -> None:
    refused(ledger)
    clock.shift(DAY_S / 2)
    second = refused(ledger)
    clock.shift(DAY_S / 2 + 1)
    wake(ledger)
    assert dead(ledger) == [second]


# --- poison


def live_on(ledger: Ledger, clock: Any) -> None:
    clock.shift(2)
    ledger.run(calls.beat("p1", "again"))
    ledger.run(calls.ear("w1"))
    ledger.run(calls.reap("p1"))
    wake(ledger)


def die(ledger: Ledger, clock: Any, mid: str) -> None:
    """Who was sending this dies; it is noticed, and the grace passes."""
    for _ in range(60):
        if state(ledger, mid) not in ("sending", "uncertain"):
            return
        live_on(ledger, clock)
    raise AssertionError(view(ledger, mid))


def test_a_message_that_ends_every_process_that_takes_it_ends_unconfirmed_and_stops_killing(
    ledger: Ledger, clock: Any
) -> None:
    killer = queue(ledger, valid_for_us=24 * HOUR_US)
    for n in range(3):
        assert state(ledger, killer) == "queued"
        ledger.run(calls.beat(f"victim{n}", "first"))
        (taken,) = take_now(ledger, f"victim{n}")
        assert taken.message == killer
        die(ledger, clock, killer)
        clock.shift(60)
        ledger.run(calls.beat("p1", "first"))
        wake(ledger)
    seen = view(ledger, killer)
    assert (seen.state, seen.timeline[-1].reason) == ("unconfirmed", "killed_its_worker")
    assert (seen.errors[-1]["code"], dead(ledger)) == ("poison", [killer])
    assert take_now(ledger) == []


def test_what_was_held_beside_a_killer_comes_back_at_another_instant_than_it(ledger: Ledger, clock: Any) -> None:
    mids = [queue(ledger, id=f"{n:032x}", valid_for_us=24 * HOUR_US) for n in range(8)]
    for n in range(2):
        ledger.run(calls.beat(f"victim{n}", "first"))
        clock.shift(0.2)
        assert len(take_now(ledger, f"victim{n}")) == len(mids)
        die(ledger, clock, mids[0])
    killer, *others = (view(ledger, mid).next_at_us or 0 for mid in mids)
    assert all(abs(at - killer) > 100_000 for at in others), (killer, others)
    assert max(others) - min(others) > 5_000_000


def test_what_no_request_can_be_made_of_is_rejected_after_its_tries_and_was_no_attempt(
    ledger: Ledger, clock: Any
) -> None:
    mid = queue(ledger)
    for n in range(3):
        (taken,) = take_now(ledger)
        finish(ledger, taken, "not_sent", why="unbuildable", code="poison", delay_us=1_000_000, uses_a_try=True)
        assert state(ledger, mid) == ("scheduled" if n < 2 else "rejected")
        clock.shift(1.5)
        wake(ledger)
    seen = view(ledger, mid)
    assert (seen.attempts, seen.timeline[-1].reason) == (0, "poison")


def test_only_a_late_chunk_is_counted_and_admit_forgets_it(ledger: Ledger, clock: Any) -> None:
    lone, many = submit(ledger), submit(ledger, messages=250)
    for id in (lone, many):
        loaded = ledger.run(calls.load(id, None))
        assert loaded is not None
        assert loaded.late is False
    clock.shift(10)
    for id in (lone, many):
        loaded = ledger.run(calls.load(id, None))
        assert loaded is not None
        assert loaded.late is True
        assert [ledger.run(calls.attempt(id, loaded.cursor, name)) for name in ("t1", "t2", "t2")] == [1, 2, 2]
    admit(ledger, lone)
    assert ledger.run(calls.attempt(lone, None, "t3")) == 0
    assert ledger.redis.hget(ledger.key(f"m:{lone}-0"), "xt") is None
    ledger.run(calls.admit(many, "0", "{}", [Admission(to=f"+1312{i:07d}", lane="alerts") for i in range(200)]))
    assert ledger.run(calls.attempt(many, "0", "t3")) == 0
    assert ledger.run(calls.attempt(many, "1", "t4")) == 1
    loaded = ledger.run(calls.load(many, "1"))
    assert loaded is not None
    assert loaded.late is False, "the next chunk has its own time"


def test_a_message_that_breaks_take_each_time_is_rejected_after_its_tries(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    ledger.redis.hdel(ledger.key(f"m:{mid}"), "to")
    for n in range(3):
        assert state(ledger, mid) == "queued", n
        assert take_now(ledger) == []
        clock.shift(61)
        ledger.run(calls.beat("p1", "first"))
        wake(ledger)
    assert (state(ledger, mid), view(ledger, mid).timeline[-1].reason) == ("rejected", "poison")
    assert dead(ledger) == [mid]
