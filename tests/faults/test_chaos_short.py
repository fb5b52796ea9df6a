"""Everything at once: processes that die or freeze at drawn instants, a server that is killed, a provider that misbehaves.

What is drawn comes from one seed, which a failure prints and ``--chaos-seed`` takes again. The instants at which real
processes die repeat only roughly, so a seed that failed once is worth some runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, wait_until

from worker.children import Child
from worker.embedded import EmbeddedServer
from worker.sandbox import SandboxOptions

pytestmark = pytest.mark.slow

JOB_TYPES = {"notice": 4, "reminder": 3, "promotion": 2, "otp": 1}  # four lanes' worth, by share
KILLED_WORKERS = 6


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--chaos-seed")
    drawn = random.SystemRandom().randrange(1_000_000) if given is None else given
    print(f"run it again with --chaos-seed={drawn}")  # shown if the test fails
    return drawn


@dataclass
class Chaos:
    """What is drawn, and what is alive."""

    service: Service
    server: EmbeddedServer
    draw: random.Random
    trees: list[Child] = field(default_factory=list)
    web: Child | None = None
    ids: list[str] = field(default_factory=list)
    messages: int = 0

    def enqueue(self, count: int) -> None:
        """About ``count`` messages: some notifications of many, some of one, over several lanes."""
        last = self.messages + count
        while self.messages < last:
            job_type = self.draw.choices(list(JOB_TYPES), list(JOB_TYPES.values()))[0]
            size = min(1 if job_type == "otp" else self.draw.choice([1, 5, 30]), last - self.messages)
            to = [f"+1312{2_000_000 + self.messages + i:07d}" for i in range(size)]
            content: dict[str, Any] = {"variables": {"code": "1234"}} if job_type == "otp" else {"text": "hello"}
            self.ids.append(self.service.notifier.enqueue(job_type, to=to, **content).id)
            self.messages += size

    def await_traffic(self) -> None:
        """Let some requests leave, so that what comes next hits others under way."""
        record = self.service.telnyx.sandbox.record
        target = record.requests + self.draw.randint(10, 60)
        deadline = time.monotonic() + 5
        while record.requests < target and time.monotonic() < deadline:
            time.sleep(0.005)

    def kill_a_worker(self) -> None:
        nth = self.draw.randrange(len(self.trees))
        self.trees[nth].kill()
        self.trees[nth] = self._start_tree()

    def kill_web(self) -> None:
        if self.web is not None:
            self.web.kill()
        self.web = self.service.start_web()

    def kill_the_server(self) -> None:
        self.server.kill()
        self.server.start()

    def freeze_a_worker(self) -> None:
        """Longer than its life lasts without a beat: the other tree takes over what it held."""
        nth = self.draw.randrange(len(self.trees))
        frozen = self.trees[nth]
        wait_until(lambda: self._booted(frozen), what="the tree to boot", child=frozen, timeout_s=90)
        wait_until(
            lambda: self._booted(self.trees[1 - nth]), what="the other to boot", child=self.trees[1 - nth], timeout_s=90
        )
        before = self.service.living()
        os.killpg(frozen.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: before - self.service.living(), what="the frozen one to be taken for dead")
            self.await_traffic()
        finally:
            os.killpg(frozen.pid, signal.SIGCONT)

    def start(self) -> None:
        self.trees = [self._start_tree(), self._start_tree()]
        self.web = self.service.start_web()
        for tree in self.trees:
            wait_until(lambda tree=tree: self._booted(tree), what="a tree to boot", child=tree, timeout_s=90)

    def end(self) -> None:
        """Everything that lives ends in good order."""
        living = [child for child in [*self.trees, self.web] if child is not None]
        for child in living:
            child.signal(signal.SIGTERM)
        for child in living:
            assert child.wait(timeout_s=30) == 0, child.tail(30)

    def _start_tree(self) -> Child:
        return self.service.start("worker", "--processes", "1", "--threads", "8")

    def _booted(self, tree: Child) -> bool:
        return tree.log is not None and b"worker_booted" in tree.log.read_bytes()


def run_chaos(chaos: Chaos, acts: list[Callable[[], None]], *, messages: int) -> None:
    chaos.draw.shuffle(acts)
    chaos.start()
    for act in acts:
        chaos.enqueue(messages // len(acts))
        chaos.await_traffic()
        act()
    chaos.enqueue(messages - chaos.messages)
    assert_all_were_texted_once(chaos)
    chaos.end()


def assert_all_were_texted_once(chaos: Chaos) -> None:
    service = chaos.service
    counts = service.wait_final(*chaos.ids, timeout_s=90)
    total: dict[str, int] = {}
    for states in counts:
        for state, count in states.items():
            total[state] = total.get(state, 0) + count
    assert service.sandbox("summary")["texted_twice"] == []
    assert total == {"delivered": chaos.messages}
    refs = {m["ref"] for m in service.sent()}
    assert len(refs) == chaos.messages, "a message is called delivered that nobody got"
    redis: Any = service.ledger.redis
    assert redis.hget(service.ledger.key("counts"), "poisoned") is None
    assert redis.hget(service.ledger.key("counts"), "doubled") is None


@pytest.mark.timeout(300)
def test_deaths_freezes_lost_receipts_and_cut_answers_lose_nothing_and_double_nothing_where_keys_are_honoured(
    tmp_path: Path, seed: int
) -> None:
    faults = {
        "cut_after_accept": 0.05,
        "500_before": 0.03,
        "429": 0.01,
        "hang_20s": 0.01,
        "lose_receipts": 0.05,
        "duplicate_receipts": 0.1,
        "reorder_receipts": 0.2,
        "latency_ms": 20,
        "latency_jitter_ms": 150,
    }
    with running_chaos(tmp_path, seed, faults, grace="3s") as chaos:
        acts = [chaos.kill_a_worker] * KILLED_WORKERS
        acts += [chaos.kill_web, chaos.kill_the_server, chaos.freeze_a_worker]
        run_chaos(chaos, acts, messages=1000)


@pytest.mark.timeout(300)
def test_deaths_freezes_and_500_after_acceptance_double_nothing_where_only_receipts_tell(
    tmp_path: Path, seed: int
) -> None:
    """The provider ignores keys: only what is heard during the grace keeps a text from going twice."""
    faults = {
        "honour_keys": False,
        "cut_after_accept": 0.05,
        "500_after_accept": 0.05,
        "500_before": 0.03,
        "hang_20s": 0.01,
        "duplicate_receipts": 0.1,
        "reorder_receipts": 0.2,
        "latency_ms": 20,
        "latency_jitter_ms": 150,
    }
    with running_chaos(tmp_path, seed, faults, grace="6s") as chaos:
        # web lives on: a receipt that no web process took would be lost, and with it the proof
        acts = [chaos.kill_a_worker] * KILLED_WORKERS + [chaos.freeze_a_worker]
        run_chaos(chaos, acts, messages=1000)


@contextlib.contextmanager
def running_chaos(directory: Path, seed: int, faults: dict[str, Any], *, grace: str) -> Iterator[Chaos]:
    options = SandboxOptions(
        seed=seed,
        magic=False,
        hang_s=5,
        callback_attempts=6,  # as Telnyx makes them over both URLs
        callback_backoff_s=0.3,
        faults=faults,
    )
    # Every write is on disk before it is acknowledged: what is lost then, we lost.
    with (
        EmbeddedServer(appendonly=True, options=("--appendfsync", "always")) as server,
        running_service(
            directory, server.url, sandbox=options, rate="60/s", grace=grace, liveness="2s", poll_after="5s"
        ) as service,
    ):
        yield Chaos(service, server, random.Random(seed))
