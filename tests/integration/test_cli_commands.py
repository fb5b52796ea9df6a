"""The command line on a real server: what people and scripts see of a running service."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producers.ledger import calls
from worker.embedded import EmbeddedServer
from worker.publishing import publish
from worker.settings import load_config

EXAMPLE = Path(__file__).parents[2] / "notify.example.toml"
NUMBER = "+13122340001"
COMMAND = [sys.executable, "-m", "worker.cli"]


@pytest.fixture
def environ(redis_url, namespace) -> dict[str, str]:
    foreign = ("REDIS_", "TELNYX_", "NOTIFY_", "PUBLIC_URL", "PORT")
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
        "REDIS_URL": redis_url,
        "NOTIFY_NAMESPACE": namespace,
        "NOTIFY_CONFIG": str(EXAMPLE),
        "TELNYX_API_KEY": "KEY123",
        "TELNYX_PUBLIC_KEY": base64.b64encode(bytes(32)).decode(),
        "PUBLIC_URL": "http://127.0.0.1:1",
        "NOTIFY_API_KEYS": "a:" + "0" * 64,
        "NOTIFY_SECRET": "x" * 32,
    }


@pytest.fixture
def notify(environ) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], env={**environ, **changes}, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def published(ledger) -> None:
    publish(ledger, load_config(EXAMPLE), 0)


def answer(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.usefixtures("published")
def test_send_status_cancel_follow_one_notification(notify):
    ticket = answer(notify("send", "otp", "--to", NUMBER, "--var", "code=123456", "--key", "login-1", "--json"))
    assert ticket["messages"] == 1
    again = answer(notify("send", "otp", "--to", NUMBER, "--var", "code=123456", "--key", "login-1", "--json"))
    assert again == {**ticket, "repeated": True}
    shown = answer(notify("status", ticket["id"], "--json"))
    assert [m["to"] for m in shown["messages"]] == [NUMBER]
    assert shown["is_final"] is False
    assert answer(notify("cancel", ticket["id"], "--json")) == {"id": ticket["id"], "cancelled": 1}
    assert answer(notify("cancel", ticket["id"], "--json"))["cancelled"] == 0
    table = notify("status", ticket["id"])
    assert table.returncode == 0
    assert "cancelled" in table.stdout
    assert NUMBER in table.stdout
    assert "\x1b[" not in table.stdout


@pytest.mark.usefixtures("published")
def test_the_same_key_with_another_request_is_1(notify):
    answer(notify("send", "otp", "--to", NUMBER, "--var", "code=1", "--key", "k", "--json"))
    assert (
        "idempotency_key"
        in answer(notify("send", "otp", "--to", NUMBER, "--var", "code=2", "--key", "k", "--json"), 1)["error"][
            "message"
        ]
    )


@pytest.mark.usefixtures("published")
def test_a_wrong_request_is_2_and_names_each_field(notify):
    errors = answer(notify("send", "otp", "--to", "+1312", "--to", "x", "--json"), 2)["error"]["errors"]
    assert [error["field"] for error in errors] == ["to[0]", "to[1]", "variables.code"]


@pytest.mark.usefixtures("published")
def test_a_dry_run_says_what_would_go_out_and_writes_nothing(notify, ledger, namespace):
    before = set(ledger.redis.scan_iter(match=f"{{{namespace}}}:*"))
    trial = answer(notify("send", "ticket", "--to", NUMBER, "--text", "Ça va", "--dry-run", "--json"))
    assert (trial["parts"], trial["encoding"], trial["forces_ucs2"]) == (1, "UCS-2", ["Ç U+00C7"])
    shown = notify("send", "ticket", "--to", NUMBER, "--text", "a" * 152 + "€" + "b" * 20, "--dry-run")
    assert f"  1: '{'a' * 152}'\n  2: '€{'b' * 20}'\n" in shown.stdout
    assert set(ledger.redis.scan_iter(match=f"{{{namespace}}}:*")) == before


@pytest.mark.parametrize("id", ["0" * 32, "nonsense"])
@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_unknown_notification_is_1(notify, command, id):
    done = notify(command, id)
    assert done.returncode == 1
    assert "no notification" in done.stderr


def test_before_anything_is_published_send_is_2_and_says_what_to_start(notify):
    done = notify("send", "otp", "--to", NUMBER, "--var", "code=1")
    assert done.returncode == 2
    assert "notify web" in done.stderr


@pytest.mark.usefixtures("published")
def test_a_sender_is_paused_resumed_and_rated(notify):
    def lanes(*arguments: str) -> dict[str, Any]:
        return {lane["name"]: lane for lane in answer(notify("lanes", *arguments, "--json"))["lanes"]}

    assert {lane["state"] for lane in lanes().values()} == {"open"}
    paused = lanes("pause", "pool", "--reason", "carrier trouble")
    assert {name: (lane["state"], lane["reason"]) for name, lane in paused.items()} == {
        "pool": ("paused", "carrier trouble"),
        "pool.mms": ("paused", "carrier trouble"),
    }
    assert lanes()["alerts"]["state"] == "open"
    assert lanes("resume", "pool")["pool"]["state"] == "open"
    assert lanes("drain", "pool", "--reason", "moving away")["pool.mms"]["state"] == "drained"
    assert lanes("resume", "pool")["pool"]["state"] == "open"
    assert lanes("rate", "pool", "60/min")["pool.mms"]["rate_per_s"] == 1
    assert notify("lanes", "rate", "pool", "fast").returncode == 2
    unknown = notify("lanes", "pause", "poool")
    assert unknown.returncode == 1
    assert "pool" in unknown.stderr


@pytest.mark.usefixtures("published")
def test_an_operators_opt_out_is_set_and_lifted_but_a_persons_own_stop_stays(notify, ledger):
    assert answer(notify("opt-outs", "get", NUMBER, "--json"))["opted_out"] is False
    assert answer(notify("opt-outs", "add", NUMBER, "--json"))["source"] == "cli"
    assert answer(notify("opt-outs", "remove", NUMBER, "--json"))["opted_out"] is False
    ledger.run(calls.opt(NUMBER, "out", scopes=["sender:pool"], source="webhook"))
    assert answer(notify("opt-outs", "remove", NUMBER, "--scope", "sender:pool", "--json"))["opted_out"] is True
    assert notify("opt-outs", "add", "12345").returncode == 2
    mistyped = notify("opt-outs", "add", NUMBER, "--scope", "sender:alert")
    assert (mistyped.returncode, 'did you mean "alerts"?' in mistyped.stderr) == (2, True)
    assert notify("opt-outs", "add", NUMBER, "--scope", "everywhere").returncode == 2


def test_clock_makes_the_notification_of_a_tick_that_is_due(environ, ledger, wait_until, tmp_path):
    from worker.schedules import KEY, digest_of

    config = tmp_path / "notify.toml"
    table = '[schedules.often]\ncron = "* * * * *"\njob_type = "ticket"\nto = "+13122340001"\ntext = "hello"\n'
    config.write_text(EXAMPLE.read_text() + table)
    it = load_config(config).schedules["often"]
    now_s = ledger.redis.time()[0]
    ledger.redis.hset(ledger.key(KEY), "often", f"{now_s - 600} {digest_of(it, 'America/New_York')}")
    with (tmp_path / "log").open("w") as log:
        clock = subprocess.Popen([*COMMAND, "clock"], env={**environ, "NOTIFY_CONFIG": str(config)}, stderr=log)
    try:
        wait_until(lambda: list(ledger.redis.scan_iter(match=ledger.key("m:*"))), timeout_s=60)
        clock.terminate()
        assert clock.wait(30) == 0, (tmp_path / "log").read_text()
        assert "+1312" not in (tmp_path / "log").read_text()
    finally:
        clock.kill()
        clock.wait()


def test_clock_publishes_and_every_sigterm_ends_it_with_0(environ, ledger, wait_until, tmp_path):
    with (tmp_path / "log").open("w") as log:
        clock = subprocess.Popen([*COMMAND, "clock"], env=environ, stderr=log)
    try:
        wait_until(lambda: ledger.redis.exists(ledger.key("cfg")))
        deadline = time.monotonic() + 30
        while clock.poll() is None and time.monotonic() < deadline:  # at any instant, until it is gone
            clock.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert clock.wait(1) == 0, (tmp_path / "log").read_text()
    finally:
        clock.kill()
        clock.wait()


def test_clock_brings_the_configuration_back_to_a_redis_that_lost_it_and_waits_for_one_that_is_away(
    environ, tmp_path, wait_until
):
    from producers.ledger.connection import connect

    with EmbeddedServer(appendonly=False) as server, (tmp_path / "log").open("w") as log:
        clock = subprocess.Popen(
            [*COMMAND, "clock"], env={**environ, "REDIS_URL": server.url, "NOTIFY_NAMESPACE": "n"}, stderr=log
        )
        try:
            redis = connect(server.url)
            wait_until(lambda: redis.exists("{n}:cfg"))
            server.kill()
            wait_until(lambda: "redis_away" in (tmp_path / "log").read_text(), timeout_s=50)
            server.start()
            redis.connection_pool.disconnect()
            wait_until(lambda: redis.exists("{n}:cfg"))
            redis.close()
            clock.send_signal(signal.SIGTERM)
            assert clock.wait(20) == 0
        finally:
            clock.kill()
            clock.wait()


def test_sandbox_announces_itself_and_ends_with_0(wait_until):
    sandbox = subprocess.Popen(
        [*COMMAND, "sandbox", "--port", "0", "--fault", "500_before=0.5", "--rate", "12345=2", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sandbox.stdout is not None
    try:
        told = json.loads(sandbox.stdout.readline())
        assert told["base_url"] == told["url"] + "/v2"
        assert len(base64.b64decode(told["public_key"])) == 32
        sandbox.send_signal(signal.SIGTERM)
        sandbox.send_signal(signal.SIGTERM)
        assert sandbox.wait(20) == 0
    finally:
        sandbox.kill()
        sandbox.wait()
        sandbox.stdout.close()
