"""``notify dead`` and ``notify replay`` on a real server; in this process, for a fresh interpreter takes longer than the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from ledger_kit import take_now

from producers.ledger import callbacks, calls
from producers.ledger.calls import Fact, Finish
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_message, read_notification
from producers.notifier import Notifier
from producers.pointers import broker_namespace
from worker import cli, expansion
from worker.expansion import expand
from worker.publishing import publish
from worker.settings import Config, load_config

EXAMPLE = Path(__file__).parents[2] / "notify.example.toml"
NUMBER, OTHER = "+13122340001", "+13122340002"
Notify = Callable[..., Any]


@pytest.fixture
def config(ledger: Ledger) -> Config:
    """The example, but for the fallback of its codes: what falls back is no dead letter."""
    example = load_config(EXAMPLE)
    otp = example.job_types["otp"].model_copy(update={"fallback": ()})
    config = example.model_copy(update={"job_types": {**example.job_types, "otp": otp}})
    publish(ledger, config, 0)
    ledger.run(calls.beat("p1", "first"))
    return config


@pytest.fixture
def notifier(redis_url: str, namespace: str) -> Notifier:
    return Notifier(redis_url, namespace=namespace)


@pytest.fixture
def notify(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_url: str, namespace: str
) -> Notify:
    """Runs a command; gives its JSON, or its text where it prints none. ``code``: how it must end."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("NOTIFY_NAMESPACE", namespace)
    monkeypatch.setenv("NOTIFY_CONFIG", str(EXAMPLE))
    monkeypatch.setattr("worker.log.configure_logging", lambda *_args, **_kw: None)

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        with structlog.testing.capture_logs():  # a process of its own would log to standard error
            ended = cli._run(list(arguments))
        out, err = capsys.readouterr()
        assert ended == code, out + err
        return json.loads(out) if "--json" in arguments else out + err

    return run


def enqueue(ledger: Ledger, config: Config, notifier: Notifier, job_type: str = "ticket", **fields: Any) -> str:
    """Enqueue and expand one; returns its message's id."""
    given = {"to": NUMBER, "text": "Your ticket", **fields}
    if job_type == "otp":
        given = {"to": NUMBER, "variables": {"code": "123456"}, **fields}
    ticket = notifier.enqueue(job_type, **given)
    expand(ticket.id, None, ledger=ledger, config=config, point=lambda *_: None)
    return f"{ticket.id}-0"


def end(ledger: Ledger, mid: str, wait_until: Any, state: str = "rejected") -> None:
    """Take what alone waits, and end it."""
    (taken,) = wait_until(lambda: take_now(ledger))
    assert taken.message == mid
    if state == "rejected":
        result = Finish(message=mid, token=taken.token, outcome="rejected", code="40310", why="40310")
        assert ledger.run(calls.finish("p1", [result])) == ["ok"]
        return
    accepted = Finish(message=mid, token=taken.token, outcome="accepted", provider_id=f"pid-{mid}")
    ledger.run(calls.finish("p1", [accepted]))
    error = ("w", "40008", "") if state == "failed" else None
    letter = {"failed": "F", "unconfirmed": "X", "delivered": "D"}[state]
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter, error=error)]))


def test_a_dead_letter_is_listed_with_its_reason_and_a_masked_number(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    assert notify("dead") == "no dead letters\n"
    rejected = enqueue(ledger, config, notifier)
    end(ledger, rejected, wait_until)
    failed = enqueue(ledger, config, notifier, to=OTHER)
    end(ledger, failed, wait_until, "failed")
    otp = enqueue(ledger, config, notifier, "otp")
    end(ledger, otp, wait_until, "unconfirmed")
    rows = notify("dead", "--json")["dead"]
    assert [row["id"] for row in rows] == [otp, failed, rejected], "newest first"
    assert rows[2]["to"] == ["+1312***0001"]
    assert (rows[2]["state"], rows[2]["code"], rows[2]["replayable"]) == ("rejected", "40310", True)
    assert rows[2]["why"].startswith("40310: ")
    assert rows[1]["why"].startswith("40008: ")
    for arguments, expected in (
        (["--state", "failed"], [failed]),
        (["--job-type", "otp"], [otp]),
        (["--sender", "service"], [failed, rejected]),
        (["--sender", "service", "--limit", "1"], [failed]),
    ):
        assert [row["id"] for row in notify("dead", *arguments, "--json")["dead"]] == expected
    assert 'did you mean "failed"' in notify("dead", "--state", "faild", code=2)
    assert 'did you mean "service"' in notify("dead", "--sender", "servise", code=1)
    assert 'did you mean "service"' in notify("replay", "--all", "--sender", "servise", "--yes", code=1)
    text = notify("dead")
    assert rejected in text
    assert NUMBER not in text
    assert NUMBER in notify("dead", "--show-numbers")


def test_one_dead_letter_is_shown_whole(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    mid = enqueue(ledger, config, notifier)
    end(ledger, mid, wait_until)
    shown = notify("dead", mid, "--json")
    assert [step["state"] for step in shown["timeline"]] == ["new", "queued", "sending", "rejected"]
    assert (shown["to"], shown["channel"], shown["sender"], shown["replayable"]) == (
        "+1312***0001", "toll_free", "service", True,
    )  # fmt: skip
    assert notify("dead", mid, "--show-numbers", "--json")["to"] == NUMBER
    assert f"notify replay {mid}" in notify("dead", mid)
    waiting = enqueue(ledger, config, notifier, to=OTHER)
    assert notify("dead", waiting, "--json")["why"] is None, "it is no dead letter"
    assert "only rejected, failed and unconfirmed messages are replayed" in notify("dead", waiting)
    assert "no message" in notify("dead", "f" * 32 + "-0", code=1)
    assert "<notification>-<index>" in notify("dead", "nonsense", code=2)


def test_a_replay_makes_a_leg_with_the_same_bytes_once(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    mid = enqueue(ledger, config, notifier)
    end(ledger, mid, wait_until)
    done = notify("replay", mid, "--json")
    assert (done["replayed"], done["messages"][0]["leg"]) == (1, f"{mid}-2")
    again = notify("replay", mid, "--json", code=1)
    assert (again["refused"], again["messages"][0]["why"]) == (1, "not_dead")
    assert "queued" in notify("replay", f"{mid}-2", code=1)
    taken = wait_until(lambda: take_now(ledger))
    assert [(t.message, json.loads(t.content)) for t in taken] == [(f"{mid}-2", {"text": "Your ticket"})]
    assert notify("dead", "--json")["dead"] == []
    assert notifier.status(mid[:32]).state_counts == {"sending": 1}


def test_a_replay_is_refused_for_who_opted_out_and_where_the_content_is_erased(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    out = enqueue(ledger, config, notifier)
    end(ledger, out, wait_until)
    erased = enqueue(ledger, config, notifier, to=OTHER)
    end(ledger, erased, wait_until)
    ledger.run(calls.opt(NUMBER, "out", scopes=["global"], source="webhook"))
    ledger.redis.delete(ledger.key(f"c:{erased}"))
    rows = notify("replay", out, erased, "--json", code=1)["messages"]
    assert [row["why"] for row in rows] == ["opted_out", "content_erased"]
    assert all(row["words"] for row in rows)
    assert {row["id"]: row["why_not"] for row in notify("dead", "--json")["dead"]} == {
        out: None, erased: "content_erased",
    }  # fmt: skip
    assert take_now(ledger) == []


def test_all_are_replayed_by_filter_and_what_may_have_arrived_only_by_name(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    ends = ("rejected", "failed", "unconfirmed", "delivered")
    mids: dict[str, str] = {}
    for state in ends:
        mids[state] = enqueue(ledger, config, notifier)
        end(ledger, mids[state], wait_until, state)
    assert "--yes" in notify("replay", "--all", code=2)
    assert "--all" in notify("replay", code=2)
    assert notify("replay", "--all", "--job-type", "otp", "--yes", "--json")["messages"] == []
    done = notify("replay", "--all", "--yes", "--json")
    assert sorted(row["id"] for row in done["messages"]) == sorted([mids["rejected"], mids["failed"]])
    done = notify("replay", "--all", "--yes", "--state", "unconfirmed", "--valid-for", "90s", "--json")
    assert [row["leg"] for row in done["messages"]] == [f"{mids['unconfirmed']}-2"]
    until, at = ledger.redis.hmget(ledger.key(f"m:{mids['unconfirmed']}-2"), "vu", "at")  # type: ignore[misc,union-attr]
    assert int(until) - int(at) == 90_000_000
    assert "--valid-for" in notify("replay", "--all", "--yes", "--valid-for", "soon", code=2)


def test_what_was_rejected_before_it_was_rendered_is_rendered_by_the_configuration_that_is_here(
    notify: Notify, ledger: Ledger, config: Config, notifier: Notifier, wait_until: Any
) -> None:
    people = [{"to": NUMBER, "variables": {"code": "111"}}, {"to": OTHER, "variables": {"code": "222"}}]
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(expansion, "render_content", lambda *_args, **_kw: 1 / 0)
        lone = enqueue(ledger, config, notifier, "otp")
        many = enqueue(ledger, config, notifier, "otp", to=people, variables=None)
    view = read_notification(ledger, many[:32])
    assert view is not None
    assert view.state_counts == {"rejected": 2}
    rows = notify("dead", "--json")["dead"]
    assert {(row["code"], row["sender"], row["replayable"]) for row in rows} == {("poison", "alerts", True)}
    second = f"{many[:32]}-1"
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(expansion, "render_content", lambda *_args, **_kw: 1 / 0)
        refused = notify("replay", lone, "--json", code=1)["messages"][0]
        assert refused["why"] == "still_rejected"
        assert "ZeroDivisionError" in refused["words"]
    assert notify("replay", lone, second, "--json")["replayed"] == 2
    texts: dict[str, str] = {}

    def both() -> bool:
        texts.update({t.message: json.loads(t.content)["text"] for t in take_now(ledger)})
        return len(texts) == 2

    wait_until(both)
    assert texts[f"{lone}-2"].count("123456") == 1
    assert texts[f"{second}-2"].count("222") == 1
    message = read_message(ledger, second)
    assert message is not None
    assert message.state == "sending"


def test_what_was_put_aside_is_listed_without_bodies(notify: Notify, ledger: Ledger, config: Config) -> None:
    assert notify("dead", "--aside") == "nothing was put aside\n"
    event = {"data": {"event_type": "message.odd", "payload": {"id": "pid-1", "text": "SECRET", "to": NUMBER}}}
    redis: Any = ledger.redis
    redis.xadd(ledger.key("odd"), {"why": "poison", "event": json.dumps(event)})
    redis.xadd(ledger.key("odd"), {"why": "poison", "event": "no JSON, SECRET"})
    redis.xadd(ledger.key("odd"), {"why": "take", "id": "m-1", "error": f"no move for {NUMBER}"})
    queue = f"{broker_namespace(ledger.namespace)}:expand.XQ"
    redis.zadd(queue, {"a": 1_764_000_000_000, "b": 1_764_000_000_001})
    redis.hset(
        f"{queue}.msgs", mapping={"a": json.dumps({"actor_name": "expand", "args": ["n-1"]}), "b": b"\x80SECRET"}
    )
    rows = notify("dead", "--aside", "--json")["aside"]
    assert [(row["where"], row["why"], row["about"]) for row in rows] == [
        ("events", "take", "m-1 no move for +1312***0001"),
        ("events", "poison", "15 characters that are no event"),
        ("events", "poison", "message.odd pid-1"),
        ("expand", "undecodable", "7 bytes"),
        ("expand", "failed", 'expand ["n-1"]'),
    ]
    assert "SECRET" not in notify("dead", "--aside")


def test_a_callback_that_was_given_up_is_listed_and_called_again(
    notify: Notify, notifier: Notifier, ledger: Ledger, config: Config
) -> None:
    assert notify("dead", "--callbacks") == "no callback was given up\n"
    id = notifier.enqueue("ticket", to=NUMBER, text="x", callback_url="https://app.example.com/events").id
    notifier.cancel(id)
    for claimed in ledger.run(callbacks.claim(10, {})):
        ledger.run(callbacks.settle([callbacks.Settled(claimed, "refused", "private_address")]))
    rows = notify("dead", "--callbacks", "--json")["dead_callbacks"]
    assert {(row["about"], row["why"]) for row in rows} == {(f"{id}-0", "private_address"), (id, "private_address")}
    assert notify("replay", "--callbacks", rows[0]["id"], "--json") == {"again": 1, "unknown": []}
    assert notify("replay", "--callbacks", rows[0]["id"], "--json", code=1)["unknown"] == [rows[0]["id"]]
    assert notify("replay", "--callbacks", "--all", "--json") == {"again": 1, "unknown": []}
    assert len(ledger.run(callbacks.claim(10, {}))) == 2
