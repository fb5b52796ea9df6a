"""Opt-outs in the ledger: what blocks, what is on record, and what the provider's list may lift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import time_machine
from ledger_kit import START, TO, admit, finish, lane, publication, queue, state, submit, take_now

from producers.ledger import calls
from producers.ledger.calls import OptRow
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.compliance.audit import Entry, read_audit
from worker.compliance.opt_outs import SOURCES, opted_out_among, read_opt_out

OTHER = "+13125550177"
GROUP = f"{TO},{OTHER}"
PROFILE = "profile:p1"
DAY_US = 86_400_000_000
SENDER = "sender:alerts"


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that moves the clock, or may miss no slot, runs on the fake server; every other one on both."""
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


def now_us(ledger: Ledger) -> int:
    return ledger.run(calls.hear("b", b"[]"))


def say(ledger: Ledger, direction: Any, number: str = TO, *scopes: str, **more: Any) -> int:
    return ledger.run(calls.opt(number, direction, scopes=scopes or [PROFILE], **{"source": "webhook", **more}))


def audited(ledger: Ledger, *what: str) -> list[Entry]:
    return [entry for entry in read_audit(ledger) if entry.what in what]


# --- the audit


def test_every_suppression_is_on_record_with_who_why_and_where(ledger: Ledger) -> None:
    queued = queue(ledger)
    say(ledger, "out", TO, PROFILE, evidence="event-1")
    assert take_now(ledger) == []
    admitted = queue(ledger)
    entries = audited(ledger, "suppressed")
    assert [(e.message, e.where) for e in entries] == [(admitted, "admit"), (queued, "take")]
    for entry in entries:
        assert (entry.person, entry.scope, entry.source, entry.evidence) == (
            "+1312***0100",
            PROFILE,
            "webhook",
            "event-1",
        )
        assert entry.at_us >= entry.said_us > 0


def test_a_refused_leg_is_on_record(ledger: Ledger) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "rejected", code="40310", why="40310")
    say(ledger, "out")
    assert ledger.run(calls.leg(mid, 2, "replay", valid_for_us=DAY_US)).why == "opted_out"
    assert [(e.message, e.where) for e in audited(ledger, "suppressed")] == [(f"{mid}-2", "leg")]


def test_each_member_of_a_group_that_is_left_out_is_on_record_once(ledger: Ledger) -> None:
    say(ledger, "out", OTHER)
    mid = queue(ledger, to=GROUP)
    (taken,) = take_now(ledger)
    assert taken.to == [TO]
    assert [(e.message, e.person) for e in audited(ledger, "suppressed")] == [(mid, "+1312***0177")]


def test_an_expired_message_was_not_suppressed(ledger: Ledger, clock: Any) -> None:
    say(ledger, "out")
    id = submit(ledger, valid_for_us=1_000_000)
    clock.shift(2)
    admit(ledger, id)
    assert state(ledger, f"{id}-0") == "expired"
    assert audited(ledger, "suppressed") == []


def test_the_words_themselves_are_on_record_when_they_change_something(ledger: Ledger) -> None:
    at = now_us(ledger)
    say(ledger, "out", occurred_us=at - 30)
    say(ledger, "out", occurred_us=at - 20)
    say(ledger, "in", occurred_us=at - 10)
    say(ledger, "out", TO, "global", source="api", by_operator=True, evidence="crm")
    found = [(e.what, e.where, e.scope, e.source, e.evidence) for e in audited(ledger, "out", "in")]
    assert found == [
        ("out", "operator", "global", "api", "crm"),
        ("in", "person", PROFILE, "webhook", ""),
        ("out", "person", PROFILE, "webhook", ""),
    ]


def test_a_word_that_comes_after_the_request_left_is_recorded_as_late(ledger: Ledger) -> None:
    mid = queue(ledger)
    other = queue(ledger, to=OTHER)
    group = queue(ledger, to=f"{TO},+13125550199")
    assert len(take_now(ledger)) == 3
    say(ledger, "out")
    assert {(e.message, e.where, e.scope) for e in audited(ledger, "late")} == {
        (mid, "in_flight", PROFILE),
        (group, "in_flight", PROFILE),
    }
    assert state(ledger, other) == "sending"


def test_a_word_of_another_profile_is_not_late_for_this_one(ledger: Ledger) -> None:
    queue(ledger)
    take_now(ledger)
    say(ledger, "out", TO, "profile:elsewhere")
    assert audited(ledger, "late") == []


def test_what_has_ended_before_the_word_is_not_late(ledger: Ledger) -> None:
    queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    say(ledger, "out")
    assert audited(ledger, "late") == []


def test_the_audit_is_bounded(ledger: Ledger) -> None:
    redis: Any = ledger.redis
    redis.hset(ledger.key("cfg"), "audit", 10)
    say(ledger, "out")
    for _ in range(150):
        queue(ledger)
    assert redis.xlen(ledger.key("audit")) < 140


def test_a_receipt_that_says_stop_opts_out_and_a_start_since_is_newer(ledger: Ledger, clock: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    fact = calls.Fact(ref=mid, provider_id=f"pid-{mid}", state="F", error=("w", "40300", "STOP"), stop=True)
    ledger.run(calls.receipt("", [fact]))
    said = read_opt_out(ledger, TO, PROFILE).person
    assert said is not None and (said.out, said.source, said.evidence) == (True, "receipt", mid[:36])
    assert state(ledger, queue(ledger)) == "opted_out"
    clock.shift(1)
    say(ledger, "in")
    ledger.run(calls.receipt("", [fact]))
    assert not read_opt_out(ledger, TO, PROFILE).opted_out


# --- the race: STOP at every instant


def steps(ledger: Ledger, id: str) -> list[Callable[[], Any]]:
    """The way of one message, one call of the ledger each, until leave to send is given."""
    slots: list[calls.Slot] = []
    return [
        lambda: ledger.run(calls.load(id, None)),
        lambda: admit(ledger, id),
        lambda: slots.extend(ledger.run(calls.grant("p1", 1, lane_quota=1, quotas={})).slots),
        lambda: ledger.run(calls.take("p1", f"token of {id}", [(slot, "b1") for slot in slots])),
    ]


@pytest.mark.parametrize("moment", range(5))
@pytest.mark.parametrize("scope", ["global", PROFILE, SENDER])
def test_a_stop_between_any_two_steps_leaves_nothing_to_send(
    ledger: Ledger, clock: Any, scope: str, moment: int
) -> None:
    id = submit(ledger)
    way = steps(ledger, id)
    for step in way[:moment]:
        step()
    say(ledger, "out", TO, scope)
    for step in way[moment:]:
        step()
    if moment < 4:
        assert state(ledger, f"{id}-0") == "opted_out"
        assert take_now(ledger) == []
        assert [e.message for e in audited(ledger, "suppressed")] == [f"{id}-0"]
    else:
        assert state(ledger, f"{id}-0") == "sending"
        assert [e.message for e in audited(ledger, "late")] == [f"{id}-0"]


@pytest.mark.parametrize("outcome", ["not_sent", "retry", "uncertain"])
def test_after_a_stop_what_was_under_way_is_not_tried_again(ledger: Ledger, clock: Any, outcome: Any) -> None:
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    say(ledger, "out")
    finish(ledger, taken, outcome, why="x")
    for _ in range(40):
        clock.shift(0.5)
        ledger.run(calls.beat("p1", "again"))
        ledger.run(calls.ear("w1"))
        ledger.run(calls.wake())
        assert take_now(ledger) == []
    assert state(ledger, mid) == ("unconfirmed" if outcome == "uncertain" else "opted_out")


# --- the provider's list


def listed(ledger: Ledger, number: str, at: int, list_number: int, *scopes: str) -> calls.OptRows:
    rows = [OptRow(number, True, scopes or [PROFILE], at, "STOP")]
    return ledger.run(calls.opt_rows(rows, source="list", list_number=list_number))


def sweep(ledger: Ledger, older: int, began: int, newer: int, what: Any = "lift") -> calls.Swept:
    redis: Any = ledger.redis
    prefix = ledger.key("o:")
    names = [key.decode().removeprefix(prefix) for key in redis.scan_iter(match=f"{prefix}*", count=1000)]
    buckets = [name for name in names if not name.startswith("any:")]
    return ledger.run(calls.opt_sweep(what, buckets, older=older, older_began_us=began, newer_began_us=newer))


def out(ledger: Ledger, scope: str = PROFILE, number: str = TO) -> bool:
    return read_opt_out(ledger, number, scope).opted_out


def test_what_two_complete_lists_no_longer_show_is_lifted(ledger: Ledger) -> None:
    at = now_us(ledger) - 3 * DAY_US
    listed(ledger, TO, at, 1)
    assert sweep(ledger, 2, at + DAY_US, at + 2 * DAY_US, "count") == (1, 1)
    assert out(ledger)
    assert sweep(ledger, 2, at + DAY_US, at + 2 * DAY_US) == (1, 1)
    assert not out(ledger)
    assert [(e.what, e.source) for e in audited(ledger, "in")] == [("in", "list")]
    assert state(ledger, queue(ledger)) == "queued"


@pytest.mark.parametrize(
    ("source", "list_number", "older", "began_after_us"),
    [
        ("webhook", 0, 2, DAY_US),  # never listed
        ("webhook", 2, 2, DAY_US),  # in the older list
        ("webhook", 3, 2, DAY_US),  # in the newer one
        ("webhook", 1, 2, 0),  # said as the older list began
        ("keyword", 1, 2, DAY_US),  # read by us alone: no list of theirs has it
        ("receipt", 0, 2, DAY_US),
    ],
)
def test_whatever_else_there_is_stays(
    ledger: Ledger, source: str, list_number: int, older: int, began_after_us: int
) -> None:
    at = now_us(ledger) - 3 * DAY_US
    say(ledger, "out", source=source, occurred_us=at, evidence="e")
    if list_number:
        listed(ledger, TO, at - 5, list_number)
    assert sweep(ledger, older, at + began_after_us, at + 2 * DAY_US).gone == 0
    assert out(ledger)


def test_an_operators_opt_out_stays_whatever_the_list_says(ledger: Ledger) -> None:
    at = now_us(ledger) - 3 * DAY_US
    listed(ledger, TO, at, 1)
    say(ledger, "out", source="cli", by_operator=True)
    assert sweep(ledger, 2, at + DAY_US, at + 2 * DAY_US).gone == 1
    assert out(ledger)


def test_an_operator_takes_back_an_opt_out_of_theirs_everywhere(ledger: Ledger) -> None:
    """Also for a sender of unknown profile, which asks in how many scopes somebody is out."""
    at = now_us(ledger) - DAY_US
    say(ledger, "out", TO, "global", source="cli", by_operator=True, occurred_us=at)
    say(ledger, "in", TO, "global", source="cli", by_operator=True, occurred_us=at + 1)
    assert ledger.redis.hget(ledger.key(f"o:any:{TO[-4:]}"), TO) is None
    assert [entry.what for entry in audited(ledger, "out", "in")] == ["in", "out"]


def test_a_listed_stop_keeps_who_said_so_first_and_the_evidence(ledger: Ledger) -> None:
    at = now_us(ledger) - DAY_US
    say(ledger, "out", TO, PROFILE, SENDER, occurred_us=at, evidence="event-1")
    listed(ledger, TO, at + 700, 3, PROFILE, f"?{SENDER}", "?sender:other")
    for scope in (PROFILE, SENDER):
        said = read_opt_out(ledger, TO, scope).person
        assert said is not None
        assert (said.source, said.evidence, said.at_us, said.list) == ("webhook", "event-1", at + 700, 3)
    assert read_opt_out(ledger, TO, "sender:other").person is None


def test_a_start_newer_than_the_lists_row_is_not_undone_by_it(ledger: Ledger) -> None:
    at = now_us(ledger) - DAY_US
    say(ledger, "in", occurred_us=at + 10)
    assert listed(ledger, TO, at, 1).changed == 0
    assert not out(ledger)
    assert listed(ledger, TO, at + 10, 1).changed == 1
    assert out(ledger)


def test_a_bad_row_costs_its_neighbours_nothing(ledger: Ledger) -> None:
    rows = [OptRow(TO, True, [PROFILE]), OptRow(OTHER, True, [PROFILE])]
    call = calls.opt_rows(rows, source="import", by_operator=True)
    call.args[4 + 2] = "no time"  # type: ignore[index]
    assert ledger.run(call) == (1, 1)
    assert not out(ledger) and out(ledger, number=OTHER)


def test_rows_of_a_file_say_no_events_when_they_are_to_be_quiet(ledger: Ledger) -> None:
    redis: Any = ledger.redis
    for quiet, number in ((True, TO), (False, OTHER)):
        ledger.run(calls.opt_rows([OptRow(number, True, [PROFILE])], source="import", quiet=quiet))
    events = [
        fields[b"m"].decode() for _, fields in redis.xrange(ledger.key("ev")) if fields[b"y"] == b"opt_out.changed"
    ]
    assert events == [OTHER]
    assert opted_out_among(ledger, [TO, OTHER], ["global", PROFILE]) == {TO, OTHER}


def test_no_opt_out_is_longer_than_what_keeps_its_hash_small(ledger: Ledger) -> None:
    redis: Any = ledger.redis
    evidence = "12345678-1234-1234-1234-123456789012"
    for source in SOURCES.values():
        number = f"+1312555{sorted(SOURCES.values()).index(source):04d}"
        say(ledger, "out", number, source=source, evidence=evidence)
        listed(ledger, number, 1, 9999)
        said = redis.hget(ledger.key(f"o:{PROFILE}:{number[-4:]}"), number)
        assert len(said) <= 64 and evidence.encode() in said
        person = read_opt_out(ledger, number, PROFILE).person
        assert person is not None and person.source == source


# --- transactional


@pytest.fixture
def transactional(ledger: Ledger) -> Ledger:
    redis: Any = ledger.redis
    redis.hset(ledger.key("cfg"), "transactional:notice", 1)
    return ledger


@pytest.mark.parametrize("scope", [PROFILE, SENDER])
def test_a_transactional_message_passes_what_the_person_said_here_and_that_is_on_record(
    transactional: Ledger, scope: str
) -> None:
    say(transactional, "out", TO, scope)
    mid = queue(transactional)
    assert [t.message for t in take_now(transactional)] == [mid]
    assert [(e.message, e.where) for e in audited(transactional, "spared")] == [(mid, "take"), (mid, "admit")]
    assert state(transactional, queue(transactional, job_type="other")) == "opted_out"


@pytest.mark.parametrize(
    ("scope", "by_operator"), [("global", False), ("global", True), (PROFILE, True), (SENDER, True)]
)
def test_no_message_passes_what_is_global_or_an_operators(transactional: Ledger, scope: str, by_operator: bool) -> None:
    say(transactional, "out", TO, PROFILE)
    say(transactional, "out", TO, scope, by_operator=by_operator, source="api" if by_operator else "webhook")
    assert state(transactional, queue(transactional)) == "opted_out"


def test_where_the_profile_is_unknown_no_message_passes(transactional: Ledger) -> None:
    transactional.run(calls.publish(publication({"alerts": lane("alerts", "s:alerts")}, digest="unknown"), {}))
    redis: Any = transactional.redis
    redis.hset(transactional.key("cfg"), "transactional:notice", 1)
    say(transactional, "out", TO, SENDER)
    assert state(transactional, queue(transactional)) == "opted_out"
