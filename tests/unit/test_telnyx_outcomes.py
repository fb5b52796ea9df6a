from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.telnyx.outcomes import Outcome, from_response, retry_after_s

NOW_S = 1_795_000_000.0


def judge(status: int, payload: Any, *, headers: dict[str, str] | None = None, is_resend: bool = False) -> Outcome:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return from_response(status, headers or {}, body, channel="long_code", is_resend=is_resend, now_s=NOW_S)


@given(status=st.integers(100, 599), body=st.one_of(st.binary(), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.sampled_from(["data", "id", "to", "errors", "code", "title", "from"]), inner)
    ),
).map(lambda value: json.dumps(value).encode())), resend=st.booleans())  # fmt: skip
def test_any_answer_gets_a_verdict_and_only_an_id_is_acceptance(status: int, body: bytes, resend: bool) -> None:
    outcome = judge(status, body, is_resend=resend)
    assert (outcome.kind == "accepted") == (outcome.provider_id is not None)
    assert outcome.kind != "not_sent"
    assert 1 <= len(outcome.reason) <= 24
    if 200 <= status < 300:
        assert outcome.kind in {"accepted", "uncertain"}


MINE, OTHERS = "https://a.test/webhooks/telnyx?ref=n-0", "https://a.test/webhooks/telnyx?ref=n-1"


@pytest.mark.parametrize(
    ("url", "kind"),
    [(MINE, "accepted"), (None, "accepted"), ("https://profile.test/", "accepted"), (OTHERS, "uncertain")],
)
def test_an_answer_about_another_message_is_no_acceptance(url: str | None, kind: str) -> None:
    """A proxy that mixes up answers: the id in it is another message's."""
    body = json.dumps({"data": {"id": "p-1", "webhook_url": url}}).encode()
    outcome = from_response(200, {}, body, channel="long_code", is_resend=False, now_s=NOW_S, ref="n-0")
    assert outcome.kind == kind
    if kind == "uncertain":
        assert outcome.reason == "foreign_answer"


@pytest.mark.parametrize("id", ["x" * 101, "../phone_numbers", "a/b", "a b"])
def test_an_answer_with_what_can_be_no_id_is_uncertain(id: str) -> None:
    assert judge(200, {"data": {"id": id}}).reason == "no_id"


def test_from_may_be_a_plain_string_and_a_group_has_several_statuses() -> None:
    to = [
        {"phone_number": "+13125550101", "status": "queued"},
        {"phone_number": "+13125550102", "status": "sending_failed"},
    ]
    outcome = judge(200, {"data": {"id": "g-1", "from": "+13125550002", "to": to, "parts": 1, "wait_seconds": None}})
    assert outcome.from_number == "+13125550002"
    assert outcome.provider_status == {"+13125550101": "queued", "+13125550102": "sending_failed"}
    assert outcome.wait_seconds is None


@pytest.mark.parametrize(
    "payload",
    [
        {"errors": [{"code": "40310", "title": "Invalid 'to' address"}]},
        {"errors": [{"code": 40310, "title": "Invalid 'to' address"}]},
        {"errors": [{"title": "first"}, {"code": "40310", "title": "Invalid 'to' address"}]},
        {"code": "40310", "title": "Invalid 'to' address"},
        {"error": {"code": "40310", "title": "Invalid 'to' address"}},
        {"errors": {"code": "40310", "title": "Invalid 'to' address"}},
    ],
)
def test_an_error_is_read_in_every_shape(payload: Any) -> None:
    outcome = judge(400, payload)
    assert (outcome.kind, outcome.code, outcome.title) == ("rejected", "40310", "Invalid 'to' address")


def test_a_whatsapp_error_is_judged_by_metas_code() -> None:
    outcome = judge(400, {"errors": [{"code": "41000", "title": "WhatsApp error", "detail": "(#132015) paused"}]})
    assert (outcome.kind, outcome.code) == ("configuration", "132015")


@pytest.mark.parametrize("title", ["number +13125550100 is bad", "13125550100"])
def test_a_number_in_a_title_is_masked(title: str) -> None:
    assert "3125550100" not in repr(judge(400, {"errors": [{"code": "1", "title": title}]}))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 18 Nov 2026 13:46:50 GMT"}, 3600.0),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset": str(int(NOW_S) + 30)}, 30.0),
        ({"retry-after": "3", "x-ratelimit-reset": "12"}, 3.0),
    ],
)
def test_the_wait_that_an_answer_asks_for(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == expected


def test_a_full_queue_is_not_hurried_by_retry_after() -> None:
    outcome = judge(429, {"errors": [{"code": "40318", "title": "Queue full"}]}, headers={"retry-after": "1"})
    assert outcome.kind == "slow_down"
    assert outcome.hold_s is not None
    assert outcome.hold_s >= 60


def test_an_outcome_shows_no_number() -> None:
    data = {
        "id": "m-1",
        "from": {"phone_number": "+13125550001"},
        "to": [{"phone_number": "+13125550100", "status": "queued"}],
    }
    assert "+1312555" not in repr(judge(200, {"data": data}))
