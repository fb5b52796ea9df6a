"""Redis is away for a while, in each way that it can be: producers are told, and workers go on as if nothing had been.

The provider ignores idempotency keys, no message ever leaves doubt here (the grace is an hour), and so "all accepted" says
that nothing was stranded, in doubt, or sent twice.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from producers.errors import EnqueueError
from producers.notifier import Notifier, Ticket
from tests.integration.engine.conftest import MakeRig, Rig
from tests.proxy import Proxy
from worker.embedded import EmbeddedServer

Numbers = Callable[[int], list[str]]
Trouble = Callable[[EmbeddedServer, Proxy], None]
COUNT, RATE = 300, 50


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as own:
        yield own


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[Proxy]:
    with Proxy(server.port) as own:
        yield own


@pytest.fixture
def rig(make_rig: MakeRig, proxy: Proxy) -> Rig:
    """Workers and producers behind the proxy."""
    rig = make_rig(proxy.url, "outage")
    rig.telnyx.faults(honour_keys=False, latency_ms=100)
    return rig


def lose_connection(seconds: float) -> Trouble:
    def trouble(_server: EmbeddedServer, proxy: Proxy) -> None:
        proxy.cut()
        time.sleep(seconds)
        proxy.restore()

    return trouble


def stall(server: EmbeddedServer, _proxy: Proxy) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(8)
    os.kill(server.pid, signal.SIGCONT)


def read_only(server: EmbeddedServer, proxy: Proxy) -> None:
    """A replica in the primary's place, until it is promoted."""
    notifier = Notifier(server.url)
    redis: Any = notifier.ledger.redis
    redis.replicaof("127.0.0.1", "1")
    time.sleep(8)
    redis.replicaof("NO", "ONE")
    redis.close()


def restart_slowly(server: EmbeddedServer, _proxy: Proxy) -> None:
    """It is killed, and reads its append-only file for some seconds, in which it answers LOADING."""
    server.kill()
    server._options = ("--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024")
    server.start()


TROUBLES = {
    "connection lost for 1 s": lose_connection(1),
    "connection lost for 10 s": lose_connection(10),
    "connection lost for 60 s": lose_connection(60),
    "silent for 8 s": stall,
    "read-only for 8 s": read_only,
    "restarted, loading": restart_slowly,
}


class Producer(threading.Thread):
    """Enqueues a code each half second, and keeps what came of it: a ticket, or the error."""

    def __init__(self, notifier: Notifier, numbers: list[str]) -> None:
        super().__init__(daemon=True)
        self._notifier, self._numbers = notifier, numbers
        self._ending = threading.Event()
        self.outcomes: dict[str, Ticket | EnqueueError] = {}

    def enqueue(self, number: str) -> Ticket:
        return self._notifier.enqueue("code", to=number, text="hello", idempotency_key=number)

    def run(self) -> None:
        for number in self._numbers:
            try:
                self.outcomes[number] = self.enqueue(number)
            except EnqueueError as error:
                self.outcomes[number] = error
            if self._ending.wait(0.5):
                return

    def succeeds(self) -> bool:
        return any(isinstance(outcome, Ticket) for outcome in list(self.outcomes.values())[-1:])

    def end(self) -> None:
        self._ending.set()
        self.join(30)
        assert not self.is_alive(), "enqueue hangs"

    def repeat_failed(self) -> list[Ticket]:
        """Every ticket, after each failed one was enqueued once more under its key."""
        return [
            self.enqueue(number) if isinstance(outcome, EnqueueError) else outcome
            for number, outcome in self.outcomes.items()
        ]


@pytest.mark.parametrize(
    "trouble",
    [pytest.param(name, marks=[] if "1 s" in name else pytest.mark.slow) for name in TROUBLES],
)
@pytest.mark.timeout(200)
def test_an_outage_costs_its_own_time_and_nothing_else(
    trouble: str, server: EmbeddedServer, proxy: Proxy, rig: Rig, numbers: Numbers
) -> None:
    wait_until, tree = rig.wait_until, rig.start_worker()
    direct = Notifier(server.url, namespace="outage")
    people = numbers(COUNT + 200)
    ticket = direct.enqueue("bulk", to=people[:COUNT], text="hello")
    wait_until(lambda: rig.telnyx.summary()["accepted"] >= 30, timeout_s=30)
    producer = Producer(rig.notifier, people[COUNT:])
    producer.start()
    TROUBLES[trouble](server, proxy)
    ended_s = time.time()
    wait_until(producer.succeeds, timeout_s=30)
    producer.end()
    tickets = [ticket, *producer.repeat_failed()]
    total = sum(one.messages for one in tickets)

    def accepted() -> bool:
        return all(direct.status(one.id).state_counts == {"accepted": one.messages} for one in tickets)

    wait_until(accepted, timeout_s=60, what="all to be accepted")
    assert rig.telnyx.summary()["accepted"] == total
    assert rig.telnyx.summary()["texted_twice"] == []
    check_rate(rig, ended_s)
    tree.signal_all(signal.SIGTERM)
    assert tree.process.wait(30) == 0


def check_rate(rig: Rig, ended_s: float) -> None:
    """The lane of the many goes on soon after the outage, at its rate."""
    after = [at_s for at_s in rig.telnyx.arrivals_s("+18885550001") if at_s > ended_s + 0.5]
    assert len(after) > 50, "the outage began too late to show anything"
    assert after[0] - ended_s < 10
    by_second = Counter(int(at_s - ended_s) for at_s in after)
    rate = (len(after) - 1) / (after[-1] - after[0])
    assert rate < 1.05 * RATE, sorted(by_second.items())
    # A machine that is busy with other tests misses slots; one that waits for something, almost all.
    assert max(by_second.values()) > 0.5 * RATE, sorted(by_second.items())
