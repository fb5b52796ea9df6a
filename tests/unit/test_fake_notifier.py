"""The fake Notifier, which apps test against."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producers.errors import IdempotencyConflict, InvalidNotification, NotFound
from producers.notifier import Notifier
from producers.testing import FakeNotifier

NUMBER, OTHER = "+13125550100", "+13125550101"
JOB_TYPES: dict[str, dict[str, Any]] = {
    "otp": {"variables": ["code"], "priority": "urgent", "valid_for_s": 300},
    "notice": {},
    "family": {"group": True},
    "order": {"channel": "whatsapp", "whatsapp": True, "variables": ["order"]},
}


@pytest.fixture
def notifier() -> FakeNotifier:
    return FakeNotifier(JOB_TYPES)


@pytest.mark.parametrize("method", ["enqueue", "enqueue_many", "status", "cancel", "events", "job_types"])
def test_its_methods_have_the_signatures_of_the_real_ones(method: str) -> None:
    assert inspect.signature(getattr(FakeNotifier, method)) == inspect.signature(getattr(Notifier, method))


def test_it_records_what_was_enqueued(notifier: FakeNotifier) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    ticket = notifier.enqueue(
        "otp", to="+1 (312) 555-0100", variables={"code": "123456"}, send_at=at, metadata={"order": 1}
    )
    sent = notifier.assert_enqueued("otp", to=NUMBER, variables={"code": "123456"})
    assert notifier.sent == [sent]
    assert (ticket.id, ticket.messages) == (sent.id, 1)
    assert (sent.priority, sent.valid_for_us, sent.metadata) == ("urgent", 300_000_000, {"order": 1})
    assert sent.send_at_us == int(at.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"job_type": "opt", "to": NUMBER}, "job_type"),
        ({"job_type": "otp", "to": NUMBER}, "variables.code"),
        ({"job_type": "otp", "to": "3125550100", "variables": {"code": "1"}}, "to"),
        ({"job_type": "otp", "to": NUMBER, "text": "hello", "variables": {"code": "1"}}, "text"),
        ({"job_type": "notice", "to": NUMBER}, "text"),
        ({"job_type": "family", "to": [f"+1312555010{i}" for i in range(9)], "text": "dinner"}, "to"),
    ],
)
def test_it_refuses_what_the_real_one_refuses(notifier: FakeNotifier, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidNotification) as caught:
        notifier.enqueue(**wrong)
    assert [error.field for error in caught.value.errors] == [field]
    notifier.assert_nothing_enqueued()


def test_many_are_kept_together_or_not_at_all(notifier: FakeNotifier) -> None:
    good = {"job_type": "notice", "to": NUMBER, "text": "hello"}
    with pytest.raises(InvalidNotification) as caught:
        notifier.enqueue_many([good, {**good, "to": "nobody"}])
    assert caught.value.errors[0].field == "[1].to"
    notifier.assert_nothing_enqueued()
    assert [ticket.messages for ticket in notifier.enqueue_many([good, {**good, "to": [NUMBER, OTHER]}])] == [1, 2]


def test_a_key_used_again_gives_the_same_ticket_and_another_request_a_conflict(notifier: FakeNotifier) -> None:
    first = notifier.enqueue("notice", to=NUMBER, text="hello", idempotency_key="k")
    assert notifier.enqueue("notice", to=NUMBER, text="hello", idempotency_key="k") == first
    assert len(notifier.sent) == 1
    with pytest.raises(IdempotencyConflict):
        notifier.enqueue("notice", to=NUMBER, text="bye", idempotency_key="k")
    notifier.clear()
    assert notifier.enqueue("notice", to=NUMBER, text="bye", idempotency_key="k").id == first.id


def test_it_asserts_by_job_type_recipients_and_variables(notifier: FakeNotifier) -> None:
    notifier.enqueue("otp", to=[NUMBER, {"to": OTHER, "variables": {"code": "2"}}], variables={"code": "1"})
    notifier.assert_enqueued("otp")
    notifier.assert_enqueued("otp", to=[OTHER, NUMBER])
    notifier.assert_enqueued("otp", to=OTHER, variables={"code": "2"})
    notifier.assert_enqueued("otp", to=NUMBER, variables={"code": "1"})
    for wrong in (
        lambda: notifier.assert_enqueued("notice"),
        lambda: notifier.assert_enqueued("otp", to=[OTHER]),
        lambda: notifier.assert_enqueued("otp", to="+13125550199"),
        lambda: notifier.assert_enqueued("otp", variables={"code": "1"}),
        lambda: notifier.assert_enqueued("otp", to=OTHER, variables={"code": "1"}),
        notifier.assert_nothing_enqueued,
    ):
        with pytest.raises(AssertionError, match="there was\n  Sent"):
            wrong()


def test_messages_stay_new_until_they_are_finished_or_cancelled(notifier: FakeNotifier) -> None:
    ticket = notifier.enqueue("notice", to=[NUMBER, OTHER], text="hello")
    assert notifier.status(ticket.id).state_counts == {"new": 2}
    notifier.finish(ticket.id, "delivered", to=NUMBER)
    assert not notifier.status(ticket.id).is_final
    assert notifier.cancel(ticket.id) == 1
    assert notifier.cancel(ticket.id) == 0
    status = notifier.status(ticket.id)
    assert status.state_counts == {"delivered": 1, "cancelled": 1}
    assert status.is_final
    assert [m.to for m in notifier.status(ticket.id, limit=1, after=0).messages] == [OTHER]


def test_events_tell_each_end_once_and_go_on_after_a_cursor(notifier: FakeNotifier) -> None:
    ticket = notifier.enqueue("notice", to=[NUMBER, OTHER], text="hello")
    notifier.finish(ticket.id, "delivered", to=NUMBER)
    first = list(notifier.events())
    assert [(e.type, e.message, e.state) for e in first] == [("message.final", f"{ticket.id}-0", "delivered")]
    notifier.finish(ticket.id, "failed")
    notifier.finish(ticket.id, "failed")
    later = list(notifier.events(after=first[-1].cursor))
    assert [(e.type, e.state) for e in later] == [("message.final", "failed"), ("notification.finished", "")]


def test_a_group_is_one_message_to_all(notifier: FakeNotifier) -> None:
    ticket = notifier.enqueue("family", to=[NUMBER, OTHER], text="dinner")
    assert ticket.messages == 1
    assert notifier.status(ticket.id).messages[0].to == [NUMBER, OTHER]
    notifier.finish(ticket.id, to=OTHER)
    assert notifier.status(ticket.id).is_final


def test_an_unknown_id_is_not_found(notifier: FakeNotifier) -> None:
    for call in (notifier.status, notifier.cancel):
        with pytest.raises(NotFound):
            call("0" * 32)


def test_a_mistyped_job_type_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"job_types\.otp\.variable is unknown"):
        FakeNotifier({"otp": {"variable": ["code"]}})


def test_finish_takes_final_states_only(notifier: FakeNotifier) -> None:
    ticket = notifier.enqueue("notice", to=NUMBER, text="hello")
    with pytest.raises(ValueError, match="use a final one"):
        notifier.finish(ticket.id, "sent")
