"""`notify route` and `notify schedules`: what would be done, said by the very code that will do it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_notification
from producers.notifier import Notifier
from worker import cli
from worker.commands import app as commands
from worker.expansion import expand
from worker.publishing import publish
from worker.settings import Config, parse_config

TOML = """
[senders.one]
channel = "long_code"
from = "+13125550001"
rate = "10/s"
[senders.two]
channel = "long_code"
from = "+13125550002"
rate = "10/s"
[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "auto"
[senders.families]
channel = "group_mms"
from = "+13125550004"
rate = "10/s"
[job_types.care]
sender = "one"
sticky = true
routes = [
    { countries = ["GB"], hours = "08:00-20:00", timezone = "Europe/London", senders = ["brand"] },
    { countries = ["US"], senders = ["one", "two"] },
]
[job_types.abroad]
routes = [{ countries = ["GB"], senders = ["brand"] }]
[job_types.plain]
sender = "two"
[job_types.family]
sender = "families"
[schedules.daily]
cron = "0 9 * * *"
timezone = "America/New_York"
job_type = "plain"
to = ["+13122340001", "+13122340002"]
text = "hello"
[schedules.never]
cron = "0 0 1 1 *"
job_type = "plain"
recipients = "people_of_a_test:subscribers"
text = "hello"
missed = "skip"
"""
PERSON, LONDON = "+13125550100", "+447700900123"


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]
APP = commands.make_app()


@pytest.fixture
def run(redis_url: str, namespace: str, monkeypatch: Any, capsys: Any, tmp_path: Path) -> Run:
    monkeypatch.setattr(commands, "make_app", lambda: APP)
    for name in list(os.environ):
        if name.startswith(("REDIS_", "TELNYX_", "NOTIFY_", "PUBLIC_URL", "PORT", "HEROKU_")):
            monkeypatch.delenv(name)
    file = tmp_path / "notify.toml"
    file.write_text(TOML)
    (tmp_path / "people_of_a_test.py").write_text("def subscribers(tick):\n    return ['+13122340001']\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def invoke(*arguments: str, **changes: str) -> Done:
        given = {"REDIS_URL": redis_url, "NOTIFY_NAMESPACE": namespace, "NOTIFY_CONFIG": str(file), **changes}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()  # what the test itself logged
        code = cli._run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(code, out, err)

    return invoke


@pytest.fixture
def notifier(redis_url: str, namespace: str) -> Notifier:
    return Notifier(redis_url, namespace=namespace)


@pytest.fixture
def config(ledger: Ledger) -> Config:
    config = parse_config(TOML)
    publish(ledger, config, 0)
    return config


def expanded(notifier: Notifier, ledger: Ledger, config: Config, job_type: str, to: str) -> str:
    ticket = notifier.enqueue(job_type, to=to, text="hello")
    expand(ticket.id, None, ledger=ledger, config=config, point=lambda *_: None)
    seen = read_notification(ledger, ticket.id, limit=1)
    assert seen is not None
    return seen.messages[0].lane


def test_what_is_explained_is_what_expansion_does(
    run: Run, config: Config, ledger: Ledger, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    def agree(job_type: str, to: str) -> str:
        said = run("route", job_type, to, "--json")
        assert (said.code, said.json["to"]) == (0, to)
        trial = run("send", job_type, "--to", to, "--text", "hello", "--dry-run", "--json").json
        assert trial["senders"] == [{"sender": said.json["sender"], "messages": 1}]
        assert trial["route"] == (said.json["steps"] if job_type == "care" else None)
        assert expanded(notifier, ledger, config, job_type, to) == said.json["lane"]
        return str(said.json["sender"])

    people = numbers(4)
    before = {number: agree("care", number) for number in people}
    assert set(before.values()) == {"one", "two"}
    ledger.run(calls.lane("two", "pause", "its number is off its profile"))
    assert {agree("care", number) for number in people} == {"one"}
    assert agree("plain", PERSON) == "two"


def test_the_explanation_names_each_candidate_and_why_it_is_taken_or_not(
    run: Run, config: Config, ledger: Ledger
) -> None:
    ledger.run(calls.lane("two", "pause", "its number is off its profile"))
    ledger.run(calls.opt(PERSON, "", scopes=["sy:two"], source="webhook", evidence="e"))
    steps = run("route", "care", PERSON, "--json").json["steps"]
    assert [(step["route"], step["sender"], step["verdict"], step["words"]) for step in steps] == [
        (0, None, "skipped", "not for this country: US is none of GB"),
        (1, "two", "skipped", "paused: its number is off its profile"),
        (1, "one", "taken", "this person's place among the route's senders"),
        (None, "one", "not_needed", "an earlier one is taken"),
    ]
    table = run("route", "care", PERSON, "--explain")
    assert table.code == 0
    assert "one (long_code, +13125550001), lane one" in table.out
    assert all(words in table.out for words in ("routes[1]", "paused: its number", "brand", "\n sender", "taken"))
    assert "routes[1]" not in run("route", "care", PERSON).out


@pytest.mark.parametrize(("hour", "sender"), [("12:00", "brand"), ("20:00", "one")])
def test_a_time_to_come_decides_by_its_own_hour(run: Run, config: Config, hour: str, sender: str) -> None:
    from datetime import UTC, datetime, timedelta

    day = (datetime.now(UTC) + timedelta(days=2)).date()
    from zoneinfo import ZoneInfo

    at = datetime.fromisoformat(f"{day}T{hour}").replace(tzinfo=ZoneInfo("Europe/London")).isoformat()
    assert run("route", "care", LONDON, "--at", at, "--json").json["sender"] == sender


def test_nobody_to_send_is_1_with_the_reason(run: Run, config: Config) -> None:
    done = run("route", "abroad", PERSON, "--json")
    assert (done.code, done.json["sender"], done.json["refusal"]["code"]) == (1, None, "no_route")
    assert "rejected (no_route): no route takes US now" in run("route", "abroad", PERSON).out
    trial = run("send", "abroad", "--to", PERSON, "--text", "hello", "--dry-run", "--json").json
    assert (trial["filtered"], trial["senders"]) == ([{"to": PERSON, "reason": "no_route"}], [])


def test_media_passes_over_a_sender_that_carries_none(run: Run, config: Config) -> None:
    done = run("route", "abroad", LONDON, "--media", "https://example.com/a.jpg", "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "content")


def test_a_dry_run_counts_the_senders_of_many_and_one_of_a_group(
    run: Run, config: Config, numbers: Callable[[int], list[str]]
) -> None:
    to = [option for number in numbers(40) for option in ("--to", number)]
    trial = run("send", "care", *to, "--text", "hello", "--dry-run", "--json").json
    assert [row["sender"] for row in trial["senders"]] == ["one", "two"]
    assert sum(row["messages"] for row in trial["senders"]) == 40
    assert trial["route"] is None
    group = run("send", "family", *to[:6], "--text", "hello", "--dry-run", "--json").json
    assert group["senders"] == [{"sender": "families", "messages": 1}]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["route", "cares", PERSON], 1, "did you mean `care`?"),
        (["route", "care", "banana"], 2, '"banana" is no number'),
        (["route", "care", PERSON, "--at", "noon"], 2, "write RFC 3339"),
        (["route", "care", PERSON, "--at", "2020-01-01T00:00:00Z"], 2, "has passed"),
        (["schedules", "run", "dayly", "--tick", "2020-01-01T00:00:00Z"], 1, "did you mean `daily`?"),
        (["schedules", "run", "daily", "--tick", "2020-01-01T00:00:00Z"], 2, "the next one is 2020-01-01T09:00:00-05:00"),
        (["schedules", "run", "daily", "--tick", "9 am"], 2, "write RFC 3339"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_the_right_code(
    run: Run, config: Config, arguments: list[str], code: int, says: str
) -> None:
    done = run(*arguments)
    assert done.code == code and says in done.err
    assert says in run(*arguments, "--json").json["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [["route", "care", PERSON], ["schedules", "list"], ["schedules", "run", "daily", "--tick", "2026-01-01T14:00:00Z"]],
)
def test_without_redis_it_is_3_and_without_a_configuration_2(run: Run, arguments: list[str], tmp_path: Path) -> None:
    away = run(*arguments, REDIS_URL="redis://127.0.0.1:1/0")
    assert away.code == 3 and "check REDIS_URL" in away.err
    lost = run(*arguments, NOTIFY_CONFIG=str(tmp_path / "gone.toml"))
    assert lost.code == 2 and "does not exist" in lost.err


def test_schedules_are_listed_with_their_ticks_in_their_own_zone(run: Run, config: Config, ledger: Ledger) -> None:
    daily, never = run("schedules", "list", "--json", "--next", "2").json["schedules"]
    assert (daily["name"], daily["timezone"], daily["to"], daily["missed"]) == (
        "daily", "America/New_York", "2 numbers", "run_once",
    )  # fmt: skip
    assert [tick[11:19] for tick in daily["next"]] == ["09:00:00"] * 2
    assert {tick[19:] for tick in daily["next"]} <= {"-05:00", "-04:00"}
    assert daily["last"] is None
    assert (never["to"], never["missed"]) == ("people_of_a_test:subscribers", "skip")
    table = run("schedules", "list").out
    assert all(word in table for word in ("daily", "0 9 * * *", "not yet", "America/New_York"))


def test_how_the_last_tick_went_is_told(run: Run, config: Config, ledger: Ledger, notifier: Notifier) -> None:
    from worker.schedules import Schedules

    clock = Schedules(config, ledger, notifier, {"never": lambda _tick: []})
    tick = 1_796_133_600  # 2026-12-01 09:00 in New York
    clock.run(tick - 60)
    clock.run(tick + 30)
    last = run("schedules", "list", "--json").json["schedules"][0]["last"]
    assert last == {
        "tick": "2026-12-01T09:00:00-05:00", "outcome": "made", "at": "2026-12-01T09:00:30-05:00",
    }  # fmt: skip


def test_a_tick_made_by_hand_is_made_once_also_by_the_clock(
    run: Run, config: Config, ledger: Ledger, namespace: str
) -> None:
    tick = ["schedules", "run", "daily", "--tick", "2026-01-01T09:00:00-05:00"]
    assert run(*tick, "--json", NOTIFY_CLIENT="crm").json == {
        "name": "daily",
        "tick": "2026-01-01T09:00:00-05:00",
        "recipients": 2,
    }
    redis: Any = ledger.redis

    def made() -> int:
        return len(list(redis.scan_iter(match=f"{{{namespace}}}:n:*")))

    assert made() == 1
    assert run(*tick).out == "daily at 2026-01-01T09:00:00-05:00: 2 recipients\n"
    assert made() == 1
    (key,) = redis.scan_iter(match=f"{{{namespace}}}:n:*")
    assert redis.hget(key, "cl") == b"default"  # the clock's client: its key for this tick is the same


def test_no_schedules_says_how_to_write_one(run: Run, config: Config, tmp_path: Path) -> None:
    (tmp_path / "notify.toml").write_text(TOML.partition("[schedules.daily]")[0])
    assert "docs/schedules.md" in run("schedules", "list").out
    assert run("schedules", "list", "--json").json == {"schedules": []}
