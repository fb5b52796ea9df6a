"""The scripts: where time must pass, on a fake server in virtual time (a day passes in a moment); all else also on a real one."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import time_machine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ledger_kit import HOUR_US, TO, admit, finish, lane, publication, queue, state, submit, take_now, view
from redis.exceptions import ResponseError

from producers.ledger import calls
from producers.ledger.calls import Fact, Missed, Slot, Taken
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_notification

START = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


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
        request.getfixturevalue("clock")  # first: what is written below must be written in virtual time
        ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    else:
        url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("namespace")
        ledger = Ledger(connect(url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.redis.close()


def wake(ledger: Ledger) -> list[calls.Pointer]:
    pointers: list[calls.Pointer] = []
    more = True
    while more:
        found, more = ledger.run(calls.wake())
        pointers += found
    return pointers


def pass_time(ledger: Ledger, clock: Any, seconds: float, *, hearing: bool = True, process: str = "p1") -> None:
    """Let time pass as a living system does: beats, ears, timers, every half second (every five where nobody hears)."""
    step_s = 0.5 if hearing or seconds < 30 else 5.0
    for _ in range(int(seconds / step_s)):
        clock.shift(step_s)
        ledger.run(calls.beat(process, "again"))
        if hearing:
            ledger.run(calls.ear("w1"))
        wake(ledger)


def uncertain(ledger: Ledger, **other: Any) -> Taken:
    queue(ledger, **other)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "uncertain", why="read_timeout")
    return taken


# --- submit, admit


def test_the_same_notification_is_written_once(ledger: Ledger) -> None:
    id = submit(ledger)
    again = calls.Submission(
        id=id, client="tests", fingerprint="f1", job_type="notice", klass=1, valid_for_us=1, send_at_us=0, messages=1,
        group=False, content=b"{}", extras=b"", recipients=[TO],
    )  # fmt: skip
    assert ledger.run(calls.submit(again)).outcome == "repeated"
    other = calls.Submission(**{**{f: getattr(again, f) for f in again.__slots__}, "fingerprint": "f2"})
    assert ledger.run(calls.submit(other)).outcome == "conflict"
    assert view(ledger, f"{id}-0").state == "new"


def test_a_pointer_that_was_lost_is_pointed_at_again_until_the_notification_is_expanded(
    ledger: Ledger, clock: Any
) -> None:
    id = submit(ledger, klass=0)
    assert wake(ledger) == []
    clock.shift(10.1)
    assert wake(ledger) == [calls.Pointer("expand", id, "0")]
    admit(ledger, id)
    clock.shift(60)
    assert wake(ledger) == []


def test_a_chunk_is_admitted_once_whoever_repeats_it(ledger: Ledger) -> None:
    id = submit(ledger, messages=450)
    loaded = ledger.run(calls.load(id, None))
    assert loaded is not None
    items = [calls.Admission(to=TO, lane="alerts")] * 200
    assert ledger.run(calls.admit(id, "0", "{}", items)).next_cursor == "1"
    assert ledger.run(calls.admit(id, "0", "{}", items)) == calls.Admitted(0, 0, None)
    assert ledger.run(calls.load(id, "0")) is None
    admit(ledger, id)
    seen = read_notification(ledger, id, limit=1000)
    assert seen is not None
    assert seen.state_counts == {"queued": 450}
    assert len({m.id for m in seen.messages}) == 450


def test_recipients_not_yet_expanded_are_shown_as_new_in_their_place(ledger: Ledger) -> None:
    id = submit(ledger, messages=450)
    ledger.run(calls.admit(id, "0", "{}", [calls.Admission(to=f"+1312{i:07d}", lane="alerts") for i in range(200)]))
    seen = read_notification(ledger, id, limit=10, after=194)
    assert seen is not None
    assert [(m.id, m.to, m.state) for m in seen.messages] == [
        (f"{id}-{i}", f"+1312{i:07d}", "queued" if i < 200 else "new") for i in range(195, 205)
    ]
    assert seen.next == 204
    last = read_notification(ledger, id, limit=10, after=445)
    assert last is not None
    assert (last.messages[-1].to, last.next) == ("+13120000449", None)


@pytest.mark.parametrize("text", ["x", "y" * 64, "z" * 65, "ä€😀" * 30, "w" * 1280, "w" * 1281, "long " * 2000])
def test_content_comes_back_byte_for_byte(ledger: Ledger, text: str) -> None:
    content = '{"text":"' + text + '"}'
    admit(ledger, submit(ledger), content=content)
    (taken,) = take_now(ledger)
    assert taken.content.decode() == content


# --- pacing


def drain(ledger: Ledger, clock: Any, seconds: float, *, step_s: float = 0.005) -> list[tuple[str, int]]:
    """Take every slot at its instant for a while; returns (lane, slot) of each message."""
    got: list[tuple[str, int]] = []
    waiting: list[Slot] = []
    for _ in range(int(seconds / step_s)):
        clock.shift(step_s)
        granted = ledger.run(calls.grant("p1", 64, lane_quota=64, quotas={}))
        waiting += granted.slots
        due = [s for s in waiting if s.at_us <= granted.now_us]
        waiting = [s for s in waiting if s.at_us > granted.now_us]
        if due:
            answers = ledger.run(calls.take("p1", f"d{len(got)}-{granted.now_us}", [(s, "b1") for s in due])).answers
            got += [(s.lane, s.at_us) for s, a in zip(due, answers, strict=True) if isinstance(a, Taken)]
    return got


def test_a_lane_is_held_at_its_rate_and_its_slots_never_closer_than_one_interval(ledger: Ledger, clock: Any) -> None:
    admit(ledger, submit(ledger, messages=300))
    slots = [at for _, at in drain(ledger, clock, 2)]
    assert 195 <= len(slots) <= 201
    assert min(b - a for a, b in itertools.pairwise(slots)) >= 10_000


def test_a_shared_bucket_is_used_up_and_shared_by_its_lanes(ledger: Ledger, clock: Any) -> None:
    lanes = {n: lane(n, f"s:{n}", "a:sms") for n in ("a", "b", "c")}
    buckets = {f"s:{n}": {"t_us": 10_000} for n in lanes} | {"a:sms": {"t_us": 20_000}}
    ledger.run(calls.publish(publication(lanes, buckets, digest="two"), {}))
    for n in lanes:
        admit(ledger, submit(ledger, messages=200), lane=n)
    got = drain(ledger, clock, 4)
    assert 196 <= len(got) <= 206
    each = [sum(1 for name, _ in got if name == n) for n in lanes]
    assert max(each) - min(each) <= 12


def test_a_full_bucket_does_not_hold_up_a_lane_that_does_not_draw_on_it(ledger: Ledger, clock: Any) -> None:
    lanes = {n: lane(n, f"s:{n}", "a:sms") for n in ("a", "b")} | {"free": lane("free", "s:free")}
    buckets = {f"s:{n}": {"t_us": 10_000} for n in lanes} | {"a:sms": {"t_us": 1_000_000}}
    ledger.run(calls.publish(publication(lanes, buckets, digest="two"), {}))
    for n in lanes:
        admit(ledger, submit(ledger, messages=200), lane=n)
    got = [name for name, _ in drain(ledger, clock, 1)]
    assert got.count("free") >= 97


def test_urgent_leaves_on_the_next_slot_and_bulk_keeps_its_share(ledger: Ledger, clock: Any) -> None:
    admit(ledger, submit(ledger, messages=500, klass=2))
    admit(ledger, submit(ledger, messages=500, klass=0, job_type="otp"))
    taken: list[str] = []
    for _ in range(100):
        clock.shift(0.01)
        taken += [t.job_type for t in take_now(ledger, hands=1)]
    assert len(taken) >= 90
    assert 0.07 <= taken.count("notice") / len(taken) <= 0.12


def test_notifications_of_a_class_take_turns(ledger: Ledger, clock: Any) -> None:
    big, small = submit(ledger, messages=400), submit(ledger, messages=10)
    admit(ledger, big)
    admit(ledger, small)
    order: list[str] = []
    while len(order) < 40:
        clock.shift(0.01)
        order += [t.message[:32] for t in take_now(ledger, hands=1)]
    assert max(i for i, id in enumerate(order) if id == small) <= 20


def test_a_missed_slot_is_lost_and_its_message_stays(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    granted = ledger.run(calls.grant("p1", 1, lane_quota=1, quotas={}))
    clock.shift(0.5)
    answer = ledger.run(calls.take("p1", "t", [(granted.slots[0], "b1")]))
    assert answer.answers == [Missed("late")]
    assert state(ledger, mid) == "queued"
    assert [t.message for t in take_now(ledger)] == [mid]


def test_a_daily_cap_stops_its_lanes_until_the_published_midnight(ledger: Ledger, clock: Any) -> None:
    midnight = int(START.timestamp() * 1e6) + HOUR_US
    pub = publication(
        {"alerts": lane("alerts", "s:alerts", "d:acme")},
        {"s:alerts": {"t_us": 10_000}, "d:acme": {"cap": 20, "tz": "UTC", "reserve": 0.1}},
        digest="cap",
    )
    ledger.run(calls.publish(pub, {"d:acme": [midnight, midnight + 24 * HOUR_US]}))
    admit(ledger, submit(ledger, messages=100, klass=2, valid_for_us=24 * HOUR_US))
    assert len(drain(ledger, clock, 2)) == 18  # the last tenth is not for bulk
    admit(ledger, submit(ledger, messages=10, klass=0))
    assert len(drain(ledger, clock, 2)) == 2
    clock.shift(3600)
    ledger.run(calls.beat("p1", "first"))
    assert len(drain(ledger, clock, 2)) == 18


def test_a_paused_lane_gives_nothing_and_goes_on_when_resumed(ledger: Ledger, clock: Any) -> None:
    queue(ledger)
    ledger.run(calls.lane("alerts", "pause", "operator"))
    assert take_now(ledger) == []
    ledger.run(calls.lane("alerts", "resume"))
    assert len(take_now(ledger)) == 1


def test_a_lane_whose_sender_is_gone_is_held_and_its_messages_expire(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger, valid_for_us=60_000_000)
    ledger.run(calls.publish(publication({}, {}, digest="none"), {}))
    assert take_now(ledger) == []
    pass_time(ledger, clock, 62)
    assert state(ledger, mid) == "expired"


def test_a_rate_set_at_run_time_outlives_deploys_until_it_is_given_back(ledger: Ledger) -> None:
    def interval() -> int:
        redis: Any = ledger.redis
        return int(redis.hget(ledger.key("b:s:alerts"), "t"))

    ledger.run(calls.lane("alerts", "rate", 50_000))
    ledger.run(calls.publish(publication(None, {"s:alerts": {"t_us": 20_000}}, digest="two"), {}))
    assert interval() == 50_000
    ledger.run(calls.lane("alerts", "rate", "configured"))
    assert interval() == 20_000
    ledger.run(calls.publish(publication(None, {"s:alerts": {"t_us": 30_000}}, digest="three"), {}))
    assert interval() == 30_000


def test_an_older_release_does_not_replace_a_later_ones_configuration(ledger: Ledger) -> None:
    assert ledger.run(calls.publish(publication(digest="new", release=7), {})) == "published"
    assert ledger.run(calls.publish(publication(digest="old", release=6), {})) == "older"
    assert ledger.run(calls.publish(publication(digest="new", release=7), {})) == "same"


@settings(max_examples=25, deadline=None)
@given(
    lanes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    shared=st.one_of(st.none(), st.integers(2, 60)),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "urgent", "grant", "skip", "pause", "resume"]),
            st.integers(0, 3),
            st.integers(0, 120),
        ),
        min_size=10,
        max_size=80,
    ),
)
@example(lanes=[1], shared=None, steps=[("put", 0, 0)] + [("grant", 0, 1)] * 40)
def test_no_interleaving_grants_an_own_bucket_closer_than_its_interval_or_a_shared_one_beyond_its_rate(
    lanes: list[int], shared: int | None, steps: list[tuple[str, int, int]]
) -> None:
    """Intervals are in ms. After each step time passes by the step's third value, in ms."""
    with time_machine.travel(START, tick=False) as clock:
        ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
        names = {f"l{i}": ms for i, ms in enumerate(lanes)}
        more = {"a:sms": {"t_us": shared * 1000}} if shared else {}
        ledger.run(
            calls.publish(
                publication(
                    {n: lane(n, f"s:{n}", *more) for n in names},
                    {f"s:{n}": {"t_us": ms * 1000} for n, ms in names.items()} | more,
                ),
                {},
            )
        )
        ledger.run(calls.beat("p1", "first"))
        slots: dict[str, list[int]] = {n: [] for n in names}
        taken: list[str] = []
        queued = 0
        for what, which, ms in steps:
            name = f"l{which % len(lanes)}"
            if what in ("put", "urgent"):
                admit(ledger, submit(ledger, messages=5, klass=0 if what == "urgent" else 2), lane=name)
                queued += 5
            elif what in ("pause", "resume"):
                ledger.run(calls.lane(name, what))
            elif what == "grant":
                ledger.run(calls.beat("p1", "first"))
                granted = ledger.run(calls.grant("p1", 20, lane_quota=10, quotas={}))
                for slot in granted.slots:
                    slots[slot.lane].append(slot.at_us)
                answers = ledger.run(
                    calls.take("p1", f"k{len(taken)}-{granted.now_us}", [(s, "b") for s in granted.slots])
                )
                taken += [a.message for a in answers.answers if isinstance(a, Taken)]
            clock.shift(ms / 1000)
        for n, at in slots.items():
            assert all(b - a >= names[n] * 1000 for a, b in itertools.pairwise(at)), "closer than one interval"
        if shared:
            every = sorted(t for at in slots.values() for t in at)
            for i, first in enumerate(every):
                for j in range(i, len(every)):
                    allowed = (every[j] - first + calls.GRANT_HI_US) / (shared * 1000) + 2
                    assert j - i + 1 <= allowed, "a shared bucket gave more than its rate"
        assert len(taken) == len(set(taken)), "taken twice"
        waiting = sum(ledger.redis.zcard(ledger.key(f"q:{n}:{k}")) for n in names for k in range(3))
        assert waiting + len(taken) == queued, "forgotten"


# --- take, finish, facts


def test_a_repeated_take_gets_the_same_message_and_leave(ledger: Ledger) -> None:
    queue(ledger)
    queue(ledger)
    for attempt in range(200):  # on a real server a busy machine may use a slot too late
        slots = ledger.run(calls.grant("p1", 1, lane_quota=1, quotas={})).slots
        if not slots:
            continue
        pairs = [(slots[0], "b1")]
        first = ledger.run(calls.take("p1", f"same{attempt}", pairs)).answers
        if isinstance(first[0], Taken):
            break
    assert isinstance(first[0], Taken)
    assert first == ledger.run(calls.take("p1", f"same{attempt}", pairs)).answers
    assert ledger.run(calls.take("p1", "another", pairs)).answers == [Missed("gone")]


def test_an_accepted_message_is_delivered_by_its_receipts_in_any_order(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    assert finish(ledger, taken, "accepted", raw="queued") == "applied"
    facts = [
        Fact(ref=mid, provider_id=f"pid-{mid}", state=s, raw=r)
        for s, r in (("D", "delivered"), ("T", "sent"), ("D", "delivered"))
    ]
    assert ledger.run(calls.receipt("", facts)) == ["applied", "known", "known"]
    seen = view(ledger, mid)
    assert (seen.state, seen.attempts, seen.next_at_us, seen.provider_id) == ("delivered", 1, None, f"pid-{mid}")
    assert [s.state for s in seen.timeline] == ["new", "queued", "sending", "accepted", "delivered"]


def test_a_receipt_names_its_message_by_the_providers_id_when_the_reference_is_missing(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    assert ledger.run(calls.receipt("", [Fact(ref=None, provider_id=f"pid-{mid}", state="D")])) == ["applied"]
    assert ledger.run(calls.receipt("", [Fact(ref="none", provider_id="none", state="D")])) == ["lost"]


def test_a_receipt_finds_its_message_by_the_providers_id_also_days_later(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted", provider_id="one")
    clock.shift(3 * 24 * 3600)
    assert ledger.run(calls.receipt("", [Fact(ref=None, provider_id="one", state="D")])) == ["applied"]
    assert state(ledger, mid) == "delivered"


def test_a_receipt_that_overtakes_the_answer_counts(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id="x1", state="D")]))
    finish(ledger, taken, "accepted", provider_id="x1")
    assert state(ledger, mid) == "delivered"
    assert not ledger.redis.hgetall(ledger.key("held:p1"))


def test_a_refusal_is_final_and_shows_its_code(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "rejected", code="40310", title="Invalid 'to' address", why="40310")
    seen = view(ledger, mid)
    assert (seen.state, seen.attempts) == ("rejected", 1)
    assert [(e["code"], e["title"], e["phase"]) for e in seen.errors] == [("40310", "Invalid 'to' address", "send")]


def test_a_stop_at_the_provider_ends_the_message_and_blocks_the_person_in_that_profile(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "opted_out", code="40300", title="Blocked due to STOP message", why="40300")
    assert state(ledger, mid) == "opted_out"
    assert state(ledger, queue(ledger)) == "opted_out"
    assert state(ledger, queue(ledger, to="+13125550199")) == "queued"


def test_clear_failures_are_tried_again_later_until_the_tries_are_used_up(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    for n in (1, 2, 3):
        (taken,) = take_now(ledger)
        assert taken.attempt == n
        finish(ledger, taken, "retry", why="40006", code="40006", delay_us=2_000_000, uses_a_try=True)
        assert take_now(ledger) == []
        pass_time(ledger, clock, 2.5)
    assert state(ledger, mid) == "rejected"


def test_waiting_and_slowing_down_use_up_no_try(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    for _ in range(6):
        (taken,) = take_now(ledger)
        finish(ledger, taken, "slow_down", why="http_429", hold_us=3_000_000)
        assert take_now(ledger) == [], "the bucket is held"
        pass_time(ledger, clock, 3.5)
    assert state(ledger, mid) == "queued"


def test_what_was_never_sent_takes_the_next_slot_and_counts_as_no_attempt(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    admit(ledger, submit(ledger, messages=20))
    (taken, *_) = list(take_now(ledger, hands=1))
    assert taken.message == mid
    finish(ledger, taken, "not_sent", why="late")
    clock.shift(0.05)
    (again,) = take_now(ledger, hands=1)
    assert (again.message, again.attempt, again.may_be_out) == (mid, 1, False)


def test_a_stale_token_brings_facts_but_no_verdicts(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    clock.shift(31)
    wake(ledger)
    assert state(ledger, mid) == "uncertain"
    ledger.run(calls.ear("w1"))
    ledger.run(calls.beat("p1", "first"))
    pass_time(ledger, clock, 8)
    (again,) = take_now(ledger)
    assert again.may_be_out
    assert finish(ledger, taken, "rejected", code="40310", why="40310") == "stale"
    assert state(ledger, mid) == "sending"
    assert finish(ledger, taken, "accepted") == "applied"
    assert state(ledger, mid) == "accepted"


def test_a_process_that_was_taken_for_dead_may_still_say_that_it_sent_nothing(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    clock.shift(31)
    wake(ledger)
    assert state(ledger, mid) == "uncertain"
    assert finish(ledger, taken, "not_sent", why="late") == "ok"
    assert state(ledger, mid) == "queued", "no grace: nothing can be heard of what never left"


def test_two_provider_ids_for_one_message_are_counted_and_shown(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted", provider_id="one")
    assert ledger.run(calls.receipt("", [Fact(ref=mid, provider_id="two", state="D")])) == ["duplicate"]
    assert ledger.redis.hget(ledger.key("counts"), "doubled") == b"1"
    assert state(ledger, mid) == "delivered"


@pytest.mark.parametrize("waits", ["queued", "scheduled"])
def test_a_receipt_for_what_never_left_ends_nothing(ledger: Ledger, clock: Any, waits: str) -> None:
    """It is somebody else's with our reference, such as that of a second installation with the same keys."""
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "not_sent", why="late", delay_us=1_000_000 if waits == "scheduled" else 0)
    assert ledger.run(calls.receipt("", [Fact(ref=mid, provider_id="another", state="D")])) == ["odd"]
    assert state(ledger, mid) == waits
    pass_time(ledger, clock, 2)
    assert [t.message for t in take_now(ledger)] == [mid]


def test_a_receipt_of_an_earlier_request_ends_what_waits_for_its_next(ledger: Ledger, clock: Any) -> None:
    taken = uncertain(ledger)
    pass_time(ledger, clock, 8)
    assert state(ledger, taken.message) == "queued"
    assert ledger.run(calls.receipt("", [Fact(ref=taken.message, provider_id="one", state="D")])) == ["applied"]
    assert take_now(ledger) == []


def test_an_id_for_each_member_of_a_group_is_no_second_message(ledger: Ledger) -> None:
    mid = queue(ledger, to="+13125550100,+13125550101")
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted", provider_id="group")
    for number, pid in (("+13125550100", "first"), ("+13125550101", "second")):
        fact = Fact(ref=mid, provider_id=pid, state="D", to=[(number, "D")])
        assert ledger.run(calls.receipt("", [fact]))[0] in ("known", "applied")
    assert ledger.redis.hget(ledger.key("counts"), "doubled") is None
    assert state(ledger, mid) == "delivered"
    assert ledger.run(calls.receipt("", [Fact(ref=None, provider_id="first", state="D")])) == ["known"], "found by it"


def test_a_correction_moves_a_final_message_up_only(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    for letter, word in (("X", "unconfirmed"), ("F", "failed"), ("D", "delivered"), ("F", "delivered")):
        ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter)]))
        assert state(ledger, mid) == word


# --- in doubt


def test_grace_counts_only_while_callbacks_could_be_heard(ledger: Ledger, clock: Any) -> None:
    taken = uncertain(ledger)
    pass_time(ledger, clock, 60, hearing=False)
    assert state(ledger, taken.message) == "uncertain", "silence proves nothing while nobody listens"
    pass_time(ledger, clock, 4)
    assert state(ledger, taken.message) == "uncertain"
    pass_time(ledger, clock, 3)
    assert state(ledger, taken.message) == "queued"


def test_a_receipt_heard_but_not_yet_applied_holds_the_grace_back(ledger: Ledger, clock: Any) -> None:
    pass_time(ledger, clock, 1)
    taken = uncertain(ledger)
    ledger.run(calls.hear("batch", b"[]"))
    pass_time(ledger, clock, 30)
    assert state(ledger, taken.message) == "uncertain"
    ledger.run(calls.receipt("batch", [Fact(ref=taken.message, provider_id="x", state="T")]))
    assert state(ledger, taken.message) == "sent"


def test_silence_before_a_deaf_time_does_not_count(ledger: Ledger, clock: Any) -> None:
    taken = uncertain(ledger)
    pass_time(ledger, clock, 3)
    pass_time(ledger, clock, 6, hearing=False)
    pass_time(ledger, clock, 3)
    assert state(ledger, taken.message) == "uncertain", (
        "what came while nobody could hear may be lost: five seconds anew"
    )
    pass_time(ledger, clock, 4)
    assert state(ledger, taken.message) == "queued"


def test_a_kept_batch_whose_pointer_was_lost_is_pointed_at_again(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.hear("b1", b"[]"))
    clock.shift(9)
    assert wake(ledger) == []
    clock.shift(2)
    assert wake(ledger) == [calls.Pointer("reconcile", "b1", "")]
    ledger.run(calls.receipt("b1", []))
    clock.shift(3600)
    assert wake(ledger) == []


def test_ten_deaf_minutes_are_enough(ledger: Ledger, clock: Any) -> None:
    taken = uncertain(ledger)
    pass_time(ledger, clock, 590, hearing=False)
    assert state(ledger, taken.message) == "uncertain"
    pass_time(ledger, clock, 20, hearing=False)
    assert state(ledger, taken.message) == "queued"
    assert ledger.redis.hget(ledger.key("counts"), "decided_deaf") == b"1"


def test_without_webhooks_the_grace_is_plain_time(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.publish(publication(digest="poll", receipts="poll"), {}))
    taken = uncertain(ledger)
    pass_time(ledger, clock, 6, hearing=False)
    assert state(ledger, taken.message) == "queued"


def test_an_urgent_message_waits_its_own_shorter_grace(ledger: Ledger, clock: Any) -> None:
    pass_time(ledger, clock, 1)
    taken = uncertain(ledger, klass=0)
    pass_time(ledger, clock, 3)
    assert state(ledger, taken.message) == "queued"


def test_a_careful_job_type_gives_up_instead_of_sending_again(ledger: Ledger, clock: Any) -> None:
    taken = uncertain(ledger, job_type="careful")
    pass_time(ledger, clock, 12)
    seen = view(ledger, taken.message)
    assert (seen.state, seen.timeline[-1].reason) == ("unconfirmed", "give_up")


def test_a_careful_job_type_does_not_ask_again_while_the_first_request_is_being_worked_on(
    ledger: Ledger, clock: Any
) -> None:
    mid = queue(ledger, job_type="careful")
    (taken,) = take_now(ledger)
    finish(ledger, taken, "conflict", why="10036", delay_us=1_000_000)
    for _ in range(12):
        pass_time(ledger, clock, 1)
        assert take_now(ledger) == []
    seen = view(ledger, mid)
    assert (seen.state, seen.timeline[-1].reason) == ("unconfirmed", "give_up")


def test_what_is_being_worked_on_may_be_out(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger, valid_for_us=20_000_000)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "conflict", why="10036", delay_us=1_000_000)
    ledger.run(calls.lane("alerts", "pause"))
    pass_time(ledger, clock, 25)
    assert state(ledger, mid) == "unconfirmed"


def in_doubt_again(ledger: Ledger, clock: Any, **other: Any) -> str:
    """A message that may be out and waits in its lane for its second request."""
    pass_time(ledger, clock, 1)
    taken = uncertain(ledger, **other)
    pass_time(ledger, clock, 8)
    assert state(ledger, taken.message) == "queued"
    return taken.message


@pytest.mark.parametrize(
    ("why", "then"),
    [
        ("opted_out", lambda ledger, clock, mid: ledger.run(calls.opt(TO, "out", scopes=["global"], source="api"))),
        ("cancelled", lambda ledger, clock, mid: ledger.run(calls.cancel(mid[:32], 0))),
        ("builder_changed", None),
        ("key_too_old", lambda ledger, clock, mid: clock.shift(23 * 3600 + 60)),
    ],
)
def test_what_may_be_out_and_gets_no_more_tries_is_unconfirmed(
    ledger: Ledger, clock: Any, why: str, then: Callable[..., Any] | None
) -> None:
    mid = in_doubt_again(ledger, clock, valid_for_us=48 * HOUR_US)
    if then:
        then(ledger, clock, mid)
        ledger.run(calls.beat("p1", "first"))
    assert take_now(ledger, builder="b2" if why == "builder_changed" else "b1") == []
    seen = view(ledger, mid)
    assert (seen.state, seen.timeline[-1].reason) == ("unconfirmed", why)


def test_what_may_be_out_and_expires_is_unconfirmed(ledger: Ledger, clock: Any) -> None:
    mid = in_doubt_again(ledger, clock, valid_for_us=30_000_000)
    ledger.run(calls.lane("alerts", "pause"))
    pass_time(ledger, clock, 40)
    assert state(ledger, mid) == "unconfirmed"


def test_a_dead_process_leaves_its_messages_uncertain_and_a_stall_robs_nobody(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.beat("p2", "first"))
    ledger.run(calls.reap("p2"))
    mid = queue(ledger)
    take_now(ledger)
    clock.shift(60)  # the server stood still: every key has lapsed, and nobody reaped
    ledger.run(calls.beat("p2", "first"))
    assert ledger.run(calls.reap("p2")) == ([], 0)
    assert state(ledger, mid) == "sending"
    for _ in range(22):
        clock.shift(0.5)
        ledger.run(calls.beat("p2", "again"))
        gone, made = ledger.run(calls.reap("p2"))
        if gone:
            break
    assert (gone, made) == (["p1"], 1)
    assert state(ledger, mid) == "uncertain"
    assert ledger.run(calls.beat("p1", "again")) is False, "the robbed process learns that it was taken for dead"


# --- silence, validity, schedule, cancel


def test_a_dead_process_does_not_make_uncertain_what_another_took_after_it(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.beat("p2", "first"))
    mid = queue(ledger)
    take_now(ledger, "p1")  # and p1 stalls, so that its result never comes
    for _ in range(90):
        clock.shift(0.5)
        ledger.run(calls.beat("p1", "again"))
        ledger.run(calls.beat("p2", "again"))
        ledger.run(calls.reap("p2"))
        ledger.run(calls.ear("w1"))
        wake(ledger)
    (again,) = take_now(ledger, "p2")
    assert again.message == mid
    for _ in range(24):  # p1 dies
        clock.shift(0.5)
        ledger.run(calls.beat("p2", "again"))
        gone, in_doubt = ledger.run(calls.reap("p2"))
        if gone:
            break
    assert (gone, in_doubt) == (["p1"], 0)
    assert finish(ledger, again, "rejected", process="p2", why="40310", code="40310") == "ok", "its leave still stands"


def test_a_silent_message_is_polled_at_growing_intervals_and_ends_after_72_hours(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    polls = []
    while (timer := view(ledger, mid).next_at_us) is not None:
        clock.move_to(timer / 1e6 + 0.001)
        due = calls.Pointer("poll", mid, f"pid-{mid}")
        polls += [round((time.time() - START.timestamp()) / 60) for pointer in wake(ledger) if pointer == due]
        assert len(polls) < 20
    assert polls[:5] == [1, 4, 13, 40, 121]
    assert max(b - a for a, b in itertools.pairwise(polls)) <= 721
    assert time.time() - START.timestamp() == pytest.approx(72 * 3600, abs=2)
    seen = view(ledger, mid)
    assert (seen.state, seen.timeline[-1].reason) == ("unconfirmed", "silent")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    assert state(ledger, mid) == "delivered"


def test_what_is_no_longer_valid_is_not_taken_also_before_its_timer_rings(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger, valid_for_us=3_000_000)
    clock.shift(3.5)
    assert take_now(ledger) == []
    assert state(ledger, mid) == "expired"


def test_validity_ends_what_waits_in_a_paused_lane(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.lane("alerts", "pause"))
    one, many = queue(ledger, valid_for_us=30_000_000), submit(ledger, messages=250, valid_for_us=30_000_000)
    admit(ledger, many)
    pass_time(ledger, clock, 29)
    assert state(ledger, one) == "queued"
    pass_time(ledger, clock, 5)
    assert state(ledger, one) == "expired"
    seen = read_notification(ledger, many)
    assert seen is not None
    assert seen.state_counts == {"expired": 250}


def test_a_scheduled_message_leaves_at_its_time_and_lives_from_then(ledger: Ledger, clock: Any) -> None:
    at = int(START.timestamp() * 1e6) + HOUR_US
    id = submit(ledger, send_at_us=at, valid_for_us=60_000_000)
    admit(ledger, id)
    assert state(ledger, f"{id}-0") == "scheduled"
    clock.shift(3590)
    wake(ledger)
    assert state(ledger, f"{id}-0") == "scheduled"
    clock.shift(11)
    wake(ledger)
    assert state(ledger, f"{id}-0") == "queued"


def test_cancel_stops_what_waits_also_what_is_not_expanded_and_counts_it_once(ledger: Ledger, clock: Any) -> None:
    id = submit(ledger, messages=450)
    ledger.run(calls.admit(id, "0", "{}", [calls.Admission(to=f"+1312{i:07d}", lane="alerts") for i in range(200)]))
    (taken,) = take_now(ledger, hands=1)
    assert ledger.run(calls.cancel(id, 0)) == (449, None)
    assert ledger.run(calls.cancel(id, 0)) == (0, None)
    assert ledger.run(calls.load(id, "1")) is None
    finish(ledger, taken, "retry", why="x", uses_a_try=True)
    seen = read_notification(ledger, id, limit=450)
    assert seen is not None
    assert seen.state_counts == {"cancelled": 450}
    assert {m.state for m in seen.messages} == {"cancelled"}
    assert ledger.run(calls.cancel("f" * 32, 0)) is None


# --- opt-outs, groups


def test_a_stop_reaches_what_is_already_queued(ledger: Ledger) -> None:
    mid = queue(ledger)
    ledger.run(calls.opt(TO, "out", scopes=["profile:p1"], source="webhook", evidence="e1"))
    assert take_now(ledger) == []
    assert state(ledger, mid) == "opted_out"


@pytest.mark.parametrize(
    ("scope", "blocks"), [("global", True), ("sender:alerts", True), ("profile:p1", True), ("profile:p2", False)]
)
def test_an_opt_out_blocks_its_own_scope(ledger: Ledger, scope: str, blocks: bool) -> None:
    ledger.run(calls.opt(TO, "out", scopes=[scope], source="api"))
    assert (state(ledger, queue(ledger)) == "opted_out") is blocks


def test_a_sender_of_unknown_profile_is_blocked_by_any_scope_of_that_person(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.publish(publication({"alerts": lane("alerts", "s:alerts")}, digest="no profile"), {}))
    ledger.run(calls.opt(TO, "out", scopes=["profile:elsewhere"], source="webhook"))
    assert state(ledger, queue(ledger)) == "opted_out"
    clock.shift(1)
    ledger.run(calls.opt(TO, "in", scopes=["profile:elsewhere"], source="webhook"))
    assert state(ledger, queue(ledger)) == "queued"


@pytest.mark.parametrize(
    ("steps", "blocked"),
    [
        ([("out", 10), ("in", 20)], False),
        ([("in", 20), ("out", 10)], False),
        ([("out", 10), ("in", 10)], True),
        ([("in", 10), ("out", 10)], True),
        ([("out", 20), ("in", 10)], True),
    ],
)
def test_the_newer_word_wins_and_a_tie_means_out(ledger: Ledger, steps: list[tuple[Any, int]], blocked: bool) -> None:
    for direction, at in steps:
        ledger.run(calls.opt(TO, direction, scopes=["global"], source="webhook", occurred_us=at))
    assert (state(ledger, queue(ledger)) == "opted_out") is blocked


def test_a_word_from_the_future_does_not_outlast_a_later_one(ledger: Ledger, clock: Any) -> None:
    """The clocks of who sends it and of the server may differ."""
    ahead_us = ledger.run(calls.hear("b0", b"[]")) + 240_000_000
    ledger.run(calls.opt(TO, "out", scopes=["global"], occurred_us=ahead_us, source="webhook"))
    clock.shift(10)
    ledger.run(calls.opt(TO, "in", scopes=["global"], source="webhook"))
    queue(ledger)
    assert len(take_now(ledger)) == 1


def test_start_does_not_lift_what_an_operator_set(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="api", by_operator=True))
    clock.shift(1)
    ledger.run(calls.opt(TO, "in", scopes=["global"], source="webhook"))
    assert state(ledger, queue(ledger)) == "opted_out"
    ledger.run(calls.opt(TO, "in", scopes=["global"], source="api", by_operator=True))
    assert state(ledger, queue(ledger)) == "queued"


GROUP = "+13125550001,+13125550002,+13125550003"


def test_a_group_goes_to_the_members_who_have_not_opted_out(ledger: Ledger) -> None:
    mid = queue(ledger, to=GROUP)
    ledger.run(calls.opt("+13125550002", "out", scopes=["global"], source="api"))
    (taken,) = take_now(ledger)
    assert taken.to == ["+13125550001", "+13125550003"]
    finish(ledger, taken, "accepted", to=[(n, "A") for n in taken.to])
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D", to=[("+13125550001", "D")])]))
    assert state(ledger, mid) == "accepted"
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F", to=[("+13125550003", "F")])]))
    seen = view(ledger, mid)
    assert seen.state == "failed"
    assert seen.members == [("+13125550001", "delivered"), ("+13125550002", "opted_out"), ("+13125550003", "failed")]
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D", to=[("+13125550003", "D")])]))
    assert state(ledger, mid) == "delivered"


def test_a_group_is_opted_out_when_all_its_members_are(ledger: Ledger) -> None:
    for number in GROUP.split(","):
        ledger.run(calls.opt(number, "out", scopes=["global"], source="api"))
    mid = queue(ledger, to=GROUP)
    assert state(ledger, mid) == "opted_out"


def test_a_group_draws_one_unit_for_each_recipient(ledger: Ledger, clock: Any) -> None:
    for _ in range(40):
        queue(ledger, to=GROUP)
    assert 32 <= len(drain(ledger, clock, 1)) <= 36


def test_a_long_text_draws_its_segments_where_the_sender_counts_those(ledger: Ledger, clock: Any) -> None:
    for _ in range(40):
        admit(ledger, submit(ledger), units=3)
    assert 32 <= len(drain(ledger, clock, 1)) <= 36


def test_a_group_in_doubt_is_not_sent_again_when_a_member_opts_out(ledger: Ledger, clock: Any) -> None:
    mid = in_doubt_again(ledger, clock, to=GROUP)
    ledger.run(calls.opt("+13125550002", "out", scopes=["global"], source="api"))
    assert take_now(ledger) == []
    assert state(ledger, mid) == "unconfirmed"


# --- events, ends


def test_every_end_is_an_event_and_a_correction_one_of_its_own(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    for letter in "FD":
        ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter)]))
    rows = [(f[b"y"].decode(), f[b"s"].decode()) for _, f in ledger.redis.xrange(ledger.key("ev"))]
    assert rows == [("message.final", "F"), ("notification.finished", ""), ("message.corrected", "D")]


def test_content_is_gone_once_a_message_is_delivered_and_the_record_lives_for_the_retention(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    record = ledger.redis.hgetall(ledger.key(f"m:{mid}"))
    assert b"hello" not in b"".join(record.values())
    assert ledger.redis.ttl(ledger.key(f"m:{mid}")) == 604_800


# --- what goes wrong inside a script


def poisoned(ledger: Ledger) -> int:
    return int(ledger.redis.hget(ledger.key("counts"), "poisoned") or 0)


def test_a_timer_that_breaks_the_script_holds_up_no_other_and_is_tried_again(ledger: Ledger, clock: Any) -> None:
    at = int(START.timestamp() * 1e6) + 5_000_000
    broken, sound = (submit(ledger, send_at_us=at + n) for n in range(2))
    for id in (broken, sound):
        admit(ledger, id)
    ledger.redis.hdel(ledger.key(f"m:{broken}-0"), "ln")
    clock.shift(6)
    wake(ledger)
    assert state(ledger, f"{sound}-0") == "queued"
    assert poisoned(ledger) == 1
    clock.shift(5)
    wake(ledger)
    assert poisoned(ledger) == 1, "it is not met by every call"
    ledger.redis.hset(ledger.key(f"m:{broken}-0"), "ln", "alerts")
    clock.shift(60)
    wake(ledger)
    assert state(ledger, f"{broken}-0") == "queued"


def test_a_message_that_breaks_take_is_put_aside_and_its_slot_serves_the_next(ledger: Ledger, clock: Any) -> None:
    broken, sound = queue(ledger), queue(ledger)
    ledger.redis.hdel(ledger.key(f"m:{broken}"), "to")
    assert [t.message for t in take_now(ledger, hands=1)] == [sound]
    ledger.redis.hset(ledger.key(f"m:{broken}"), "to", TO)
    clock.shift(61)
    ledger.run(calls.beat("p1", "first"))
    wake(ledger)
    assert broken in [t.message for t in take_now(ledger)]


def test_a_result_that_breaks_finish_costs_its_neighbours_nothing(ledger: Ledger) -> None:
    queue(ledger)
    queue(ledger)
    broken, sound = take_now(ledger)
    ledger.redis.hdel(ledger.key(f"m:{broken.message}"), "ln")
    results = [calls.Finish(message=t.message, token=t.token, outcome="retry", why="x") for t in (broken, sound)]
    assert ledger.run(calls.finish("p1", results)) == ["poison", "ok"]
    assert state(ledger, sound.message) == "queued"


def test_a_fact_that_breaks_receipt_fails_the_call_only_after_all_others_are_applied(ledger: Ledger) -> None:
    mids = [queue(ledger) for _ in range(3)]
    for taken in take_now(ledger):
        finish(ledger, taken, "accepted")
    ledger.run(calls.hear("batch", b"[]"))
    ledger.redis.hset(ledger.key(f"m:{mids[1]}"), "at", "never")
    facts = [Fact(ref=mid, provider_id=f"pid-{mid}", state="D") for mid in mids]
    with pytest.raises(ResponseError, match="breaks the script"):
        ledger.run(calls.receipt("batch", facts))
    assert [state(ledger, mids[0]), state(ledger, mids[2])] == ["delivered", "delivered"]
    assert ledger.redis.exists(ledger.key("rx:batch")), "the batch is kept until its poison is found"


def test_an_unpublished_bucket_is_slow_and_never_unlimited(ledger: Ledger, clock: Any) -> None:
    admit(ledger, submit(ledger, messages=50))
    ledger.redis.delete(ledger.key("b:s:alerts"))
    assert 1 <= len(drain(ledger, clock, 2)) <= 3


# --- nothing is forgotten, nothing grows without end


def test_what_comes_back_after_its_validity_ends_also_in_a_lane_that_gives_nothing(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger, valid_for_us=3_000_000)
    (taken,) = take_now(ledger)
    clock.shift(5)
    wake(ledger)  # the timer of its validity has rung while it was away
    ledger.run(calls.lane("alerts", "pause"))
    finish(ledger, taken, "retry", why="http_500")
    assert state(ledger, mid) == "expired"


def test_recipients_that_were_never_expanded_expire_with_the_others_at_once(ledger: Ledger, clock: Any) -> None:
    ledger.run(calls.lane("alerts", "pause"))
    id = submit(ledger, messages=800, valid_for_us=30_000_000)
    chunk = [calls.Admission(to=f"+1312{i:07d}", lane="alerts") for i in range(200)]
    ledger.run(calls.admit(id, "0", "{}", chunk))
    ledger.run(calls.admit(id, "1", "{}", chunk))
    clock.shift(31)
    wake(ledger)
    seen = read_notification(ledger, id, limit=1000)
    assert seen is not None
    assert seen.state_counts == {"expired": 800}
    assert {m.state for m in seen.messages} == {"expired"}
    assert (seen.messages[-1].timeline[-1].at_us - seen.submitted_us) // 1_000_000 == 31
    assert ledger.run(calls.load(id, "2")) is None


def test_nobody_picks_up_pointers_and_they_become_rarer(ledger: Ledger, clock: Any) -> None:
    submit(ledger)
    ledger.run(calls.hear("batch", b"[]"))
    pointers: list[calls.Pointer] = []
    for _ in range(350):
        clock.shift(10)
        pointers += wake(ledger)
    kinds = [p.kind for p in pointers]
    assert 8 <= kinds.count("expand") <= 20
    assert 8 <= kinds.count("reconcile") <= 20


def test_a_message_refused_for_days_keeps_a_short_record_and_its_number_of_attempts(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger, valid_for_us=72 * HOUR_US)
    for _ in range(200):
        (taken,) = take_now(ledger)
        finish(ledger, taken, "slow_down", why="http_429", code="429", title="Too Many Requests")
        clock.shift(1)
    record = ledger.redis.hgetall(ledger.key(f"m:{mid}"))
    assert sum(map(len, record.values())) < 2500
    seen = view(ledger, mid)
    assert seen.attempts == 200
    assert [s.attempt for s in seen.timeline][-1] == 200
    assert [s.state for s in seen.timeline][:3] == ["new", "queued", "sending"]


def test_a_second_provider_id_finds_its_message_too(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted", provider_id="one")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id="two", state="T")]))
    assert ledger.run(calls.receipt("", [Fact(ref=None, provider_id="two", state="D")])) == ["applied"]
    assert state(ledger, mid) == "delivered"
    assert ledger.redis.hget(ledger.key("counts"), "doubled") == b"1"


# --- limits that lanes share


def test_a_resume_lifts_the_senders_own_hold_and_no_shared_one(ledger: Ledger, clock: Any) -> None:
    pub = publication(
        {"alerts": lane("alerts", "s:alerts", "a:sms")},
        {"s:alerts": {"t_us": 10_000}, "a:sms": {"t_us": 10_000}},
        digest="account",
    )
    ledger.run(calls.publish(pub, {}))
    for scope, left in (("sender", 1), ("account", 0)):
        queue(ledger)
        (taken,) = take_now(ledger)
        finish(ledger, taken, "slow_down", why="http_429", hold_us=60_000_000, scope=scope)
        assert take_now(ledger) == []
        ledger.run(calls.lane("alerts", "resume"))
        got = take_now(ledger)
        assert len(got) == left
        for again in got:
            finish(ledger, again, "accepted")
    assert ledger.redis.hget(ledger.key("b:a:sms"), "hold"), "the account's hold protects other senders too"


def test_a_lane_behind_two_full_limits_is_not_starved_by_those_behind_one(ledger: Ledger, clock: Any) -> None:
    both, one = [f"x{i}" for i in range(4)], [f"y{i}" for i in range(3)]
    lanes = {n: lane(n, f"s:{n}", "p:a", "a:sms") for n in both} | {n: lane(n, f"s:{n}", "a:sms") for n in one}
    buckets = {f"s:{n}": {"t_us": 10_000} for n in lanes} | {"p:a": {"t_us": 200_000}, "a:sms": {"t_us": 50_000}}
    ledger.run(calls.publish(publication(lanes, buckets, digest="two limits"), {}))
    for n in lanes:
        admit(ledger, submit(ledger, messages=120), lane=n)
    got = [name for name, _ in drain(ledger, clock, 8, step_s=0.01)]
    assert len(got) >= 155, "the account's 20/s are used"
    assert all(got.count(n) >= 4 for n in both), {n: got.count(n) for n in lanes}


def test_a_lane_that_no_longer_draws_on_a_limit_does_not_go_on_waiting_for_it(ledger: Ledger, clock: Any) -> None:
    lanes = {n: lane(n, f"s:{n}", "a:sms") for n in ("a", "b")}
    buckets = {f"s:{n}": {"t_us": 10_000} for n in lanes} | {"a:sms": {"t_us": HOUR_US}}
    ledger.run(calls.publish(publication(lanes, buckets, digest="slow"), {}))
    for n in lanes:
        admit(ledger, submit(ledger, messages=3), lane=n)
    assert len(drain(ledger, clock, 1)) == 1
    free = {n: lane(n, f"s:{n}") for n in lanes}
    ledger.run(calls.publish(publication(free, buckets, digest="free"), {}))
    assert len(drain(ledger, clock, 1)) == 5


def test_a_shared_limit_that_is_raised_is_raised_at_once(ledger: Ledger, clock: Any) -> None:
    lanes = {n: lane(n, f"s:{n}", "a:sms") for n in ("a", "b")}
    buckets = {f"s:{n}": {"t_us": 10_000} for n in lanes}
    ledger.run(calls.publish(publication(lanes, buckets | {"a:sms": {"t_us": HOUR_US}}, digest="slow"), {}))
    for n in lanes:
        admit(ledger, submit(ledger, messages=3), lane=n)
    assert len(drain(ledger, clock, 1)) == 1
    ledger.run(calls.publish(publication(lanes, buckets | {"a:sms": {"t_us": 10_000}}, digest="fast"), {}))
    assert len(drain(ledger, clock, 1)) == 5


def test_texts_whose_parts_telnyx_counts_otherwise_are_counted_once(ledger: Ledger) -> None:
    queue(ledger)
    (taken,) = take_now(ledger)
    for _ in range(2):
        finish(ledger, taken, "accepted", parts=2, parts_differ=True)
    assert ledger.redis.hget(ledger.key("counts"), "parts_differ") == b"1"
