"""A server that comes back without its last seconds, as a replica that lagged: nobody is texted twice, and nothing is lost.

The provider ignores idempotency keys here, so a message that is sent again arrives again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.errors import EnqueueError, NotFound, NotReady
from tests.service_kit import Service, running_service, wait_until
from worker.embedded import EmbeddedServer
from worker.sandbox import SandboxOptions

Numbers = Callable[[int], list[str]]
COUNT, FORGOTTEN = 400, 60
FILES = "appendonlydir"


def fall_back(server: EmbeddedServer, copy: Path) -> None:
    """The server dies, and one that knows only the copy answers in its place."""
    server.kill()
    shutil.rmtree(server.directory / FILES)
    shutil.copytree(copy, server.directory / FILES)
    server.start()


def said(service: Service, event: str) -> list[dict[str, Any]]:
    """Lines of the workers' logs."""
    lines = [line for child in service.children if child.log for line in child.log.read_text().splitlines()]
    return [json.loads(line) for line in lines if f'"{event}"' in line]


@contextlib.contextmanager
def running(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Service]]:
    """A service on a server of its own, with two workers; the provider answers slowly and ignores keys."""
    sandbox = SandboxOptions(seed=1, faults={"honour_keys": False, "latency_ms": 400})
    with (
        EmbeddedServer(appendonly=True) as server,
        running_service(tmp_path, server.url, sandbox=sandbox, rate="50/s", poll_after="2s") as service,
    ):
        service.start_worker()
        service.start_worker()
        service.start_web()
        yield server, service


@pytest.mark.slow
def test_what_a_failover_forgot_is_neither_sent_again_nor_lost(tmp_path: Path, numbers: Numbers) -> None:
    with running(tmp_path) as (server, service):
        ticket = service.notifier.enqueue("notice", to=numbers(COUNT), text="hello")
        wait_until(lambda: len(service.sent()) >= 50, what="the first to be sent")
        copy = tmp_path / "replica"
        shutil.copytree(server.directory / FILES, copy)
        known = len(service.sent())
        wait_until(lambda: len(service.sent()) >= known + FORGOTTEN, what="more to be sent, which the copy lacks")
        fall_back(server, copy)
        (counts,) = service.wait_final(ticket.id, timeout_s=100)
        assert counts == {"delivered": COUNT}
        assert service.sandbox("summary")["texted_twice"] == []
        assert len(service.sent()) == COUNT
        held = [line.get("held", 0) for line in said(service, "server_was_told")]
        assert sum(held) >= FORGOTTEN / 2, held  # else it was no failover, and the test has shown nothing


@pytest.mark.slow
def test_a_failover_under_a_stream_of_single_messages_texts_nobody_twice(tmp_path: Path, numbers: Numbers) -> None:
    with running(tmp_path) as (server, service):
        people, tickets, ending = numbers(1000), [], threading.Event()

        def produce() -> None:
            for number in people:
                with contextlib.suppress(EnqueueError, NotReady):
                    tickets.append(service.notifier.enqueue("otp", to=number, variables={"code": "1"}))
                if ending.wait(0.02):
                    return

        producer = threading.Thread(target=produce)
        producer.start()
        wait_until(lambda: len(service.sent()) >= 50, what="the first to be sent")
        copy = tmp_path / "replica"
        shutil.copytree(server.directory / FILES, copy)
        known = len(service.sent())
        wait_until(lambda: len(service.sent()) >= known + FORGOTTEN, what="more to be sent, which the copy lacks")
        fall_back(server, copy)
        back = len(service.sent())
        wait_until(lambda: len(service.sent()) >= back + 30, what="sending to go on")
        ending.set()
        producer.join()
        remembered = []
        for ticket in tickets:
            with contextlib.suppress(NotFound):
                service.notifier.status(ticket.id, limit=0)
                remembered.append(ticket.id)
        assert len(remembered) >= len(tickets) / 2
        ended = service.wait_final(*remembered, timeout_s=100)
        assert all(counts == {"delivered": 1} for counts in ended)
        assert service.sandbox("summary")["texted_twice"] == []
