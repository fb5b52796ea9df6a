"""A request, checked against the published job types."""

import json
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.errors import ERRORS_KEPT, InvalidNotification
from producers.job_types import JobType
from producers.notification import FIELDS, ValidRequest, validate, validate_many
from producers.request_schema import NotificationRequest

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
TO, TO2 = "+13125550100", "+13125550101"
URL = "https://example.com/a.jpg"


def job(channel: str, **changes: Any) -> JobType:
    plain: dict[str, Any] = {
        "sender": "main", "channel": channel, "class": 1, "template": False, "variables": [], "valid_for_s": 86_400,
        "callback": False, "whatsapp": False, "group": channel == "group_mms", "media": False,
    }  # fmt: skip
    return JobType(**{**plain, **changes})  # type: ignore[typeddict-item]


JOB_TYPES = {
    "otp": job("short_code", template=True, variables=["code"], optional=["name"], valid_for_s=300, **{"class": 0}),
    "notice": job("long_code"),
    "promotion": job("number_pool", **{"class": 2}),
    "picture": job("toll_free", media=True),
    "brand": job("alphanumeric"),
    "family": job("group_mms"),
    "family_code": job("group_mms", template=True, variables=["code"]),
    "chat": job("whatsapp"),
    "chat_code": job("whatsapp", whatsapp=True),
    "chat_text": job("whatsapp", template=True, variables=["code"]),
}


def ok(job_type: str = "notice", **request: Any) -> ValidRequest:
    request = {"to": TO, **request}
    if job_type in ("notice", "promotion", "brand", "family", "chat") and "whatsapp" not in request:
        request.setdefault("text", "hello")
    return validate({"job_type": job_type, **request}, JOB_TYPES, now_us=NOW_US)


def errors(job_type: str = "notice", **request: Any) -> dict[str, str]:
    with pytest.raises(InvalidNotification) as caught:
        ok(job_type, **request)
    assert caught.value.total == len(caught.value.errors)
    return {error.field: f"{error.value}: {error.remedy}" for error in caught.value.errors}


# What comes out


def test_a_request_is_read_into_the_form_that_is_written() -> None:
    valid = ok(
        "otp",
        to=f" {TO} ",
        variables={"code": "1"},
        send_at="2026-11-24T14:00:00+01:00",
        valid_for="2m",
        metadata={"order": 7},
        callback_url="https://app.example.com/events",
        idempotency_key="login-1",
    )
    assert valid.recipients == [(TO, None)]
    assert (valid.job_type, valid.klass, valid.group) == ("otp", 0, False)
    assert valid.content == {"variables": {"code": "1"}}
    assert valid.send_at_us == NOW_US + 3_600_000_000
    assert valid.valid_for_us == 120_000_000
    assert (valid.metadata, valid.idempotency_key) == ({"order": 7}, "login-1")
    assert valid.callback_url == "https://app.example.com/events"
    with pytest.raises(FrozenInstanceError):
        valid.klass = 2  # type: ignore[misc]


def test_what_is_not_given_takes_the_job_type_s_defaults() -> None:
    valid = ok("promotion")
    assert (valid.klass, valid.valid_for_us, valid.send_at_us) == (2, 86_400_000_000, None)
    assert ok("promotion", priority="urgent").klass == 0
    assert ok("promotion", priority=None, valid_for=None, media_urls=(), variables=None).content == {"text": "hello"}


def test_its_repr_shows_neither_numbers_nor_content() -> None:
    shown = repr(ok(text="secret", metadata={"a": "secret"}, idempotency_key="secret"))
    assert "secret" not in shown and TO not in shown


def test_content_keeps_only_what_was_given() -> None:
    valid = ok(media_urls=[URL], subject="Hi")
    assert valid.content == {"text": "hello", "media_urls": [URL], "subject": "Hi"}


# Recipients


def test_duplicates_count_once_and_the_first_wins() -> None:
    valid = ok(
        "otp",
        to=[{"to": TO, "variables": {"code": "1"}}, {"to": "+1 312 555 0100", "variables": {"code": "2"}}, TO2],
        variables={"code": "0"},
    )
    assert valid.recipients == [(TO, {"code": "1"}), (TO2, None)]
    assert valid.message_count == 2


def test_any_iterable_of_recipients_is_taken() -> None:
    def numbers() -> Iterator[str]:
        yield from (TO, TO2)

    assert ok(to=numbers()).message_count == ok(to=(TO, TO2)).message_count == 2
    assert ok("otp", to={"to": TO, "variables": {"code": 1}}).recipients == [(TO, {"code": 1})]


def test_wrong_recipients_are_named_by_their_place_and_masked() -> None:
    found = errors(to=[TO, "12345", "+131277701", 5, {"to": None}, {"number": TO}, {"to": TO2, "vars": {}}])
    assert list(found) == ["to[1]", "to[2]", "to[3]", "to[4]", "to[5].number", "to[5]", "to[6].vars"]
    assert "short code" in found["to[1]"]
    assert "+131277701" not in found["to[2]"] and "***" in found["to[2]"]
    assert 'did you mean "variables"?' in found["to[6].vars"]


@pytest.mark.parametrize("to", [None, [], "", 5, b"+13125550100", "13125550100"])
def test_without_a_recipient_there_is_no_notification(to: object) -> None:
    assert list(errors(to=to)) == ["to"]


def test_a_hundred_errors_are_listed_and_all_are_counted() -> None:
    with pytest.raises(InvalidNotification) as caught:
        ok(to=["nobody"] * 5000)
    assert (len(caught.value.errors), caught.value.total) == (ERRORS_KEPT, 5000)


def test_100_000_recipients_are_the_most_and_are_read_within_seconds() -> None:
    numbers = [f"+1{2_000_000_000 + index * 7919}" for index in range(100_000)]
    started = time.process_time()
    valid = ok("otp", to=[{"to": number, "variables": {"code": number[-6:]}} for number in numbers])
    chunks = valid.chunks()
    assert valid.fingerprint
    assert time.process_time() - started < 8  # 1 s on an idle core
    assert valid.message_count == 100_000
    assert [len(json.loads(chunk)) for chunk in chunks] == [200] * 500
    assert list(errors(to=[*numbers, TO])) == ["to"]


def test_chunks_hold_all_recipients_in_order_as_compact_json() -> None:
    to = [{"to": TO, "variables": {"code": "é", "name": "x"}}, TO2, "+13125550102"]
    chunks = ok("otp", to=to, variables={"code": "0"}).chunks(2)
    assert chunks == [
        f'[["{TO}",{{"code":"é","name":"x"}}],["{TO2}",null]]'.encode(),
        b'[["+13125550102",null]]',
    ]


def test_a_group_is_one_message_to_at_most_eight() -> None:
    members = [f"+1312555010{index}" for index in range(9)]
    valid = ok("family", to=members[:8])
    assert (valid.group, valid.message_count, len(valid.recipients)) == (True, 1, 8)
    assert ok("family", to=[*members[:8], members[0]]).message_count == 1  # a duplicate is no ninth
    assert "at most 8" in errors("family", to=members)["to"]
    own = [{"to": TO, "variables": {"code": "1"}}]
    assert "group" in errors("family_code", to=own, variables={"code": "2"})["to[0].variables"]


def test_whatsapp_reaches_business_scoped_ids_and_texting_does_not() -> None:
    assert ok("chat", to=["US.13491208655302741918", TO]).recipients[0][0] == "US.13491208655302741918"
    assert list(errors(to="US.13491208655302741918")) == ["to"]


# Variables


def test_required_variables_may_come_from_the_request_or_the_recipient() -> None:
    assert ok("otp", variables={"code": "1"}).message_count == 1
    assert ok("otp", to=[{"to": TO, "variables": {"code": "1"}}]).message_count == 1


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (float("nan"), "finite"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogates"),
        ("x" * 1001, "shorten"),
        (10**1001, "shorten"),
    ],
)
def test_a_variable_that_cannot_be_sent_has_the_remedy_for_what_is_wrong(value: object, remedy: str) -> None:
    assert remedy in errors("otp", variables={"code": value})["variables.code"]


def test_a_missing_variable_is_named_where_it_should_be() -> None:
    assert list(errors("otp")) == ["variables.code"]
    assert list(errors("otp", to=[TO, TO2])) == ["variables.code"]
    assert list(errors("otp", to=[{"to": TO, "variables": {"name": "A"}}])) == ["to[0].variables.code"]
    assert list(errors("otp", to=[{"to": TO}])) == ["variables.code"]
    assert list(errors("otp", to=None)) == ["to", "variables.code"]


def test_an_unknown_variable_is_most_likely_a_typo() -> None:
    found = errors("otp", variables={"code": "1", "cod": "1"}, to=[{"to": TO, "variables": {"nme": "A"}}])
    assert 'did you mean "code"?' in found["variables.cod"]
    assert 'did you mean "name"?' in found["to[0].variables.nme"]
    assert ok("otp", variables={"code": "1", "name": "A"}).message_count == 1  # optional, and known


def test_variables_without_a_template_would_do_nothing() -> None:
    assert list(errors(variables={"name": "A"})) == ["variables.name"]


def test_a_whatsapp_template_without_names_takes_any_variables_as_its_parameters() -> None:
    assert ok("chat_code", variables={"b": 1, "a": 2}).content == {"variables": {"b": 1, "a": 2}}


@pytest.mark.parametrize(
    ("variables", "field"),
    [
        ("code", "variables"),
        ([1], "variables"),
        ({f"v{index}": 1 for index in range(101)}, "variables"),
        ({"code": None}, "variables.code"),
        ({"code": [1]}, "variables.code"),
        ({"code": "x" * 1001}, "variables.code"),
        ({"code": float("nan")}, "variables.code"),
        ({"code": float("inf")}, "variables.code"),
        ({"code": 10**1001}, "variables.code"),
        ({"code": "\ud800"}, "variables.code"),
        ({"code": "\0"}, "variables.code"),
        ({"a b": 1}, "variables"),
        ({1: 1}, "variables"),
    ],
)
def test_variables_are_short_single_values(variables: object, field: str) -> None:
    assert list(errors("otp", variables=variables)) == [field]


# Content


def test_an_unknown_job_type_is_told_the_nearest_name_or_all() -> None:
    assert 'did you mean "notice"?' in errors("notic")["job_type"]
    assert "brand, chat" in errors("zzz")["job_type"]
    for wrong in (None, 5, ["notice"], ""):
        assert list(errors(wrong)) == ["job_type"]  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", " \n\t", 5, "x" * 10_001, "a\0b", "\ud800"])
def test_a_text_is_a_text(text: object) -> None:
    assert list(errors(text=text)) == ["text"]


@pytest.mark.parametrize(
    ("job_type", "request_", "field"),
    [
        ("otp", {"text": "x", "variables": {"code": "1"}}, "text"),
        ("notice", {"text": None}, "text"),
        ("brand", {"text": None}, "text"),
        ("brand", {"media_urls": [URL]}, "media_urls"),
        ("notice", {"subject": "Hi"}, "subject"),
        ("notice", {"whatsapp": {"type": "text", "text": {"body": "x"}}, "text": "x"}, "whatsapp"),
        ("chat", {"text": "x", "whatsapp": {"type": "text", "text": {"body": "x"}}}, "text"),
        ("chat", {"text": None}, "text"),
        ("chat", {"text": "é" * 2049}, "text"),
        ("chat", {"media_urls": [URL]}, "media_urls"),
        ("chat", {"subject": "Hi"}, "subject"),
        ("chat_code", {"text": "x"}, "text"),
        ("chat_code", {"whatsapp": {"type": "text", "text": {"body": "x"}}}, "whatsapp"),
        ("chat_text", {"whatsapp": {"type": "text", "text": {"body": "x"}}, "variables": {"code": 1}}, "whatsapp"),
    ],
)
def test_content_that_the_job_type_cannot_send_is_refused(job_type: str, request_: dict[str, Any], field: str) -> None:
    assert list(errors(job_type, **request_)) == [field]


@pytest.mark.parametrize(
    ("job_type", "request_"),
    [
        ("notice", {"text": None, "media_urls": [URL]}),
        ("picture", {}),
        ("picture", {"subject": "Hi"}),
        ("family", {"subject": "Hi"}),
        ("otp", {"variables": {"code": 1}, "media_urls": [URL]}),
        ("chat", {"whatsapp": {"type": "text", "text": {"body": "x"}}}),
        ("chat_code", {}),
        ("chat_text", {"variables": {"code": 1}}),
    ],
)
def test_content_that_it_can_send_is_taken(job_type: str, request_: dict[str, Any]) -> None:
    assert ok(job_type, **request_).job_type == job_type


@pytest.mark.parametrize(
    ("media_urls", "field"),
    [
        (URL, "media_urls"),
        ({"a": URL}, "media_urls"),
        ([URL] * 11, "media_urls"),
        ([URL, "ftp://example.com/a"], "media_urls[1]"),
        ([URL, "https:///a"], "media_urls[1]"),
        (["https://example.com/a b"], "media_urls[0]"),
        (["https://example.com:99999/"], "media_urls[0]"),
        (["https://[::1/"], "media_urls[0]"),
        (["https://example.com/\n"], "media_urls[0]"),
        (["https://example.com/" + "a" * 2000], "media_urls[0]"),
        ([None], "media_urls[0]"),
    ],
)
def test_media_are_up_to_ten_urls(media_urls: object, field: str) -> None:
    assert list(errors(media_urls=media_urls)) == [field]


# Time, priority, key, metadata


@pytest.mark.parametrize(
    ("send_at", "expected_us"),
    [
        ("2026-11-24T12:00:01Z", NOW_US + 1_000_000),
        ("2026-11-24t12:00:01z", NOW_US + 1_000_000),
        ("2026-11-24 07:00:01.5-05:00", NOW_US + 1_500_000),
        (NOW + timedelta(microseconds=1), NOW_US + 1),
        (datetime(2026, 11, 24, 14, tzinfo=timezone(timedelta(hours=1))), NOW_US + 3_600_000_000),
        ("2020-01-01T00:00:00Z", None),
        (NOW, None),
    ],
)
def test_send_at_is_an_instant_and_the_past_is_now(send_at: object, expected_us: int | None) -> None:
    assert ok(send_at=send_at).send_at_us == expected_us


@pytest.mark.parametrize(
    "send_at",
    [
        datetime(2026, 12, 1), "2026-12-01T00:00:00", "2026-12-01", "tomorrow", "2026-13-01T00:00:00Z", 1_800_000_000,
        "2026-12-01T00:00Z", "2028-01-01T00:00:00Z", "2026-W49-1T00:00:00Z",
    ],
)  # fmt: skip
def test_a_time_without_its_zone_is_refused(send_at: object) -> None:
    assert list(errors(send_at=send_at)) == ["send_at"]


@pytest.mark.parametrize(
    ("valid_for", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604_800), (timedelta(seconds=1.5), 1.5)]
)
def test_valid_for_is_a_duration(valid_for: object, seconds: float) -> None:
    assert ok(valid_for=valid_for).valid_for_us == seconds * 1_000_000


@pytest.mark.parametrize("valid_for", ["0s", "8d", "999999999d", "5", 300, "5 m", "1h30m", "-5m", timedelta(0), ""])
def test_valid_for_is_above_zero_and_at_most_seven_days(valid_for: object) -> None:
    assert list(errors(valid_for=valid_for)) == ["valid_for"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", "high"),
        ("priority", 0),
        ("idempotency_key", ""),
        ("idempotency_key", "k" * 256),
        ("idempotency_key", "clé"),
        ("idempotency_key", "a\nb"),
        ("idempotency_key", 7),
        ("metadata", [1]),
        ("metadata", {"a": "x" * 4096}),
        ("metadata", {1: 2}),
        ("metadata", {"a": float("nan")}),
        ("metadata", {"a": NOW}),
        ("metadata", {"a": "\ud800"}),
        ("callback_url", "example.com"),
        ("callback_url", "https://example.com/" + "a" * 2000),
        ("subject", " "),
    ],
)
def test_other_fields_are_checked_too(field: str, value: Any) -> None:
    assert list(errors(media_urls=[URL], **{field: value})) == [field]


def test_metadata_that_goes_round_in_circles_is_refused() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = circle
    assert list(errors(metadata=circle)) == ["metadata"]


def test_metadata_is_copied() -> None:
    metadata = {"tags": ["a"]}
    valid = ok(metadata=metadata)
    metadata["tags"].append("b")
    assert valid.metadata == {"tags": ["a"]}


def test_an_unknown_field_is_most_likely_a_typo() -> None:
    assert 'did you mean "text"?' in errors(txt="x")["txt"]


def test_all_mistakes_are_named_at_once_and_no_private_value_is_quoted() -> None:
    with pytest.raises(InvalidNotification) as caught:
        ok(
            "otp",
            to="+131255501009999",
            text="secret",
            variables={"code": "secret" * 200},
            metadata={"a": "secret" * 999},
            callback_url="secret",
            idempotency_key="sécret",
            media_urls=["secret"],
            send_at="later",
        )
    named = {error.field for error in caught.value.errors}
    assert named == {
        "to", "text", "variables.code", "metadata", "callback_url", "idempotency_key", "media_urls[0]", "send_at",
    }  # fmt: skip
    assert "secret" not in str(caught.value) and "sécret" not in str(caught.value)
    assert "+131255501009999" not in str(caught.value)
    assert all(error.remedy for error in caught.value.errors)


# Many requests


def test_of_many_requests_each_wrong_one_is_named_by_its_place() -> None:
    good = {"job_type": "notice", "to": TO, "text": "x"}
    rows: list[Any] = [good, {**good, "to": "1"}, {**good, "to": [TO, "2"]}, "row", {**good, "job_type": "notce"}]
    with pytest.raises(InvalidNotification) as caught:
        validate_many(rows, JOB_TYPES, now_us=NOW_US)
    assert [error.field for error in caught.value.errors] == ["[1].to", "[2].to[1]", "[3]", "[4].job_type"]
    assert len(validate_many([good, good], JOB_TYPES, now_us=NOW_US)) == 2


@pytest.mark.parametrize("request_", [None, [], "x", 5])
def test_a_request_is_an_object(request_: Any) -> None:
    with pytest.raises(InvalidNotification):
        validate(request_, JOB_TYPES, now_us=NOW_US)


# Fingerprints


def test_the_same_call_has_the_same_fingerprint_also_after_its_time_has_come() -> None:
    request = {"job_type": "notice", "to": [TO, TO2], "text": "x", "send_at": "2026-11-24T13:00:00Z"}
    first = validate(request, JOB_TYPES, now_us=NOW_US)
    later = validate(request, JOB_TYPES, now_us=NOW_US + 7_200_000_000)
    assert (first.send_at_us, later.send_at_us) == (NOW_US + 3_600_000_000, None)
    assert first.fingerprint == later.fingerprint
    assert len(first.fingerprint) == 16 and int(first.fingerprint, 16) >= 0


def test_the_key_and_the_spelling_make_no_other_request() -> None:
    same = {
        ok("otp", variables={"code": "1", "name": "A"}).fingerprint,
        ok("otp", variables={"name": "A", "code": "1"}, idempotency_key="k").fingerprint,
        ok("otp", variables={"name": "A", "code": "1"}, to=["+1 312-555-0100", TO], priority=None).fingerprint,
    }
    assert len(same) == 1


def test_another_configuration_makes_no_other_request() -> None:
    request = {"job_type": "notice", "to": TO, "text": "x"}
    changed = {"notice": job("long_code", valid_for_s=60, **{"class": 2})}
    assert (
        validate(request, JOB_TYPES, now_us=NOW_US).fingerprint == validate(request, changed, now_us=NOW_US).fingerprint
    )


def test_every_other_difference_makes_another_request() -> None:
    requests = [
        ok(),
        ok("promotion"),
        ok(to=TO2),
        ok(to=[TO, TO2]),
        ok(to=[TO2, TO]),
        ok(text="hallo"),
        ok(media_urls=[URL]),
        ok(media_urls=[URL], subject="x"),
        ok(send_at="2026-11-25T00:00:00Z"),
        ok(send_at="2026-11-26T00:00:00Z"),
        ok(valid_for="1h"),
        ok(priority="normal"),
        ok(priority="bulk"),
        ok(metadata={"a": 1}),
        ok(callback_url=URL),
        ok("otp", variables={"code": "1"}),
        ok("otp", variables={"code": "2"}),
        ok("otp", to=[{"to": TO, "variables": {"code": "1"}}]),
    ]
    assert len({request.fingerprint for request in requests}) == len(requests)


# The model that describes it


def test_the_published_schema_has_the_same_fields() -> None:
    assert tuple(NotificationRequest.model_fields) == FIELDS


@pytest.mark.parametrize("to", [TO, [TO], {"to": TO, "variables": {"code": 1}}, [{"to": TO}, TO2]])
def test_what_the_schema_describes_is_what_is_taken(to: object) -> None:
    request = {
        "job_type": "otp", "to": to, "variables": {"code": "1"}, "media_urls": [URL], "subject": "Hi",
        "send_at": "2026-11-25T00:00:00Z", "valid_for": "5m", "priority": "urgent", "idempotency_key": "k",
        "metadata": {"a": 1}, "callback_url": URL, "text": None, "whatsapp": None,
    }  # fmt: skip
    assert NotificationRequest.model_validate(request)
    assert validate(request, JOB_TYPES, now_us=NOW_US)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(TO)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@unhurried
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "other"]), json_values, max_size=6), st.sampled_from(sorted(JOB_TYPES))
)
def test_any_json_is_taken_or_refused_with_names(request_: dict[str, Any], job_type: str) -> None:
    try:
        valid = validate({"to": TO, "text": "x", "job_type": job_type, **request_}, JOB_TYPES, now_us=NOW_US)
    except InvalidNotification as refused:
        wrong = refused.errors
    else:
        assert valid.fingerprint and valid.chunks()
        return
    assert wrong and all(error.field and error.remedy for error in wrong)
