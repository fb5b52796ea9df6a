"""Real worker trees against a real server and a sandbox, each tree in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from producers.ledger.ledger import Ledger
from producers.notifier import Notifier

CONFIG = """
[senders.fast]
channel = "toll_free"
from = "+18885550001"
rate = "50/s"
[senders.code]
channel = "short_code"
from = "12345"
rate = "100/s"
[job_types.bulk]
sender = "fast"
priority = "bulk"
[job_types.code]
sender = "code"
priority = "urgent"
[receipts]
mode = "poll"
[timing]
poll_after = "1h"
grace = "1h"
liveness = "2s"
"""
_SANDBOX = """
from worker.sandbox import SandboxOptions, run
run(SandboxOptions(magic=False), port=0, announce=lambda running: print(running.url, flush=True))
"""
_WORKER = "import sys; from worker.engine.launch import run_worker; run_worker(int(sys.argv[1]), 8)"
KEY = "KEY0123456789"


class Telnyx:
    """The sandbox, as a test asks it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/sandbox", timeout=30)

    def reset(self) -> None:
        self._http.post("/reset").raise_for_status()
        self.faults(latency_ms=0, down=False, honour_keys=True, **{"429": 0.0, "cut_after_accept": 0.0})

    def faults(self, **changes: object) -> None:
        self._http.post("/faults", json=changes).raise_for_status()

    def summary(self) -> dict[str, Any]:
        return dict(self._http.get("/summary").json())

    def arrivals_s(self, sender: str | None = None) -> list[float]:
        """When requests arrived; of one sender, by what its messages come from."""
        rows = self._http.get("/arrivals", params={"all": "1"}).json()
        return sorted(row[0] / 1e6 for row in rows if sender in (None, row[1]))


@dataclass
class Tree:
    """A master with its worker processes."""

    process: subprocess.Popen[bytes]
    log: Path

    def signal_all(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def signal_master(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to all of it: no handler, no finally, no atexit."""
        self.signal_all(signal.SIGKILL)
        self.process.wait()

    def ready(self) -> int:
        """How many of its processes have booted."""
        text = self.log.read_text()
        assert self.process.poll() is None, text[-4000:]
        return text.count("ready for action")


@dataclass
class Rig:
    """A namespace with its sandbox: what a test of whole workers works with."""

    telnyx: Telnyx
    notifier: Notifier
    environment: dict[str, str]
    folder: Path
    wait_until: Callable[..., Any]
    trees: list[Tree] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.notifier.ledger

    def states(self, notification: str) -> dict[str, int]:
        """How many of its messages are in which state."""
        return {state: n for state, n in self.notifier.status(notification).state_counts.items() if n}

    def living(self) -> int:
        """How many worker processes the ledger knows."""
        return len(self.ledger.redis.smembers(self.ledger.key("procs")))

    def start_worker(self, processes: int = 1, *, wait: bool = True) -> Tree:
        """A worker tree, ready to work. What a test leaves running is killed after it."""
        log = self.folder / f"worker{len(self.trees)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(processes)],
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        tree = Tree(process, log)
        self.trees.append(tree)
        if wait:
            self.wait_until(lambda: tree.ready() >= processes, timeout_s=60)
        return tree


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", _SANDBOX], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


MakeRig = Callable[[str, str], Rig]


@pytest.fixture
def make_rig(tmp_path: Path, sandbox_url: str, wait_until: Callable[..., Any]) -> Iterator[MakeRig]:
    """``make_rig(redis_url, namespace)``: for a server that the test mistreats."""
    rigs: list[Rig] = []

    def make(redis_url: str, namespace: str) -> Rig:
        config = tmp_path / "notify.toml"
        config.write_text(CONFIG)
        ours = {
            "REDIS_URL": redis_url,
            "NOTIFY_NAMESPACE": namespace,
            "NOTIFY_CONFIG": str(config),
            "NOTIFY_SECRET": "a secret of these tests",
            "TELNYX_API_KEY": KEY,
            "TELNYX_BASE_URL": f"{sandbox_url}/v2",
            "LOG_LEVEL": "info",
        }
        rig = Rig(
            telnyx=Telnyx(sandbox_url),
            notifier=Notifier(redis_url, namespace=namespace),
            environment={**os.environ, **ours},
            folder=tmp_path,
            wait_until=wait_until,
        )
        rig.telnyx.reset()
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        for tree in rig.trees:
            tree.kill()
        rig.telnyx.reset()


@pytest.fixture
def rig(make_rig: MakeRig, redis_url: str, namespace: str) -> Rig:
    return make_rig(redis_url, namespace)
