"""Quiet hours and frequency caps in the scripts, in virtual time, on a fake server and on a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from ledger_kit import HOUR_US, finish, lane, publication, state, submit, take_now, view
from redis import Redis
from virtual_time import DAY_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Admission, Taken
from producers.ledger.dead_letters import read_letters
from worker.compliance.time_zones import ZoneFields, zone_table
from worker.publication import publication as publication_of
from worker.publishing import publish_call
from worker.replaying import replay
from worker.settings import Config, parse_config
from worker.web.dry_run import dry_run

CHICAGO, HONOLULU, LONDON, BOTH = "+13125550100", "+18085550100", "+442079460000", "+13125550100,+18085550100"
NIGHT = {"w": [[21 * 60, 8 * 60]]}
RULES: dict[str, dict[str, Any]] = {
    "promotion": NIGHT,
    "capped": {"f": [["m", 2, 86_400, 2, 86_400]]},
    "strict": {"f": [["m", 1, 3_600, 2, 86_400]]},
    "sunday": {"w": NIGHT["w"], "d": [0], "h": ["12-25", "2026-11-26"]},
}


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * SECOND_US


@pytest.fixture(params=["fake", "real"])
def ledger(request: pytest.FixtureRequest) -> Iterator[VirtualLedger]:
    redis: Any = None
    namespace = "t"
    if request.param == "real":
        redis, namespace = (
            Redis.from_url(request.getfixturevalue("redis_url")),
            request.getfixturevalue("namespace"),
        )
    ledger = VirtualLedger(redis, namespace)
    publish(ledger, RULES)
    yield ledger
    ledger.close()


def publish(ledger: VirtualLedger, rules: dict[str, dict[str, Any]], *, digest: str = "one") -> None:
    lanes = {"alerts": lane("alerts", "s:alerts", profile="p1")}
    body = publication(lanes, {"s:alerts": {"t_us": 1_000}}, digest=digest)
    body |= {"rules": {name: json.dumps(rule) for name, rule in rules.items()}, "timezone": "America/New_York"}
    default = {"America/New_York": zone_table("America/New_York", 2026) or ""}
    ledger.run(calls.publish(body, {}, default))


def queue(ledger: VirtualLedger, *, to: str = CHICAGO, job_type: str = "promotion", **other: Any) -> str:
    """Submit and expand one message, as a worker would; returns its id."""
    id = submit(ledger, to=to, job_type=job_type, **{"valid_for_us": 24 * HOUR_US, **other})
    fields = ZoneFields(datetime.fromtimestamp(ledger.now_us / SECOND_US, UTC))
    zones = fields.of(to.split(","))
    ledger.run(calls.zones(fields.tables))
    ledger.run(calls.admit(id, None, "", [Admission(to=to, lane="alerts", content='{"text":"x"}', zones=zones)]))
    return f"{id}-0"


def at(ledger: VirtualLedger, us: int) -> None:
    ledger.at(us)
    ledger.run(calls.beat("p1", "first"))
    more = True
    while more:
        _, more = ledger.run(calls.wake())


def take(ledger: VirtualLedger) -> list[Taken]:
    ledger.run(calls.beat("p1", "first"))
    return take_now(ledger)


def taken(ledger: VirtualLedger) -> set[str]:
    return {t.message for t in take(ledger)}


def next_at(ledger: VirtualLedger, mid: str) -> int | None:
    return view(ledger, mid).next_at_us


# --- quiet hours


def test_what_comes_at_night_waits_for_the_morning_of_its_recipient(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 5))  # 23:00 in Chicago, 19:00 in Honolulu, 5:00 in London
    chicago, honolulu, london = (queue(ledger, to=to) for to in (CHICAGO, HONOLULU, LONDON))
    assert taken(ledger) == {honolulu}
    assert state(ledger, chicago) == "scheduled" == state(ledger, london)
    assert next_at(ledger, chicago) == utc(2026, 11, 25, 14)
    assert next_at(ledger, london) == utc(2026, 11, 25, 8)
    at(ledger, utc(2026, 11, 25, 14) - 1)
    assert taken(ledger) == {london}
    at(ledger, utc(2026, 11, 25, 14))
    assert taken(ledger) == {chicago}


def test_a_message_of_a_job_type_without_rules_leaves_at_any_hour(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 5))
    mid = queue(ledger, job_type="notice")
    assert taken(ledger) == {mid}


def test_a_backlog_that_reaches_the_evening_stops_and_lets_others_pass(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 2, 59))  # 20:59 in Chicago
    backlog = [queue(ledger) for _ in range(20)]
    other = queue(ledger, job_type="notice")
    at(ledger, utc(2026, 11, 25, 3))
    assert taken(ledger) == {other}
    assert {state(ledger, mid) for mid in backlog} == {"scheduled"}
    assert {next_at(ledger, mid) for mid in backlog} == {utc(2026, 11, 25, 14)}
    assert view(ledger, backlog[0]).timeline[-1].reason == "quiet_hours"


def test_a_long_backlog_that_stops_still_lets_others_pass(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 2, 59))
    for _ in range(120):  # more than one slot passes over
        queue(ledger)
    other = queue(ledger, job_type="notice")
    at(ledger, utc(2026, 11, 25, 3))
    found: set[str] = set()
    for _ in range(20):
        found |= taken(ledger)
        ledger.pass_us(200_000)
    assert found == {other}
    assert ledger.redis.zcard(ledger.key("q:alerts:1")) == 0


def test_a_group_leaves_when_all_its_members_may_be_texted(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 15))  # 9:00 in Chicago, 5:00 in Honolulu
    mid = queue(ledger, to=BOTH)
    assert taken(ledger) == set()
    assert next_at(ledger, mid) == utc(2026, 11, 25, 18)
    at(ledger, utc(2026, 11, 25, 18))
    assert taken(ledger) == {mid}


def test_a_number_that_tells_no_zone_has_the_default_one(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 2))  # 21:00 in New York, 20:00 in Chicago
    toll_free = queue(ledger, to="+18005550100")
    assert taken(ledger) == set()
    assert next_at(ledger, toll_free) == utc(2026, 11, 25, 13)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (utc(2026, 3, 8, 4), utc(2026, 3, 8, 13)),  # the night in which the clocks go forward: 8:00 CDT
        (utc(2026, 11, 1, 4), utc(2026, 11, 1, 14)),  # and in which they go back: 8:00 CST
        (utc(2026, 12, 31, 4), utc(2026, 12, 31, 14)),
        (utc(2027, 1, 1, 4), utc(2027, 1, 1, 14)),
    ],
)
def test_the_morning_comes_by_the_clocks_of_that_day(ledger: VirtualLedger, now: int, opens: int) -> None:
    at(ledger, now)
    mid = queue(ledger)
    assert next_at(ledger, mid) == opens
    at(ledger, opens - 1)
    assert taken(ledger) == set()
    at(ledger, opens)
    assert taken(ledger) == {mid}


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (utc(2026, 11, 28, 18), utc(2026, 11, 28, 18)),  # a Saturday, noon in Chicago
        (utc(2026, 11, 29, 18), utc(2026, 11, 30, 14)),  # a Sunday: Monday, 8:00
        (utc(2026, 11, 26, 18), utc(2026, 11, 27, 14)),  # a date of one year
        (utc(2027, 11, 26, 18), utc(2027, 11, 26, 18)),  # and not of the next
        (utc(2027, 12, 25, 18), utc(2027, 12, 27, 14)),  # of each year, and a Sunday after it
        (utc(2026, 11, 29, 5, 30), utc(2026, 11, 30, 14)),  # 23:30 on Saturday: quiet hours run into the quiet day
    ],
)
def test_quiet_days_and_holidays_are_days_of_the_recipient(ledger: VirtualLedger, now: int, opens: int) -> None:
    at(ledger, now)
    mid = queue(ledger, job_type="sunday", valid_for_us=7 * DAY_US)
    if opens == now:
        assert taken(ledger) == {mid}
    else:
        assert next_at(ledger, mid) == opens


def test_what_would_open_after_its_validity_expires_at_once_and_says_why(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 5))
    mid = queue(ledger, valid_for_us=HOUR_US, klass=0)
    assert state(ledger, mid) == "expired"
    assert view(ledger, mid).timeline[-1].reason == "quiet_hours"
    at(ledger, utc(2026, 11, 26, 2, 59))
    waiting = queue(ledger, valid_for_us=HOUR_US)
    at(ledger, utc(2026, 11, 26, 3))
    assert taken(ledger) == set()
    assert state(ledger, waiting) == "expired"


def test_a_send_at_in_quiet_hours_waits_for_their_end(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 24, 18))
    mid = queue(ledger, send_at_us=utc(2026, 11, 25, 5))
    assert next_at(ledger, mid) == utc(2026, 11, 25, 14)
    by_day = queue(ledger, send_at_us=utc(2026, 11, 25, 20))
    assert next_at(ledger, by_day) == utc(2026, 11, 25, 20)


def test_a_stricter_configuration_holds_for_what_already_waits(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 0))  # 18:00 in Chicago
    mid = queue(ledger)
    publish(ledger, {**RULES, "promotion": {"w": [[17 * 60, 9 * 60]]}}, digest="two")
    assert taken(ledger) == set()
    assert next_at(ledger, mid) == utc(2026, 11, 25, 15)
    scheduled = queue(ledger, send_at_us=utc(2026, 11, 25, 16))
    publish(ledger, {**RULES, "promotion": {"w": [[17 * 60, 11 * 60]]}}, digest="three")
    at(ledger, utc(2026, 11, 25, 16))
    assert state(ledger, scheduled) == "scheduled"  # its timer has looked again: it takes no slot to find that out
    assert taken(ledger) == set()
    assert {next_at(ledger, m) for m in (mid, scheduled)} == {utc(2026, 11, 25, 17)}
    publish(ledger, {}, digest="four")
    at(ledger, utc(2026, 11, 25, 17))
    assert taken(ledger) == {mid, scheduled}


def test_a_later_leg_keeps_the_zones_and_waits_too(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 2, 59))
    mid = queue(ledger)
    (first,) = take(ledger)
    finish(ledger, first, "rejected", why="x", code="40001")
    at(ledger, utc(2026, 11, 25, 3, 1))
    made = ledger.run(calls.leg(mid, 2, "replay", valid_for_us=24 * HOUR_US))
    assert made.outcome == "made"
    assert taken(ledger) == set()
    assert next_at(ledger, made.message) == utc(2026, 11, 25, 14)
    at(ledger, utc(2026, 11, 25, 14))
    assert taken(ledger) == {made.message}


def test_zones_that_never_are_open_together_end_the_message(ledger: VirtualLedger) -> None:
    publish(ledger, {"promotion": {"w": [[12 * 60, 9 * 60]]}}, digest="two")  # three hours a day
    at(ledger, utc(2026, 11, 25, 15))
    assert state(ledger, queue(ledger, to="+13125550100,+442079460000")) == "expired"


def test_a_set_of_zones_too_long_for_a_record_is_found_by_its_digest(ledger: VirtualLedger) -> None:
    russia = "+78005553535"  # tied to no place: all zones of the country
    at(ledger, utc(2026, 11, 25, 15))  # 17:00 in Kaliningrad, 3:00 in Kamchatka
    mid = queue(ledger, to=russia)
    assert next_at(ledger, mid) == utc(2026, 11, 25, 20) + 10 * HOUR_US  # 8:00 in Kaliningrad, 18:00 in Kamchatka
    assert max(len(v) for v in ledger.redis.hvals(ledger.key(f"m:{mid}"))) <= 64  # type: ignore[union-attr]


def test_foresee_tells_what_admit_will_decide(ledger: VirtualLedger) -> None:
    at(ledger, utc(2026, 11, 25, 5))
    fields = ZoneFields(datetime(2026, 11, 25, tzinfo=UTC))
    people = [(to, fields.of([to])) for to in (CHICAGO, HONOLULU, "+78005553535", "+18005550100")]
    before = set(ledger.redis.scan_iter(match=ledger.key("*")))
    seen = ledger.run(calls.foresee("promotion", 0, people, fields.tables))
    assert set(ledger.redis.scan_iter(match=ledger.key("*"))) == before
    ids = [queue(ledger, to=to) for to, _ in people]
    for mid, foreseen in zip(ids, seen, strict=True):
        assert foreseen.opens_us == (next_at(ledger, mid) or ledger.now_us)


# --- frequency


def test_one_person_gets_no_more_than_the_limit_and_the_rest_wait_for_a_place(ledger: VirtualLedger) -> None:
    start = ledger.now_us
    ids = [queue(ledger, job_type="capped", valid_for_us=3 * DAY_US) for _ in range(3)]
    other = queue(ledger, job_type="capped", to=HONOLULU)
    assert taken(ledger) == {ids[0], ids[1], other}
    assert state(ledger, ids[2]) == "scheduled"
    assert view(ledger, ids[2]).timeline[-1].reason == "frequency"
    assert next_at(ledger, ids[2]) == start + DAY_US
    at(ledger, start + DAY_US - 1)
    assert taken(ledger) == set()
    at(ledger, start + DAY_US)
    assert taken(ledger) == {ids[2]}


def test_job_types_of_one_group_count_together_each_by_its_own_limit(ledger: VirtualLedger) -> None:
    start = ledger.now_us
    first = queue(ledger, job_type="capped")
    assert taken(ledger) == {first}
    strict = queue(ledger, job_type="strict")  # one in an hour
    capped = queue(ledger, job_type="capped")  # two in a day
    assert taken(ledger) == {capped}
    assert next_at(ledger, strict) == start + HOUR_US


@pytest.mark.parametrize(
    ("outcome", "other", "counts"),
    [
        ("rejected", {"code": "40301"}, False),
        ("not_sent", {}, False),
        ("slow_down", {"delay_us": SECOND_US}, False),
        ("accepted", {}, True),
        ("uncertain", {}, True),
    ],
)
def test_what_surely_did_not_leave_gives_its_place_back(
    ledger: VirtualLedger, outcome: str, other: dict[str, Any], counts: bool
) -> None:
    publish(ledger, {"capped": {"f": [["m", 1, 86_400, 1, 86_400]]}}, digest="two")
    queue(ledger, job_type="capped")
    (first,) = take(ledger)
    finish(ledger, first, outcome, why="x", **other)
    if outcome in ("not_sent", "slow_down"):
        ledger.run(calls.cancel(first.message[:32], 0))
    second = queue(ledger, job_type="capped")
    assert taken(ledger) == (set() if counts else {second})


def test_what_is_sent_again_keeps_its_place_and_takes_no_second(ledger: VirtualLedger) -> None:
    mid = queue(ledger, job_type="capped")
    (first,) = take(ledger)
    finish(ledger, first, "uncertain", why="read_timeout")
    for _ in range(20):
        ledger.run(calls.ear("w1"))
        at(ledger, ledger.now_us + SECOND_US)
    assert taken(ledger) == {mid}
    second = queue(ledger, job_type="capped")
    assert taken(ledger) == {second}


def test_a_fallback_is_the_same_message_to_the_person_and_a_replay_another(ledger: VirtualLedger) -> None:
    publish(ledger, {"capped": {"f": [["m", 1, 86_400, 1, 86_400]]}}, digest="two")
    mid = queue(ledger, job_type="capped")
    (first,) = take(ledger)
    finish(ledger, first, "accepted")
    ledger.run(calls.receipt("", [calls.Fact(ref=mid, provider_id=None, state="F")]))
    fallback = ledger.run(calls.leg(mid, 2, "fallback", valid_for_us=HOUR_US))
    (second,) = take(ledger)
    assert second.message == fallback.message
    finish(ledger, second, "rejected", why="x", code="40301")  # gives no place back, for its entry's first leg has left
    replay = ledger.run(calls.leg(mid, 3, "replay", valid_for_us=HOUR_US))
    assert replay.outcome == "made"
    assert taken(ledger) == set()


def test_every_member_of_a_group_is_counted(ledger: VirtualLedger) -> None:
    publish(ledger, {"capped": {"f": [["m", 1, 86_400, 1, 86_400]]}}, digest="two")
    group = queue(ledger, job_type="capped", to=BOTH)
    assert taken(ledger) == {group}
    alone = queue(ledger, job_type="capped", to=HONOLULU)
    again = queue(ledger, job_type="capped", to="+13125550111,+18085550100")
    assert taken(ledger) == set()
    assert {state(ledger, alone), state(ledger, again)} == {"scheduled"}


def test_a_capped_message_ends_with_its_validity(ledger: VirtualLedger) -> None:
    ids = [queue(ledger, job_type="capped", valid_for_us=HOUR_US) for _ in range(3)]
    assert taken(ledger) == set(ids[:2])
    at(ledger, ledger.now_us + HOUR_US + SECOND_US)
    assert state(ledger, ids[2]) == "expired"


def test_what_frequency_remembers_of_a_person_lapses(ledger: VirtualLedger) -> None:
    for _ in range(5):
        queue(ledger, job_type="capped")
        take(ledger)
    (key,) = ledger.redis.keys(ledger.key("fq:*"))  # type: ignore[misc]
    assert ledger.redis.llen(key) == 2
    assert 0 < ledger.redis.ttl(key) <= 86_400  # type: ignore[operator]


# --- what a dry run says of it

CONFIG = """
[senders.alerts]
channel = "long_code"
from = "+13125550001"
rate = "100/s"
[job_types.promotion]
sender = "alerts"
preset = "us-tcpa"
frequency = { group = "m", limit = 1, per = "24h" }
"""


def dry(ledger: VirtualLedger, config: Config, **fields: Any) -> dict[str, Any]:
    request = {"job_type": "promotion", "text": "hello", **fields}
    job_types = publication_of(config, release=1)["job_types"]
    return dry_run(request, config=config, job_types=job_types, ledger=ledger, now_us=ledger.now_us)


def test_a_dry_run_says_who_must_wait_for_what_and_who_would_wait_in_vain(ledger: VirtualLedger) -> None:
    config = parse_config(CONFIG)
    at(ledger, utc(2026, 11, 25, 1))  # 19:00 in Chicago, 15:00 in Honolulu
    ledger.run(publish_call(config, 2, now_us=ledger.now_us))
    queue(ledger, to=HONOLULU)
    assert len(take(ledger)) == 1
    at(ledger, utc(2026, 11, 25, 5))  # 23:00 in Chicago, 19:00 in Honolulu
    told = dry(ledger, config, to=[CHICAGO, HONOLULU, "+18085550111"])
    assert told["leaves_at"].startswith("2026-11-25T05:00:")
    assert told["filtered"] == []
    assert told["delayed"] == [
        {"to": CHICAGO, "reason": "quiet_hours", "leaves_at": "2026-11-25T14:00:00.000Z"},
        {"to": HONOLULU, "reason": "frequency", "leaves_at": "2026-11-26T01:00:00.000Z"},
    ]
    later = dry(ledger, config, to=[CHICAGO])
    assert later["leaves_at"] == "2026-11-25T14:00:00.000Z"
    in_vain = dry(ledger, config, to=[CHICAGO, HONOLULU], valid_for="5m")
    assert in_vain["filtered"] == [
        {"to": CHICAGO, "reason": "quiet_hours"},
        {"to": HONOLULU, "reason": "frequency"},
    ]
    assert (in_vain["delayed"], in_vain["leaves_at"]) == ([], None)


def test_a_replay_of_what_was_never_rendered_keeps_the_hours_of_the_recipients_own_zone(ledger: VirtualLedger) -> None:
    config = parse_config(CONFIG)
    at(ledger, utc(2026, 11, 25, 5))  # midnight in New York, the default zone; 19:00 in Honolulu
    ledger.run(publish_call(config, 2, now_us=ledger.now_us))
    ids = []
    for to in (CHICAGO, HONOLULU):
        id = submit(ledger, to=to, job_type="promotion", valid_for_us=24 * HOUR_US)
        ledger.run(calls.admit(id, None, "", [Admission(to=to, reject="job_type", title="unknown")]))
        ids.append(f"{id}-0")
    letters = read_letters(ledger, ids)
    done = replay(letters, ledger=ledger, config=config, valid_for_s=lambda _: 86_400, now_us=ledger.now_us)
    assert [row.outcome for row in done] == ["made", "made"]
    legs = [row.message for row in done]
    assert [view(ledger, leg).state for leg in legs] == ["scheduled", "queued"]
    assert next_at(ledger, legs[0]) == utc(2026, 11, 25, 14)  # 8:00 in Chicago
    assert taken(ledger) == {legs[1]}
