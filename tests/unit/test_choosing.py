"""Which of a job type's senders a message leaves from; no I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from producers.ledger.sticky import Remembered
from worker.choosing import PATIENCE_US, US, Chooser, Chosen, Facts, Step
from worker.pacing.lanes import SILENCE, LaneView
from worker.routing import Refusal, Route, country_of
from worker.settings import Config, parse_config

NOON_US = int(datetime(2026, 11, 24, 17, tzinfo=UTC).timestamp()) * US  # noon in New York
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
SENDERS = f"""
[senders.a]
channel = "long_code"
from = "+13125550001"
rate = "10/s"
[senders.b]
channel = "long_code"
from = "+13125550002"
rate = "10/s"
[senders.c]
channel = "long_code"
from = "+13125550003"
rate = "10/s"
[senders.fast]
channel = "toll_free"
from = "+18885550001"
rate = "30/s"
[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "{PROFILE}"
rate = "auto"
"""
CHICAGO, TORONTO, LONDON = "+13125550100", "+14165550100", "+447700900123"
PEOPLE = [f"+1312{2_000_000 + i * 7_919 % 7_000_000:07d}" for i in range(3_000)]


def config_of(job: str) -> Config:
    return parse_config(f"{SENDERS}[job_types.j]\n{job}\n")


def lane(name: str, **fields: Any) -> LaneView:
    plain: dict[str, Any] = {
        "name": name, "sender": name, "state": "open", "reason": None, "held_until_us": None, "backlog": {},
        "interval_us": 100_000, "speed": 1.0, "slowest": f"s:{name}", "overridden": False, "free_at_us": 0, "scopes": (),
    }  # fmt: skip
    return LaneView(**{**plain, **fields})


ALL_OPEN = {name: lane(name) for name in ("a", "b", "c", "fast", "brand")}


def pick(
    job: str | Config, to: str = CHICAGO, *, now_us: int = NOON_US, remembered: Remembered | None = None,
    lanes: dict[str, LaneView] | None = None, at_us: int | None = None, whole: bool = False,
) -> Chosen:  # fmt: skip
    config = job if isinstance(job, Config) else config_of(job)
    facts = Facts(now_us, {**ALL_OPEN, **(lanes or {})}, remembered or {})
    return Chooser(config.job_types["j"], config=config, facts=facts, at_us=at_us).choose(to, Route, whole=whole)


BY_COUNTRY = 'routes = [{ countries = ["US"], senders = ["a"] }, { countries = ["CA", "GB"], senders = ["b"] }]\n'


@pytest.mark.parametrize(("to", "sender"), [(CHICAGO, "a"), (TORONTO, "b"), (LONDON, "b"), ("+4915112345678", "c")])
def test_the_first_route_for_the_country_decides_and_the_job_types_sender_takes_the_rest(to: str, sender: str) -> None:
    assert pick(BY_COUNTRY + 'sender = "c"', to).sender == sender


def test_whom_no_route_takes_is_refused_with_the_country_and_no_number() -> None:
    refused = pick(BY_COUNTRY, "+4915112345678").way
    assert refused == Refusal("no_route", "no route takes DE now: give the job type a sender")


@pytest.mark.parametrize(
    ("to", "sender"), [(f"{CHICAGO},+13125550101", "a"), (f"{CHICAGO},{TORONTO}", "c"), ("a-whatsapp-id", "c")]
)
def test_a_route_takes_a_group_only_if_it_takes_all_of_its_people(to: str, sender: str) -> None:
    assert pick(BY_COUNTRY + 'sender = "c"', to).sender == sender


@pytest.mark.parametrize(
    ("at", "sender"),
    [("07:59", "b"), ("08:00", "a"), ("19:59", "a"), ("20:00", "b"), ("00:00", "b")],
)
def test_a_route_by_hour_counts_in_its_own_zone_from_its_start_to_before_its_end(at: str, sender: str) -> None:
    hour, minute = map(int, at.split(":"))
    berlin_us = int(datetime(2026, 11, 24, (hour - 1) % 24, minute, tzinfo=UTC).timestamp()) * US
    job = 'routes = [{ hours = "08:00-20:00", timezone = "Europe/Berlin", senders = ["a"] }]\nsender = "b"'
    assert pick(job, now_us=berlin_us).sender == sender


def test_the_hour_is_that_at_which_it_is_to_leave_and_a_night_runs_over_midnight() -> None:
    job = 'routes = [{ hours = "21:00-06:00", senders = ["a"] }]\nsender = "b"'
    assert pick(job).sender == "b"
    assert pick(job, at_us=NOON_US + 9 * 3600 * US).sender == "a"
    assert pick(job, at_us=NOON_US - 12 * 3600 * US).sender == "b"  # a time that has passed is now


def shares(job: str, **other: Any) -> Counter[str]:
    config = config_of(job)
    return Counter(pick(config, to, **other).sender for to in PEOPLE)


def test_a_weight_of_three_gets_three_times_the_people() -> None:
    found = shares("routes = [{ senders = { a = 3, b = 1 } }]")
    assert found.total() == 3_000
    assert 2_150 < found["a"] < 2_350  # 2,250 by weight; the people are always the same, so this is no matter of luck


def test_a_list_shares_by_the_senders_rates() -> None:
    found = shares('routes = [{ senders = ["a", "b", "fast"] }]')
    assert 520 < found["a"] < 680 and 520 < found["b"] < 680 and 1_700 < found["fast"] < 1_900  # 600, 600, 1,800


def test_the_same_facts_give_the_same_sender_whatever_else_is_in_the_file() -> None:
    job = 'routes = [{ senders = ["a", "b", "c"] }]'
    one, other = config_of(job), config_of('routes = [{ senders = ["c", "b", "a"] }]\npriority = "bulk"')
    assert [pick(one, to).sender for to in PEOPLE[:200]] == [pick(other, to).sender for to in PEOPLE[:200]]


def test_when_a_sender_is_left_out_only_its_own_people_move_and_they_spread() -> None:
    config = config_of('routes = [{ senders = ["a", "b", "c"] }]')
    paused = {"b": lane("b", state="paused", reason="operator")}
    before = {to: pick(config, to).sender for to in PEOPLE}
    after = {to: pick(config, to, lanes=paused).sender for to in PEOPLE}
    assert {to for to in PEOPLE if before[to] != after[to]} == {to for to in PEOPLE if before[to] == "b"}
    moved = Counter(after[to] for to in PEOPLE if before[to] == "b")
    assert set(moved) == {"a", "c"} and min(moved.values()) > 400


TROUBLE = [
    ({"state": "paused", "reason": "operator"}, "paused"),
    ({"state": "draining", "reason": "operator"}, "draining"),
    ({"state": "drained", "reason": "operator"}, "drained"),
    ({"state": "gone"}, "gone"),
    ({"state": "held", "reason": "40312", "held_until_us": NOON_US + PATIENCE_US + 1}, "held"),
    ({"state": "held", "reason": SILENCE, "held_until_us": NOON_US + US}, "held"),
]


@pytest.mark.parametrize(("fields", "why"), TROUBLE)
def test_a_sender_from_which_nothing_leaves_is_skipped_with_the_reason(fields: dict[str, Any], why: str) -> None:
    chosen = pick('routes = [{ senders = ["a"] }]\nsender = "b"', lanes={"a": lane("a", **fields)})
    assert chosen.sender == "b"
    assert [(step.sender, step.verdict, step.why) for step in chosen.steps] == [
        ("a", "skipped", why),
        ("b", "taken", "only"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "slowed", "reason": "40011", "speed": 0.5},
        {"state": "held", "reason": "429", "held_until_us": NOON_US + PATIENCE_US},
    ],
)
def test_a_slow_sender_or_a_short_rest_moves_nobody(fields: dict[str, Any]) -> None:
    assert pick('routes = [{ senders = ["a"] }]\nsender = "b"', lanes={"a": lane("a", **fields)}).sender == "a"


def test_a_rest_that_is_over_when_the_message_is_to_leave_moves_nobody() -> None:
    held = {"a": lane("a", state="held", reason="daily_cap", held_until_us=NOON_US + 3600 * US)}
    job = 'routes = [{ senders = ["a"] }]\nsender = "b"'
    assert pick(job, lanes=held).sender == "b"
    assert pick(job, lanes=held, at_us=NOON_US + 3600 * US).sender == "a"


def test_where_no_sender_can_send_the_message_waits_at_the_one_that_can_first() -> None:
    lanes = {
        "a": lane("a", state="paused", reason="operator"),
        "b": lane("b", state="held", reason="daily_cap", held_until_us=NOON_US + 7200 * US),
        "c": lane("c", state="held", reason="40312", held_until_us=NOON_US + 300 * US),
    }
    chosen = pick('routes = [{ senders = ["a"] }, { senders = ["b"] }]\nsender = "c"', lanes=lanes)
    assert chosen.sender == "c" and chosen.way == Route("c")
    assert chosen.steps[-1] == Step(None, "c", "taken", "all_wait", "held")
    everywhere = {**lanes, "c": replace(lanes["a"], name="c"), "b": replace(lanes["a"], name="b")}
    assert pick('routes = [{ senders = ["a"] }]\nsender = "c"', lanes=everywhere).sender == "a"


def test_a_sender_that_cannot_reach_the_country_is_skipped() -> None:
    job = 'routes = [{ senders = ["brand"] }]\nsender = "a"'
    assert (pick(job, CHICAGO).sender, pick(job, LONDON).sender) == ("a", "brand")
    only = pick('routes = [{ senders = ["brand"] }]', CHICAGO).way
    assert isinstance(only, Refusal) and only.code == "destination"


def test_a_sender_that_cannot_carry_the_content_is_skipped_and_its_refusal_is_told_if_nobody_can() -> None:
    config = config_of('routes = [{ senders = ["a"] }]\nsender = "b"')
    no = Refusal("content", "a carries no media")

    def way(name: str) -> Route | Refusal:
        return no if name == "a" else Route(name)

    chooser = Chooser(config.job_types["j"], config=config, facts=Facts(NOON_US, ALL_OPEN))
    assert chooser.choose(CHICAGO, way).sender == "b"
    assert chooser.choose(CHICAGO, lambda name: no).way == no


STICKY = 'routes = [{ countries = ["US"], senders = { a = 1, b = 1, c = 0 } }]\nsender = "fast"\nsticky = true'


def test_who_is_remembered_hears_from_the_newest_of_the_routes_senders() -> None:
    for newest in ("a", "b", "c"):
        known = dict.fromkeys(PEOPLE[:50], ("fast", newest, "b"))
        assert {pick(STICKY, to, remembered=known).sender for to in PEOPLE[:50]} == {newest}


def test_no_route_is_passed_over_for_what_is_remembered() -> None:
    assert pick(STICKY, remembered={CHICAGO: ("fast",)}).sender in ("a", "b")
    assert pick(STICKY, TORONTO, remembered={TORONTO: ("a",)}).sender == "fast"


def test_a_weight_of_zero_keeps_who_is_remembered_and_takes_nobody_new() -> None:
    assert pick(STICKY, remembered={CHICAGO: ("c",)}).sender == "c"
    assert shares(STICKY)["c"] == 0


def test_without_sticky_nothing_is_remembered() -> None:
    job = STICKY.replace("sticky = true", "")
    assert {pick(job, to, remembered={to: ("c",)}).sender for to in PEOPLE[:50]} == {"a", "b"}


def test_a_remembered_sender_that_is_paused_is_skipped() -> None:
    paused = {"a": lane("a", state="paused", reason="operator")}
    assert pick(STICKY, remembered={CHICAGO: ("a",)}, lanes=paused).sender == "b"


def test_without_facts_every_sender_counts_as_able() -> None:
    config = config_of('routes = [{ senders = ["a"] }]\nsender = "b"')
    assert Chooser(config.job_types["j"], config=config, facts=Facts(NOON_US)).choose(CHICAGO, Route).sender == "a"


def test_the_whole_decision_names_every_candidate_once_and_ends_alike() -> None:
    job = 'routes = [{ countries = ["GB"], senders = ["a", "b"] }, { senders = ["b"] }]\nsender = "fast"'
    chosen = pick(job, whole=True)
    assert [(s.route, s.sender, s.verdict) for s in chosen.steps] == [
        (0, "", "skipped"), (1, "b", "taken"), (None, "fast", "not_needed"),
    ]  # fmt: skip
    assert chosen.steps[0].detail == "US is none of GB"
    assert pick(job).sender == chosen.sender


@pytest.mark.parametrize(
    ("number", "country"),
    [
        (CHICAGO, "US"), (TORONTO, "CA"), ("+17875550100", "PR"), ("+18005550100", "US"), ("+12005550100", "US"),
        (LONDON, "GB"), ("+4915112345678", "DE"), ("+390612345678", "IT"), ("+77011234567", "KZ"), ("+79161234567", "RU"),
        ("+8816123456789", None), ("US.1234567890", None), ("+", None),
    ],
)  # fmt: skip
def test_the_country_of_a_number(number: str, country: str | None) -> None:
    assert country_of(number) == country


def test_every_country_is_told_by_its_own_numbers() -> None:
    """Against the metadata's examples; a number that several countries share is the greatest one's."""
    import phonenumbers

    wrong = {}
    for region in phonenumbers.SUPPORTED_REGIONS:
        example = phonenumbers.example_number(region)
        number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        if country_of(number) != phonenumbers.region_code_for_number(example):
            wrong[region] = number
    assert wrong == {}
