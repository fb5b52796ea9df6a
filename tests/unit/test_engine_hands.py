from __future__ import annotations

from worker.engine.hands import JUDGED, LEAST, Hands


def test_a_hand_given_back_twice_counts_once() -> None:
    hands = Hands(10, ring=lambda: None)
    hand, other = hands.take("a"), hands.take("a")
    hand.give_back()
    hand.give_back()
    assert hands.used == 1
    assert hands.ask().in_lanes == {"a": 1}
    other.give_back()
    assert hands.ask().in_lanes == {}


def test_a_hand_that_comes_free_rings_whoever_found_too_few() -> None:
    rung: list[int] = []
    hands = Hands(1, ring=lambda: rung.append(1))
    hand = hands.take("a")
    assert hands.ask().free == 0
    hand.give_back()
    assert rung == [1]
    hands.take("a").give_back()
    assert rung == [1]  # once; the next one asks again


def test_nobody_is_rung_who_had_hands_enough() -> None:
    rung: list[int] = []
    hands = Hands(10, ring=lambda: rung.append(1))
    hands.ask()
    hands.content()
    hands.take("a").give_back()
    assert rung == []


def test_a_process_that_misses_its_slots_holds_fewer_and_grows_again() -> None:
    hands = Hands(1000, ring=lambda: None)
    for _ in range(3):
        for hand in [hands.take("a") for _ in range(JUDGED)]:
            hand.give_back(missed=True)
    low = hands.cap
    assert LEAST <= low < JUDGED
    for hand in [hands.take("a") for _ in range(low)]:
        assert hands.ask().free <= low
        hand.give_back(missed=True)
    for _ in range(60):
        for hand in [hands.take("a") for _ in range(JUDGED)]:
            hand.posted()
            hand.give_back()
    assert hands.cap == hands.total


def test_one_missed_slot_in_ten_cuts_nothing() -> None:
    hands = Hands(1000, ring=lambda: None)
    for number in range(JUDGED * 5):
        hand = hands.take("a")
        if number % 10:
            hand.posted()
        hand.give_back(missed=number % 10 == 0)
    assert hands.cap == 1000


def test_what_is_posted_leaves_room_below_the_cap() -> None:
    hands = Hands(JUDGED * 2, ring=lambda: None)
    for hand in [hands.take("a") for _ in range(JUDGED)]:
        hand.give_back(missed=True)
    cap = hands.cap
    held = [hands.take("a") for _ in range(cap)]
    assert hands.ask().free == 0
    held[0].posted()
    assert hands.ask().free == 1
