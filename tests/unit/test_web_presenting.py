"""The ledger's records in the words of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from producers.ledger.reading import MessageView, NotificationView, Step
from worker.settings import parse_config
from worker.web.models import Message
from worker.web.presenting import hold_reason, notification, rfc3339

AT_US = 1_764_000_000_123_456
CONFIG = parse_config(
    """
[senders.local]
channel = "long_code"
from = "+13125550001"
rate = "1/s"

[senders.pool]
channel = "number_pool"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "1/s"

[senders.family]
channel = "group_mms"
from = "+13125550002"
rate = "1/s"

[job_types.notice]
sender = "local"
"""
)


def _shown(**fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": "0" * 32 + "-0", "to": "+13125550100", "lane": "local", "state": "sent", "attempts": 1,
        "provider_id": "p", "from_number": None, "errors": [], "timeline": [], "next_at_us": None, "members": [],
        "version": 3, "provider_status": None, "parts": None, **fields,
    }  # fmt: skip
    view = NotificationView(
        id="0" * 32, client="app", job_type="notice", submitted_us=AT_US, state_counts={"sent": 1},
        messages=[MessageView(**given)], next=None,
    )  # fmt: skip
    (message,) = notification(view, CONFIG)["messages"]
    Message.model_validate(message)
    shown: dict[str, Any] = message
    return shown


@pytest.mark.parametrize("at_us", [0, 1, 999, 1_000, AT_US, 4_102_444_799_999_999])
def test_times_are_rfc_3339_in_utc_with_milliseconds(at_us: int) -> None:
    text = rfc3339(at_us)
    assert len(text) == 24 and text.endswith("Z")
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(at_us // 1000 / 1000, UTC)


def test_a_lane_of_media_belongs_to_its_sender() -> None:
    shown = _shown(lane="local.mms")
    assert (shown["channel"], shown["from"]) == ("long_code", "+13125550001")


def test_a_message_in_no_lane_yet_shows_its_job_type_s_sender() -> None:
    assert _shown(lane="", state="new")["channel"] == "long_code"


def test_a_sender_that_is_gone_shows_none() -> None:
    shown = _shown(lane="gone")
    assert (shown["channel"], shown["from"]) == (None, None)


def test_from_of_a_pool_is_what_telnyx_chose() -> None:
    assert _shown(lane="pool")["from"] is None
    assert _shown(lane="pool", from_number="+13125550009")["from"] == "+13125550009"


def test_errors_without_a_title_get_plain_words_of_their_phase() -> None:
    rows = [{"code": "40300", "title": None, "phase": phase, "at_us": AT_US} for phase in ("send", "receipt", "poll")]
    rows.append({"code": "parts", "title": "shorten it", "phase": "expand", "at_us": AT_US})
    errors = _shown(errors=rows)["errors"]
    assert all(error["title"] for error in errors)
    assert errors[-1] == {"code": "parts", "title": "shorten it", "phase": "expand", "at": rfc3339(AT_US)}


def test_a_step_without_a_reason_says_null() -> None:
    steps = [
        Step(at_us=AT_US, state="new", leg=1, attempt=0, reason=""),
        Step(at_us=AT_US, state="uncertain", leg=1, attempt=1, reason="cut"),
    ]
    assert [step["reason"] for step in _shown(timeline=steps)["timeline"]] == [None, "cut"]


def test_next_at_is_null_once_nothing_is_planned() -> None:
    assert _shown(next_at_us=AT_US)["next_at"] == rfc3339(AT_US)
    assert _shown(next_at_us=AT_US, state="delivered")["next_at"] is None


def test_errors_of_a_group_stand_at_the_members_that_failed() -> None:
    rows = [{"code": "40008", "title": "Undeliverable", "phase": "receipt", "at_us": AT_US}]
    shown = _shown(to=["+1a", "+1b"], lane="family", members=[("+1a", "failed"), ("+1b", "delivered")], errors=rows)
    assert [len(member["errors"]) for member in shown["members"]] == [1, 0]


def test_what_meta_said_is_told_in_plain_words_for_its_title_is_always_the_same() -> None:
    (error,) = _shown(errors=[{"code": "131026", "title": "WhatsApp error", "phase": "receipt", "at_us": AT_US}])[
        "errors"
    ]
    assert error["title"] == "The person cannot be reached on WhatsApp"


def test_a_hold_says_what_its_code_means_and_a_person_s_reason_stays() -> None:
    assert str(hold_reason("40333")).startswith("40333: The profile's daily spend limit")
    assert [hold_reason(reason) for reason in (None, "operator", "429")] == [None, "operator", "429"]
