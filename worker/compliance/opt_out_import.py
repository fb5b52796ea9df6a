"""Write the rows of a file of opt-outs, a million in seconds, while whatever sends goes on.

Rows are sorted into the ledger's buckets first, some hundred thousand at a time: what goes into a bucket together costs the
server two or three times less. One thread writes what has been read while the other reads on. Invariants, each with a test:

- Whoever was opted out before stays so at every instant: a row is written in one step, and nothing is taken away first.
- When the server goes away, the line to go on from is one before which everything is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from worker.compliance.opt_out_files import BadRow, GoodRow

ROWS_AT_ONCE = 100_000
CALLS_A_TRIP = 8


class LostError(Exception):
    """The server went away. Everything before ``line`` is written."""

    def __init__(self, line: int, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(f"lost at line {line}: {why}")


@dataclass
class Imported:
    """``broken``: buckets of rows that the ledger could not write, and put aside."""

    rows: int = 0
    changed: int = 0
    broken: int = 0
    bad: list[BadRow] = field(default_factory=list)


def import_rows(
    ledger: Ledger,
    rows: Iterable[GoodRow | BadRow],
    *,
    progress: Callable[[int], None] = lambda rows: None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Imported:
    """Write what ``rows`` say.

    Args:
        progress: Told the number of rows that are written, now and then.

    Raises:
        LostError: the server went away; to repeat all of it, or from that line on, does no harm.
    """
    done = Imported()
    rows = iter(rows)
    with ThreadPoolExecutor(max_workers=1) as pool:
        under_way: Future[None] | None = None
        while part := list(itertools.islice(rows, rows_at_once)):
            if under_way is not None:
                under_way.result()
            under_way = pool.submit(_write, ledger, part, done, progress)
        if under_way is not None:
            under_way.result()
    return done


def _write(ledger: Ledger, part: Sequence[GoodRow | BadRow], done: Imported, progress: Callable[[int], None]) -> None:
    made = []
    for by_operator in (True, False):
        good = (row.row for row in part if isinstance(row, GoodRow) and row.by_operator == by_operator)
        made += calls.opt_file(good, source="import", by_operator=by_operator)
    try:
        for i in range(0, len(made), CALLS_A_TRIP):
            for answer in ledger.run_many(made[i : i + CALLS_A_TRIP]):
                if isinstance(answer, Exception):
                    raise answer
                done.changed += answer.changed
                done.broken += answer.broken
            progress(done.rows + min(len(part), (i + CALLS_A_TRIP) * len(part) // len(made)))
    except RedisError as error:
        raise LostError(part[0].line, type(error).__name__) from error
    done.bad += [row for row in part if isinstance(row, BadRow)]
    done.rows += len(part)
