"""Every refusal that Telnyx documents for what commands ask of it, and every way in which it fails, told as it should be."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ledger_kit import publication

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from worker import cli
from worker.commands import app as commands
from worker.opt_out_sync import OptOutSync
from worker.sandbox import RunningSandbox, SandboxOptions, running_sandbox
from worker.telnyx import account
from worker.telnyx.gateway import Gateway

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
# Of an account and its resources; codes of messages never come from these operations.
NO = ("10003", "10004", "10005", "10010", "10015", "10016", "10027", "10036", "10038", "10039", "20100")
CODES = {**dict.fromkeys(NO, 1), "10009": 2, "10007": 3, "10011": 3, "10037": 3}
NUMBER_OF = {code: f"+13126001{i:03d}" for i, code in enumerate(CODES)}
ASKING = {
    "show": ["show", "{}"],
    "assign": ["assign", "{}", "--profile", PROFILE],
    "unassign": ["unassign", "{}"],
    "tags": ["tags", "{}", "--add", "vip"],
}


@dataclass
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]
APP = commands.make_app()


@pytest.fixture(scope="module")
def telnyx() -> Iterator[RunningSandbox]:
    numbers = NUMBER_OF.values()
    errors = {number: code for code, number in NUMBER_OF.items()}
    options = SandboxOptions(
        api_key="KEY", numbers=(*numbers, "+13126009999"), number_errors=errors, profiles={PROFILE: {}}
    )
    with running_sandbox(options) as running:
        yield running


@pytest.fixture
def run(telnyx: RunningSandbox, redis_url: str, namespace: str, monkeypatch: Any, capsys: Any) -> Run:
    monkeypatch.setattr(commands, "make_app", lambda: APP)
    monkeypatch.setattr(account.Account.__init__, "__kwdefaults__", {"tries": 2, "pause": lambda _s: None})
    telnyx.sandbox.restore_faults()
    for name in list(os.environ):
        if name.startswith(("REDIS_", "TELNYX_", "NOTIFY_", "PUBLIC_URL", "PORT", "HEROKU_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("NOTIFY_NAMESPACE", namespace)
    monkeypatch.setenv("TELNYX_API_KEY", "KEY")
    monkeypatch.setenv("TELNYX_BASE_URL", telnyx.base_url)

    def invoke(*arguments: str) -> Done:
        capsys.readouterr()
        code = cli._run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err and "a bug, or" not in out + err
        return Done(code, out, err)

    return invoke


EACH = [("show", code) for code in CODES] + [("assign", code) for code in CODES]
EACH += [(command, code) for command in ("unassign", "tags") for code in ("10005", "10038", "10009", "10011")]


@pytest.mark.parametrize(("command", "code"), EACH)
def test_a_refusal_is_named_with_its_code_and_ends_as_documented(run: Run, command: str, code: str) -> None:
    arguments = [word.format(NUMBER_OF[code]) for word in ASKING[command]]
    as_json = command == "assign"
    done = run("numbers", *arguments, *["--json"] * as_json)
    assert (done.code, code in done.out + done.err) == (CODES[code], True), done
    if as_json:
        json.loads(done.out)


def test_an_order_in_which_all_fails_names_each_number_and_is_1(run: Run) -> None:
    done = run("numbers", "assign", *NUMBER_OF.values(), "--profile", PROFILE, "--every", "0.05", "--json")
    assert (done.code, sorted(json.loads(done.out)["failed"])) == (1, sorted(NUMBER_OF.values()))


@pytest.mark.parametrize(
    ("fault", "problem", "words"),
    [
        ("api_429", "http_429", "takes no more requests"), ("api_500", "http_500", "answers with an error"),
        ("api_cut", "cut", "the connection broke"), ("wrong key", "http_401", "check TELNYX_API_KEY"),
    ],
)  # fmt: skip
def test_a_list_of_opt_outs_that_could_not_be_read_is_told_with_the_reason(  # noqa: PLR0917
    run: Run, telnyx: RunningSandbox, ledger: Ledger, fault: str, problem: str, words: str
) -> None:
    ledger.run(calls.publish(publication(), {}))
    if fault != "wrong key":
        telnyx.sandbox.faults.update({fault: 1.0})

    async def read() -> None:
        gateway = Gateway("WRONG" if fault == "wrong key" else "KEY", telnyx.base_url, public_url=None)
        try:
            await OptOutSync(lambda: gateway, ledger, {}, pause_s=0).turn()
        finally:
            await gateway.aclose()

    asyncio.run(read())
    done = run("opt-outs", "sync")
    assert (done.code, problem in done.out, words in done.out) == (1, True, True), done.out
    assert json.loads(run("opt-outs", "sync", "--json").out)["problem"] == problem
