"""The figures of what became of messages: exact whatever comes in which order, rolled up once, bounded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from ledger_kit import finish, lane, publication, queue, take_now, view
from virtual_time import DAY_US, MINUTE_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Fact
from producers.ledger.connection import connect
from producers.ledger.figures import BOUNDS_S, Figures, ends, latencies, read_figures


@pytest.fixture
def ledger() -> Iterator[VirtualLedger]:
    ledger = VirtualLedger()
    lanes = {name: lane(name, f"s:{name}", profile="p1") for name in ("alerts", "local")}
    ledger.run(calls.publish(publication(lanes, {f"s:{name}": {"t_us": 1000} for name in lanes}), {}))
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.close()


def accepted(ledger: VirtualLedger, count: int = 1, **other: object) -> list[str]:
    """Messages that the provider took, in the order in which they were made."""
    mids = [queue(ledger, **other) for _ in range(count)]  # type: ignore[arg-type]
    ledger.run(calls.beat("p1", "first"))
    found: list[str] = []
    while len(found) < count:
        for taken in take_now(ledger, hands=count - len(found)):
            finish(ledger, taken, "accepted", parts=2)
            found.append(taken.message)
        ledger.pass_us(50_000)
    assert sorted(found) == sorted(mids)
    return mids


def receive(ledger: VirtualLedger, mid: str, state: str, code: str = "", **other: object) -> str:
    error = ("w", code, "words") if code else None
    fact = Fact(ref=mid, provider_id=f"pid-{mid}", state=state, raw="x", error=error, **other)  # type: ignore[arg-type]
    return ledger.run(calls.receipt("", [fact]))[0]


def by_state(figures: Figures) -> Counter[str]:
    found: Counter[str] = Counter()
    for end, n in ends(figures).items():
        found[end.state] += n
    return found


def test_the_counts_equal_the_states_whatever_facts_come_in_which_order(ledger: VirtualLedger) -> None:
    chance = random.Random(7)
    mids = accepted(ledger, 30)
    for _ in range(150):
        mid, state = chance.choice(mids), chance.choice("ATTXXFD")
        receive(ledger, mid, state, code="40008" if state == "F" else "", carrier=chance.choice([None, "A", "B"]))
        ledger.pass_us(chance.randrange(2 * SECOND_US))
    views = [view(ledger, mid) for mid in mids]
    truth = Counter(seen.state for seen in views if seen.state not in ("accepted", "sent"))
    corrected = sum(
        len([s for s in v.timeline if s.state in ("failed", "unconfirmed", "delivered")]) - 1 for v in views
    )
    assert corrected > 5, "nothing was corrected, so this run proves little"
    rank = {"accepted": 1, "sent": 2, "unconfirmed": 3, "failed": 4, "delivered": 5}
    for seen in views:
        steps = [rank[step.state] for step in seen.timeline if step.state in rank]
        assert steps == sorted(set(steps)), f"a state went backward, or came twice: {seen.timeline}"
    found = ends(read_figures(ledger))
    assert by_state(read_figures(ledger)) == truth
    assert all(n > 0 for n in found.values()), "a correction was taken from another end than the message had"
    failed = Counter(end.reason for end in found.elements() if end.state == "failed")
    assert failed == Counter({"40008": truth["failed"]})
    assert by_state(read_figures(ledger, days=1)) == by_state(read_figures(ledger, minutes=180)) == truth


def test_a_copy_of_a_receipt_counts_nothing_twice(ledger: VirtualLedger) -> None:
    (mid,) = accepted(ledger)
    for _ in range(3):
        receive(ledger, mid, "T")
        receive(ledger, mid, "D", cost=(5100, "USD"), parts=2)
    figures = read_figures(ledger)
    assert by_state(figures) == {"delivered": 1}
    assert {more: n for (_, more), n in figures.of("c").items()} == {"USD": 5100}
    assert list(figures.of("g").values()) == [2]
    assert {stage: latency.count for (stage, _), latency in latencies(figures).items()} == {
        "provider": 1,
        "carrier": 1,
        "handset": 1,
    }


def test_latencies_are_the_provider_s_own_where_it_tells_them(ledger: VirtualLedger) -> None:
    (mid,) = accepted(ledger)
    ledger.pass_us(40 * SECOND_US)
    receive(ledger, mid, "D", sent_ms=800, done_ms=4000)
    found = {stage: latency for (stage, _), latency in latencies(read_figures(ledger)).items()}
    assert found["carrier"].sum_s == 0.8
    assert found["handset"].sum_s == 4.0
    assert found["handset"].buckets[BOUNDS_S.index(5.0)] == 1


def test_waiting_for_a_release_is_no_latency(ledger: VirtualLedger) -> None:
    mid = queue(ledger, send_at_us=ledger.now_us + 600 * SECOND_US)
    ledger.pass_us(601 * SECOND_US)
    ledger.run(calls.beat("p1", "first"))
    ledger.run(calls.wake())
    (taken,) = take_now(ledger)
    assert taken.message == mid
    finish(ledger, taken, "accepted")
    ((_, latency),) = latencies(read_figures(ledger)).items()
    assert latency.sum_s < 2


def test_what_ends_by_silence_without_an_id_has_no_latency(ledger: VirtualLedger) -> None:
    queue(ledger, job_type="careful")
    (taken,) = take_now(ledger)
    finish(ledger, taken, "uncertain", why="cut")
    ledger.pass_us(700 * SECOND_US)
    ledger.run(calls.wake())
    figures = read_figures(ledger)
    assert by_state(figures) == {"unconfirmed": 1}
    assert latencies(figures) == {}
    assert {more for _, more in figures.of("ouncertain")} == {"cut"}


def test_a_changed_cost_is_counted_by_what_it_changed(ledger: VirtualLedger) -> None:
    (mid,) = accepted(ledger)
    receive(ledger, mid, "D", cost=(5100, "USD"))
    receive(ledger, mid, "D", cost=(4000, "USD"))
    figures = read_figures(ledger)
    assert sum(figures.of("c").values()) - sum(figures.of("r").values()) == 4000


def test_a_minute_is_rolled_up_once_and_all_of_it_stays(ledger: VirtualLedger) -> None:
    for minute in range(4):
        for mid in accepted(ledger, minute + 1):
            receive(ledger, mid, "D")
        ledger.pass_us(MINUTE_US)
    assert by_state(read_figures(ledger)) == {"delivered": 10}
    assert by_state(read_figures(ledger, minutes=180)) == {"delivered": 10}
    assert by_state(read_figures(ledger, minutes=2)) == {"delivered": 4}
    ledger.pass_us(DAY_US)
    (mid,) = accepted(ledger)
    receive(ledger, mid, "D")
    assert by_state(read_figures(ledger)) == {"delivered": 11}
    assert by_state(read_figures(ledger, days=1)) == {"delivered": 1}
    assert by_state(read_figures(ledger, days=2)) == {"delivered": 11}
    assert by_state(read_figures(ledger, minutes=180)) == {"delivered": 1}
    minutes = list(ledger.redis.scan_iter(match=ledger.key("st:[0-9]*")))
    assert len(minutes) == 2, "of the old minutes only the last may be left, which was rolled up just now"


def test_a_clock_that_went_back_loses_no_figure(ledger: VirtualLedger) -> None:
    first, second = accepted(ledger, 2)
    ledger.pass_us(MINUTE_US)
    receive(ledger, first, "D")  # rolls up the minute before
    ledger.pass_us(-MINUTE_US)
    receive(ledger, second, "D")
    ledger.pass_us(3 * MINUTE_US)
    (third,) = accepted(ledger)
    receive(ledger, third, "D")
    assert by_state(read_figures(ledger)) == by_state(read_figures(ledger, days=1)) == {"delivered": 3}


def test_labels_without_bound_become_other_and_nothing_is_lost(redis_url: str, namespace: str) -> None:
    ledger = VirtualLedger(connect(redis_url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(buckets={"s:alerts": {"t_us": 1000}}), {}))
    mids = accepted(ledger, 450)
    for i, mid in enumerate(mids):
        receive(ledger, mid, "D", carrier=f"carrier {i}", cost=(100, "USD"))
    figures = read_figures(ledger)
    assert by_state(figures) == {"delivered": 450}
    assert sum(figures.of("c").values()) == 45_000
    assert {more for _, more in figures.of("c")} == {"USD"}
    carriers = {labels.carrier for labels, _ in figures.of("eD")}
    assert "other" in carriers
    assert int(ledger.redis.hlen(ledger.key(f"st:{ledger.now_us // MINUTE_US}"))) < 1100  # type: ignore[arg-type]
    ledger.close()


def test_a_group_is_one_message_and_has_no_carrier(ledger: VirtualLedger) -> None:
    people = "+13125550101,+13125550102"
    mid = queue(ledger, to=people)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    for number in people.split(","):
        receive(ledger, mid, "D", to=[(number, "D")], carrier="A")
    assert {(end.labels.carrier, n) for end, n in ends(read_figures(ledger)).items()} == {("", 1)}
