"""How long the API takes to show a notification of very many: its counts, a page from the front and a late one.

``python -m benchmarks lookup [--recipients N] [--rounds N]``: a server of its own and one ``notify web``, asked over one kept
connection, one request after another. The recipients are put into the ledger by scripts; the first thousand are delivered.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import statistics
import time
from typing import Any

from benchmarks.service import API_KEY, BenchService, pid_of, running_bench_service
from producers.ledger import calls
from tests.ledger_kit import admit, submit

DELIVERED = 1_000
WARM_UP = 20
GOAL_MS = 50


def fill(service: BenchService, recipients: int) -> str:
    """One notification, expanded; its first messages delivered, as far as it has so many. Its id."""
    service.publish()
    ledger = service.ledger
    ledger.run(calls.beat("bench", "first"))
    id = submit(ledger, client="bench", messages=recipients)
    admit(ledger, id)
    for taken in service.take(min(DELIVERED, recipients)):
        mid, pid = taken.message, f"{pid_of(taken.message)[:-6]}{os.urandom(3).hex()}"
        accepted = calls.Finish(message=mid, token=taken.token, outcome="accepted", provider_id=pid, parts=1)
        ledger.run(calls.finish("bench", [accepted]))
        for state in "TD":
            ledger.run(calls.receipt("", [calls.Fact(ref=mid, provider_id=pid, state=state)]))
    return id


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[float, bytes]:
    """Milliseconds until the last byte is here, and the answer."""
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
    response = connection.getresponse()
    body = response.read()
    spent = (time.perf_counter() - began) * 1000
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {body[:200]!r}")
    return spent, body


def measure(connection: http.client.HTTPConnection, path: str, rounds: int) -> dict[str, Any]:
    """Median, 99th percentile and worst of ``rounds`` requests, after some that do not count."""
    for _ in range(WARM_UP):
        ask(connection, path)
    spent, size = [], 0
    for _ in range(rounds):
        ms, body = ask(connection, path)
        spent.append(ms)
        size = len(body)
    spent.sort()
    return {
        "median": statistics.median(spent),
        "p99": spent[math.ceil(len(spent) * 0.99) - 1],
        "worst": spent[-1],
        "bytes": size,
    }


def pages(id: str, recipients: int) -> dict[str, str]:
    """What is asked for, by what it is called."""
    path = f"/v1/notifications/{id}"
    late = f"after={max(0, recipients - 1_001)}"
    return {
        "nothing at all (/healthz)": "/healthz",
        "counts (limit=1)": f"{path}?limit=1",
        "counts, first 100": path,
        "counts, last 100": f"{path}?after={max(0, recipients - 101)}",
        "counts, first 1,000": f"{path}?limit=1000",
        "counts, last 1,000": f"{path}?limit=1000&{late}",
    }


def check(connection: http.client.HTTPConnection, id: str, recipients: int) -> None:
    """A fast wrong answer would be worth nothing."""
    _, body = ask(connection, f"/v1/notifications/{id}")
    counts = json.loads(body)["state_counts"]
    delivered = min(DELIVERED, recipients)
    expected = {"delivered": delivered, "queued": recipients - delivered}
    if counts != {state: n for state, n in expected.items() if n}:
        raise SystemExit(f"the counts are {counts}, not {expected}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks lookup", description=__doc__)
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    with running_bench_service() as service:
        id = fill(service, given.recipients)
        service.start("web")
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        check(connection, id, given.recipients)
        print(
            f"{given.recipients:,} recipients, {given.rounds} requests each, ms: median, p99, worst; KB; goal p99 {GOAL_MS}"
        )
        for name, path in pages(id, given.recipients).items():
            m = measure(connection, path, given.rounds)
            print(f"  {name:26} {m['median']:7.1f} {m['p99']:7.1f} {m['worst']:7.1f}  {m['bytes'] / 1000:7.1f}")
        connection.close()


if __name__ == "__main__":
    main()
