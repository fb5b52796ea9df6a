"""One site to measure: a server, the receiving server, worker trees, and lanes that can be filled while they are paused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pacing.usage import Usage, tree
from producers import Notifier
from producers.ledger import calls
from producers.ledger.calls import Submission
from producers.pointers import Pointers
from worker.children import Child, spawn
from worker.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 200
TEXT = "Your parcel 1Z999AA10123456784 will arrive today between 14:00 and 16:00. Track it: example.com/t/8f3k2p."[:100]
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A sender of the site; its job type has its name. ``channel``: short_code (SMS), or whatsapp: outside the account."""

    name: str
    rate: int
    number: str
    channel: str = "short_code"
    priority: str = "bulk"


class Arrival(NamedTuple):
    """A request: instants of the kernel, the receiving server's loop and the sender (0: unknown), lane, message id."""

    arrived_ns: int
    read_ns: int
    sent_ns: int
    lane: str
    message: str


def short_codes(rates: Sequence[int]) -> list[Lane]:
    """A lane for each rate, named after it."""
    return [Lane(f"lane{rate}", rate, str(10000 + i)) for i, rate in enumerate(rates)]


def configuration(lanes: Sequence[Lane], account: str | None) -> str:
    """notify.toml for these lanes; callbacks are off, and no poll comes within the run."""
    parts = ['[receipts]\nmode = "poll"\n[timing]\npoll_after = "12h"']
    if account is not None:
        parts.append(f'[limits]\naccount = "{account}"')
    for lane in lanes:
        parts.append(
            f'[senders.{lane.name}]\nchannel = "{lane.channel}"\nfrom = "{lane.number}"\nrate = "{lane.rate}/s"\n'
            f'[job_types.{lane.name}]\nsender = "{lane.name}"\npriority = "{lane.priority}"'
        )
        if lane.channel == "whatsapp":
            parts.append('whatsapp_template = { name = "order_update", language = "en_US" }')
    texting = json.dumps([lane.name for lane in lanes if lane.channel != "whatsapp"])
    parts.append(f'[job_types.routed]\nroutes = [{{ senders = {texting} }}]\npriority = "bulk"')
    return "\n".join(parts) + "\n"


class Receiving:
    """The receiving server, as seen from the benchmark."""

    def __init__(self, child: Child, port: int) -> None:
        self.child, self.url = child, f"http://127.0.0.1:{port}"

    def rows(self, lanes: Mapping[str, str]) -> list[Arrival]:
        """What arrived since the last call; ``lanes`` names each sender's lane."""
        with urllib.request.urlopen(f"{self.url}/arrivals", timeout=60) as response:
            text = response.read().decode()
        found = []
        for line in text.splitlines():
            arrived, read, sent, sender, message = line.split(" ")
            found.append(Arrival(int(arrived), int(read), int(sent), lanes.get(sender, sender), message))
        return found


@contextlib.contextmanager
def receiving(directory: Path, latency_ms: float) -> Iterator[Receiving]:
    """Run the receiving server."""
    log = directory / "receiver.log"
    child = spawn(
        "receiver",
        [sys.executable, "-m", "benchmarks.receiver", "--latency-ms", str(latency_ms)],
        log=log,
        directory=ROOT,
    )
    try:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"), what="the receiving server")
        port = next(int(line) for line in log.read_text().splitlines() if line.isdigit())
        yield Receiving(child, port)
    finally:
        child.kill()


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, int | None]]:
    """REDIS_URL if it is set, else a server of our own (REDIS_SERVER: its binary). The URL, and its pid where known."""
    if url := os.environ.get("REDIS_URL"):
        yield url, None
        return
    with EmbeddedServer(appendonly=True) as server:
        yield server.url, server.pid


class Site:
    """What a row works with."""

    def __init__(
        self,
        directory: Path,
        redis: tuple[str, int | None],
        receiver: Receiving,
        lanes: Sequence[Lane],
        *,
        sender: str,
        account: str | None,
    ) -> None:
        self.directory, self.receiver, self.lanes, self.sender = directory, receiver, list(lanes), sender
        self.namespace = f"bench{uuid.uuid4().hex[:8]}"
        self._redis_pid = redis[1]
        self._lane_of = {lane.number: lane.name for lane in lanes}
        config = directory / "notify.toml"
        config.write_text(configuration(lanes, account))
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("NOTIFY_", "TELNYX_", "REDIS_"))},
            "REDIS_URL": redis[0],
            "TELNYX_API_KEY": "KEY0",
            "TELNYX_BASE_URL": f"{receiver.url}/v2",
            "NOTIFY_SECRET": "a secret of the benchmark, long enough",
            "NOTIFY_CONFIG": str(config),
            "NOTIFY_NAMESPACE": self.namespace,
            "BENCH_SENDER": sender,
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "info"),
        }
        self.notifier = Notifier(redis[0], namespace=self.namespace)
        self.ledger = self.notifier.ledger
        self.redis: Any = self.ledger.redis
        self.pointers = Pointers(self.ledger.redis, self.namespace)
        self.workers: list[Child] = []

    # workers

    def start_workers(self, count: int) -> None:
        """Start trees of one process, and wait until all live."""
        before = self._living()
        for _ in range(count):
            log = self.directory / f"worker{len(self.workers)}.log"
            command = [sys.executable, "-m", "benchmarks.bench_master", "--processes", "1", "--threads", "16"]
            self.workers.append(spawn("worker", command, environ=self._environ, log=log, directory=ROOT))
        started = self.workers[-count:]
        wait_until(
            lambda: len(self._living() - before) >= count,
            what="the workers",
            children=started,
            timeout_s=START_S + len(self.lanes) / 50,
        )

    def signal_worker(self, index: int, number: signal.Signals) -> None:
        os.killpg(self.workers[index].pid, number)

    def _living(self) -> set[bytes]:
        found: set[bytes] = self.redis.smembers(self.ledger.key("procs"))
        return found

    def usage(self) -> Usage:
        """CPU from now on."""
        parts = {"workers": [pid for w in self.workers if w.exit_code() is None for pid in tree(w.pid)]}
        parts["receiver"] = [self.receiver.child.pid]
        if self._redis_pid is not None:
            parts["redis"] = [self._redis_pid]
        return Usage(parts, {"granting": "bench-grant", "event loops": "bench-loop"})

    # lanes

    def pause(self, *names: str) -> None:
        self._each(calls.lane, names, "pause", "bench")

    def resume(self, *names: str) -> None:
        self._each(calls.lane, names, "resume", "")

    def _each(self, call: Callable[..., Any], names: Sequence[str], what: str, value: str) -> None:
        for i in range(0, len(names), 500):
            done = self.ledger.run_many([call(name, what, value) for name in names[i : i + 500]])
            if not all(done):
                raise AssertionError(f"lanes cannot be changed: {done[:3]}")

    def submit(self, lane: str, count: int, *, klass: int = 2) -> str:
        """One notification to ``count`` people on this lane, in one call: no validation, which would cost us CPU."""
        return self.submit_many([(lane, count)], klass=klass)[0]

    def submit_many(self, rows: Sequence[tuple[str, int]], *, klass: int = 2) -> list[str]:
        """Many such, pipelined, each with its pointer."""
        ids: list[str] = []
        for start in range(0, len(rows), 500):
            made = [_submission(lane, count, klass) for lane, count in rows[start : start + 500]]
            for answer in self.ledger.run_many([calls.submit(s) for s in made]):
                if isinstance(answer, Exception):
                    raise answer
            self.pointers.expand_many([(s.id, False, s.messages) for s in made])
            ids += [s.id for s in made]
        return ids

    def waiting(self, *names: str, klass: int = 2) -> int:
        """How many messages of a class wait in these lanes."""
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            pipe.zcard(self.ledger.key(f"q:{name}:{klass}"))
        return sum(pipe.execute())

    def fill(self, backlog: Mapping[str, int], *, timeout_s: float = 300.0) -> None:
        """Give paused lanes their backlog, and wait until all of it is expanded. Workers must run."""
        before = self.waiting(*backlog)
        self.submit_many(list(backlog.items()))
        wanted = before + sum(backlog.values())
        wait_until(
            lambda: self.waiting(*backlog) >= wanted,
            what=f"{wanted} messages to wait",
            timeout_s=timeout_s,
            every_s=0.2,
            children=self.workers,
            seen=lambda: self.waiting(*backlog),
        )

    # arrivals

    def arrivals(self) -> list[Arrival]:
        """What arrived since the last call."""
        return self.receiver.rows(self._lane_of)

    def slots_missed(self) -> dict[str, int]:
        """Slots missed after the take, by why, and notable events, from the workers' logs."""
        counts: Counter[str] = Counter()
        for log in self.directory.glob("worker*.log"):
            for line in log.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if event.get("event") == "slot_missed" or event.get("level") in ("warning", "error", "critical"):
                        counts[f"{event['event']} {event.get('why', '')}".strip()] += 1
        return dict(counts)

    def close(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGCONT)
            worker.kill()
        with contextlib.suppress(Exception):
            keys = (
                list(self.redis.scan_iter(match=f"{{{self.namespace}}}:*", count=5000)) if not self._redis_pid else []
            )
            for i in range(0, len(keys), 5000):
                self.redis.unlink(*keys[i : i + 5000])
        self.redis.close()


@contextlib.contextmanager
def running_site(
    lanes: Sequence[Lane], *, workers: int, sender: str, account: str | None = None, latency_ms: float = 100.0
) -> Iterator[Site]:
    """A site with all lanes paused and empty. Logs are kept where BENCH_KEEP is set."""
    directory = Path(tempfile.mkdtemp(prefix="notify-bench-"))
    try:
        with redis_server() as redis, receiving(directory, latency_ms) as receiver:
            site = Site(directory, redis, receiver, lanes, sender=sender, account=account)
            try:
                site.start_workers(workers)
                site.pause(*(lane.name for lane in lanes))
                yield site
            finally:
                site.close()
    finally:
        if os.environ.get("BENCH_KEEP"):
            print(f"logs: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _submission(lane: str, count: int, klass: int) -> Submission:
    numbers = [f"+1312{2_000_000 + i}" for i in range(count)]
    recipients: list[str | bytes] = list(numbers)
    if count > 1:
        recipients = [
            json.dumps([[number, None] for number in numbers[i : i + CHUNK]], separators=(",", ":"))
            for i in range(0, count, CHUNK)
        ]
    content = {} if lane.startswith("whatsapp") else {"text": TEXT}
    return Submission(
        id=uuid.uuid4().hex, client="default", fingerprint="0123456789abcdef", job_type=lane, klass=klass,
        valid_for_us=86_400_000_000, send_at_us=0, messages=count, group=False, content=json.dumps(content).encode(),
        extras=b"", recipients=recipients,
    )  # fmt: skip


def gaps(rng: random.Random, count: int, low_s: float, high_s: float) -> list[float]:
    """Pauses between events that fall at any phase of any period."""
    return [rng.uniform(low_s, high_s) for _ in range(count)]


def wait_until(
    condition: Callable[[], Any],
    *,
    what: str,
    timeout_s: float = 30.0,
    every_s: float = 0.03,
    children: Sequence[Child] = (),
    seen: Callable[[], Any] = lambda: "",
) -> None:
    """Wait for a condition, or raise with what was seen last."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for child in children:
            if child.exit_code() is not None:
                raise AssertionError(f"{child.name} ended with {child.exit_code()}:\n{child.tail(30)}")
        if time.monotonic() > deadline:
            tails = "\n".join(child.tail(10) for child in children)
            raise AssertionError(f"waited {timeout_s:g} s for {what}; seen {seen()}\n{tails}")
        time.sleep(every_s)
