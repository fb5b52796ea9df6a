from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producers.ledger.states import LETTERS
from worker.telnyx.receipts import (
    Fact,
    Parsed,
    fact_from_group,
    fact_from_message,
    parse_event,
    rank_of,
    strip,
    strip_receipt,
    to_ledger,
)

REF = "0123456789abcdef0123456789abcdef-0"
HOOK = f"https://app.test/webhooks/telnyx?ref={REF}"
PERSON, OTHER = "+13125550002", "+13125550003"
AT_US = 1_795_486_204_100_000


def event(event_type: str = "message.finalized", payload: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "record_type": "message",
        "direction": "outbound",
        "id": "40385f64-5717-4562-b3fc-2c9600000000",
        "type": "SMS",
        "from": {"phone_number": "+13125550001", "carrier": "Telnyx", "line_type": "Wireless"},
        "to": [{"phone_number": PERSON, "status": "delivered", "carrier": "X", "line_type": "Wireless"}],
        "cc": [],
        "text": "the code is 918273",
        "media": [{"url": "https://media.test/secret.png"}],
        "subject": "secret subject",
        "parts": 1,
        "encoding": "GSM-7",
        "cost": {"amount": "0.0051", "currency": "USD"},
        "webhook_url": HOOK,
        "errors": [],
    }
    return {
        "data": {
            "record_type": "event",
            "id": "event-1",
            "event_type": event_type,
            "occurred_at": "2026-11-24T02:10:04.1Z",
            "payload": base | (payload or {}),
        },
        "meta": {"attempt": 1, "delivered_to": HOOK} | meta,
    }


def parse(value: Any) -> Parsed:
    return parse_event(json.dumps(value).encode())


def fact_of(value: Any) -> Fact:
    parsed = parse(value)
    assert parsed.kind == "receipt"
    assert parsed.fact is not None
    return parsed.fact


def one(status: str, number: str = PERSON) -> dict[str, Any]:
    return {"to": [{"phone_number": number, "status": status}]}


# --- receipts


def test_a_receipt_tells_all_that_the_ledger_needs() -> None:
    errors = [{"code": "40008", "title": "Undeliverable", "detail": "x", "source": {"pointer": "/to/0/phone_number"}}]
    assert fact_of(event(payload=one("delivery_failed") | {"errors": errors})) == {
        "ref": REF,
        "pid": "40385f64-5717-4562-b3fc-2c9600000000",
        "status": "delivery_failed",
        "to": [[PERSON, "delivery_failed"]],
        "final": True,
        "errors": [["40008", "Undeliverable", 0, PERSON]],
        "parts": 1,
        "cost": "0.0051 USD",
        "carrier": None,
        "sent_ms": None,
        "done_ms": None,
        "from": "+13125550001",
        "at": AT_US,
        "event": "event-1",
        "read": False,
    }


def test_the_ledger_gets_letters_and_nothing_that_is_unknown() -> None:
    errors = [{"code": "40008", "title": "Undeliverable"}]
    assert to_ledger(fact_of(event(payload=one("delivery_failed") | {"errors": errors}))) == {
        "ref": REF,
        "pid": "40385f64-5717-4562-b3fc-2c9600000000",
        "st": "F",
        "raw": "delivery_failed",
        "to": [[PERSON, "F"]],
        "from": "+13125550001",
        "parts": 1,
        "co": (5100, "USD"),
        "er": ["w", "40008", "Undeliverable"],
    }
    bare = fact_of({"data": {"event_type": "message.queued", "payload": {"id": "m-1"}}})
    assert to_ledger(bare) == {"pid": "m-1", "st": "A"}, "whatever Telnyx reports on, it has"


@pytest.mark.parametrize(
    ("status", "event_type", "state"),
    [
        ("scheduled", "message.sent", "accepted"),
        ("queued", "message.sent", "accepted"),
        ("sending", "message.sent", "accepted"),
        ("sent", "message.sent", "sent"),
        ("sent", "message.finalized", "sent"),
        ("delivered", "message.finalized", "delivered"),
        ("read", "message.read", "delivered"),
        ("delivery_unconfirmed", "message.finalized", "unconfirmed"),
        ("unknown", "message.finalized", "unconfirmed"),
        ("dlr_timeout", "message.finalized", "unconfirmed"),
        ("dlr_unconfirmed", "message.finalized", "unconfirmed"),
        ("delivery_failed", "message.finalized", "failed"),
        ("sending_failed", "message.finalized", "failed"),
        ("expired", "message.finalized", "failed"),
        ("failed", "message.finalized", "failed"),
        ("gw_timeout", "message.finalized", "failed"),
        ("gw_reject", "message.finalized", "failed"),
        ("cancelled", "message.finalized", "failed"),
        ("brand_new", "message.finalized", "unconfirmed"),
        ("brand_new", "message.sent", "sent"),
    ],
)
def test_every_status_has_its_state_and_an_unknown_one_ends_nothing_for_good(
    status: str, event_type: str, state: str
) -> None:
    fact = fact_of(event(event_type, one(status)))
    assert fact["status"] == status
    assert rank_of(fact["status"], final=fact["final"]) == LETTERS[state]
    assert fact["read"] == (status == "read")


@given(status=st.text(), final=st.booleans())
def test_any_status_is_stored_and_ranked(status: str, final: bool) -> None:
    assert rank_of(status, final=final) in "ATXFD"


def test_the_reference_comes_from_the_signed_body() -> None:
    assert fact_of(event(payload={"webhook_url": None}))["ref"] == REF  # meta.delivered_to is signed too
    assert fact_of(event(payload={"webhook_url": None}, delivered_to=None))["ref"] is None
    assert fact_of(event(payload={"webhook_url": "https://x/hook?ref=other-1&x=1"}))["ref"] == "other-1"


@pytest.mark.parametrize(
    "url", ["https://x/?ref=a%7Bb", "https://x/?ref=", "https://x/?ref=" + "a" * 65, "http://[", "?", 7, {}]
)
def test_a_reference_that_could_be_no_id_of_ours_is_none(url: Any) -> None:
    assert fact_of(event(payload={"webhook_url": url}, delivered_to=None))["ref"] is None


@pytest.mark.parametrize(
    "id", ["", "x" * 101, "../phone_numbers", "a/b", "a?b", "a,b", "a b", ".", "a\u0000b", "\ud800"]
)
def test_what_can_be_no_id_is_none(id: str) -> None:
    fact = fact_of(event(payload={"id": id}))
    assert fact["pid"] is None
    assert fact["ref"] == REF, "it is applied all the same"


def test_a_sender_of_absurd_length_is_cut() -> None:
    assert len(fact_of(event(payload={"from": "7" * 100_000}))["from"] or "") <= 64


def test_a_finalized_event_of_a_group_counts_each_member_by_itself() -> None:
    to = [{"phone_number": PERSON, "status": "delivered"}, {"phone_number": OTHER, "status": "sent"}]
    errors = [{"code": "40008", "title": "x", "source": {"pointer": "/to/1"}}, {"code": "40001", "title": "y"}]
    fact = fact_of(event(payload={"to": to, "errors": errors}))
    assert fact["to"] == [[PERSON, "delivered"], [OTHER, "sent"]]
    assert (fact["status"], fact["final"]) == ("sent", True)
    assert fact["errors"] == [["40008", "x", 1, OTHER], ["40001", "y", None, None]]


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        (["delivered", "queued", "delivery_failed"], "queued"),
        (["delivered", "delivery_failed", "unknown"], "delivery_failed"),
        (["delivered", "unknown"], "unknown"),
        (["delivered", "delivered"], "delivered"),
    ],
)
def test_a_group_is_as_far_as_its_slowest_member(statuses: list[str], overall: str) -> None:
    to = [{"phone_number": f"+1312555010{i}", "status": status} for i, status in enumerate(statuses)]
    assert fact_of(event(payload={"to": to}))["status"] == overall


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"from": "+13125550009"}, "from", "+13125550009"),
        ({"from": None}, "from", None),
        ({"cost": 0.0051}, "cost", "0.0051"),
        ({"cost": {"amount": 0.0051, "currency": "USD"}}, "cost", "0.0051 USD"),
        ({"cost": None}, "cost", None),
        ({"cc": [PERSON]}, "status", "delivered"),
        ({"to": PERSON}, "status", ""),
        ({"to": {"phone_number": PERSON, "status": "sent"}}, "status", "sent"),
        ({"to": None}, "status", ""),
        ({"parts": "2"}, "parts", 2),
        ({"parts": 1e300}, "parts", None),
        ({"errors": None}, "errors", []),
        ({"errors": {"code": 40008, "title": "x"}}, "errors", [["40008", "x", None, None]]),
        ({"errors": ["odd"]}, "errors", []),
        (
            {"errors": [{"code": "41000", "title": "t", "detail": "(#131026) y"}]},
            "errors",
            [["131026", "t", None, None]],
        ),
        ({"errors": [{"code": "1", "title": "t", "source": {"pointer": "/to/7"}}]}, "errors", [["1", "t", 7, None]]),
    ],
)
def test_a_receipt_is_read_in_every_shape_that_telnyx_sends(changes: Any, field: str, expected: Any) -> None:
    assert fact_of(event(payload=changes))[field] == expected  # type: ignore[literal-required]


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2026-11-24T02:10:04.1Z", AT_US),
        ("2026-11-24 02:10:04.100000+00:00", AT_US),
        ("2026-11-24T03:10:04.100+01:00", AT_US),
        ("2026-11-24T02:10:04.1", AT_US),
        ("soon", 0),
        (None, 0),
        (17, 0),
        ("1500-01-01T00:00:00Z", 0),
    ],
)
def test_the_instant_is_in_microseconds_and_0_where_it_is_unreadable(text: Any, at_us: int) -> None:
    value = event()
    value["data"]["occurred_at"] = text
    assert fact_of(value)["at"] == at_us


def test_a_sent_event_without_recipients_still_says_sent() -> None:
    fact = fact_of(event("message.sent", {"to": []}))
    assert (fact["status"], fact["final"]) == ("sent", False)


def test_a_message_event_that_names_no_message_is_kept_aside() -> None:
    assert parse(event(payload={"id": None, "webhook_url": None}, delivered_to=None)).kind == "other"


# --- polls


def test_a_poll_says_the_same_as_a_receipt() -> None:
    data = event()["data"]["payload"] | {"completed_at": "2026-11-24T02:10:04Z"}
    assert fact_from_message(data, now_us=7) == fact_of(event()) | {"at": 7, "event": None}
    assert fact_from_message(data | {"completed_at": None}, now_us=7)["final"] is False


def test_a_group_poll_takes_each_member_as_far_as_any_row_has_it() -> None:
    rows = [
        {"id": "a", "to": [{"phone_number": PERSON, "status": "delivered"}, {"phone_number": OTHER, "status": "queued"}]},
        {"id": "b", "webhook_url": HOOK, "from": "+13125550001"} | one("delivery_failed", OTHER)
        | {"errors": [{"code": "40001", "title": "landline"}]},
        {"id": "c"} | one("sent"),
    ]  # fmt: skip
    fact = fact_from_group(rows, provider_id="group-1", now_us=7)
    assert fact["to"] == [[PERSON, "delivered"], [OTHER, "delivery_failed"]]
    assert (fact["pid"], fact["ref"], fact["status"], fact["from"]) == (
        "group-1",
        REF,
        "delivery_failed",
        "+13125550001",
    )
    assert fact["errors"] == [["40001", "landline", None, OTHER]]


# --- everything else


def test_an_inbound_stop_is_read_with_its_text() -> None:
    payload = {
        "direction": "inbound",
        "from": {"phone_number": PERSON, "status": "received"},
        "to": [{"phone_number": "+13125550001", "status": "webhook_delivered"}],
        "cc": ["+13125550004", {"phone_number": "+13125550005"}],
        "text": "STOP",
        "autoresponse_type": "stop",
        "media": [],
        "messaging_profile_id": "profile-1",
    }
    parsed = parse(event("message.received", payload))
    assert (parsed.kind, parsed.fact) == ("inbound", None)
    assert parsed.inbound == {
        "from": PERSON,
        "to": ["+13125550001"],
        "cc": ["+13125550004", "+13125550005"],
        "text": "STOP",
        "autoresponse_type": "STOP",
        "profile": "profile-1",
        "event": "event-1",
        "at": AT_US,
        "type": "SMS",
        "media": 0,
        "media_urls": [],
        "message": "40385f64-5717-4562-b3fc-2c9600000000",
    }
    assert "STOP" not in repr(parsed)


def test_an_inbound_whatsapp_message_is_read_by_its_own_shape() -> None:
    payload = {
        "direction": "inbound",
        "type": "WHATSAPP",
        "id": "w-1",
        "to": "+13125550001",
        "body": {"type": "text", "text": {"body": "Stop"}, "from": "13125550002", "foreign_id": "wamid.1"},
    }
    value = {"data": {"event_type": "message.received", "id": "event-2", "payload": payload}}
    inbound = parse(value).inbound
    assert inbound is not None
    assert (inbound["from"], inbound["to"], inbound["text"], inbound["type"]) == (
        PERSON,
        ["+13125550001"],
        "Stop",
        "WHATSAPP",
    )
    payload["body"] = {"type": "image", "image": {"id": "1"}, "from_user_id": "US.13491208655302741918"}
    inbound = parse(value).inbound
    assert inbound is not None
    assert (inbound["from"], inbound["text"], inbound["media"]) == ("US.13491208655302741918", "", 1)


def test_a_short_code_keeps_its_form() -> None:
    inbound = parse(event("message.received", {"from": {"phone_number": "12345"}})).inbound
    assert inbound is not None
    assert inbound["from"] == "12345"


def test_a_link_click_names_its_message_and_person() -> None:
    parsed = parse(
        {
            "data": {
                "record_type": "link_clicked",
                "message_id": "m-1",
                "url": "https://x",
                "to": "18445550001",
                "time_clicked": "2026-11-24T02:10:04.1Z",
            }
        }
    )
    assert (parsed.kind, parsed.at) == ("link_click", AT_US)
    assert parsed.details == {"url": "https://x", "message_id": "m-1", "to": "+18445550001"}


def test_a_spend_limit_names_its_profile() -> None:
    payload = {"profile_id": "p-1", "configured_limit": "10.00", "current_cost": 10.5}
    parsed = parse({"data": {"event_type": "messaging-profile.spend-limit-reached", "payload": payload}})
    assert (parsed.kind, parsed.details) == (
        "spend_limit",
        {"profile_id": "p-1", "configured_limit": "10.00", "current_cost": "10.5"},
    )


def test_a_whatsapp_account_event_with_its_type_on_top_is_kept_aside() -> None:
    parsed = parse({"event_type": "whatsapp.template.rejected", "payload": {"template_name": "x"}})
    assert (parsed.kind, parsed.event_type) == ("other", "whatsapp.template.rejected")


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense", b"\xff\xfe", b"[]", b"null", b"7", b"[" * 100_000, b'{"a":' * 5_000, b"9" * 5_000]
)
def test_odd_but_signed_input_is_kept_aside(raw: bytes) -> None:
    assert parse_event(raw).kind == "other"
    json.loads(strip(raw))


FIELDS = [
    "data", "payload", "meta", "event_type", "id", "to", "from", "cc", "status", "errors", "code", "title", "source",
    "pointer", "webhook_url", "delivered_to", "text", "body", "media", "direction", "record_type", "occurred_at",
    "time_clicked", "cost", "amount", "parts", "autoresponse_type", "phone_number",
]  # fmt: skip
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from(
            ["message.sent", "message.received", "message.finalized", "link_clicked", "inbound", "/to/0", HOOK]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)),
    max_leaves=30,
)


@given(
    value=json_values,
    payload=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
    odd=st.sampled_from(FIELDS),
)
def test_whatever_was_signed_gets_an_answer(value: Any, payload: dict[str, Any], odd: str) -> None:
    shaped = event(payload=payload)
    shaped["data"][odd] = value
    for candidate in (value, shaped, event("message.received", payload)):
        raw = json.dumps(candidate).encode()
        parsed = parse_event(raw)
        json.loads(strip(raw))
        # What follows writes it to Redis: it must be JSON, and text that UTF-8 can carry.
        json.dumps([parsed.fact, parsed.inbound, parsed.details], ensure_ascii=False).encode()
        if parsed.fact is not None:
            json.dumps(to_ledger(parsed.fact))


@given(
    payload=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
    kind=st.sampled_from(["sent", "finalized", "read"]),
)
def test_a_stripped_receipt_is_the_same_receipt(payload: dict[str, Any], kind: str) -> None:
    raw = json.dumps(event(f"message.{kind}", payload)).encode()
    assume(parse_event(raw).inbound is None)  # what calls itself inbound is no receipt
    assert parse_event(strip(raw)) == parse_event(raw)
    for given_id in (payload.get("id"), "40385f64-5717-4562-b3fc-2c9600000000"):
        raw = json.dumps(event(f"message.{kind}", {"direction": "outbound", **payload, "id": given_id})).encode()
        kept = strip_receipt(raw)
        assert kept is None or parse_event(kept) == parse_event(raw)
        assert kept is None or parse_event(raw).kind == "receipt"


def test_the_short_way_is_for_plain_receipts_alone() -> None:
    plain = event(
        "message.finalized",
        {"direction": "outbound", "id": "4038", "text": "secret", "webhook_url": "https://x/?ref=m1"},
    )
    kept = strip_receipt(json.dumps(plain).encode())
    assert kept is not None and b"secret" not in kept and parse_event(kept) == parse_event(json.dumps(plain).encode())
    payload = plain["data"]["payload"]
    others: list[Any] = [
        event("message.received", {**payload, "direction": "inbound"}),
        event("message.finalized", {**payload, "direction": "inbound"}),
        event("message.finalized", {**payload, "id": None}),
        event("message.finalized", {**payload, "tags": [[]] * 200}),
        {"data": {"record_type": "link_clicked", "message_id": "4038"}},
        {"event_type": "message.sent"},
        [plain],
        None,
    ]
    for other in others:
        assert strip_receipt(json.dumps(other).encode()) is None, other
    assert strip_receipt(b"[" * 100_000) is None and strip_receipt(b"\xff") is None


def test_what_is_kept_holds_no_body_and_no_media() -> None:
    secret = "secret"
    whatsapp = {"type": "text", "text": {"body": secret}, "image": {"link": secret, "caption": secret}}
    odd = {
        "event_type": "whatsapp.odd",
        "data": {"payload": {"text": secret, "deep": [{"body": secret, "media_urls": [secret]}]}},
    }
    values = [
        event(payload={"text": secret, "subject": secret, "media": [{"url": secret}], "whatsapp_message": whatsapp}),
        event(payload={"new_field_of_tomorrow": secret}),
        event("message.received", {"direction": "inbound", "text": secret, "body": whatsapp}),
        odd,
    ]
    for value in values:
        kept = strip(json.dumps(value).encode())
        assert secret.encode() not in kept
    assert json.loads(strip(json.dumps(odd).encode()))["event_type"] == "whatsapp.odd"
    assert secret.encode() not in strip(secret.encode())
