"""What the sandbox refuses, and with which of Telnyx's codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.sandbox.checks import CHECKS, Context
from worker.sandbox.messages import Draft
from worker.sandbox.refusals import Refusal

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG, SHORT, ALPHA, PERSON, BRITON = "+13125550001", "12345", "ACME", "+13125550100", "+447700900123"
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
CONTEXT = Context(
    now_us=int(NOW.timestamp() * 1e6),
    schedule_min_s=300,
    schedule_max_s=5 * 86_400,
    pool_sender=lambda _profile, _to: "+17735550001",
)
GOOD: dict[str, dict[str, Any]] = {
    "/messages": {"from": LONG, "to": PERSON, "text": "hello"},
    "/messages/long_code": {"from": LONG, "to": PERSON, "text": "hello"},
    "/messages/short_code": {"from": SHORT, "to": PERSON, "text": "hello"},
    "/messages/number_pool": {"messaging_profile_id": PROFILE, "to": PERSON, "text": "hello"},
    "/messages/group_mms": {"from": LONG, "to": [PERSON, "+13125550101"], "text": "hello"},
    "/messages/alphanumeric_sender_id": {
        "from": ALPHA,
        "messaging_profile_id": PROFILE,
        "to": BRITON,
        "text": "hello",
    },
    "/messages/whatsapp": {
        "from": LONG,
        "to": PERSON,
        "whatsapp_message": {"type": "text", "text": {"body": "hello"}},
    },
    "/messages/schedule": {"from": LONG, "to": PERSON, "text": "hello", "send_at": "2026-11-24T12:10:00Z"},
}


def check(path: str, **changes: Any) -> Draft:
    body = {**GOOD[path], **changes}
    return CHECKS[path]({name: value for name, value in body.items() if value is not ...}, CONTEXT)


def refused(path: str, **changes: Any) -> str:
    with pytest.raises(Refusal) as caught:
        check(path, **changes)
    return caught.value.code


@pytest.mark.parametrize("path", GOOD)
def test_a_right_request_is_accepted_at_every_path(path: str) -> None:
    assert check(path).to[0] in (PERSON, BRITON)


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path, body in GOOD.items() for name in body if not (path == "/messages" and name == "from")],
)
def test_each_required_field_is_missed_by_name(path: str, name: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(path, **{name: ...})
    expected = "40316" if name == "text" and path != "/messages/alphanumeric_sender_id" else "10004"
    assert caught.value.code == expected
    assert caught.value.pointer == f"/{name}"


@pytest.mark.parametrize("path", [path for path in GOOD if "group" not in path])
def test_several_recipients_are_refused_outside_groups(path: str) -> None:
    expected = "10015" if path == "/messages/whatsapp" else "40310"
    assert refused(path, to=[PERSON, "+13125550101"]) == expected


def test_a_list_of_one_recipient_passes() -> None:
    assert check("/messages/long_code", to=[PERSON]).to == (PERSON,)


@pytest.mark.parametrize(
    ("to", "code"),
    [("13125550100", "10016"), ("+0312555", "40310"), ("hello", "40310"), ("+1312", "40310"), (5, "40310")],
)
def test_a_recipient_must_be_in_e164(to: Any, code: str) -> None:
    assert refused("/messages/long_code", to=to) == code


@pytest.mark.parametrize(
    ("path", "changes", "code"),
    [
        ("/messages", {"from": ...}, "10004"),
        ("/messages", {"from": ALPHA}, "10004"),
        ("/messages", {"from": ALPHA, "messaging_profile_id": PROFILE}, "40301"),
        ("/messages/long_code", {"from": SHORT}, "40305"),
        ("/messages/short_code", {"from": LONG}, "40305"),
        ("/messages/short_code", {"to": BRITON}, "40301"),
        ("/messages/alphanumeric_sender_id", {"from": "A name too long"}, "40306"),
        ("/messages/alphanumeric_sender_id", {"from": "12345"}, "40306"),
        ("/messages/alphanumeric_sender_id", {"from": "A-B"}, "40306"),
        ("/messages/alphanumeric_sender_id", {"to": PERSON}, "40301"),
        ("/messages/alphanumeric_sender_id", {"text": ""}, "40316"),
        ("/messages/alphanumeric_sender_id", {"media_urls": ["https://x/a.png"]}, "40308"),
        ("/messages/group_mms", {"to": [f"+1312555010{n}" for n in range(9)]}, "40310"),
        ("/messages/group_mms", {"to": PERSON}, "10004"),
        ("/messages/group_mms", {"to": [BRITON]}, "40301"),
        ("/messages/group_mms", {"from": SHORT}, "40308"),
    ],
)
def test_a_sender_must_suit_its_path_and_recipient(path: str, changes: dict[str, Any], code: str) -> None:
    assert refused(path, **changes) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"text": ""}, "40316"),
        ({"text": "x" * 1531}, "40302"),
        ({"text": "ж" * 671}, "40302"),
        ({"text": "x" * 1531, "auto_detect": True}, "40328"),
        ({"text": "ж", "encoding": "gsm7"}, "10015"),
        ({"encoding": "morse"}, "10015"),
        ({"media_urls": ["https://x/a.png"] * 11}, "40317"),
        ({"media_urls": ["file:///a.png"]}, "40317"),
        ({"media_urls": ["https://x/a.png"], "type": "SMS"}, "40304"),
        ({"type": "FAX"}, "10015"),
        ({"webhook_url": "https://x/" + "y" * 2000}, "10003"),
        ({"webhook_failover_url": "ftp://x"}, "10003"),
    ],
)
def test_content_that_telnyx_refuses(changes: dict[str, Any], code: str) -> None:
    assert refused("/messages/long_code", **changes) == code


@pytest.mark.parametrize(
    ("changes", "parts", "encoding"),
    [
        ({"text": "x" * 160}, 1, "GSM-7"),
        ({"text": "x" * 161}, 2, "GSM-7"),
        ({"text": "x" * 1530}, 10, "GSM-7"),
        ({"text": "ж" * 71}, 2, "UCS-2"),
        ({"text": "x" * 71, "encoding": "ucs2"}, 2, "UCS-2"),
        ({"text": "x" * 2000, "media_urls": ["https://x/a.png"]}, 1, "UTF-8"),
    ],
)
def test_parts_are_those_that_are_billed(changes: dict[str, Any], parts: int, encoding: str) -> None:
    draft = check("/messages/long_code", **changes)
    assert (draft.parts, draft.encoding) == (parts, encoding)


@pytest.mark.parametrize(
    ("ahead", "is_accepted"),
    [
        (timedelta(seconds=299), False),
        (timedelta(minutes=5), True),
        (timedelta(days=5), True),
        (timedelta(days=5, seconds=1), False),
        (timedelta(minutes=-1), False),
    ],
)
@pytest.mark.parametrize("path", ["/messages", "/messages/schedule"])
def test_send_at_must_be_five_minutes_to_five_days_ahead(path: str, ahead: timedelta, is_accepted: bool) -> None:
    send_at = (NOW + ahead).isoformat()
    if is_accepted:
        assert check(path, send_at=send_at).send_at_us == int((NOW + ahead).timestamp() * 1e6)
    else:
        assert refused(path, send_at=send_at) == "10015"


def test_a_naive_send_at_is_refused() -> None:
    assert refused("/messages/schedule", send_at="2026-11-24T12:10:00") == "10015"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "fax"}, "10015"),
        ({"type": "text"}, "10004"),
        ({"type": "text", "text": {"body": ""}}, "10004"),
        ({"type": "text", "text": {"body": "ж" * 2049}}, "40302"),
        ({"type": "template", "template": {"name": "code"}}, "10004"),
        ({"type": "image", "image": {"caption": "x"}}, "10004"),
    ],
)
def test_a_whatsapp_message_must_hold_what_its_type_names(message: dict[str, Any], code: str) -> None:
    assert refused("/messages/whatsapp", whatsapp_message=message) == code


@pytest.mark.parametrize(
    "message",
    [
        {"type": "template", "template": {"template_id": "t1"}},
        {"type": "template", "template": {"name": "code", "language": {"code": "en_US"}}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "A"}}]},
    ],
)
def test_whatsapp_content_that_is_complete_passes(message: dict[str, Any]) -> None:
    assert check("/messages/whatsapp", whatsapp_message=message, to="US.13491208655302741918").kind == "WHATSAPP"
