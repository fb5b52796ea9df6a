"""The command line without a server: usage, exit codes, and problems in one readable line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from producers.errors import EnqueueError, FieldError, IdempotencyConflict, InvalidNotification, NotFound, NotReady
from worker.commands.failures import as_failure
from worker.terminal import Exit, pace, server_of

COMMANDS = [
    "demo", "web", "worker", "clock", "sandbox", "send", "status", "cancel", "dead", "replay", "lanes", "opt-outs", "doctor",
]  # fmt: skip


def notify(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "TELNYX_", "NOTIFY_", "PUBLIC_URL", "PORT"))
    }
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_and_the_exit_codes():
    done = notify("--help")
    assert done.returncode == 0
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert "2 usage or configuration" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "No such command"),
        (["send", "otp"], "--to"),
        (["worker", "--threads", "3"], "--threads"),
        (["sandbox", "--set", "nothing=1"], "nothing"),
        (["sandbox", "--set", "final_dely_s=1"], "final_delay_s"),
        (["sandbox", "--fault", "500_befor=0.5"], "500_befor"),
        (["sandbox", "--rate", "12345"], "NAME=VALUE"),
        (["sandbox", "--port", "0", "--key-file", "/nowhere/key"], "key_file /nowhere/key cannot be used"),
        (["sandbox", "--port", "0", "--host", "nowhere.invalid"], "--host"),
    ],
)
def test_wrong_usage_is_2_and_names_what_is_wrong(arguments, said):
    done = notify(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["web", "worker", "clock", "doctor"])
def test_a_process_without_settings_is_2_and_names_every_variable_at_once(command):
    done = notify(command)
    assert done.returncode == 2
    said = done.stdout if command == "doctor" else done.stderr  # there it is one of many answers
    assert "REDIS_URL" in said
    assert said.count("is missing") + said.count("does not exist") >= 2
    assert "Traceback" not in done.stderr + done.stdout


def test_the_version_is_told():
    done = notify("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "notify")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["web"], ["send", "otp", "--to", "+13125550100"]])
def test_where_only_producers_are_installed_the_command_names_the_extra(arguments, tmp_path):
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    done = notify(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "`typer`" in done.stderr
    assert "notification-worker[worker,web]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_one_command_needs_is_named_with_its_extra():
    failure = as_failure(ModuleNotFoundError("No module named 'fastapi'", name="fastapi"))
    assert (failure.code, "[worker,web]" in str(failure)) == (Exit.USAGE, True)
    assert "a bug" in str(as_failure(ModuleNotFoundError("No module named 'worker.nope'", name="worker.nope")))


def test_a_worker_that_finds_no_redis_is_3_and_names_the_server_without_the_password(tmp_path):
    (tmp_path / "notify.toml").write_text(
        '[senders.a]\nchannel = "short_code"\nfrom = "12345"\nrate = "1/s"\n[job_types.b]\nsender = "a"\n'
    )
    done = notify(
        "worker",
        REDIS_URL="redis://:secret@127.0.0.1:1/0",
        TELNYX_API_KEY="KEY",
        PUBLIC_URL="http://127.0.0.1:1",
        NOTIFY_SECRET="x" * 16,
        NOTIFY_CONFIG=str(tmp_path / "notify.toml"),
    )
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert "REDIS_URL" in done.stderr
    assert "secret" not in done.stderr


def test_redis_that_is_away_is_3_without_the_password():
    done = notify("lanes", REDIS_URL="redis://:secret@127.0.0.1:1/0")
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert "REDIS_URL" in done.stderr
    assert "secret" not in done.stderr


def test_with_json_a_problem_is_an_object_on_standard_output():
    done = notify("lanes", "--json", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 3
    assert "REDIS_URL" in json.loads(done.stdout)["error"]["message"]
    assert not done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("0" * 32), Exit.NO),
        (IdempotencyConflict("0" * 32), Exit.NO),
        (InvalidNotification([FieldError("to", "***", "write a number")]), Exit.USAGE),
        (NotReady(), Exit.USAGE),
        (EnqueueError("0" * 32, may_exist=True), Exit.UNREACHABLE),
        (RuntimeError("what nobody foresaw"), Exit.NO),
    ],
)
def test_each_error_has_its_exit_code_and_keeps_its_words(error, code):
    failure = as_failure(error)
    assert failure.code == code
    assert str(failure)


def test_a_rate_is_shown_in_the_unit_in_which_it_is_a_number():
    assert [pace(x) for x in (100.0, 0.1, 1 / 3600, None)] == ["100/s", "6/min", "1/h", "none"]


def test_a_server_is_named_without_what_may_be_secret():
    assert server_of("rediss://user:secret@host.example:6380/0?x=1") == "host.example:6380"
    assert server_of("unix:///run/redis.sock") == "/run/redis.sock"
    assert "secret" not in server_of("redis://:secret@[broken")
