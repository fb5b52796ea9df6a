"""What a message costs the server in each script of its way: microseconds of Redis, by its own count, and commands.

``python -m benchmarks cost [--messages N] [--rounds N] [--batch N]``: a server of its own, the scripts alone, no worker. To
compare two versions, run it in two trees by turns: the machine drifts, its ratios hold.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from typing import Any

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from tests.ledger_kit import publication, queue
from worker.embedded import EmbeddedServer

CARRIER = {"carrier": "A Carrier"} if "carrier" in calls.Fact.__dataclass_fields__ else {}
_SCRIPTS = ("evalsha", "eval")


def _batches(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def measure(redis: Any, work: Callable[[], None]) -> tuple[float, int]:
    """Microseconds inside scripts, and commands that they called."""
    redis.config_resetstat()
    work()
    stats = redis.info("commandstats")
    inside = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in _SCRIPTS)
    called = sum(row["calls"] for name, row in stats.items() if name.removeprefix("cmdstat_") not in _SCRIPTS)
    return inside, called


def one_round(ledger: Ledger, messages: int, batch: int) -> dict[str, tuple[float, float]]:
    """Queue messages, send them and have them delivered; what each script took a message."""
    ids = [queue(ledger) for _ in range(messages)]
    taken: list[calls.Taken] = []
    tokens = itertools.count()

    def take() -> None:
        while len(taken) < messages:
            lane = calls.Slot("alerts", int(ledger.redis.time()[0]) * 1_000_000 + 900_000)  # type: ignore[index]
            slots = [calls.Slot("alerts", lane.at_us + i) for i in range(batch)]
            ledger.redis.zadd(ledger.key("g:alerts"), {slot.at_us: slot.at_us for slot in slots})
            answer = ledger.run(calls.take("p1", f"t{next(tokens)}-{len(taken)}", [(slot, "b1") for slot in slots]))
            taken.extend(a for a in answer.answers if isinstance(a, calls.Taken))

    def finish() -> None:
        for some in _batches(taken, batch):
            rows = [
                calls.Finish(
                    message=t.message, token=t.token, outcome="accepted", provider_id=f"pid-{t.message}", parts=1
                )
                for t in some
            ]
            ledger.run(calls.finish("p1", rows))

    def receipts(state: str) -> Callable[[], None]:
        def apply() -> None:
            for some in _batches(ids, batch):
                facts = [calls.Fact(ref=m, provider_id=f"pid-{m}", state=state, raw="x", **CARRIER) for m in some]
                ledger.run(calls.receipt("", facts))

        return apply

    steps = {"take": take, "finish": finish, "receipt of sent": receipts("T"), "receipt of delivered": receipts("D")}
    found = {}
    for name, work in steps.items():
        spent, called = measure(ledger.redis, work)
        found[name] = (spent / messages, called / messages)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cost", description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8, help="messages a call")
    given = parser.parse_args()
    with EmbeddedServer(appendonly=False) as server:
        redis = connect(server.url, max_connections=4)
        ledger = Ledger(redis, "bench")
        ledger.run(calls.publish(publication(buckets={"s:alerts": {"t_us": 1}}), {}))
        ledger.run(calls.beat("p1", "first"))
        rounds = [one_round(ledger, given.messages, given.batch) for _ in range(given.rounds)]
    print(
        f"{given.rounds} rounds of {given.messages} messages, {given.batch} a call: median (best) us, commands a message"
    )
    for name in rounds[0]:
        spent = sorted(found[name][0] for found in rounds)
        print(f"  {name:22} {statistics.median(spent):6.1f} ({spent[0]:.1f}) us  {rounds[0][name][1]:.2f} commands")


if __name__ == "__main__":
    main()
