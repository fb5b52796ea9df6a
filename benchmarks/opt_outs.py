"""A million opt-outs: bytes of Redis, time of a check, of an import and of a whole list with what it lifts.

Numbers are drawn over all of North America, as real ones are: neighbours would flatter any packing. The import is the
command's own; the list is read by the product's reader from a provider in this process, so HTTP is not in the figure: it
costs one request for 250 rows.

    REDIS_SERVER=/usr/bin/redis-server python benchmarks/opt_outs.py --persons 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import random
import tempfile
import threading
import time
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.commands.opt_out_lists import import_file
from worker.compliance.opt_out_list import read_sync
from worker.compliance.opt_outs import opted_out_among
from worker.embedded import EmbeddedServer
from worker.opt_out_sync import OptOutSync
from worker.telnyx.opt_out_list import PAGE_SIZE, ListedOptOut, OptOutPage

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
SCOPE = f"profile:{PROFILE}"
PROBES = 20_000
# What `take` does for each message, timed by the server's own clock around many, since one call costs more than the check.
CHECK = """
local P, since = KEYS[1], redis.call('TIME')
for i = 2, #ARGV do
  local number = ARGV[i]
  local out = redis.call('HGET', P .. 'o:any:' .. string.sub(number, -4), number)
  if out then
    for _, scope in ipairs({'global', 'sender:alerts', ARGV[1]}) do
      redis.call('HMGET', P .. 'o:' .. scope .. ':' .. string.sub(number, -4), number, number .. '*')
    end
  end
end
local now = redis.call('TIME')
return (now[1] - since[1]) * 1000000 + now[2] - since[2]
"""


class List:
    """Telnyx's list: rows by time."""

    def __init__(self, persons: list[str], began_us: int) -> None:
        step_us = 2 * 365 * 86_400_000_000 // len(persons)
        self.rows = [
            ListedOptOut(p, "+13125550001", PROFILE, began_us + i * step_us, "STOP") for i, p in enumerate(persons)
        ]
        self.times = [row.created_us for row in self.rows]
        self.requests = 0

    def drop(self, every: int) -> int:
        gone = len(self.rows[::every])
        del self.rows[::every]
        self.times = [row.created_us for row in self.rows]
        return gone

    async def list_opt_outs(self, *, since_s: int, until_s: int, page: int) -> OptOutPage:
        self.requests += 1
        first, last = bisect_left(self.times, since_s * 1_000_000), bisect_right(self.times, until_s * 1_000_000)
        start = first + (page - 1) * PAGE_SIZE
        rows = tuple(self.rows[start : min(last, start + PAGE_SIZE)])
        return OptOutPage(rows, last - first, -(-(last - first) // PAGE_SIZE))


def used(redis: Any) -> int:
    return int(redis.info("memory")["used_memory"])


def server_cpu_s(redis: Any) -> float:
    info = redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def draw(count: int) -> list[str]:
    chance = random.Random(7)
    persons: set[str] = set()
    while len(persons) < count:
        persons.add(f"+1{chance.randrange(2_000_000_000, 10_000_000_000)}")
    return sorted(persons)


def imported(ledger: Ledger, url: str, persons: list[str]) -> None:
    before = used(ledger.redis)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "stops.csv"
        file.write_text("number,scope\n" + "".join(f"{person},{SCOPE}\n" for person in persons))
        os.environ |= {"REDIS_URL": url, "NOTIFY_NAMESPACE": ledger.namespace}
        began_s, own_s, theirs_s = time.perf_counter(), time.process_time(), server_cpu_s(ledger.redis)
        with contextlib.redirect_stdout(io.StringIO()):
            import_file(file, scope="global", by="operator", from_line=1, as_json=True)
        took_s = time.perf_counter() - began_s
        own_s, theirs_s = time.process_time() - own_s, server_cpu_s(ledger.redis) - theirs_s
    print(f"the import's CPU: {own_s:.1f} s of the command, {theirs_s:.1f} s of the server, one after the other")
    size = used(ledger.redis) - before
    print(
        f"import of {len(persons):,} rows: {took_s:.1f} s (goal 60); {size / 1e6:.0f} MB (goal 120), "
        f"{size / len(persons):.0f} bytes each"
    )


def checked(ledger: Ledger, persons: list[str]) -> None:
    redis: Any = ledger.redis
    chance = random.Random(8)
    for name, asked in (("opted out", chance.sample(persons, PROBES)), ("not opted out", draw(PROBES + 1)[:PROBES])):
        script = redis.register_script(CHECK)
        each = sorted(script(keys=[ledger.prefix], args=[SCOPE, *asked[i : i + 20]]) / 20 for i in range(0, PROBES, 20))
        p99 = each[int(len(each) * 0.99)]
        print(
            f"a check, {name}: median {each[len(each) // 2]:.1f} us, p99 {p99:.1f} us of the server's time (goal 100)"
        )


class Checker:
    """Asks, all through, whether people who are blocked at the provider would be texted, as `take` decides it."""

    BATCH = 50

    def __init__(self, url: str, namespace: str) -> None:
        self.ledger = Ledger(connect(url, answer_s=60), namespace)
        self.asked = self.passed = 0
        self._chance, self._ends = random.Random(9), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, blocked: list[str]) -> None:
        self._ends.clear()
        self._thread = threading.Thread(target=self._ask, args=(blocked,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        if self._thread:
            self._thread.join()

    def _ask(self, blocked: list[str]) -> None:
        while not self._ends.wait(0.002):
            asked = [self._chance.choice(blocked) for _ in range(self.BATCH)]
            self.asked += len(asked)
            self.passed += len(set(asked) - opted_out_among(self.ledger, asked, ["global", SCOPE]))


def read_whole(ledger: Ledger, persons: list[str], url: str) -> None:
    redis: Any = ledger.redis
    redis.flushall()
    ledger.run(calls.beat("p1", "first"))
    before = used(redis)
    now_us = read_sync(ledger)[1]
    provider = List(persons, now_us - 3 * 365 * 86_400_000_000)

    async def no_pause(_s: float) -> None:
        return None

    reader = OptOutSync(lambda: provider, ledger, {}, sleep=no_pause, turn_s=3600)

    async def once(name: str) -> None:
        requests, began_s = provider.requests, time.perf_counter()
        while await reader.turn():
            pass
        state, _ = read_sync(ledger)
        took_s = time.perf_counter() - began_s
        print(
            f"{name}: {took_s:.1f} s, {provider.requests - requests:,} requests, {state.newer_rows:,} rows, "
            f"lifted {state.lifted:,}"
        )
        redis.hset(ledger.key("os"), "tried_us", 1)

    async def days() -> None:
        await once("first whole list")
        print(f"  {(used(redis) - before) / 1e6:.0f} MB (goal 120)")
        gone = provider.drop(50)
        checker.start([row.person for row in provider.rows])
        await once(f"second, {gone:,} lifted at the provider")
        await once("third")
        checker.stop()
        print(
            f"  asked about a blocked number {checker.asked:,} times meanwhile: {checker.passed:,} would pass (goal 0)"
        )

    checker = Checker(url, ledger.namespace)
    asyncio.run(days())
    still = opted_out_among(ledger, [row.person for row in provider.rows], ["global", SCOPE])
    print(f"of {len(provider.rows):,} blocked, {len(provider.rows) - len(still):,} would pass (goal 0)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=1_000_000)
    count = parser.parse_args().persons
    with EmbeddedServer(appendonly=False) as server:
        redis: Any = connect(server.url, answer_s=60)
        info = redis.info()
        print(f"server {info.get('server_name', 'redis')} {info['redis_version']}, allocator {info['mem_allocator']}")
        ledger = Ledger(redis, "notify")
        persons = draw(count)
        imported(ledger, server.url, persons)
        checked(ledger, persons)
        read_whole(ledger, persons, server.url)


if __name__ == "__main__":
    main()
