"""Messages that the provider holds until their time, in the scripts and in virtual time: handed over ahead, asked back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledger_kit import HOUR_US, TO, finish, lane, publication, state, submit, take_now, view
from redis import Redis
from virtual_time import DAY_US, MINUTE_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Finish, OptRow, Step, Take, Taken, Withdrawal
from producers.ledger.reading import MessageView
from worker.compliance.audit import read_audit
from worker.compliance.time_zones import zone_table

PROFILE = "profile:p1"
NEAR_US = 330 * SECOND_US
FAR_US = 5 * DAY_US - 300 * SECOND_US
RULES = {"promotion": {"w": [[21 * 60, 8 * 60]]}, "capped": {"f": [["m", 1, 7 * 86_400, 1, 7 * 86_400]]}}
AFTER_US = 60 * SECOND_US


@pytest.fixture
def ledger(redis_url: str, namespace: str) -> Iterator[VirtualLedger]:
    ledger = VirtualLedger(Redis.from_url(redis_url), namespace)
    lanes = {"alerts": lane("alerts", "s:alerts", profile="p1"), "next": lane("next", "s:next", profile="p2")}
    body = publication(lanes, {"s:alerts": {"t_us": 10_000}, "s:next": {"t_us": 10_000}})
    body |= {"rules": {k: json.dumps(v) for k, v in RULES.items()}, "timezone": "UTC", "transactional": ["fraud"]}
    ledger.run(calls.publish(body, {}, {"UTC": zone_table("UTC", 2026) or ""}))
    ledger.run(calls.beat("p1", "first"))
    ledger.run(calls.ear("w1"))
    yield ledger
    ledger.close()


def schedule(ledger: VirtualLedger, in_us: int = HOUR_US, *, steps: Any = (), **other: Any) -> str:
    """Submit and expand one message that the provider may hold; returns its id."""
    id = submit(ledger, **{"send_at_us": ledger.now_us + in_us, **other})
    item = Admission(to="", lane="alerts", content='{"text":"hello"}', ahead=True, steps=steps)
    ledger.run(calls.admit(id, None, "", [item]))
    return f"{id}-0"


def take(ledger: VirtualLedger, **other: Any) -> list[Taken]:
    ledger.run(calls.beat("p1", "first"))
    return take_now(ledger, **other)


def hand_over(ledger: VirtualLedger, in_us: int = HOUR_US, **other: Any) -> tuple[str, Taken]:
    """A message that the provider has accepted and holds."""
    mid = schedule(ledger, in_us, **other)
    (taken,) = take(ledger)
    assert finish(ledger, taken, "accepted", raw="queued") == "applied"
    return mid, taken


def pass_us(ledger: VirtualLedger, us: int, step_us: int = 0) -> list[tuple[str, str, str]]:
    """Let time pass, in steps of at most ``step_us``, with a service that lives and hears. Returns what was pointed at."""
    found: list[tuple[str, str, str]] = []
    while us > 0:
        by = min(us, step_us or us)
        ledger.pass_us(by)
        us -= by
        ledger.run(calls.ear("w1"))
        ledger.run(calls.beat("p1", "first"))
        found += wake(ledger)
    return found


def wake(ledger: VirtualLedger) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    more = True
    while more:
        rows, more = ledger.run(calls.wake())
        found += [tuple(row) for row in rows]
    return found


def asked_back(found: list[tuple[str, str, str]]) -> list[str]:
    return [id for kind, id, _ in found if kind == "withdraw"]


def confirm(ledger: VirtualLedger, mid: str) -> str:
    """The provider says that it cancelled it."""
    return ledger.run(
        calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F", raw="cancelled", error=None)])
    )[0]


def late(ledger: VirtualLedger, mid: str) -> str:
    return ledger.run(calls.withdraw([Withdrawal(mid, "late")]))[0]


def receipt(ledger: VirtualLedger, mid: str, letter: str) -> str:
    return ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter, raw="x")]))[0]


def stop(ledger: VirtualLedger, number: str = TO, *, scopes: Any = (PROFILE,)) -> None:
    ledger.run(calls.opt(number, "out", scopes=list(scopes), source="webhook", evidence="e1"))


def last_step(view: MessageView) -> tuple[str, str]:
    return view.timeline[-1].state, view.timeline[-1].reason


def audited(ledger: VirtualLedger, mid: str) -> list[tuple[str, str]]:
    return [(e.what, e.where) for e in read_audit(ledger, message=mid)]


# Handing over


def test_a_message_in_the_window_is_handed_over_at_once_with_its_time(ledger: VirtualLedger) -> None:
    at_us = ledger.now_us + HOUR_US
    mid, taken = hand_over(ledger)
    assert taken.send_at_us == at_us
    seen = view(ledger, mid)
    assert (seen.state, seen.provider_status, seen.provider_send_at_us) == ("accepted", "queued", at_us)


def test_what_is_not_for_the_provider_waits_here(ledger: VirtualLedger) -> None:
    id = submit(ledger, send_at_us=ledger.now_us + HOUR_US)
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="alerts", content="{}")]))
    assert (state(ledger, f"{id}-0"), take(ledger)) == ("scheduled", [])
    pass_us(ledger, HOUR_US)
    (taken,) = take(ledger)
    assert taken.send_at_us == 0
    record: Any = ledger.redis.hgetall(ledger.key(f"m:{id}-0"))
    assert not {b"sp", b"so", b"wd"} & set(record)
    assert not [k for k in ledger.redis.keys(ledger.key("*")) if k.split(b":")[1] in (b"hp", b"sm", b"wq")]


def test_a_far_date_waits_here_until_the_window_opens(ledger: VirtualLedger) -> None:
    in_us = 20 * DAY_US
    mid = schedule(ledger, in_us, valid_for_us=HOUR_US)
    assert last_step(view(ledger, mid)) == ("scheduled", "provider_window")
    assert view(ledger, mid).next_at_us == ledger.now_us + in_us - FAR_US
    pass_us(ledger, in_us - FAR_US - SECOND_US, DAY_US)
    assert take(ledger) == []
    pass_us(ledger, SECOND_US)
    (taken,) = take(ledger)
    assert taken.send_at_us == ledger.now_us + FAR_US


@pytest.mark.parametrize("in_us", [SECOND_US, 300 * SECOND_US, NEAR_US - SECOND_US])
def test_what_is_nearer_than_the_window_goes_from_here_at_its_time(ledger: VirtualLedger, in_us: int) -> None:
    mid = schedule(ledger, in_us)
    assert last_step(view(ledger, mid)) == ("scheduled", "send_at")
    assert take(ledger) == []
    pass_us(ledger, in_us)
    (taken,) = take(ledger)
    assert (taken.message, taken.send_at_us) == (mid, 0)


def test_the_nearest_that_the_window_allows_is_handed_over(ledger: VirtualLedger) -> None:
    schedule(ledger, NEAR_US)
    assert [t.send_at_us for t in take(ledger)] == [ledger.now_us + NEAR_US]


def test_what_waited_in_its_lane_until_the_window_closed_goes_from_here(ledger: VirtualLedger) -> None:
    ledger.run(calls.lane("alerts", "pause", "test"))
    soon, past = schedule(ledger, 20 * MINUTE_US), schedule(ledger, 10 * MINUTE_US)
    pass_us(ledger, 15 * MINUTE_US)
    ledger.run(calls.lane("alerts", "resume"))
    assert [(t.message, t.send_at_us) for t in take(ledger)] == [(past, 0)], "its time has come: it leaves at once"
    assert last_step(view(ledger, soon)) == ("scheduled", "send_at")
    pass_us(ledger, 5 * MINUTE_US)
    assert [(t.message, t.send_at_us) for t in take(ledger)] == [(soon, 0)]


def test_deliveries_are_spread_over_half_the_senders_rate_and_none_is_early(ledger: VirtualLedger) -> None:
    """100 a second: 3,000 a minute, as half of the rate; here one in six seconds, so 5 a minute."""
    ledger.run(calls.lane("alerts", "rate", 6 * SECOND_US))
    at_us = ledger.now_us + 6 * HOUR_US
    for _ in range(12):
        schedule(ledger, at_us - ledger.now_us)
    late_one = schedule(ledger, at_us + MINUTE_US - ledger.now_us)
    times: dict[str, int] = {}
    for _ in range(40):
        pass_us(ledger, 6 * SECOND_US)
        for taken in take(ledger):
            times[taken.message] = taken.send_at_us
            finish(ledger, taken, "accepted")
    assert len(times) == 13
    assert min(times.values()) == at_us
    assert times[late_one] >= at_us + MINUTE_US
    minutes = [sum(1 for t in times.values() if (t - at_us) // MINUTE_US == n) for n in range(4)]
    assert minutes == [5, 5, 3, 0]


def test_a_slower_sender_than_one_a_minute_spreads_over_longer_spans(ledger: VirtualLedger) -> None:
    ledger.run(calls.lane("alerts", "rate", 2 * MINUTE_US))
    at_us = ledger.now_us + 6 * HOUR_US
    for _ in range(3):
        schedule(ledger, at_us - ledger.now_us, valid_for_us=24 * HOUR_US)
    times = []
    for _ in range(4):
        times += [taken.send_at_us for taken in take(ledger)]
        pass_us(ledger, 2 * MINUTE_US)
    assert [t - at_us for t in times] == [0, 4 * MINUTE_US, 8 * MINUTE_US]


def test_what_cannot_be_delivered_within_its_validity_expires(ledger: VirtualLedger) -> None:
    ledger.run(calls.lane("alerts", "rate", 30 * SECOND_US))
    for _ in range(3):
        schedule(ledger, 6 * HOUR_US, valid_for_us=90 * SECOND_US)
    taken = 0
    for _ in range(5):
        taken += len(take(ledger))
        pass_us(ledger, 30 * SECOND_US)
    assert taken == 2
    assert b"eE|notice|alerts||validity" in ledger.redis.hkeys(ledger.key("st:all")) or any(
        b"eE|notice|alerts||validity" in ledger.redis.hkeys(key) for key in ledger.redis.keys(ledger.key("st:[0-9]*"))
    )


def test_quiet_hours_are_those_at_the_time_of_delivery(ledger: VirtualLedger) -> None:
    """It is noon: at two in the night nobody is texted, and at noon the hand-over is no text."""
    schedule(ledger, 14 * HOUR_US, job_type="promotion", valid_for_us=24 * HOUR_US)
    schedule(ledger, 25 * HOUR_US, job_type="promotion", valid_for_us=24 * HOUR_US)
    start_us = ledger.now_us
    assert [t.send_at_us - start_us for t in take(ledger)] == [20 * HOUR_US, 25 * HOUR_US]


def test_a_message_that_quiet_hours_outlast_expires(ledger: VirtualLedger) -> None:
    mid = schedule(ledger, 14 * HOUR_US, job_type="promotion", valid_for_us=2 * HOUR_US)
    assert take(ledger) == []
    assert last_step(view(ledger, mid)) == ("expired", "quiet_hours")


def test_what_is_spread_does_not_spill_into_quiet_hours(ledger: VirtualLedger) -> None:
    ledger.run(calls.lane("alerts", "rate", 15 * SECOND_US))
    before_nine = 9 * HOUR_US - MINUTE_US  # it is noon: a minute before quiet hours, with room for two
    for _ in range(3):
        schedule(ledger, before_nine, job_type="promotion", valid_for_us=24 * HOUR_US)
    at_us = ledger.now_us + before_nine
    times = []
    for _ in range(4):
        times += [t.send_at_us - at_us for t in take(ledger)]
        pass_us(ledger, 15 * SECOND_US)
    assert times == [0, 30 * SECOND_US, 11 * HOUR_US + MINUTE_US]


def test_its_window_may_open_in_quiet_hours(ledger: VirtualLedger) -> None:
    """For 20:58, it opens five days before at 21:03."""
    at_us = ledger.now_us + 20 * DAY_US + 9 * HOUR_US - 2 * MINUTE_US
    schedule(ledger, at_us - ledger.now_us, job_type="promotion", valid_for_us=24 * HOUR_US)
    pass_us(ledger, at_us - FAR_US - ledger.now_us, DAY_US)
    assert [t.send_at_us for t in take(ledger)] == [at_us]


def test_it_may_be_handed_over_in_quiet_hours(ledger: VirtualLedger) -> None:
    pass_us(ledger, 10 * HOUR_US)
    ledger.run(calls.beat("p1", "first"))
    schedule(ledger, 14 * HOUR_US, job_type="promotion")
    assert len(take(ledger)) == 1


def test_a_refused_send_at_goes_from_here_at_its_time(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (taken,) = take(ledger)
    finish(ledger, taken, "rejected", why="10015", code="10015", title="send_at")
    assert last_step(view(ledger, mid)) == ("scheduled", "send_at")
    pass_us(ledger, HOUR_US)
    (again,) = take(ledger)
    assert again.send_at_us == 0
    finish(ledger, again, "rejected", why="10015", code="10015")
    assert state(ledger, mid) == "rejected"


def test_each_recipient_of_many_is_handed_over_by_itself(ledger: VirtualLedger) -> None:
    at_us = ledger.now_us + HOUR_US
    id = submit(ledger, messages=3, send_at_us=at_us)
    loaded = ledger.run(calls.load(id, None))
    assert loaded is not None
    items = [Admission(to=number, lane="alerts", ahead=True) for number, _ in json.loads(loaded.chunk)]
    ledger.run(calls.admit(id, loaded.cursor, '{"text":"x"}', items))
    taken = take(ledger)
    assert [t.send_at_us // MINUTE_US for t in taken] == [at_us // MINUTE_US] * 3
    for t in taken:
        finish(ledger, t, "accepted")
    cancelled = ledger.run(calls.cancel(id, 0))
    assert cancelled is not None
    assert (cancelled[0], cancelled.asked_back) == (0, 3)
    assert sorted(asked_back(wake(ledger))) == sorted(t.message for t in taken)
    for t in taken:
        confirm(ledger, t.message)
    counts: Any = ledger.redis.hgetall(ledger.key(f"n:{id}"))
    assert (counts[b"c.C"], counts[b"op"]) == (b"3", b"0")


# Silence, resends, polls


def test_a_resend_tells_the_same_time(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (first,) = take(ledger)
    finish(ledger, first, "uncertain", why="read_timeout")
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    (again,) = take(ledger)
    assert (again.message, again.may_be_out, again.send_at_us) == (mid, True, first.send_at_us)


def test_what_was_not_sent_keeps_its_time(ledger: VirtualLedger) -> None:
    ledger.run(calls.lane("alerts", "rate", 30 * SECOND_US))
    schedule(ledger)
    (first,) = take(ledger)
    finish(ledger, first, "retry", why="http_503", delay_us=SECOND_US)
    pass_us(ledger, 30 * SECOND_US)
    (again,) = take(ledger)
    assert again.send_at_us == first.send_at_us


def test_what_is_in_doubt_when_the_window_closes_is_unconfirmed_and_a_receipt_corrects_it(
    ledger: VirtualLedger,
) -> None:
    mid = schedule(ledger, NEAR_US + 5 * SECOND_US)
    (first,) = take(ledger)
    finish(ledger, first, "uncertain", why="cut")
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    assert take(ledger) == []
    assert last_step(view(ledger, mid)) == ("unconfirmed", "window_closed")
    assert receipt(ledger, mid, "D") == "applied"
    assert state(ledger, mid) == "delivered"


def test_it_is_silent_from_its_time_on(ledger: VirtualLedger) -> None:
    """No poll before it, and 72 hours count from then."""
    mid, taken = hand_over(ledger, 2 * DAY_US)
    found = pass_us(ledger, taken.send_at_us - ledger.now_us, HOUR_US)
    assert found == []
    assert view(ledger, mid).next_at_us == taken.send_at_us + MINUTE_US
    found = pass_us(ledger, 2 * MINUTE_US, MINUTE_US)
    assert [kind for kind, _, _ in found] == ["poll"]
    pass_us(ledger, 71 * HOUR_US, HOUR_US)
    assert state(ledger, mid) == "accepted"
    pass_us(ledger, HOUR_US, HOUR_US)
    assert last_step(view(ledger, mid)) == ("unconfirmed", "silent")


def test_a_fallback_counts_from_its_time(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger, steps=[Step("next", AFTER_US, "{}")])
    pass_us(ledger, HOUR_US, MINUTE_US)
    assert take(ledger) == []
    pass_us(ledger, AFTER_US)
    assert [t.message for t in take(ledger)] == [f"{mid}-2"]


def test_a_doubt_falls_back_only_after_its_time(ledger: VirtualLedger) -> None:
    """Nobody hears meanwhile, so the doubt lasts."""
    mid = schedule(ledger, steps=[Step("next", AFTER_US, "{}")])
    (taken,) = take(ledger)
    finish(ledger, taken, "uncertain", why="cut")
    ledger.pass_us(3 * AFTER_US)
    wake(ledger)
    assert (state(ledger, mid), view(ledger, mid).leg) == ("uncertain", 1)


def test_what_follows_a_refused_hand_over_waits_for_the_time(ledger: VirtualLedger) -> None:
    mid = schedule(ledger, steps=[Step("next", AFTER_US, "{}")])
    (taken,) = take(ledger)
    finish(ledger, taken, "rejected", why="40310", code="40310")
    assert take(ledger) == []
    pass_us(ledger, HOUR_US - SECOND_US)
    assert take(ledger) == []
    pass_us(ledger, SECOND_US)
    (leg,) = take(ledger)
    assert (leg.message, leg.send_at_us) == (f"{mid}-2", 0)


def test_what_follows_one_that_may_be_scheduled_gives_it_the_time_to_arrive(ledger: VirtualLedger) -> None:
    mid = schedule(ledger, steps=[Step("next", AFTER_US, "{}")], job_type="careful")
    (taken,) = take(ledger)
    finish(ledger, taken, "uncertain", why="cut")
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    assert view(ledger, mid).timeline[-1].leg == 2
    pass_us(ledger, HOUR_US + AFTER_US - 12 * SECOND_US, MINUTE_US)
    assert take(ledger) == []
    receipt(ledger, mid, "D")
    pass_us(ledger, 10 * SECOND_US)
    assert (take(ledger), state(ledger, mid)) == ([], "delivered")


def test_its_latency_counts_from_its_time(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    pass_us(ledger, HOUR_US + 2 * SECOND_US, HOUR_US)
    fact = Fact(ref=mid, provider_id=f"pid-{mid}", state="D", sent_ms=3_600_500, done_ms=3_601_000)
    ledger.run(calls.receipt("", [fact]))
    keys = [k for k in ledger.redis.keys(ledger.key("st:[0-9]*")) if ledger.redis.type(k) == b"hash"]
    fields: dict[bytes, bytes] = {k: v for key in keys for k, v in ledger.redis.hgetall(key).items()}  # type: ignore[union-attr]
    assert fields[b"D|notice|alerts||"] == b"2000"


# Taking back


def test_a_cancelled_one_is_asked_back_and_ends_on_the_providers_word(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    cancelled = ledger.run(calls.cancel(mid[:32], 0))
    assert cancelled is not None
    assert (tuple(cancelled), cancelled.asked_back) == ((0, None), 1)
    assert (state(ledger, mid), view(ledger, mid).asked_back) == ("accepted", "cancelled")
    assert asked_back(wake(ledger)) == [mid]
    assert confirm(ledger, mid) == "applied"
    assert last_step(view(ledger, mid)) == ("cancelled", "cancelled")
    assert pass_us(ledger, 2 * HOUR_US, 10 * MINUTE_US) == []


def test_it_is_asked_for_again_until_an_answer_is_known(ledger: VirtualLedger) -> None:
    """Whoever was to ask may have died, or Telnyx gave no clear answer."""
    mid, _ = hand_over(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    assert asked_back(wake(ledger)) == [mid]
    times = len(asked_back(pass_us(ledger, 40 * MINUTE_US, 5 * SECOND_US)))
    assert 7 <= times <= 14, "ever more seldom, at least each five minutes"
    ledger.run(calls.withdraw([Withdrawal(mid, "again", 3 * SECOND_US)]))
    assert asked_back(pass_us(ledger, 2 * SECOND_US)) == []
    assert asked_back(pass_us(ledger, 2 * SECOND_US)) == [mid]
    confirm(ledger, mid)
    assert asked_back(pass_us(ledger, 20 * MINUTE_US, MINUTE_US)) == []


def test_cancelling_twice_asks_once(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    for _ in range(2):
        cancelled = ledger.run(calls.cancel(mid[:32], 0))
        assert cancelled is not None
        assert cancelled.asked_back == 1
    assert asked_back(wake(ledger)) == [mid]
    late(ledger, mid)
    cancelled = ledger.run(calls.cancel(mid[:32], 0))
    assert cancelled is not None
    assert cancelled.asked_back == 0
    assert asked_back(wake(ledger)) == []


def test_too_late_is_known_and_it_ends_by_its_receipts(ledger: VirtualLedger) -> None:
    mid, taken = hand_over(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    wake(ledger)
    assert late(ledger, mid) == "done"
    assert late(ledger, mid) == "known"
    seen = view(ledger, mid)
    assert (seen.state, seen.asked_back) == ("accepted", None)
    assert [(e["phase"], e["code"]) for e in seen.errors] == [("cancel", "too_late")]
    assert seen.next_at_us == taken.send_at_us + MINUTE_US
    pass_us(ledger, HOUR_US, 10 * MINUTE_US)
    receipt(ledger, mid, "D")
    assert state(ledger, mid) == "delivered"


def test_a_refusal_in_its_last_minute_is_too_late_and_before_it_is_none(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    wake(ledger)
    ledger.run(calls.withdraw([Withdrawal(mid, "held", SECOND_US)]))
    assert view(ledger, mid).asked_back == "cancelled"
    ledger.pass_us(HOUR_US - MINUTE_US)
    ledger.run(calls.withdraw([Withdrawal(mid, "held", SECOND_US)]))
    assert view(ledger, mid).asked_back is None
    assert [e["code"] for e in view(ledger, mid).errors] == ["too_late"]


def test_what_nobody_answered_until_its_time_came_is_too_late_and_asked_for_by_a_poll(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    stop(ledger)
    found = pass_us(ledger, HOUR_US + 30 * SECOND_US, MINUTE_US)
    assert asked_back(found)
    assert ("late", "provider") in audited(ledger, mid)
    assert [kind for kind, _, _ in pass_us(ledger, 3 * MINUTE_US, MINUTE_US)] == ["poll"]
    assert confirm(ledger, mid) == "applied", "the poll shows that an answer was lost"
    assert last_step(view(ledger, mid)) == ("opted_out", "opted_out")


def test_a_stop_asks_back_what_the_provider_holds_for_the_person_and_nothing_else(ledger: VirtualLedger) -> None:
    mine, _ = hand_over(ledger)
    hand_over(ledger, to="+13125550199")
    hand_over(ledger, job_type="fraud")
    stop(ledger)
    assert asked_back(wake(ledger)) == [mine]
    assert state(ledger, mine) == "accepted"
    confirm(ledger, mine)
    assert last_step(view(ledger, mine)) == ("opted_out", "opted_out")
    assert audited(ledger, mine) == [("withdrawn", "provider")]


def test_what_left_after_a_stop_is_in_the_audit(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    stop(ledger)
    wake(ledger)
    receipt(ledger, mid, "T")
    assert audited(ledger, mid) == [("late", "provider")]
    assert [e["code"] for e in view(ledger, mid).errors] == ["too_late"]
    assert state(ledger, mid) == "sent"


def test_a_no_after_its_time_asks_nothing_back_and_is_not_late(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    pass_us(ledger, HOUR_US, 10 * MINUTE_US)
    stop(ledger)
    cancelled = ledger.run(calls.cancel(mid[:32], 0))
    assert cancelled is not None
    assert cancelled.asked_back == 0
    assert asked_back(pass_us(ledger, MINUTE_US)) == []
    assert (audited(ledger, mid), view(ledger, mid).errors) == ([], [])


def test_a_stop_elsewhere_asks_nothing_back(ledger: VirtualLedger) -> None:
    hand_over(ledger)
    stop(ledger, scopes=["profile:other"])
    assert asked_back(wake(ledger)) == []


def by_list(ledger: VirtualLedger) -> None:
    row = OptRow(TO, True, [PROFILE], ledger.now_us, "list")
    ledger.run(calls.opt_rows([row], source="list", list_number=1))


def by_import(ledger: VirtualLedger) -> None:
    row = OptRow(TO, True, ["global"], 0, "file")
    ledger.run(calls.opt_rows([row], source="import", by_operator=True, quiet=True))


def by_api(ledger: VirtualLedger) -> None:
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="api", by_operator=True))


def by_answer(ledger: VirtualLedger) -> None:
    id = submit(ledger)
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="alerts", content="{}")]))
    (taken,) = take(ledger)
    finish(ledger, taken, "opted_out", why="40300", code="40300")


def by_receipt(ledger: VirtualLedger) -> None:
    id = submit(ledger)
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="alerts", content="{}")]))
    (taken,) = take(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=taken.message, provider_id=None, state="F", stop=True)]))


@pytest.mark.parametrize("say_no", [stop, by_list, by_import, by_api, by_answer, by_receipt], ids=lambda f: f.__name__)
def test_every_way_to_say_no_asks_it_back(ledger: VirtualLedger, say_no: Callable[[VirtualLedger], None]) -> None:
    mid, _ = hand_over(ledger)
    say_no(ledger)
    assert mid in asked_back(wake(ledger))


def test_an_operators_no_also_asks_back_what_passes_a_persons(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger, job_type="fraud")
    stop(ledger)
    assert asked_back(wake(ledger)) == []
    by_api(ledger)
    assert asked_back(wake(ledger)) == [mid]


def test_a_forgotten_person_gets_nothing_from_the_provider(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger)
    assert ledger.run(calls.forget(TO, [mid])) == (0, 0, 1)
    assert asked_back(wake(ledger)) == [mid]
    confirm(ledger, mid)
    assert last_step(view(ledger, mid)) == ("cancelled", "forgotten")
    assert ledger.run(calls.forget(TO, [mid])) == (1, 0, 0)


def test_a_frequency_gets_its_place_back_with_the_message(ledger: VirtualLedger) -> None:
    first, _ = hand_over(ledger, job_type="capped")
    second = schedule(ledger, job_type="capped")
    assert take(ledger) == []
    assert last_step(view(ledger, second)) == ("scheduled", "frequency")
    ledger.run(calls.cancel(first[:32], 0))
    confirm(ledger, first)
    third = schedule(ledger, job_type="capped")
    assert [t.message for t in take(ledger)] == [third]


def test_what_somebody_cancelled_at_the_provider_ends_cancelled(ledger: VirtualLedger) -> None:
    mid, _ = hand_over(ledger, steps=[Step("next", AFTER_US, "{}")])
    confirm(ledger, mid)
    assert last_step(view(ledger, mid)) == ("cancelled", "at_provider")
    pass_us(ledger, 2 * HOUR_US, 10 * MINUTE_US)
    assert take(ledger) == [], "what was called off has no next leg"


# Races with the first answer


def test_a_cancel_while_the_request_is_under_way_asks_back_once_its_id_is_known(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (taken,) = take(ledger)
    cancelled = ledger.run(calls.cancel(mid[:32], 0))
    assert cancelled is not None
    assert cancelled.asked_back == 1
    assert asked_back(wake(ledger)) == []
    finish(ledger, taken, "accepted")
    assert asked_back(wake(ledger)) == [mid]
    confirm(ledger, mid)
    assert state(ledger, mid) == "cancelled"


def test_a_stop_while_the_request_is_under_way_asks_back_once_its_id_is_known(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (taken,) = take(ledger)
    stop(ledger)
    assert ("late", "in_flight") in audited(ledger, mid)
    finish(ledger, taken, "accepted")
    assert asked_back(wake(ledger)) == [mid]
    confirm(ledger, mid)
    assert state(ledger, mid) == "opted_out"


@pytest.mark.parametrize(("say_no", "why"), [("cancel", "cancelled"), ("stop", "opted_out")])
def test_what_is_in_doubt_is_never_made_anew_to_be_taken_back(ledger: VirtualLedger, say_no: str, why: str) -> None:
    """Only another request could tell its id, and would text a person who said no if the first one was lost."""
    mid = schedule(ledger)
    (taken,) = take(ledger)
    finish(ledger, taken, "uncertain", why="read_timeout")
    if say_no == "cancel":
        ledger.run(calls.cancel(mid[:32], 0))
    else:
        stop(ledger)
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    assert take(ledger) == []
    assert last_step(view(ledger, mid)) == ("unconfirmed", why)
    # The answer comes after all, of a process that was only paused: now it can be asked for.
    finish(ledger, taken, "accepted")
    assert asked_back(wake(ledger)) == [mid]
    assert len(asked_back(pass_us(ledger, MINUTE_US, 5 * SECOND_US))) >= 1, "and again until it is known"
    assert confirm(ledger, mid) == "applied"
    assert state(ledger, mid) == ("cancelled" if say_no == "cancel" else "opted_out")


def test_where_two_requests_may_have_made_two_of_it_one_that_came_back_leaves_it_unconfirmed(
    ledger: VirtualLedger,
) -> None:
    mid = schedule(ledger)
    (first,) = take(ledger)
    finish(ledger, first, "uncertain", why="http_500")
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    (second,) = take(ledger)
    finish(ledger, second, "accepted")
    ledger.run(calls.cancel(mid[:32], 0))
    confirm(ledger, mid)
    assert last_step(view(ledger, mid)) == ("unconfirmed", "cancelled")


def test_the_first_requests_answer_again_says_that_there_is_only_one(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (first,) = take(ledger)
    finish(ledger, first, "uncertain", why="read_timeout")
    pass_us(ledger, 10 * SECOND_US, 2 * SECOND_US)
    (second,) = take(ledger)
    finish(ledger, second, "accepted", replayed=True)
    ledger.run(calls.cancel(mid[:32], 0))
    confirm(ledger, mid)
    assert last_step(view(ledger, mid)) == ("cancelled", "cancelled")


def expected_of(order: tuple[str, ...]) -> str:
    """The state after these events, of a message whose request is under way; the first no counts."""
    if "receipt" in order and ("confirm" not in order or order.index("receipt") < order.index("confirm")):
        return "delivered"
    if "confirm" not in order:
        return "accepted" if "answer" in order else "sending"
    noes = [e for e in order[: order.index("confirm")] if e in ("cancel", "stop")]
    return "opted_out" if noes[:1] == ["stop"] else "cancelled"


@pytest.mark.parametrize("length", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_every_order_of_answer_no_and_word_ends_as_the_rules_say(ledger: VirtualLedger, length: int) -> None:
    """What ends cancelled or opted out is what the provider gave back; whatever is called off is asked back if it can be."""
    events = ["answer", "cancel", "stop", "confirm", "receipt", "wake"]
    mids: dict[str, tuple[str, ...]] = {}
    for n, order in enumerate(itertools.permutations(events, length)):
        mid = schedule(ledger, 2 * HOUR_US, to=f"+1312555{n:04d}", valid_for_us=DAY_US)
        (taken,) = take(ledger)
        mids[mid] = order
        for i, event in enumerate(order):
            if event == "answer":
                finish(ledger, taken, "accepted")
            elif event == "cancel":
                ledger.run(calls.cancel(mid[:32], 0))
            elif event == "stop":
                stop(ledger, f"+1312555{n:04d}")
            elif event == "confirm":
                confirm(ledger, mid)
            elif event == "receipt":
                receipt(ledger, mid, "D")
            else:
                asked = mid in asked_back(wake(ledger))
                may_be_asked = "answer" in order[:i] and {"cancel", "stop"} & set(order[:i])
                assert asked == bool(may_be_asked and expected_of(order[:i]) == "accepted"), order
            assert state(ledger, mid) == expected_of(order[: i + 1]), (order, event)
        pass_us(ledger, 20_000)
    pass_us(ledger, 80 * HOUR_US, 10 * MINUTE_US)
    for mid, order in mids.items():
        ends = state(ledger, mid)
        assert ends in {"delivered", "cancelled", "opted_out", "unconfirmed"}, (order, ends)
        assert expected_of(order) in {ends, "accepted", "sending"}, "an end stays"
    assert ledger.redis.zcard(ledger.key("wq")) == 0


def test_a_late_verdict_of_no_leaves_nothing_to_take_back(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (taken,) = take(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    finish(ledger, taken, "rejected", why="40310", code="40310")
    assert state(ledger, mid) == "rejected"
    assert asked_back(pass_us(ledger, 2 * HOUR_US, 10 * MINUTE_US)) == []


def test_a_cancelled_one_that_did_not_leave_ends_cancelled(ledger: VirtualLedger) -> None:
    mid = schedule(ledger)
    (taken,) = take(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    finish(ledger, taken, "slow_down", why="10011", code="10011", hold_us=SECOND_US, scope="account")
    assert state(ledger, mid) == "cancelled"
    assert asked_back(pass_us(ledger, 2 * HOUR_US, 10 * MINUTE_US)) == []


@pytest.mark.parametrize("late_fact", ["A", "T", "D", "F"])
def test_no_fact_revives_what_the_provider_gave_back(ledger: VirtualLedger, late_fact: str) -> None:
    mid, _ = hand_over(ledger)
    ledger.run(calls.cancel(mid[:32], 0))
    confirm(ledger, mid)
    assert receipt(ledger, mid, late_fact) == "odd"
    assert state(ledger, mid) == "cancelled"


@pytest.mark.parametrize("end", ["T", "D"])
def test_what_was_sent_is_not_cancelled_by_a_later_word(ledger: VirtualLedger, end: str) -> None:
    mid, _ = hand_over(ledger)
    receipt(ledger, mid, end)
    assert confirm(ledger, mid) == "known"
    assert state(ledger, mid) == {"T": "sent", "D": "delivered"}[end]


def test_a_server_that_forgot_the_hand_over_is_told_the_same_time(ledger: VirtualLedger) -> None:
    """Else a resend would have other bytes under the same key. And a STOP must still find it."""
    mid = schedule(ledger)
    before: dict[bytes, Any] = {k: ledger.redis.dump(k) for k in ledger.redis.keys(ledger.key("*"))}  # type: ignore[union-attr]
    (taken,) = take(ledger)
    for key in ledger.redis.keys(ledger.key("*")):  # type: ignore[union-attr]
        if key not in (ledger.key("clock").encode(),):
            ledger.redis.delete(key)
    for key, value in before.items():
        ledger.redis.restore(key, 0, value, replace=True)
    ledger.run(calls.beat("p1", "first"))
    told = Take(mid, taken.token, "p1", taken.attempt, "b1", send_at_us=taken.send_at_us)
    assert list(ledger.run(calls.repost("p1", [told]))) == ["held"]
    stop(ledger)
    assert finish(ledger, taken, "accepted") == "applied"
    assert view(ledger, mid).provider_send_at_us == taken.send_at_us
    assert asked_back(wake(ledger)) == [mid]


def test_thousands_are_asked_back_at_a_bounded_pace_the_next_to_leave_first(ledger: VirtualLedger) -> None:
    def handed(count: int, in_us: int) -> list[str]:
        mids = [schedule(ledger, in_us) for _ in range(count)]
        while taken := take(ledger):
            for t in taken:
                finish(ledger, t, "accepted")
            pass_us(ledger, 100_000)
        return mids

    later, sooner = handed(30, 3 * HOUR_US), handed(10, HOUR_US)
    for mid in later + sooner:
        ledger.run(calls.cancel(mid[:32], 0))
    first = asked_back(wake(ledger))
    assert len(first) == 20
    assert set(first[:10]) == set(sooner)
    assert len(asked_back(pass_us(ledger, SECOND_US))) == 20


def test_a_hand_over_that_broke_a_script_spares_its_neighbours(ledger: VirtualLedger) -> None:
    broken, sound = hand_over(ledger)[0], hand_over(ledger)[0]
    for mid in (broken, sound):
        ledger.run(calls.cancel(mid[:32], 0))
    ledger.redis.hset(ledger.key(f"m:{broken}"), "so", "not a time")
    assert sound in asked_back(wake(ledger))
    words = ledger.run(calls.withdraw([Withdrawal(broken, "held"), Withdrawal(sound, "late")]))
    assert words == ["poison", "done"]


def test_finish_tells_the_replay_only_where_there_is_one() -> None:
    plain = Finish(message="m", token="t", outcome="accepted").packed()
    assert "rp" not in plain
