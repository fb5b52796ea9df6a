"""The service to measure, without a provider: a server, web, workers, and a ledger that can be filled directly."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pacing.site import ROOT, redis_server, wait_until
from benchmarks.pacing.usage import Usage, tree
from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from tests.ledger_kit import publication, queue
from worker.children import Child, spawn
from worker.embedded import free_port
from worker.sandbox.signing import Signer

API_KEY = "a key of the benchmarks"
CONFIG = """
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "1000/s"
[job_types.notice]
sender = "alerts"
[timing]
poll_after = "12h"
[callbacks]
allow_private = true
"""


class BenchService:
    """One web and any number of worker trees on one server. Messages are put into it by scripts, before workers run."""

    def __init__(self, directory: Path, redis: tuple[str, int | None], *, release: int = 2) -> None:
        self.directory, self._redis_pid = directory, redis[1]
        self.signer = Signer(os.urandom(32))
        self.port = free_port()
        (directory / "notify.toml").write_text(CONFIG)
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("NOTIFY_", "TELNYX_", "REDIS_", "PORT"))},
            "REDIS_URL": redis[0],
            "TELNYX_API_KEY": "KEY0",
            "TELNYX_BASE_URL": "http://127.0.0.1:9/v2",  # nothing is sent
            "TELNYX_PUBLIC_KEY": self.signer.public_key,
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "NOTIFY_CONFIG": str(directory / "notify.toml"),
            "NOTIFY_API_KEYS": f"bench:{hashlib.sha256(API_KEY.encode()).hexdigest()}",
            "NOTIFY_SECRET": "a secret of the benchmark, long enough",
            "NOTIFY_NAMESPACE": "bench",
            "NOTIFY_CLIENT": "bench",
            "HEROKU_RELEASE_VERSION": f"v{release}",
            "PORT": str(self.port),
        }
        self.redis_url = redis[0]
        self.ledger = Ledger(connect(redis[0], max_connections=8, answer_s=30), "bench")
        self.redis: Any = self.ledger.redis
        self.children: dict[str, Child] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start ``notify <name>``, and wait until it works."""
        child = spawn(
            name,
            [sys.executable, "-m", "worker.cli", name, *arguments],
            environ=self._environ,
            log=self.directory / f"{name}.log",
            directory=ROOT,
        )
        self.children[name] = child
        ready = self._answers if name == "web" else lambda: bool(self.redis.scard(self.ledger.key("procs")))
        wait_until(ready, what=name, children=[child], timeout_s=90)

    def run(self, *arguments: str) -> list[str]:
        """The command line of ``notify`` with these arguments, for whoever wants to time it."""
        return [sys.executable, "-m", "worker.cli", *arguments]

    @property
    def environ(self) -> dict[str, str]:
        return self._environ

    def _answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/healthz"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
        return False

    def parts(self) -> dict[str, list[int]]:
        """The processes of each part."""
        parts = {name: tree(child.pid) for name, child in self.children.items()}
        if self._redis_pid is not None:
            parts["redis"] = [self._redis_pid]
        return parts

    def usage(self) -> Usage:
        """CPU of all parts from now on."""
        return Usage(self.parts())

    def prime(self, count: int, **other: Any) -> list[str]:
        """So many messages of which the provider has said that it took them; their ids. Before any worker runs."""
        self.publish()
        self.ledger.run(calls.beat("bench", "first"))
        mids: list[str] = []
        while len(mids) < count:
            ids = [queue(self.ledger, client="bench", **other) for _ in range(min(100, count - len(mids)))]
            for taken in self.take(len(ids)):
                row = calls.Finish(
                    message=taken.message, token=taken.token, outcome="accepted", provider_id=pid_of(taken.message),
                    parts=1,
                )  # fmt: skip
                self.ledger.run(calls.finish("bench", [row]))
            mids += ids
        self.redis.srem(self.ledger.key("procs"), "bench")
        return mids

    def publish(self) -> None:
        """What lanes there are, before web publishes its own."""
        buckets = {"s:alerts": {"t_us": 1}}
        self.ledger.run(calls.publish(publication(buckets=buckets, poll_after_us=43_200_000_000), {}))

    def take(self, count: int) -> list[calls.Taken]:
        found: list[calls.Taken] = []
        key = self.ledger.key("g:alerts")
        while len(found) < count:
            seconds, micros = self.redis.time()
            at_us = seconds * 1_000_000 + micros + 5_000
            slots = [calls.Slot("alerts", at_us + i) for i in range(count - len(found))]
            self.redis.zadd(key, {str(slot.at_us): slot.at_us for slot in slots})
            answer = self.ledger.run(calls.take("bench", os.urandom(8).hex(), [(slot, "b1") for slot in slots]))
            found += [a for a in answer.answers if isinstance(a, calls.Taken)]
        return found

    def close(self) -> None:
        for child in self.children.values():
            child.kill()
        self.redis.close()


def pid_of(message: str) -> str:
    """A provider's id of the usual length."""
    return f"40385f64-5717-4562-b3fc-{message.rpartition('-')[0][-12:]}"


@contextlib.contextmanager
def running_bench_service() -> Iterator[BenchService]:
    """The service, with nothing started yet. Logs are kept where BENCH_KEEP is set."""
    directory = Path(tempfile.mkdtemp(prefix="notify-bench-"))
    try:
        with redis_server() as redis:
            service = BenchService(directory, redis)
            try:
                yield service
            finally:
                service.close()
    finally:
        if os.environ.get("BENCH_KEEP"):
            print(f"logs: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
