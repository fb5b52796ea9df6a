"""Run the pacing benchmark: ``python -m benchmarks.pacing [--rows together,idle] [--seconds 30] [--workers 2]``.

Each row starts its own server (REDIS_SERVER names its binary; with REDIS_URL, that server is used), receiving server and
worker processes, and is judged against its goals. Exit code 1 if one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pacing import rows_backlog, rows_compare, rows_rates, rows_urgent
from benchmarks.pacing.plot import arrivals_svg
from benchmarks.pacing.report import Result, table, write

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Row:
    """A row: what runs, with which senders, with how many workers (None: as asked for)."""

    run: Callable[..., list[Result]]
    what: str
    senders: tuple[str, ...] = ("sdk",)
    workers: int | None = None


ROWS = {
    "together": Row(rows_rates.together, "lanes of 1, 10, 100 and 400/s at once", ("sdk", "bare")),
    "alone": Row(rows_rates.alone, "each of these lanes by itself"),
    "four": Row(rows_rates.together, "all at once, over four processes", ("sdk", "bare"), workers=4),
    "churn": Row(rows_rates.churn, "one process killed, one added, one stopped for 2 s", ("sdk", "bare")),
    "behind": Row(rows_urgent.behind, "200 urgent behind 100,000 bulk on 50/s"),
    "expanding": Row(rows_urgent.beside_expansion, "the same, while 100,000 more are expanded"),
    "idle": Row(rows_urgent.idle, "nothing to do: CPU, Redis commands, urgent latency"),
    "many": Row(rows_rates.many, "1,000 lanes of 1/s", ("bare",)),
    "shared": Row(rows_rates.shared, "10,000 lanes behind a full account, and a free lane", ("bare",)),
    "fast": Row(rows_rates.fast, "one lane at 1,000/s", ("bare", "sdk")),
    "routes": Row(rows_rates.routes, "one job type over three lanes of 10/s, one of them paused in the end", ("sdk",)),
    "enqueue": Row(rows_backlog.enqueue, "into an empty lane and into one with 1,000,000", ("no",)),
    "compare": Row(
        rows_compare.compare, "beside Dramatiq's own rate limiter with retries; draws arrivals.svg", ("bare",)
    ),
    "compare-one": Row(rows_compare.compare_one, "the same with one lane of 100/s", ("bare",)),
}


def main() -> int:
    given = _arguments()
    if given.list:
        for name, row in ROWS.items():
            print(f"  {name:10} {row.what} ({', '.join(row.senders)})")
        return 0
    if given.nice:
        _raise_priority(given.nice)
    results: list[Result] = []
    failed: list[str] = []
    speeds = [_speed_s()]
    for name in given.rows:
        row = ROWS[name]
        for sender in [given.sender] if given.sender else row.senders:
            try:
                found = row.run(name, workers=row.workers or given.workers, sender=sender, seconds=given.seconds)
            except AssertionError as error:  # a row that cannot run must not take the others' figures with it
                print(f"\n{name} ({sender}) did not run: {error}", file=sys.stderr)
                failed.append(f"{name} ({sender})")
                continue
            for result in found:
                print(table(result), flush=True)
            results += found
            if name.startswith("compare"):
                _draw(found, given.out / f"arrivals{name.removeprefix('compare')}.svg")
        speeds.append(_speed_s())
    machine = {**_machine(given.seconds), "five_million_additions_s": speeds}
    write(results, given.out / f"pacing-{time.strftime('%Y%m%d-%H%M%S')}.json", machine=machine)
    print(f"\nthis machine's speed: five million additions in Python took {min(speeds):.2f} to {max(speeds):.2f} s")
    missed = [f"{result.row} ({result.sender})" for result in results if not result.ok]
    print(f"{len(results)} rows, goals missed in {len(missed)}: {', '.join(missed) or 'none'}")
    return 1 if missed or failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="which, by comma; --list shows them")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured time of a row")
    parser.add_argument("--workers", type=int, default=2, help="worker processes, each a tree of its own")
    parser.add_argument("--sender", choices=("sdk", "bare"), help="instead of each row's own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where JSON and plot go")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument(
        "--nice", type=int, default=0, help="run everything at this priority, on a machine that others use"
    )
    given = parser.parse_args()
    given.rows = given.rows.split(",")
    for name in given.rows:
        if name not in ROWS:
            parser.error(f"there is no row {name!r}: use some of {', '.join(ROWS)}")
    return given


def _raise_priority(nice: int) -> None:
    """Of this process and all it starts. Linux may group by session, and then only the group's niceness counts."""
    os.nice(nice)
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def _draw(results: list[Result], path: Path) -> None:
    rates = {name: float(name.removesuffix("/s")) for name in results[0].series}
    path.parent.mkdir(parents=True, exist_ok=True)
    ways = {result.row.partition(": ")[2]: result.series for result in results}
    path.write_text(arrivals_svg(ways, rates))


def _speed_s() -> float:
    """How long this machine takes for the same work, between rows: a guest's cores are not always as fast."""
    started_s, total = time.perf_counter(), 0
    for number in range(5_000_000):
        total += number
    return round(time.perf_counter() - started_s, 3)


def _machine(seconds: float) -> dict[str, Any]:
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": [round(value, 2) for value in load],
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
