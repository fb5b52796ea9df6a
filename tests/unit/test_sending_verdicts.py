from __future__ import annotations

import random

import pytest

from producers.ledger.calls import Finish, Taken
from worker.sending.verdicts import STREAK, US, to_finish
from worker.telnyx.outcomes import Kind, Outcome

TAKEN = Taken("n-0", "token.1", ["+13125550001"], b"{}", "code", 1, False)


def finish(kind: Kind, *, taken: Taken = TAKEN, streak: int = 0, **fields: object) -> Finish:
    outcome = Outcome(kind=kind, reason="because", **fields)  # type: ignore[arg-type]
    return to_finish(taken, outcome, streak=streak, rng=random.Random(7))


@pytest.mark.parametrize(
    "kind", ["accepted", "rejected", "slow_down", "opted_out", "configuration", "uncertain", "not_sent", "conflict"]
)
def test_only_a_clear_try_again_uses_a_try(kind: Kind) -> None:
    assert not finish(kind).uses_a_try
    assert finish("retry").uses_a_try


@pytest.mark.parametrize("kind", ["uncertain", "conflict"])
def test_what_may_have_left_is_never_recorded_as_not_sent(kind: Kind) -> None:
    assert finish(kind).outcome == kind


def test_a_key_that_telnyx_knows_with_other_bytes_ends_the_resends() -> None:
    """Recorded as refused, of a message that may be out: the ledger makes it unconfirmed, and nobody asks again."""
    again = TAKEN._replace(attempt=2, may_be_out=True)
    assert finish("uncertain", taken=again, note="key_reused").outcome == "rejected"
    assert finish("uncertain", taken=TAKEN, note="key_reused").outcome == "uncertain"


def test_an_accepted_message_brings_its_id_state_and_number() -> None:
    result = finish(
        "accepted", provider_id="p1", provider_status={"+13125550001": "queued"}, from_number="12345", parts=2
    )
    assert (result.provider_id, result.state, result.raw, result.from_number, result.parts, result.to) == (
        "p1", "A", "queued", "12345", 2, (),
    )  # fmt: skip
    assert result.hold_us == 0


def test_members_of_a_group_are_told_apart() -> None:
    group = TAKEN._replace(to=["+13125550001", "+13125550002"])
    statuses = {"+13125550001": "queued", "+13125550002": "sending_failed"}
    result = finish("accepted", taken=group, provider_id="p1", provider_status=statuses)
    assert result.to == (("+13125550001", "A"), ("+13125550002", "F"))


def test_a_queue_at_telnyx_rests_the_sender_for_at_most_a_minute() -> None:
    assert finish("accepted", provider_id="p", wait_seconds=0.9).hold_us == 0
    short, long = (
        finish("accepted", provider_id="p", wait_seconds=12),
        finish("accepted", provider_id="p", wait_seconds=900),
    )
    assert (short.hold_us, long.hold_us, short.scope) == (12 * US, 60 * US, "sender")


def test_retry_after_wins_over_our_own_delay() -> None:
    assert finish("retry", retry_after_s=7).delay_us == 7 * US


def test_delays_grow_with_the_tries_and_stay_below_five_minutes() -> None:
    def longest_s(attempt: int) -> float:
        outcome, taken = Outcome(kind="retry", reason="r"), TAKEN._replace(attempt=attempt)
        rng = random.Random(1)
        return max(to_finish(taken, outcome, rng=rng).delay_us for _ in range(500)) / US

    assert 1.5 < longest_s(1) <= 2
    assert 12 < longest_s(4) <= 16
    assert 280 < longest_s(50) <= 300


def test_too_fast_rests_the_bucket_that_the_answer_names() -> None:
    anonymous = finish("slow_down")
    assert (anonymous.hold_us, anonymous.scope, anonymous.delay_us) == (5 * US, "account", 0)
    assert finish("slow_down", code="40310", scope="sender").scope == "sender"
    assert finish("slow_down", code="40318").hold_us == 120 * US
    assert finish("slow_down", code="40318").scope == "sender"
    assert finish("slow_down", retry_after_s=9).hold_us == 9 * US


def test_a_wrong_setting_rests_what_it_concerns_for_minutes() -> None:
    assert (finish("configuration").hold_us, finish("configuration").scope) == (300 * US, "sender")
    assert finish("configuration", scope="account", hold_s=60).hold_us == 60 * US
    assert finish("configuration", scope="account").scope == "account"
    assert finish("configuration").delay_us == 300 * US, "behind the others, should it be this message alone"


def test_a_setting_that_concerns_the_recipient_alone_does_not_rest_the_sender() -> None:
    result = finish("configuration", scope="recipient", code="40309", hold_s=60)
    assert (result.hold_us, result.delay_us, result.uses_a_try) == (0, 60 * US, True)


def test_ten_unclear_answers_in_a_row_rest_the_account() -> None:
    assert finish("uncertain", streak=STREAK - 1).hold_us == 0
    tenth = finish("uncertain", streak=STREAK)
    assert (tenth.hold_us, tenth.scope) == (5 * US, "account")


def test_connections_that_fail_in_a_row_are_tried_less_and_less_often() -> None:
    first, twentieth = finish("not_sent", streak=1), finish("not_sent", streak=20)
    assert 0 < first.delay_us <= US
    assert 30 * US <= twentieth.delay_us <= 60 * US
