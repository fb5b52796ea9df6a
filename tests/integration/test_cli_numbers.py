"""`notify numbers` against the sandbox: every page, every refusal, and orders that outlive the command."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from worker import cli
from worker.commands import app as commands
from worker.sandbox import RunningSandbox, SandboxOptions, running_sandbox
from worker.telnyx import account

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
OTHER = "abc85f64-5717-4562-b3fc-2c9600000001"
KNOWN = [f"+1312600{n:04d}" for n in range(600)]
UNKNOWN = [f"+1773555{n:04d}" for n in range(60)]
WAYS = {"domestic_two_way": True, "international_inbound": False, "international_outbound": False}


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]
APP = commands.make_app()  # once: it costs more than most of these commands


@pytest.fixture(scope="module")
def telnyx() -> Iterator[RunningSandbox]:
    options = SandboxOptions(
        api_key="KEY",
        numbers=(*KNOWN, "+18005550100", "12345"),
        number_settings={KNOWN[0]: {"features": {"sms": WAYS}, "tags": ["=1+1"]}},
        number_errors={KNOWN[7]: "10038"},
        profiles={PROFILE: {}, OTHER: {}},
        bulk_step=150,
    )
    with running_sandbox(options) as running:
        yield running


@pytest.fixture
def environ(telnyx) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "TELNYX_", "NOTIFY_", "PUBLIC_URL"))},
        "REDIS_URL": "redis://127.0.0.1:1/0",  # none of these commands needs Redis
        "TELNYX_API_KEY": "KEY",
        "TELNYX_BASE_URL": telnyx.base_url,
    }


@pytest.fixture
def run(telnyx, environ, monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(account.Account.__init__, "__kwdefaults__", {"tries": 2, "pause": lambda _s: None})
    monkeypatch.setattr(commands, "make_app", lambda: APP)
    telnyx.sandbox._set_up()

    def invoke(*arguments: str, stdin: str = "", **changes: str) -> Done:
        for name, value in {**environ, **changes}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = cli._run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(code, out, err)

    return invoke


def fault(telnyx: RunningSandbox, **faults: float) -> None:
    telnyx.sandbox.faults.update(faults)


def test_list_walks_every_page(run: Run) -> None:
    rows = run("numbers", "list", "--json").json["numbers"]
    assert [row["phone_number"] for row in rows] == sorted([*KNOWN, "+18005550100", "12345"])


def test_list_filters(run: Run) -> None:
    run("numbers", "assign", KNOWN[3], "--profile", PROFILE)

    def listed(*options: str) -> list[str]:
        return [row["phone_number"] for row in run("numbers", "list", "--json", *options).json["numbers"]]

    assert listed("--profile", PROFILE.upper()) == [KNOWN[3]]
    assert listed("--type", "tollfree") == ["+18005550100"]
    assert listed("--contains", "26000099") == [KNOWN[99]]
    assert listed("--number", KNOWN[1], "--number", "+1 312 600 0002", "--descending") == [KNOWN[2], KNOWN[1]]
    assert listed("--mobile") == ["+13125550011", "+13125550012"]


def test_what_list_prints_as_csv_is_read_by_assign(run: Run) -> None:
    listed = run("numbers", "list", "--contains", "260000", "--csv").out
    assert next(csv.DictReader(io.StringIO(listed)))["tags"] == "=1+1"
    done = run("numbers", "assign", "--profile", PROFILE, "--file", "-", "--every", "0.05", "--json", stdin=listed)
    assert (done.code, len(done.json["success"]), done.json["failed"]) == (1, 99, [KNOWN[7]])


def test_list_as_a_table_and_no_numbers_at_all(run: Run) -> None:
    table = run("numbers", "list", "--number", KNOWN[1])
    assert (table.code, "1 numbers" in table.out, KNOWN[1] in table.out) == (0, True, True)
    none = run("numbers", "list", "--contains", "99999999")
    assert (none.code, "fewer filters" in none.out) == (0, True)


def test_show(run: Run) -> None:
    assert run("numbers", "show", KNOWN[0], "--json").json["features"] == {"sms": WAYS}
    assert "health.success_ratio" in run("numbers", "show", KNOWN[1]).out
    assert run("numbers", "show", "+13125550011", "--mobile", "--json").json["phone_number"] == "+13125550011"


def test_one_number_is_changed_by_itself(run: Run) -> None:
    assert run("numbers", "assign", KNOWN[3], "--profile", PROFILE, "--json").json["success"] == [KNOWN[3]]
    assert run("numbers", "show", KNOWN[3], "--json").json["messaging_profile_id"] == PROFILE
    assert run("numbers", "unassign", KNOWN[3], "--json").json == {
        "order_id": None,
        "missing": [],
        "success": [KNOWN[3]],
        "failed": [],
        "pending": [],
    }
    assert run("numbers", "show", KNOWN[3], "--json").json["messaging_profile_id"] is None


def test_many_numbers_are_followed_to_the_end(run: Run) -> None:
    wanted = [*KNOWN[100:300], *UNKNOWN]
    done = run("numbers", "assign", *wanted, "--profile", PROFILE, "--every", "0.05", "--json")
    assert (done.code, done.json["success"], done.json["failed"]) == (1, KNOWN[100:300], UNKNOWN)
    off = run("numbers", "unassign", *KNOWN[100:300], "--every", "0.05", "--csv")
    assert off.code == 0
    assert off.out.splitlines()[:2] == ["phone_number,result", f"{KNOWN[100]},success"]
    assert run("numbers", "list", "--profile", PROFILE, "--json").json == {"numbers": []}


def test_what_is_pending_at_the_end_of_the_time_is_reported_with_the_way_on(run: Run) -> None:
    done = run("numbers", "assign", *KNOWN[:400], "--profile", PROFILE, "--within", "0")
    assert done.code == 1
    order = done.out.split()[1]
    assert "149 success, 1 failed, 250 pending" in done.out
    assert f"numbers assign --order {order}" in done.out
    later = run("numbers", "assign", "--order", order, "--every", "0.05")
    assert (later.code, "399 success, 1 failed, 0 pending" in later.out, f"failed: {KNOWN[7]}" in later.out) == (
        1,
        True,
        True,
    )


def test_a_number_that_the_answer_leaves_out_is_reported(run: Run, telnyx: RunningSandbox) -> None:
    order = telnyx.sandbox.numbers.order(PROFILE, KNOWN[10:20], done_at_s=0.0)
    done = run("numbers", "assign", "--order", order.id, *KNOWN[10:22], "--every", "0.05", "--json")
    assert (done.code, done.json["missing"], len(done.json["success"])) == (1, KNOWN[20:22], 10)


def test_tags_are_shown_set_added_and_removed(run: Run) -> None:
    def tags(*arguments: str) -> list[str]:
        done = run("numbers", "tags", KNOWN[5], *arguments, "--json")
        assert done.code == 0
        found: list[str] = done.json["numbers"][0]["tags"]
        return found

    assert tags("--set", "a", "--set", "b") == ["a", "b"]
    assert tags("--add", "c", "--remove", "a") == ["b", "c"]
    assert tags() == ["b", "c"]
    assert tags("--clear") == []
    mixed = run("numbers", "tags", KNOWN[5], UNKNOWN[0], "--add", "x", "--json")
    assert (mixed.code, [row["tags"] for row in mixed.json["numbers"]]) == (1, [["x"], []])
    assert "10005" in mixed.json["numbers"][1]["error"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", UNKNOWN[0]], 1, "10005"),
        (["show", KNOWN[7]], 1, "10038"),
        (["show", KNOWN[1], "--mobile"], 1, "10005"),
        (["assign", KNOWN[7], "--profile", PROFILE], 1, "10038"),
        (["assign", KNOWN[1], "--profile", PROFILE[:-1] + "9"], 1, "messaging profile does not exist"),
        (["assign", *KNOWN[:2], "--profile", PROFILE[:-1] + "9"], 1, "messaging profile does not exist"),
        (["assign", "--order", PROFILE, "--profile", PROFILE], 1, "order does not exist"),
        (["unassign", "--order", PROFILE], 1, "order does not exist"),
        (["assign", KNOWN[1], "--profile", "mine"], 2, "id of a messaging profile"),
        (["assign", KNOWN[1]], 2, "--profile is missing"),
        (["assign", "--profile", PROFILE], 2, "no number is given"),
        (["assign", "312", "+1", "--profile", PROFILE], 2, '"312", "+1"'),
        (["assign", "--file", "/nowhere.csv", "--profile", PROFILE], 2, "/nowhere.csv"),
        (["tags", KNOWN[1], "--set", "a", "--clear"], 2, "choose one"),
        (["show", ""], 2, "is empty"),
        (["unassign", "--order", ""], 2, "--order is empty"),
        (["list", "--type", "landline"], 2, "tollfree, longcode or shortcode"),
        (["list", "--mobile", "--type", "longcode"], 2, "--mobile takes no filter"),
    ],
)
def test_what_cannot_be_is_said_with_the_right_code(run: Run, arguments: list[str], code: int, says: str) -> None:
    done = run("numbers", *arguments)
    assert done.code == code
    assert says in done.out + done.err


def test_a_file_without_the_column_is_refused_before_anything_is_asked(run: Run) -> None:
    done = run("numbers", "assign", "--profile", PROFILE, "--file", "-", stdin="name,number\nx,+13125550001\n")
    assert (done.code, "no column phone_number" in done.err) == (2, True)


COMMANDS = [
    ["list"],
    ["list", "--mobile"],
    ["show", KNOWN[1]],
    ["show", "+13125550011", "--mobile"],
    ["assign", KNOWN[1], "--profile", PROFILE],
    ["assign", *KNOWN[:2], "--profile", PROFILE],
    ["unassign", KNOWN[1]],
    ["unassign", *KNOWN[:2]],
    ["unassign", "--order", PROFILE],
    ["tags", KNOWN[1], "--add", "x"],
]


@pytest.mark.parametrize("name", ["api_429", "api_500", "api_cut"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_telnyx_that_fails_is_3_and_says_what_to_do(
    run: Run, telnyx: RunningSandbox, arguments: list[str], name: str
) -> None:
    fault(telnyx, **{name: 1.0})
    done = run("numbers", *arguments)
    assert done.code == 3
    assert "try again" in done.err or "run this once more" in done.err
    assert "KEY" not in done.err.replace("TELNYX_API_KEY", "")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_wrong_key_is_2_and_named(run: Run, arguments: list[str]) -> None:
    done = run("numbers", *arguments, TELNYX_API_KEY="WRONG")
    assert (done.code, "TELNYX_API_KEY" in done.err, "WRONG" in done.err) == (2, True, False)


def test_no_server_at_all_is_3(run: Run) -> None:
    done = run("numbers", "list", TELNYX_BASE_URL="http://127.0.0.1:1/v2")
    assert (done.code, "cannot be reached" in done.err) == (3, True)


def test_without_a_key_nothing_is_asked(run: Run) -> None:
    assert run("numbers", "list", TELNYX_API_KEY="").code == 2


def test_what_may_be_repeated_is_and_an_order_is_not(run: Run, telnyx: RunningSandbox, monkeypatch) -> None:
    def then_well(_s: float) -> None:
        telnyx.sandbox.restore_faults()

    monkeypatch.setattr(account.Account.__init__, "__kwdefaults__", {"tries": 2, "pause": then_well})
    for name in ("api_429", "api_500", "api_cut"):
        fault(telnyx, **{name: 1.0})
        assert run("numbers", "show", KNOWN[1]).code == 0
        fault(telnyx, **{name: 1.0})
        once_more = run("numbers", "assign", *KNOWN[:2], "--profile", PROFILE, "--every", "0.05")
        assert once_more.code == (0 if name == "api_429" else 3)
        telnyx.sandbox.restore_faults()


@pytest.mark.slow
def test_5000_numbers_interrupted_and_resumed_end_with_an_exact_report(tmp_path, environ, wait_until) -> None:
    known = [f"+1312{4_000_000 + n}" for n in range(4500)]
    unknown = [f"+1773{4_000_000 + n}" for n in range(500)]
    wanted = [number for n in range(500) for number in (*known[9 * n : 9 * n + 9], unknown[n])]
    file = tmp_path / "numbers.csv"
    file.write_text("phone_number,name\n" + "".join(f"{number},x\n" for number in wanted))
    options = SandboxOptions(numbers=tuple(known), bulk_step=400)
    with running_sandbox(options) as telnyx:
        command = [sys.executable, "-m", "worker.cli", "numbers", "assign", "--json"]
        process = subprocess.Popen(
            [*command, "--profile", PROFILE, "--file", str(file), "--every", "60"],
            env={**environ, "TELNYX_BASE_URL": telnyx.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )
        try:
            assert process.stderr is not None
            order = process.stderr.readline().split()[1]  # said at once, before the first long wait
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert (process.returncode, "Traceback" in err) == (1, False)
        first = json.loads(out)
        assert first["order_id"] == order
        assert sorted(first["success"] + first["failed"] + first["pending"]) == sorted(wanted)
        assert first["pending"]
        assert first["next"] == f"go on with: notify numbers assign --order {order}"
        resumed = subprocess.run(
            [*command, "--order", order, "--every", "0.05"],
            env={**environ, "TELNYX_BASE_URL": telnyx.base_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    last = json.loads(resumed.stdout)
    assert (resumed.returncode, last["success"], last["failed"], last["pending"]) == (1, known, unknown, [])
