"""What nobody reported on is asked about: at most five a second over all processes, the oldest first, none forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_kit import finish, publication, queue, state, take_now
from virtual_time import SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Fact, Pointer


@pytest.fixture
def ledger() -> Iterator[VirtualLedger]:
    ledger = VirtualLedger()
    ledger.run(calls.publish(publication(buckets={"s:alerts": {"t_us": 1000}}), {}))
    yield ledger
    ledger.close()


def accepted(ledger: VirtualLedger, count: int, **other: object) -> list[str]:
    """Messages that the provider took one after the other, in this order."""
    found: list[str] = []
    for _ in range(count):
        queue(ledger, **other)  # type: ignore[arg-type]
        ledger.run(calls.beat("p1", "first"))
        for taken in take_now(ledger, hands=1):
            finish(ledger, taken, "accepted")
            found.append(taken.message)
        ledger.pass_us(50_000)
    assert len(found) == count
    return found


def ask(ledger: VirtualLedger, seconds: int, processes: int = 3) -> list[list[Pointer]]:
    """What is asked in each second while so many processes look at the timers."""
    rounds = []
    for _ in range(seconds):
        found: list[Pointer] = []
        for _ in range(processes):
            more = True
            while more:
                pointers, more = ledger.run(calls.wake())
                found += [pointer for pointer in pointers if str(pointer.kind).startswith("poll")]
        rounds.append(found)
        ledger.pass_us(SECOND_US)
    return rounds


def test_at_most_five_a_second_are_asked_about_by_all_processes_together_the_oldest_first(
    ledger: VirtualLedger,
) -> None:
    mids = accepted(ledger, 40)
    ledger.pass_us(62 * SECOND_US)
    rounds = ask(ledger, 10)
    assert all(len(found) <= 5 for found in rounds), [len(found) for found in rounds]
    assert [pointer.id for found in rounds for pointer in found] == mids


def test_a_quiet_hour_saves_up_no_burst(ledger: VirtualLedger) -> None:
    accepted(ledger, 1)
    ledger.pass_us(3600 * SECOND_US)
    assert len(ask(ledger, 1)[0]) == 1
    accepted(ledger, 30)
    ledger.pass_us(61 * SECOND_US)
    assert len(ask(ledger, 1)[0]) <= 5


def test_what_ended_while_it_waited_is_not_asked_about_and_takes_nobody_s_turn(ledger: VirtualLedger) -> None:
    mids = accepted(ledger, 20)
    ledger.pass_us(62 * SECOND_US)
    ask(ledger, 1, processes=1)
    for mid in mids[5:15]:
        ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    assert [pointer.id for pointer in ask(ledger, 1)[0]] == mids[15:]
    assert not ledger.redis.exists(ledger.key("pq"))


def test_a_message_that_stays_silent_is_asked_about_ever_less_often(ledger: VirtualLedger) -> None:
    (mid,) = accepted(ledger, 1)
    asked = [second for second, found in enumerate(ask(ledger, 900, processes=1)) if found]
    assert len(asked) == 3, "after 1, 4 and 13 minutes"
    assert asked[0] in (59, 60, 61)
    assert asked[2] - asked[1] > 2.8 * (asked[1] - asked[0]) > 2.8 * 2.8 * 59
    assert state(ledger, mid) == "accepted"


def test_a_group_is_asked_about_as_a_group(ledger: VirtualLedger) -> None:
    (mid,) = accepted(ledger, 1, to="+13125550101,+13125550102")
    ledger.pass_us(62 * SECOND_US)
    ((pointer,),) = ask(ledger, 1)
    assert (pointer.kind, pointer.id, pointer.more) == ("poll_group", mid, f"pid-{mid}")


def test_a_clock_that_went_back_stops_no_questions(ledger: VirtualLedger) -> None:
    accepted(ledger, 2)
    ledger.pass_us(62 * SECOND_US)
    ledger.redis.set(ledger.key("pqt"), ledger.now_us + 3600 * SECOND_US)
    assert sum(len(found) for found in ask(ledger, 3)) == 2
