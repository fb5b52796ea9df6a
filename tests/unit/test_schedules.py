"""When a schedule is due: pure, in any zone, over changes of the clocks and times without any clock process."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from worker.schedules import FRESH_S, LOOK_BACK_S, Due, digest_of, due, load_recipients, next_s
from worker.settings import Schedule, SettingsError, parse_config

BASE = '[senders.s]\nchannel = "short_code"\nfrom = "12345"\nrate = "1/s"\n[job_types.digest]\nsender = "s"\n'
NEW_YORK = "America/New_York"


def at(text: str, zone: str = NEW_YORK) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def schedule(cron: str, **fields: object) -> Schedule:
    return Schedule.model_validate({"cron": cron, "job_type": "digest", "to": "+13125550100", **fields})


def remembered(it: Schedule, last_s: int, zone: str = NEW_YORK) -> str:
    return f"{last_s} {digest_of(it, zone)}"


def test_a_schedule_starts_with_the_first_tick_after_it_was_first_seen() -> None:
    daily = schedule("0 9 * * *")
    seen = at("2026-11-24 09:30")
    assert due(daily, NEW_YORK, "", seen) == Due(None, seen)
    assert due(daily, NEW_YORK, remembered(daily, seen), at("2026-11-25 08:59")) == Due(None)
    assert due(daily, NEW_YORK, remembered(daily, seen), at("2026-11-25 09:00")) == Due(at("2026-11-25 09:00"))


def test_a_changed_expression_or_zone_counts_as_a_new_schedule() -> None:
    before, after = schedule("0 9 * * *"), schedule("0 8 * * *")
    now = at("2026-11-24 08:30")
    assert due(after, NEW_YORK, remembered(before, at("2026-11-23 09:00")), now) == Due(None, now)
    assert due(before, "Europe/Paris", remembered(before, at("2026-11-23 09:00")), now) == Due(None, now)


def test_after_a_time_without_a_clock_run_once_makes_up_for_the_last_tick_alone_and_skip_for_none() -> None:
    now, last = at("2026-11-24 12:10"), at("2026-11-24 08:00")
    once, skip = schedule("0 * * * *"), schedule("0 * * * *", missed="skip")
    assert due(once, NEW_YORK, remembered(once, last), now) == Due(at("2026-11-24 12:00"))
    assert due(skip, NEW_YORK, remembered(skip, last), now) == Due(None, at("2026-11-24 12:00"))
    fresh = at("2026-11-24 12:00") + FRESH_S
    assert due(skip, NEW_YORK, remembered(skip, last), fresh) == Due(at("2026-11-24 12:00"))


def test_what_was_missed_more_than_a_day_ago_is_no_news() -> None:
    weekly = schedule("0 9 * * MON")  # the 23rd is a Monday
    last, tick = at("2026-11-16 09:00"), at("2026-11-23 09:00")
    assert due(weekly, NEW_YORK, remembered(weekly, last), tick + LOOK_BACK_S - 1) == Due(tick)
    assert due(weekly, NEW_YORK, remembered(weekly, last), tick + LOOK_BACK_S + 1) == Due(None)


@pytest.mark.parametrize(
    ("cron", "start", "end", "ticks"),
    [
        ("30 1 * * *", "2026-10-31 12:00", "2026-11-02 12:00", 2),  # 01:30 comes twice on the first of November
        ("30 2 * * *", "2026-03-07 12:00", "2026-03-09 12:00", 2),  # and 02:30 not at all on the eighth of March
    ],
)
def test_a_daily_tick_comes_once_a_day_when_the_clocks_change(cron: str, start: str, end: str, ticks: int) -> None:
    it, made = schedule(cron), []
    memory = remembered(it, at(start))
    for now in range(at(start), at(end), 600):
        found = due(it, NEW_YORK, memory, now)
        if found.tick is not None:
            made.append(found.tick)
            memory = remembered(it, found.tick)
    assert len(made) == ticks


def test_the_next_tick_is_told() -> None:
    assert next_s(schedule("0 9 * * *"), NEW_YORK, at("2026-11-24 09:00")) == at("2026-11-25 09:00")
    assert next_s(schedule("0 0 29 2 *"), NEW_YORK, at("2026-11-24 09:00")) == at("2028-02-29 00:00")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('cron = "0 9 * *"\njob_type = "digest"\nto = "+13125550100"', "schedules.x.cron must be a cron expression"),
        ('cron = "0 9 * * *"\njob_type = "digets"\nto = "+13125550100"', "did you mean `digest`?"),
        ('cron = "0 9 * * *"\njob_type = "digest"', "schedules.x.to is missing"),
        (
            'cron = "0 9 * * *"\njob_type = "digest"\nto = "+13125550100"\nrecipients = "a:b"',
            "schedules.x.to stands beside recipients",
        ),
        (
            'cron = "0 9 * * *"\njob_type = "digest"\nrecipients = "a.b"',
            "schedules.x.recipients must name a Python callable",
        ),
        (
            'cron = "0 9 * * *"\njob_type = "digest"\nto = "+13125550100"\ntimezone = "Mars"',
            "schedules.x.timezone must be a time zone",
        ),
        ('job_type = "digest"\nto = "+13125550100"', "schedules.x.cron is missing"),
    ],
)
def test_a_wrong_schedule_stops_the_start_and_says_the_remedy(lines: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_config(f"{BASE}[schedules.x]\n{lines}\n")
    assert says in str(caught.value.problems[0])


def test_recipients_are_loaded_and_all_that_cannot_be_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "people_of_schedules.py").write_text("everyone = lambda tick: []\nnobody = None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(*names: str) -> dict[str, object]:
        table = '[schedules.{0}]\ncron = "0 9 * * *"\njob_type = "digest"\nrecipients = "{1}"\n'
        text = "".join(table.format(f"s{index}", name) for index, name in enumerate(names))
        return dict(load_recipients(parse_config(BASE + text)))

    assert list(load("people_of_schedules:everyone")) == ["s0"]
    with pytest.raises(SettingsError) as caught:
        load("people_of_schedules:nobody", "no_such_module_at_all:x", "people_of_schedules:lacking")
    assert [problem.path for problem in caught.value.problems] == [f"schedules.s{n}.recipients" for n in range(3)]
