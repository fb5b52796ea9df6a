from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.telnyx.errors import (
    Class,
    Phase,
    classify,
    clean_title,
    describe,
    effective_code,
    seconds_until_midnight,
)

P, R, O, C, L, I, K = (  # noqa: E741 - the letters of the reference
    Class.PERMANENT,
    Class.RETRY,
    Class.OPT_OUT,
    Class.CONFIGURATION,
    Class.SLOW_DOWN,
    Class.INDETERMINATE,
    Class.CONFLICT_RETRY,
)

# Telnyx's documented codes and what each asks of us: phase s for the API's answer, w for receipts.
DOCUMENTED = [
    ("s", P, "10001 10002 10016"),
    ("s", P, "10003 10004 10015 10023 10025 10026 10032 10033"),
    ("s", P, "10005 10006 40303"),
    ("s", I, "10007 10008 10037"),
    ("s", C, "10009 20002 20006 20008 10010 20003"),
    ("s", L, "10011"),
    ("s", P, "10027"),
    ("s", K, "10036"),
    ("s", C, "10038 10039 20012 20013 20014 20015 20016 20017 20100"),
    ("w", P, "40001 40002"),
    ("sw", P, "40003 40015 40017 40322"),
    ("w", P, "40004"),
    ("w", R, "40005 40014 40006"),
    ("w", P, "40007 40009"),
    ("sw", R, "40008"),
    ("sw", C, "40010 40019 40329 40330"),
    ("w", L, "40011 40016 40018"),
    ("w", P, "40012"),
    ("w", C, "40013 40020"),
    ("s", C, "40100 40150 40151 40152 40153 40154 40155 40156 40157 40158 40159"),
    ("s", C, "40300"),  # without the words that make it an opt-out
    ("s", P, "40301 40319"),
    ("s", P, "40302 40304 40316 40317 40328"),
    ("s", C, "40305 40306 40307 40308 40325 40326"),
    ("s", C, "40309 40331"),
    ("s", P, "40310"),
    ("s", C, "40311 40312 40313 40314"),
    ("s", C, "40315 40321"),
    ("s", L, "40318"),
    ("s", R, "40320"),
    ("s", C, "40323 40324"),
    ("s", P, "40327 40332"),
    ("s", C, "40333"),
    ("sw", P, "41000"),
    ("sw", P, "42200 42201 42202 42203 42204 42205"),
    ("sw", C, "47000"),
    ("w", P, "131047 131026"),
    ("w", C, "132000 132015"),
]
ROWS = [
    (Phase.SEND if phase == "s" else Phase.RECEIPT, code, class_)
    for phases, class_, codes in DOCUMENTED
    for code in codes.split()
    for phase in phases
]


@pytest.mark.parametrize(("phase", "code", "class_"), ROWS)
def test_every_documented_code_has_its_class_and_plain_words(phase: Phase, code: str, class_: Class) -> None:
    assert classify(phase, code, status=400).class_ is class_
    words = describe(code, phase)
    assert len(words) > 15
    assert "not documented" not in words
    assert classify(str(phase), code, status=400) == classify(phase, code, status=400)  # type: ignore[arg-type]


@pytest.mark.parametrize(("phase", "code", "class_"), ROWS)
def test_a_configuration_error_alerts_and_names_what_rests(phase: Phase, code: str, class_: Class) -> None:
    verdict = classify(phase, code, status=400)
    if class_ is Class.CONFIGURATION:
        assert verdict.alert
    if class_ in {Class.CONFIGURATION, Class.SLOW_DOWN}:
        assert verdict.hold_s
        assert verdict.scope


@pytest.mark.parametrize("title", ["Blocked due to STOP message", "blocked by a Block Rule", "stop"])
def test_40300_is_an_opt_out_where_the_title_says_stop(title: str) -> None:
    assert classify("send", "40300", title=title, status=400).class_ is Class.OPT_OUT


@pytest.mark.parametrize("title", ["", "Blocked", "Service stopped", "Unstoppable"])
def test_40300_with_another_title_silences_nobody(title: str) -> None:
    verdict = classify("send", "40300", title=title, status=400)
    assert (verdict.class_, verdict.note) == (Class.CONFIGURATION, "blocked_not_by_stop")


def test_40300_in_a_receipt_silences_nobody() -> None:
    assert classify("receipt", "40300", title="Blocked due to STOP message").class_ is Class.PERMANENT


@pytest.mark.parametrize(
    ("code", "status"), [("10027", 422), ("10027", 400), ("", 422), ("40310", 422), ("77777", 422)]
)
def test_a_resend_under_a_known_key_never_becomes_a_verdict_of_no(code: str, status: int) -> None:
    assert classify("send", code, status=status, is_resend=True).class_ is Class.INDETERMINATE
    assert classify("send", code, status=status).class_ is Class.PERMANENT
    assert classify("send", code, status=status, is_resend=True, keyed=False).class_ is Class.PERMANENT


def test_409_is_a_request_under_way_only_where_no_code_says_otherwise() -> None:
    assert classify("send", "10036", status=409).class_ is Class.CONFLICT_RETRY
    assert classify("send", "", status=409).class_ is Class.CONFLICT_RETRY
    assert classify("send", "77777", status=409, is_resend=True).class_ is Class.CONFLICT_RETRY
    assert classify("send", "77777", status=409).class_ is Class.PERMANENT
    assert classify("send", "40306", status=409, is_resend=True).class_ is Class.CONFIGURATION


def test_429_without_a_known_code_slows_down() -> None:
    for code in ("", "77777"):
        verdict = classify("send", code, status=429)
        assert (verdict.class_, verdict.scope) == (Class.SLOW_DOWN, "account")
        assert verdict.hold_s


def test_a_full_queue_rests_for_minutes() -> None:
    verdict = classify("send", "40318", status=400)
    assert verdict.hold_s is not None
    assert verdict.hold_s >= 60


def test_the_spend_limit_rests_until_midnight_utc() -> None:
    now = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)
    verdict = classify("send", "40333", status=429, now_s=now.timestamp())
    assert (verdict.class_, verdict.hold_s, verdict.resets) == (Class.CONFIGURATION, 5400.0, "UTC")


def test_tmobiles_cap_rests_until_midnight_pacific() -> None:
    now = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)  # 23:00 the day before in Los Angeles
    verdict = classify("receipt", "40016", now_s=now.timestamp())
    assert (verdict.class_, verdict.hold_s, verdict.scope) == (Class.SLOW_DOWN, 3600.0, "brand")


def test_a_midnight_is_as_far_as_the_clock_change_makes_it() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    noon_before = datetime(2026, 10, 31, 12, tzinfo=zone).timestamp()
    start = datetime(2026, 11, 1, 0, 0, 1, tzinfo=zone).timestamp()
    assert seconds_until_midnight(noon_before, zone) == 12 * 3600
    assert seconds_until_midnight(start, zone) == 25 * 3600 - 1


def test_40008_is_the_templates_fault_on_whatsapp_only() -> None:
    for phase in Phase:
        assert classify(phase, "40008", channel="whatsapp").class_ is Class.CONFIGURATION
        assert classify(phase, "40008", channel="long_code").class_ is Class.RETRY


@pytest.mark.parametrize(
    ("status", "code", "class_", "alert"),
    [
        (400, "77777", P, True),
        (404, "", C, True),
        (403, "77777", P, True),
        (403, "", C, True),
        (401, "", C, True),
        (402, "77777", C, True),
        (301, "", C, True),
        (408, "", I, False),
        (500, "77777", I, False),
        (503, "", I, False),
        (200, "77777", I, False),
        (None, "77777", I, False),
    ],
)
def test_an_unknown_code_is_never_retried_blindly(status: int | None, code: str, class_: Class, alert: bool) -> None:
    verdict = classify("send", code, status=status)
    assert (verdict.class_, verdict.alert) == (class_, alert)


@given(
    code=st.text(max_size=8), status=st.one_of(st.none(), st.integers(100, 599)), title=st.text(), resend=st.booleans()
)
def test_any_input_gets_a_verdict_and_words(code: str, status: int | None, title: str, resend: bool) -> None:
    for phase in Phase:
        verdict = classify(phase, code, title=title, status=status, is_resend=resend)
        assert isinstance(verdict.class_, Class)
        assert len(verdict.title) <= 120
        assert describe(code, phase)
        if phase is Phase.RECEIPT and code == "77777":
            assert verdict.class_ is Class.PERMANENT


@pytest.mark.parametrize("code", ["10007", "10008", "10037"])
def test_nothing_that_may_have_gone_out_is_called_retryable(code: str) -> None:
    for keyed in (True, False):
        for resend in (True, False):
            assert classify("send", code, status=503, keyed=keyed, is_resend=resend).class_ is Class.INDETERMINATE


def test_metas_own_code_is_read_out_of_the_detail() -> None:
    assert effective_code("41000", "(#131047) Re-engagement message") == "131047"
    assert effective_code("41000", "something 1310471 else") == "41000"
    assert effective_code("40008", "131047") == "40008"


def test_words_never_cross_phases_where_telnyx_reuses_a_code() -> None:
    assert "STOP" not in describe("40300", "receipt")
    assert "not documented" in describe("40310", "receipt")


def test_a_title_is_short_one_line_and_shows_no_number() -> None:
    title = clean_title("Bad number\n+13125550100 " + "x" * 500)
    assert len(title) <= 120
    assert "\n" not in title
    assert "3125550100" not in title
    assert "+1312***0100" in title
