"""Files of opt-outs, written bucket by bucket: they must come to what the rows say one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from ledger_kit import TO, publication
from redis.exceptions import ConnectionError as NoConnection

from producers.ledger import calls
from producers.ledger.calls import OptRow
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from worker.compliance.opt_out_files import BadRow, GoodRow, read_rows
from worker.compliance.opt_out_import import LostError, import_rows
from worker.compliance.opt_outs import opted_out_among, read_opt_out

SCOPES = ("global", "profile:p1", "sender:alerts")
PERSONS = [f"+1312555{i:04d}" for i in range(8)] + [f"+1415{i:03d}0003" for i in range(8)]  # some share a bucket
OLD_US = 1_700_000_000_000_000


@pytest.fixture
def ledger(redis_url: str, namespace: str) -> Iterator[Ledger]:
    ledger = Ledger(connect(redis_url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    yield ledger
    ledger.redis.close()


def opt_outs(ledger: Ledger) -> dict[str, dict[str, str]]:
    """All that is kept, by scope and person, wherever it lies."""
    redis: Any = ledger.redis
    found: dict[str, dict[str, str]] = {}
    for key in redis.scan_iter(match=ledger.key("o:*"), count=1000):
        scope = key.decode().removeprefix(ledger.key("o:")).rpartition(":")[0]
        found.setdefault(scope, {}).update({f.decode(): v.decode() for f, v in redis.hgetall(key).items()})
    return found


def written(ledger: Ledger, rows: Sequence[OptRow], *, by_operator: bool = False) -> int:
    return sum(ledger.run(call).changed for call in calls.opt_file(rows, source="import", by_operator=by_operator))


@pytest.mark.parametrize("seed", range(6))
def test_rows_written_by_the_bucket_come_to_what_they_say_one_by_one(ledger: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    one_by_one = Ledger(ledger.redis, f"{ledger.namespace}-b")
    changed = expected = 0
    for by_operator in (False, True, False):
        rows = [
            OptRow(
                chance.choice(PERSONS), chance.random() < 0.7, (chance.choice(SCOPES),),
                OLD_US + chance.randrange(5), chance.choice(["a.csv", "crm: 17", "two\nlines", "é" * 40]),
            )
            for _ in range(chance.choice([1, 40, 120]))
        ]  # fmt: skip
        changed += written(ledger, rows, by_operator=by_operator)
        for row in rows:
            expected += one_by_one.run(
                calls.opt(
                    row.number, "out" if row.out else "in", scopes=row.scopes, occurred_us=row.occurred_us,
                    source="import", evidence=row.evidence.replace("\n", " "), by_operator=by_operator,
                )
            )  # fmt: skip
    assert opt_outs(ledger) == opt_outs(one_by_one)
    assert changed == expected > 0


def test_a_row_without_a_time_is_said_now_and_one_of_the_future_no_later(ledger: Ledger) -> None:
    before = ledger.run(calls.hear("b", b"[]"))
    written(ledger, [OptRow(TO, True, ("global",)), OptRow(PERSONS[0], True, ("global",), before * 2)])
    after = ledger.run(calls.hear("b", b"[]"))
    for person in (TO, PERSONS[0]):
        said = read_opt_out(ledger, person, "global").person
        assert said is not None and before <= said.at_us <= after


def test_a_file_lifts_only_what_its_side_said(ledger: Ledger) -> None:
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="webhook", occurred_us=OLD_US))
    ledger.run(calls.opt(TO, "out", scopes=["global"], source="api", occurred_us=OLD_US, by_operator=True))
    assert written(ledger, [OptRow(TO, False, ("global",))], by_operator=True) == 1
    assert opted_out_among(ledger, [TO], ["global"]) == {TO}
    assert written(ledger, [OptRow(TO, False, ("global",))]) == 1
    assert opted_out_among(ledger, [TO], ["global"]) == set()
    assert TO not in opt_outs(ledger).get("any", {})


def test_whoever_was_opted_out_stays_so_between_any_two_calls_of_an_import(ledger: Ledger) -> None:
    written(ledger, [OptRow(person, True, ("global",), OLD_US) for person in PERSONS])
    again = [OptRow(person, True, (scope,), OLD_US + 5) for scope in SCOPES for person in PERSONS]
    for call in calls.opt_file(again * 20, source="import"):
        ledger.run(call)
        assert opted_out_among(ledger, PERSONS, ["global", "profile:p1"]) == set(PERSONS)


def test_a_bucket_that_breaks_costs_its_neighbours_nothing_and_is_told(ledger: Ledger) -> None:
    redis: Any = ledger.redis
    redis.set(ledger.key(f"o:global:{TO[-4:]}"), "no hash")
    call = calls.opt_file([OptRow(TO, True, ("global",)), OptRow(PERSONS[0], True, ("global",))], source="import")
    assert [ledger.run(c) for c in call] == [(1, 1)]
    redis.delete(ledger.key(f"o:global:{TO[-4:]}"))
    assert opted_out_among(ledger, [TO, PERSONS[0]], ["global"]) == {PERSONS[0]}
    assert redis.xlen(ledger.key("odd")) == 1


def test_however_many_share_a_bucket_no_call_is_long(ledger: Ledger) -> None:
    rows = [OptRow(f"+1{i:06d}0003", True, ("global",), OLD_US) for i in range(200_000, 201_100)]
    made = calls.opt_file(rows, source="import")
    assert max(str(call.args).count(" o17") for call in made) <= calls.FILE_ROWS_A_CALL
    assert sum(ledger.run(call).changed for call in made) == len(rows)
    assert opted_out_among(ledger, [row.number for row in rows], ["global"]) == {row.number for row in rows}


class Failing(Ledger):
    """Its server goes away after so many trips."""

    trips = 0

    def run_many(self, calls: Sequence[Call[Any]]) -> list[Any]:
        if self.trips <= 0:
            raise NoConnection("gone")
        self.trips -= 1
        return super().run_many(calls)


def test_everything_before_the_line_to_go_on_from_is_written(redis_url: str, namespace: str) -> None:
    ledger = Failing(connect(redis_url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    ledger.trips = 3
    lines = [f"+1312556{i:04d}\n" for i in range(60)]
    told: list[int] = []

    def rows() -> Iterator[GoodRow | BadRow]:
        return read_rows(lines, scope="global", by_operator=True)

    with pytest.raises(LostError) as lost:
        import_rows(ledger, rows(), rows_at_once=10, progress=told.append)
    assert (lost.value.line, told) == (31, [10, 20, 30])
    first = [line.strip() for line in lines[:30]]
    assert opted_out_among(ledger, first, ["global"]) == set(first)
    ledger.trips = 1_000
    rest = (row for row in rows() if row.line >= lost.value.line)
    assert import_rows(ledger, rest, rows_at_once=10).changed == 30
    ledger.redis.close()


def test_a_blank_line_and_a_byte_order_mark_are_nobody() -> None:
    lines = [" , \n", "\ufeffscope,Phone\n", "\n", " ,\n", f"global,{TO}\n", f",\ufeff{TO}\n", "global\n"]
    found = list(read_rows(lines, scope="sender:alerts", by_operator=True))
    assert [type(row).__name__ for row in found] == ["GoodRow", "GoodRow", "BadRow"]
    good = [row for row in found if isinstance(row, GoodRow)]
    assert [(row.line, row.row.scopes) for row in good] == [(5, ("global",)), (6, ("sender:alerts",))]
