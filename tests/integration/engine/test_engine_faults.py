"""A worker tree beside a server that dies, falls silent or is full: nothing is lost, and nobody is texted twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import RedisError

from producers.errors import EnqueueError
from tests.integration.engine.conftest import MakeRig, Rig
from worker.embedded import EmbeddedServer

Numbers = Callable[[int], list[str]]
Wait = Callable[..., Any]
COUNT = 150


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as own:
        yield own


def sent_so_far(rig: Rig, notification: str) -> int:
    with suppress(RedisError, EnqueueError):
        return rig.states(notification).get("accepted", 0)
    return 0


def kill(server: EmbeddedServer, rig: Rig, wait_until: Wait) -> None:
    server.kill()
    wait_until(lambda: "unreachable" in rig.trees[0].log.read_text(), timeout_s=20)
    server.start()


def silence(server: EmbeddedServer, rig: Rig, wait_until: Wait) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "unreachable" in rig.trees[0].log.read_text(), timeout_s=20)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def fill_up(server: EmbeddedServer, rig: Rig, wait_until: Wait) -> None:
    redis = rig.ledger.redis
    before = sum(rig.telnyx.summary()["by_path"].values())
    redis.config_set("maxmemory", 1)
    try:
        wait_until(lambda: sum(rig.telnyx.summary()["by_path"].values()) >= before + 20, timeout_s=20)
    finally:
        redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("trouble", [kill, silence, fill_up], ids=["killed", "silent", "full"])
def test_a_server_in_trouble_costs_time_and_no_message(
    trouble: Callable[[EmbeddedServer, Rig, Wait], None],
    server: EmbeddedServer,
    make_rig: MakeRig,
    numbers: Numbers,
    wait_until: Wait,
) -> None:
    rig = make_rig(server.url, "faults")
    tree = rig.start_worker()
    ticket = rig.notifier.enqueue("bulk", to=numbers(COUNT), text="hello")
    wait_until(lambda: sent_so_far(rig, ticket.id) >= 20, timeout_s=30)
    trouble(server, rig, wait_until)
    wait_until(lambda: sent_so_far(rig, ticket.id) == COUNT, timeout_s=60, what="all to be accepted")
    assert tree.process.poll() is None
    assert rig.telnyx.summary()["accepted"] == COUNT
    assert rig.telnyx.summary()["texted_twice"] == []
    again = rig.notifier.enqueue("code", to=numbers(5), text="hello")
    wait_until(lambda: rig.states(again.id) == {"accepted": 5}, timeout_s=30)
    tree.signal_all(signal.SIGTERM)
    assert tree.process.wait(30) == 0
