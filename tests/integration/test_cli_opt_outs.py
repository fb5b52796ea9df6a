"""``notify opt-outs`` of many at once: what goes in comes out, and what is wrong is named by its line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from ledger_kit import TO, publication, queue, state

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from worker.commands.app import make_app
from worker.compliance.opt_out_files import BadRow, GoodRow, NoColumnError, read_rows
from worker.compliance.opt_outs import read_opt_out
from worker.doctor import server
from worker.terminal import Failure

OTHER = "+13125550177"
PROFILE = "profile:abc85f64-5717-4562-b3fc-2c9600000000"


@pytest.fixture
def notify(monkeypatch: pytest.MonkeyPatch, redis_url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> Any:
    """``notify("export", "-")``: exit code, standard output, standard error."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("NOTIFY_NAMESPACE", ledger.namespace)
    ledger.run(calls.publish(publication(), {}))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = make_app()(args=["opt-outs", *arguments], standalone_mode=False) or 0
        except typer.Exit as left:
            code = left.exit_code
        except Failure as failure:
            code = int(failure.code)
            print(failure)
        out, err = capsys.readouterr()
        return int(code), out, err

    return run


def test_a_file_is_read_and_its_bad_rows_are_named_by_line(notify: Any, ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "stops.csv"
    file.write_text(f"Phone,scope\n{TO},\n3125550100,\n+1 (312) 555-0177,{PROFILE}\n{TO},nowhere\n\n")
    code, out, _ = notify("import", str(file), "--json")
    done = json.loads(out)
    assert (code, done["rows"], done["changed"]) == (1, 4, 2)
    assert [row["line"] for row in done["bad"]] == [3, 5]
    assert "country's code" in done["bad"][0]["problem"]
    said = read_opt_out(ledger, TO, "global").operator
    assert said is not None and (said.out, said.source, said.evidence) == (True, "import", "stops.csv")
    assert read_opt_out(ledger, OTHER, PROFILE).opted_out
    assert state(ledger, queue(ledger)) == "opted_out"


def test_a_plain_list_needs_no_header_and_repeating_it_changes_nothing_more(
    notify: Any, ledger: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "stops.csv"
    file.write_text("".join(f"+1312555{i:04d}\n" for i in range(700)))
    assert notify("import", str(file))[0] == 0
    assert notify("import", str(file), "--from-line", "600")[0] == 0
    assert len(json.loads(notify("list", "--limit", "1000", "--json")[1])) == 700


def test_a_persons_word_from_a_file_is_lifted_by_start_and_an_operators_is_not(
    notify: Any, ledger: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "stops.csv"
    file.write_text(f"number,by\n{TO},person\n{OTHER},\n")
    assert notify("import", str(file))[0] == 0
    for number in (TO, OTHER):
        ledger.run(calls.opt(number, "in", scopes=["global"], source="webhook"))
    assert not read_opt_out(ledger, TO, "global").opted_out
    assert read_opt_out(ledger, OTHER, "global").opted_out


def test_what_is_exported_is_imported_as_it_was(notify: Any, ledger: Ledger, tmp_path: Path) -> None:
    ledger.run(
        calls.opt(TO, "out", scopes=[PROFILE], source="webhook", evidence="event-1", occurred_us=1_700_000_000_000_000)
    )
    ledger.run(calls.opt(OTHER, "out", scopes=["global"], source="api", by_operator=True, evidence="crm"))
    file = tmp_path / "all.csv"
    assert notify("export", str(file))[0] == 0
    redis: Any = ledger.redis
    redis.delete(*redis.scan_iter(match=ledger.key("o:*"), count=1000))
    assert notify("import", str(file))[0] == 0
    person, operator = read_opt_out(ledger, TO, PROFILE).person, read_opt_out(ledger, OTHER, "global").operator
    assert person is not None and operator is not None
    assert (person.at_us, person.evidence, operator.evidence) == (1_700_000_000_000_000, "event-1", "crm")
    code, out, _ = notify("export", "-", "--scope", PROFILE)
    assert code == 0 and out.splitlines()[1:] == [f"{TO},{PROFILE},true,person,2023-11-14T22:13:20.000Z,import,event-1"]


@pytest.mark.parametrize(
    ("text", "code"), [("name,colour\nx,y\n", 2), (None, 2), ("number\n\n", 0), ("number\n+1312", 1)]
)
def test_the_exit_code_says_what_is_wrong(notify: Any, tmp_path: Path, text: str | None, code: int) -> None:
    file = tmp_path / "stops.csv"
    if text is not None:
        file.write_text(text)
    assert notify("import", str(file))[0] == code


def test_the_audit_is_shown_newest_first_and_masked(notify: Any, ledger: Ledger) -> None:
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="api", by_operator=True, evidence="crm"))
    mid = queue(ledger)
    code, out, _ = notify("audit", "--json")
    assert code == 0 and TO not in out
    assert [(row["what"], row["message"]) for row in json.loads(out)] == [("suppressed", mid), ("out", None)]
    assert [row["where"] for row in json.loads(notify("audit", "--message", mid[:32], "--json")[1])] == ["admit"]
    assert "+1312***0100" in notify("audit")[1]
    assert notify("audit", "--what", "nonsense")[0] == 2


def test_the_reading_of_the_list_is_shown_and_asked_for(notify: Any, ledger: Ledger) -> None:
    assert notify("sync")[0] == 1
    code, out, _ = notify("sync", "--full", "--json")
    assert (code, json.loads(out)["asked_for"]) == (0, True)
    redis: Any = ledger.redis
    assert redis.llen(f"{{{ledger.namespace}}}:d:chores") == 1
    assert notify("sync", "--lift")[0] == 2


@pytest.mark.parametrize(
    ("age_s", "more", "result", "words"),
    [
        (None, {}, "skipped", "never read"),
        (60, {}, "ok", "all of it"),
        (7_200, {"error": "http_401"}, "warning", "http_401"),
        (60, {"held": 60}, "warning", "too many to lift"),
        (60, {"newer_us": 1, "newer": 1}, "warning", "all of it"),
        (60, {"newer_us": "", "newer": "", "error": "rows_kept_moving"}, "warning", "rows_kept_moving"),
    ],
)
def test_the_doctor_says_how_old_the_list_is(
    ledger: Ledger, age_s: int | None, more: dict[str, Any], result: str, words: str
) -> None:
    redis: Any = ledger.redis
    if age_s is not None:
        at_us = int((time.time() - age_s) * 1_000_000)
        redis.hset(ledger.key("os"), mapping={"new_us": at_us, "newer_us": at_us, "newer": 1, **more})
    check = server._opt_out_list(redis, ledger.namespace)
    assert check.result == result and words in check.found


# --- files


def rows(text: str) -> list[Any]:
    return list(read_rows(text.splitlines(keepends=True), scope="global", by_operator=True, evidence="f"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("12345,,,,", "short code"),
        (f"{OTHER},planet,,,", "scope"),
        (f"{OTHER},,perhaps,,", "opted_out"),
        (f"{OTHER},,,him,", "by"),
        (f"{OTHER},,,,2026-11-24T12:00:00", "at"),
        (f"{OTHER},,,,yesterday", "at"),
    ],
)
def test_a_bad_row_says_what_to_write(line: str, problem: str) -> None:
    (bad,) = rows(f"number,scope,opted_out,by,at\n{line}\n")
    assert isinstance(bad, BadRow) and problem in bad.problem and bad.line == 2 and OTHER not in bad.problem


def test_a_row_may_lift() -> None:
    (row,) = rows(f"number,opted_out\n{OTHER},false\n")
    assert isinstance(row, GoodRow) and row.row.out is False


def test_a_header_without_numbers_is_refused() -> None:
    with pytest.raises(NoColumnError):
        rows("name,colour\n")
