"""Everything at once: processes that die or freeze, at drawn instants and at chosen points, a server that is killed, a
provider that misbehaves.

What is drawn comes from one seed, which a failure prints and ``--chaos-seed`` takes again. The instants at which real
processes die repeat only roughly, so a seed that failed once is worth some runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service_kit import Service, running_service, wait_until

from producers.fault_points import POINTS
from worker.children import Child
from worker.embedded import EmbeddedServer
from worker.sandbox import SandboxOptions

JOB_TYPES = {"notice": 4, "reminder": 3, "promotion": 2, "otp": 1}  # four lanes' worth, by share
IN_WEB = ("submit.", "pointer.", "hear.", "bell.")
NO_APP = ("claim.", "callback.", "settle.")  # nobody asks to be called back here
IN_WORKERS = tuple(point for point in POINTS if not point.startswith((*IN_WEB, *NO_APP, "grant.after", "wake.before")))
FINAL_WITHIN_S = 90.0
UNREACHABLE = 3  # the exit code of a worker that finds no Redis when it starts
BACKLOG = 600  # what may wait when more is enqueued: the end measures what deaths leave behind, not a backlog
MISBEHAVIOUR: dict[str, Any] = {
    "cut_after_accept": 0.05,
    "500_before": 0.03,
    "429": 0.01,
    "hang_20s": 0.01,
    "duplicate_receipts": 0.1,
    "reorder_receipts": 0.2,
    "latency_ms": 20,
    "latency_jitter_ms": 150,
}

Act = Callable[["Chaos"], None]


@dataclass
class Chaos:
    """What is drawn, what is alive, and what happened."""

    service: Service
    server: EmbeddedServer
    draw: random.Random
    threads: int = 8
    trees: list[Child] = field(default_factory=list)
    web: Child | None = None
    clock: Child | None = None
    ids: list[str] = field(default_factory=list)
    messages: int = 0
    doomed: set[int] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    frozen: Child | None = None
    last_kill_s: float = 0.0

    # what is alive

    def start(self, *points: str) -> None:
        """Two trees, which will die at these points if any are given, web and clock; returns when all of them work."""
        for nth in range(2):
            self.trees.append(self._start_tree(points[nth] if nth < len(points) else ""))
        self.clock = self.service.start("clock")
        self.web = self.service.start_web()
        for tree in self.trees:
            wait_until(lambda tree=tree: ids_of(tree), what="a tree to boot", child=tree, timeout_s=90)

    def end(self) -> None:
        """Everything that lives ends in good order."""
        living = [child for child in (*self.trees, self.web, self.clock) if child is not None]
        for child in living:
            child.signal(signal.SIGTERM)
        for child in living:
            assert child.wait(timeout_s=30) == 0, child.tail(30)

    def replace(self, tree: Child, fault: str = "") -> None:
        """What a platform does with a tree that has died."""
        tree.kill()
        self.trees[self.trees.index(tree)] = self._start_tree(fault)
        self.done["workers killed"] += 1
        self.last_kill_s = time.monotonic()

    def tend(self) -> None:
        """Replace what has died at its point. Part of every wait, for the platform never waits."""
        for tree in list(self.trees):
            if tree is self.frozen:
                continue
            if self.service.reached(tree):
                self.done["of them at a point"] += 1
                self.replace(tree)
            elif tree.exit_code() is not None:
                assert tree.exit_code() == UNREACHABLE, f"a tree ended by itself:\n{tree.tail(40)}"
                self.trees[self.trees.index(tree)] = self._start_tree()  # it was started while Redis was away

    def wait(self, condition: Callable[[], Any], *, what: str, timeout_s: float = 90) -> Any:
        """As ``wait_until``, while the platform goes on."""

        def met() -> Any:
            self.tend()
            return condition()

        return wait_until(met, what=what, timeout_s=timeout_s)

    # what is sent

    def enqueue(self, count: int) -> None:
        """``count`` messages: some notifications of many, some of one, over several lanes."""
        last = self.messages + count
        while self.messages < last:
            job_type = self.draw.choices(list(JOB_TYPES), list(JOB_TYPES.values()))[0]
            size = min(1 if job_type == "otp" else self.draw.choice([1, 5, 30, 250]), last - self.messages)
            to = [f"+1312{2_000_000 + self.messages + i:07d}" for i in range(size)]
            content: dict[str, Any] = {"variables": {"code": "1234"}} if job_type == "otp" else {"text": "hello"}
            self.ids.append(self.service.notifier.enqueue(job_type, to=to, **content).id)
            self.messages += size

    def await_traffic(self) -> None:
        """Let some requests leave, so that what comes next hits others under way; not for ever, where nobody works."""
        record = self.service.telnyx.sandbox.record
        target = record.requests + self.draw.randint(10, 60)
        deadline = time.monotonic() + 5
        self.wait(lambda: record.requests >= target or time.monotonic() > deadline, what="some traffic")

    def await_room(self) -> None:
        record = self.service.telnyx.sandbox.record
        self.wait(lambda: self.messages - record.accepted <= BACKLOG, what="the backlog to shrink", timeout_s=300)

    # what happens

    def kill_a_worker(self) -> None:
        self.replace(self.draw.choice(self.trees))

    def doom_a_worker(self) -> None:
        """Replace a tree by one that will die at a drawn point, some time."""
        point, nth = self.draw.choice(IN_WORKERS), self.draw.choice([1, 2, 3, 5, 8, 13])
        self.replace(self.draw.choice(self.trees), f"{point}:kill:{nth}")

    def await_deaths(self, count: int) -> None:
        """Until so many trees have died at the points for which they were started, giving them work meanwhile."""
        idle_s = time.monotonic()

        def met() -> bool:
            nonlocal idle_s
            if time.monotonic() - idle_s > 1:
                idle_s = time.monotonic()
                self.enqueue(20)
            return self.done["of them at a point"] >= count

        self.wait(met, what=f"{count} deaths at chosen points")

    def calm(self) -> None:
        """The last kills: those who were to die some time, and have not."""
        for tree in list(self.trees):
            if tree.pid in self.doomed:
                self.replace(tree)

    def kill_web(self) -> None:
        self.web = self.service.start_web()  # which ends the one before it, like this
        self.done["web killed"] += 1
        self.last_kill_s = time.monotonic()

    def kill_clock(self) -> None:
        if self.clock is not None:
            self.clock.kill()
        self.clock = self.service.start("clock")
        self.done["clock killed"] += 1

    def kill_the_server(self) -> None:
        self.server.kill()
        self.server.start()
        self.done["Redis killed"] += 1
        self.last_kill_s = time.monotonic()

    def freeze_a_worker(self) -> None:
        """Longer than its life lasts without a beat: the other tree takes over what it held."""
        nth = self.draw.randrange(len(self.trees))
        for tree in range(len(self.trees)):
            self.wait(lambda tree=tree: ids_of(self.trees[tree]), what="both trees to work")
        frozen = self.frozen = self.trees[nth]
        os.killpg(frozen.pid, signal.SIGSTOP)
        try:
            self.wait(
                lambda: ids_of(frozen)[-1] not in self.service.living(), what="the frozen one to be taken for dead"
            )
            self.await_traffic()
        finally:
            os.killpg(frozen.pid, signal.SIGCONT)
            self.frozen = None
        self.done["workers frozen"] += 1

    def freeze_web(self) -> None:
        """Callbacks wait in its sockets, or are given up by the provider and come again."""
        if self.web is not None:
            self._freeze(lambda number: os.killpg(self.web.pid, number) if self.web else None)
            self.done["web frozen"] += 1

    def stall_the_server(self) -> None:
        """Every process that lives misses its beats at once, and none may be taken for dead."""
        self._freeze(lambda number: os.kill(self.server.pid, number))
        self.done["Redis stalled"] += 1

    def _freeze(self, tell: Callable[[int], None]) -> None:
        until_s = time.monotonic() + self.draw.uniform(1, 8)
        tell(signal.SIGSTOP)
        try:
            self.wait(lambda: time.monotonic() > until_s, what="the end of a freeze")
        finally:
            tell(signal.SIGCONT)

    def _start_tree(self, fault: str = "") -> Child:
        tree = self.service.start("worker", "--processes", "1", "--threads", str(self.threads), fault=fault)
        if fault:
            self.doomed.add(tree.pid)
        return tree


def ids_of(tree: Child) -> list[str]:
    """The ids under which the process of a tree has lived, from its log: the last one is its current one."""
    if tree.log is None or not tree.log.exists():
        return []
    found = []
    for line in tree.log.read_text(errors="replace").splitlines():
        if '"worker_booted"' in line or '"process_had_lapsed"' in line:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                found.append(row.get("process") or row.get("now"))
    return found


def run(chaos: Chaos, acts: Sequence[Callable[[], None]], *, messages: int) -> None:
    """Enqueue a share of the messages before each act; all act, in a drawn order."""
    acts = list(acts)
    chaos.draw.shuffle(acts)
    for nth, act in enumerate(acts):
        chaos.await_room()
        chaos.enqueue(messages * (nth + 1) // len(acts) - chaos.messages)
        chaos.await_traffic()
        act()


def settle(chaos: Chaos, *, within_s: float = FINAL_WITHIN_S) -> dict[str, int]:
    """Until everything is final: the states, by count. The time counts from the last kill or, where a busy machine left a
    backlog, from the last text that went out."""
    ids = set(chaos.ids)
    record = chaos.service.telnyx.sandbox.record
    since_s, accepted = chaos.last_kill_s, 0
    total: Counter[str] = Counter()

    def ended() -> bool:
        nonlocal since_s, accepted
        if record.accepted != accepted:
            since_s, accepted = max(since_s, time.monotonic()), record.accepted
        if time.monotonic() - since_s > within_s + 60:
            raise AssertionError(
                f"{within_s + 60:g} s after the last text, not final: {sorted(ids)[:5]}, {len(ids)} in all"
            )
        for id in list(ids)[:50]:
            status = chaos.service.notifier.status(id, limit=0)
            if status.is_final:
                ids.discard(id)
                total.update(status.state_counts)
            else:
                break
        return not ids

    chaos.wait(ended, what="every message to be final", timeout_s=1800)
    chaos.done["final after the last kill, s"] = round(time.monotonic() - chaos.last_kill_s)
    chaos.done["final after the last kill and text, s"] = round(time.monotonic() - since_s)
    return dict(total)


def report(chaos: Chaos, states: dict[str, int]) -> dict[str, Any]:
    """What is asserted, and what a person wants to see: printed, so that ``pytest -s`` shows it."""
    summary = chaos.service.sandbox("summary")
    redis: Any = chaos.service.ledger.redis
    counts = {k.decode(): int(v) for k, v in redis.hgetall(chaos.service.ledger.key("counts")).items()}
    sent = {m["ref"] for m in chaos.service.sent()}
    found = {
        "messages": chaos.messages,
        "states": states,
        "lost": chaos.messages - sum(states.values()),
        "never_accepted": chaos.messages - len(sent),
        "doubled": len(summary["texted_twice"]),
        "requests": summary["requests"],
        "replays": summary["replays"],
        "faults": summary["faults"],
        "callbacks": summary["callbacks"],
        "counts": counts,
        **chaos.done,
    }
    print(json.dumps(found, indent=1))
    return found


@contextlib.contextmanager
def running_chaos(
    directory: Path, seed: int, faults: dict[str, Any], *, hang_s: float = 5.0, backoff_s: float = 0.3, **options: Any
) -> Iterator[Chaos]:
    """A service on a server that has every write on disk before it is acknowledged: what is lost then, we lost."""
    sandbox = SandboxOptions(
        seed=seed,
        magic=False,
        hang_s=hang_s,
        callback_attempts=6,  # as Telnyx makes them over both URLs
        callback_backoff_s=backoff_s,
        faults=faults,
    )
    settings = {"rate": "60/s", "grace": "5s", "liveness": "2s", "poll_after": "5s", **options}
    with (
        EmbeddedServer(appendonly=True, options=("--appendfsync", "always")) as server,
        running_service(directory, server.url, sandbox=sandbox, **settings) as service,
    ):
        yield Chaos(service, server, random.Random(seed))
