"""Worker processes in virtual time: they ask for slots, take, send for a while and say how it went, in no time at all."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ledger_kit import admit, publication, submit
from virtual_time import DAY_US, START, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Finish, Slot, Taken
from producers.ledger.connection import connect

LEAD_US = 10_000  # a process takes this much ahead of its slot
NEVER_US = 900 * DAY_US


@dataclass(frozen=True)
class Left:
    """One message that left: when, by the clock that never jumps, and whose."""

    at_us: int
    lane: str
    message: str


Answer = Callable[[Left, Taken], Finish]


def accepted(_left: Left, taken: Taken) -> Finish:
    return Finish(message=taken.message, token=taken.token, outcome="accepted", provider_id=f"id-{taken.message}")


def refused(left: Left, taken: Taken, *, hold_us: int, scope: calls.RestScope = "sender") -> Finish:
    """429: we are too fast."""
    return Finish(
        message=taken.message,
        token=taken.token,
        outcome="slow_down",
        why="429",
        hold_us=hold_us,
        scope=scope,
        feedback=True,
    )


class Workers:
    """Healthy processes with plenty of hands; ``answer`` says what comes of each request, ``latency_us`` later."""

    def __init__(
        self, ledger: VirtualLedger, processes: int = 2, *, answer: Answer = accepted, latency_us: int = 0
    ) -> None:
        self.ledger = ledger
        self.processes = [f"p{i + 1}" for i in range(processes)]
        self.answer, self.latency_us = answer, latency_us
        self.left: list[Left] = []
        self.quotas: dict[str, int] = {}  # of a lane: no more slots than this with one grant
        self._jumped_us = 0  # how far the server's clock is from a true one
        self._slots: list[tuple[int, int, str, Slot]] = []  # when, by a true clock
        self._answers: list[tuple[int, int, str, Finish]] = []
        self._order = itertools.count()
        self._sender = 0
        for process in self.processes:
            ledger.run(calls.beat(process, "first"))

    @property
    def true_us(self) -> int:
        return self.ledger.now_us - self._jumped_us

    def jump(self, us: int) -> None:
        """The server's clock jumps (another machine has taken over); no time passes. Workers reap each second."""
        self.ledger.run(calls.reap("p1"))
        self._jumped_us += us
        self.ledger.pass_us(us)
        self.ledger.run(calls.reap("p1"))

    def run_for(self, us: int) -> list[Left]:
        """Live on for a while; returns what left meanwhile."""
        until, first = self.true_us + us, len(self.left)
        while True:
            due, timer = self.ledger.next_us()
            if timer <= self.ledger.now_us:
                self.ledger.run(calls.wake())
            self._take()
            self._finish()
            if due <= self.ledger.now_us:
                self._grant()
                due, timer = self.ledger.next_us()
            times = [due - self._jumped_us, timer - self._jumped_us]
            times += [self._slots[0][0] - LEAD_US if self._slots else math.inf]
            times += [self._answers[0][0] if self._answers else math.inf]
            soonest = max(self.true_us + 2_000, min(times))
            if soonest > until:
                self.ledger.pass_us(max(0, until - self.true_us))
                return self.left[first:]
            self.ledger.pass_us(int(soonest) - self.true_us)

    def _grant(self) -> None:
        self._sender += 1
        process = self.processes[self._sender % len(self.processes)]
        answer = self.ledger.run(calls.grant(process, 200, lane_quota=100, quotas=self.quotas))
        assert not answer.lapsed
        for slot in answer.slots:
            heapq.heappush(self._slots, (slot.at_us - self._jumped_us, next(self._order), process, slot))

    def _take(self) -> None:
        due: dict[str, list[tuple[int, Slot]]] = {}
        while self._slots and self._slots[0][0] - LEAD_US <= self.true_us:
            at, _, process, slot = heapq.heappop(self._slots)
            due.setdefault(process, []).append((at, slot))
        for process, rows in due.items():
            call = calls.take(process, f"t{next(self._order)}", [(slot, "b") for _, slot in rows])
            for (at, slot), taken in zip(rows, self.ledger.run(call).answers, strict=True):
                if isinstance(taken, Taken):
                    self._send(process, Left(max(at, self.true_us), slot.lane, taken.message), taken)

    def _send(self, process: str, left: Left, taken: Taken) -> None:
        self.left.append(left)
        result = self.answer(left, taken)
        heapq.heappush(self._answers, (left.at_us + self.latency_us, next(self._order), process, result))

    def _finish(self) -> None:
        due: dict[str, list[Finish]] = {}
        while self._answers and self._answers[0][0] <= self.true_us:
            _, _, process, result = heapq.heappop(self._answers)
            due.setdefault(process, []).append(result)
        for process, results in due.items():
            self.ledger.run(calls.finish(process, results))


def publish(
    ledger: VirtualLedger,
    lanes: dict[str, Any],
    buckets: dict[str, Any],
    midnights: dict[str, Any] | None = None,
    **other: Any,
) -> None:
    """A configuration in which nobody is polled for, or taken for dead."""
    timing = {"liveness_us": NEVER_US, "poll_after_us": NEVER_US, "silent_after_us": NEVER_US, "max_tries": 1000}
    digest = f"{lanes}{buckets}"
    assert (
        ledger.run(calls.publish(publication(lanes, buckets, digest=digest, **timing, **other), midnights or {}))
        != "older"
    )


def fill(
    ledger: VirtualLedger, where: str, count: int, klass: int = 1, *, job_type: str = "notice", units: int = 1
) -> list[str]:
    """So many messages of one notification into a lane; returns their ids."""
    id = submit(ledger, messages=count, klass=klass, valid_for_us=NEVER_US, job_type=job_type)
    admit(ledger, id, lane=where, units=units)
    return [f"{id}-{i}" for i in range(count)]


@pytest.fixture
def virtual(redis_url: str, namespace: str) -> Iterator[VirtualLedger]:
    """A ledger on the shared real server, in virtual time."""
    ledger = VirtualLedger(connect(redis_url, answer_s=10), namespace, start=START)
    yield ledger
    ledger.close()
