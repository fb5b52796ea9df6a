"""The public Python API on a real server: tickets, keys, outages, events, and what it leaves alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ledger_kit import publication

from producers import (
    EnqueueError,
    EventsGone,
    IdempotencyConflict,
    InvalidNotification,
    NotFound,
    Notifier,
    NotReady,
)
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.pointers import EXPAND, EXPAND_URGENT
from worker.embedded import EmbeddedServer, free_port

TO = "+13125550100"


def job(**other: Any) -> dict[str, Any]:
    return {
        "sender": "alerts", "channel": "long_code", "class": 1, "template": False, "variables": [], "valid_for_s": 3600,
        "callback": False, "whatsapp": False, "group": False, "media": False, **other,
    }  # fmt: skip


def publish(ledger: Ledger, **jobs: Any) -> None:
    body = publication(digest=f"d{len(jobs)}")
    body["job_types"] = {"notice": job(), "otp": job(template=True, variables=["code"], **{"class": 0}), **jobs}
    ledger.run(calls.publish(body, {}))


@pytest.fixture
def notifier(redis_url: str, namespace: str, ledger: Ledger) -> Notifier:
    publish(ledger)
    return Notifier(redis_url, namespace=namespace, deadline_s=1.0)


def test_the_same_key_with_the_same_request_gives_the_same_ticket(notifier: Notifier) -> None:
    first = notifier.enqueue("notice", to=[TO, "+13125550101", TO], text="hello", idempotency_key="k1")
    assert first.messages == 2, "duplicates count once"
    assert notifier.enqueue("notice", to=[TO, "+13125550101"], text="hello", idempotency_key="k1") == first
    with pytest.raises(IdempotencyConflict) as caught:
        notifier.enqueue("notice", to=TO, text="other", idempotency_key="k1")
    assert caught.value.id == first.id


def test_clients_never_meet(notifier: Notifier, redis_url: str, namespace: str) -> None:
    other = Notifier(redis_url, namespace=namespace, client="other")
    mine = notifier.enqueue("notice", to=TO, text="hello", idempotency_key="k1")
    theirs = other.enqueue("notice", to=TO, text="another", idempotency_key="k1")
    assert mine.id != theirs.id
    with pytest.raises(NotFound):
        notifier.status(theirs.id)
    with pytest.raises(NotFound):
        other.cancel(mine.id)


def test_many_are_written_in_order_or_not_at_all(notifier: Notifier, ledger: Ledger) -> None:
    rows = [{"job_type": "notice", "to": f"+1312555{i:04d}", "text": "hello"} for i in range(1200)]
    tickets = notifier.enqueue_many(rows)
    assert [notifier.status(t.id).messages[0].to for t in tickets[::400]] == [
        "+13125550000",
        "+13125550400",
        "+13125550800",
    ]
    before = set(ledger.redis.scan_iter(match=f"{ledger.prefix}*"))
    with pytest.raises(InvalidNotification) as caught:
        notifier.enqueue_many([rows[0], {**rows[1], "to": "12"}, {"job_type": "otp", "to": TO}])
    assert {e.field for e in caught.value.errors} == {"[1].to", "[2].variables.code"}
    assert set(ledger.redis.scan_iter(match=f"{ledger.prefix}*")) == before


def test_urgent_and_small_has_a_queue_of_its_own(notifier: Notifier, ledger: Ledger) -> None:
    notifier.enqueue("otp", to=TO, variables={"code": "1"})
    notifier.enqueue("otp", to=[f"+1312555{i:04d}" for i in range(11)], variables={"code": "1"})
    redis: Any = ledger.redis
    assert [redis.llen(ledger.key(f"d:{queue}")) for queue in (EXPAND_URGENT, EXPAND)] == [1, 1]


def test_cancel_stops_all_that_waits_and_may_be_repeated(notifier: Notifier) -> None:
    ticket = notifier.enqueue("notice", to=[f"+1312555{i:04d}" for i in range(450)], text="hello")
    assert notifier.cancel(ticket.id) == 450
    assert notifier.cancel(ticket.id) == 0
    status = notifier.status(ticket.id)
    assert (status.state_counts, status.is_final) == ({"cancelled": 450}, True)


def test_nothing_published_is_not_ready(redis_url: str, namespace: str) -> None:
    with pytest.raises(NotReady):
        Notifier(redis_url, namespace=namespace).enqueue("notice", to=TO, text="hello")


def test_a_job_type_that_was_just_published_is_known_at_once(notifier: Notifier, ledger: Ledger) -> None:
    with pytest.raises(InvalidNotification, match="job_type"):
        notifier.enqueue("news", to=TO, text="hello")
    publish(ledger, news=job())
    assert notifier.enqueue("news", to=TO, text="hello").messages == 1


def test_no_server_is_a_clear_error_and_nothing_exists() -> None:
    notifier = Notifier(f"redis://127.0.0.1:{free_port()}", deadline_s=0.5)
    began = time.monotonic()
    with pytest.raises(EnqueueError) as caught:
        notifier.enqueue("notice", to=TO, text="hello")
    assert caught.value.may_exist is False
    assert time.monotonic() - began < 3


def test_enqueue_waits_out_a_restart_of_the_server() -> None:
    with EmbeddedServer(appendonly=True) as server:
        notifier = Notifier(server.url, deadline_s=20)
        publish(notifier.ledger)
        first = notifier.enqueue("notice", to=TO, text="hello")
        server.kill()
        back = threading.Timer(0.5, server.start)
        back.start()
        second = notifier.enqueue("notice", to=TO, text="hello")
        back.join()
        assert [notifier.status(t.id).messages[0].state for t in (first, second)] == ["new", "new"]


@contextmanager
def line_that_loses_answers(port: int) -> Iterator[tuple[int, threading.Event]]:
    """A way to the server on which, once the event is set, commands arrive and the line is cut before the answer."""
    lossy = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    done = threading.Event()

    def carry(a: socket.socket, b: socket.socket, *, answers: bool) -> None:
        try:
            while data := a.recv(65536):
                if answers and lossy.is_set():
                    break
                b.sendall(data)
        except OSError:
            pass  # the other direction has closed both
        for s in (a, b):
            s.close()

    def serve() -> None:
        while not done.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=carry, args=(client, server), kwargs={"answers": False}, daemon=True).start()
            threading.Thread(target=carry, args=(server, client), kwargs={"answers": True}, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], lossy
    done.set()
    thread.join()
    listener.close()


def test_a_lost_answer_says_that_it_may_exist_and_a_repeat_with_the_key_writes_nothing_twice() -> None:
    with EmbeddedServer(appendonly=False) as server, line_that_loses_answers(server.port) as (port, lossy):
        notifier = Notifier(f"redis://127.0.0.1:{port}", deadline_s=1.0)
        publish(notifier.ledger)
        warm = notifier.enqueue("notice", to=TO, text="first")
        lossy.set()
        with pytest.raises(EnqueueError) as caught:
            notifier.enqueue("notice", to=TO, text="hello", idempotency_key="k1")
        assert caught.value.may_exist is True
        lossy.clear()
        ticket = notifier.enqueue("notice", to=TO, text="hello", idempotency_key="k1")
        assert ticket.id == caught.value.id
        redis: Any = notifier.ledger.redis
        records = list(redis.scan_iter(match="{notify}:m:*"))
        assert sorted(records) == sorted(f"{{notify}}:m:{t.id}-0".encode() for t in (warm, ticket))


def test_a_full_server_is_a_clear_error_and_nothing_is_written() -> None:
    with EmbeddedServer(appendonly=False, options=("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")) as server:
        notifier = Notifier(server.url, deadline_s=0.5)
        publish(notifier.ledger)

        def fill() -> None:
            for i in range(2000):
                notifier.enqueue("notice", to=[f"+1312{n:07d}" for n in range(i * 200, i * 200 + 200)], text="x" * 500)

        with pytest.raises(EnqueueError, match="out of memory") as caught:
            fill()
        assert caught.value.may_exist is False
        with pytest.raises(NotFound):
            notifier.status(caught.value.id)


def test_events_are_read_by_cursor_and_a_gap_is_told(notifier: Notifier, ledger: Ledger) -> None:
    ticket = notifier.enqueue("notice", to=TO, text="hello")
    notifier.cancel(ticket.id)
    events = list(notifier.events())
    assert [(e.type, e.notification, e.message, e.state) for e in events] == [
        ("message.final", ticket.id, f"{ticket.id}-0", "cancelled"),
        ("notification.finished", ticket.id, "", ""),
    ]
    assert events[1].counts == {"cancelled": 1}
    assert list(notifier.events(after=events[0].cursor)) == events[1:]
    assert len({e.id for e in events}) == 2
    assert [e.id for e in notifier.events()] == [e.id for e in events], "the same on a repeat"
    redis: Any = ledger.redis
    redis.xtrim(ledger.key("ev"), maxlen=0)
    notifier.cancel(notifier.enqueue("notice", to=TO, text="hello").id)
    with pytest.raises(EventsGone):
        list(notifier.events(after=events[0].cursor))


@pytest.mark.parametrize("cursor", ["garbage", "5-", "-1", ""])
def test_what_is_no_cursor_is_refused_in_words(notifier: Notifier, cursor: str) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        list(notifier.events(after=cursor))


def test_one_url_given_for_the_list_of_media_is_told_as_such(notifier: Notifier) -> None:
    with pytest.raises(InvalidNotification, match="write a list of URLs"):
        notifier.enqueue("notice", to=TO, media_urls="https://example.com/a.jpg")


@pytest.mark.parametrize("url", ["localhost", "redis://:hunter2@localhost:6379/0?foo=1"])
def test_a_url_that_no_connection_can_be_made_of_is_refused_at_once_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="the URL of Redis") as caught:
        Notifier(url)
    assert "hunter2" not in str(caught.value)


def test_an_empty_variable_of_the_environment_is_one_that_is_not_set(redis_url: str) -> None:
    made = Notifier.from_env({"REDIS_URL": redis_url, "NOTIFY_CLIENT": "", "NOTIFY_NAMESPACE": ""})
    assert (made.client, made.ledger.namespace) == ("default", "notify")


def test_waiting_for_events_wakes_when_one_comes(notifier: Notifier) -> None:
    ticket = notifier.enqueue("notice", to=TO, text="hello")
    timer = threading.Timer(0.3, notifier.cancel, [ticket.id])
    timer.start()
    first = next(iter(notifier.events(wait_s=10)))
    timer.join()
    assert first.notification == ticket.id


HOST_APP = """
import sys, dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.encoder import PickleEncoder
theirs = StubBroker(); dramatiq.set_broker(theirs); dramatiq.set_encoder(PickleEncoder())
from producers import Notifier
notifier = Notifier(sys.argv[1], namespace=sys.argv[2])
notifier.enqueue("notice", to="+13125550100", text="hello")
assert dramatiq.get_broker() is theirs and isinstance(dramatiq.get_encoder(), PickleEncoder)
assert not theirs.queues and not theirs.actors
assert not [m for m in ("telnyx", "fastapi", "starlette", "worker", "aiohttp", "uvicorn") if m in sys.modules]
"""


def test_a_host_apps_dramatiq_is_left_alone_and_nothing_heavy_is_loaded(
    notifier: Notifier, redis_url: str, namespace: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOST_APP, redis_url, namespace], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (body,) = notifier.ledger.redis.hvals(notifier.ledger.key(f"d:{EXPAND}.msgs"))
    assert body.startswith(b"{"), "JSON, whatever encoder the host app has"


def test_importing_producers_loads_neither_redis_nor_dramatiq() -> None:
    code = "import sys, producers; from producers import Notifier; assert 'redis' not in sys.modules or sys.exit(3)"
    heavy = "{'redis', 'dramatiq', 'pydantic', 'phonenumbers', 'tenacity'}"
    light = f"import sys, producers; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
