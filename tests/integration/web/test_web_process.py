"""The web process as a platform sees it: it ends with 0, says what is wrong at its start, and its log tells nobody's number."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from producers.ledger.ledger import Ledger

from .conftest import APP_KEY, PERSON, Process, inbound, receipt, signed

StartWeb = Callable[..., Process]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(start_web: StartWeb, wait_until: Any, number: int) -> None:
    process = start_web()
    wait_until(process.answers, timeout_s=60)
    process.signal(number)
    assert process.wait() == 0


def test_sigterm_again_and_again_until_it_is_gone_ends_it_with_0(start_web: StartWeb, wait_until: Any) -> None:
    process = start_web()
    wait_until(process.answers, timeout_s=60)
    deadline = time.monotonic() + 30
    while process.popen.poll() is None:
        assert time.monotonic() < deadline, "web did not end"
        process.signal(signal.SIGTERM)
        time.sleep(0.002)
    assert process.popen.returncode == 0


def test_sigterm_while_it_starts_ends_it_with_0(start_web: StartWeb, wait_until: Any) -> None:
    process = start_web()
    # The first sign that its handlers stand: /proc shows the caught signals.
    wait_until(lambda: process.popen.poll() is not None or _catches(process.popen.pid, signal.SIGTERM), timeout_s=60)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def _catches(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        mask = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_a_receipt_under_way_at_sigterm_is_kept_and_answered(
    start_web: StartWeb, ledger: Ledger, wait_until: Any
) -> None:
    process = start_web()
    wait_until(process.answers, timeout_s=60)
    body = receipt("0" * 32 + "-0")
    head = "\r\n".join(f"{name}: {value}" for name, value in signed(body).items())
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as conn:
        conn.sendall(
            f"POST /webhooks/telnyx HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{head}\r\n\r\n".encode()
        )
        conn.sendall(body[:100])
        wait_until(lambda: httpx.get(f"{process.url}/healthz").status_code == 200)  # so the half has been read
        process.signal(signal.SIGTERM)
        time.sleep(0.3)  # into the shutdown; a shorter wait only tests less
        conn.sendall(body[100:])
        answer = conn.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")
    assert process.wait() == 0
    assert int(ledger.redis.zcard(ledger.key("rx"))) == 1


def test_a_taken_port_is_named_and_ends_it_with_2(start_web: StartWeb) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        process = start_web(PORT=str(taken.getsockname()[1]))
        assert process.wait(60) == 2
    assert "set PORT to a free port" in process.log.read_text()


def test_it_starts_while_redis_is_away_and_says_503(start_web: StartWeb, wait_until: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        process = start_web(REDIS_URL=f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        wait_until(process.answers, timeout_s=60)
        assert httpx.get(f"{process.url}/readyz").status_code == 503
        body = receipt("0" * 32 + "-0")
        assert httpx.post(f"{process.url}/webhooks/telnyx", content=body, headers=signed(body)).status_code == 503
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_its_log_holds_no_number_no_text_and_no_key(start_web: StartWeb, wait_until: Any) -> None:
    process = start_web(LOG_LEVEL="debug")
    wait_until(process.answers, timeout_s=60)
    own = {"authorization": f"Bearer {APP_KEY}"}
    plain = PERSON.removeprefix("+")
    with httpx.Client(base_url=process.url, headers=own, timeout=30) as client:
        for number in (PERSON, PERSON.replace("+", "%2B"), plain, "".join(f"%{ord(c):02x}" for c in PERSON)):
            client.put(f"/v1/opt-outs/{number}")
        client.post("/v1/notifications", json={"job_type": "notice", "to": PERSON, "text": "a secret text"})
        client.post("/v1/notifications", json={"job_type": "notic", "to": PERSON, "text": "a secret text"})
        stop = inbound("a secret text", keyword="STOP")
        client.post("/webhooks/telnyx", content=stop, headers=signed(stop))
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    said = process.log.read_text()
    assert "/v1/opt-outs/" in said and "+1312***0100" in said
    for secret in (plain, "secret text", APP_KEY, "%33%31%32"):
        assert secret not in said


def test_idle_clients_do_not_hold_up_its_end(start_web: StartWeb, wait_until: Any) -> None:
    process = start_web()
    wait_until(process.answers, timeout_s=60)
    with httpx.Client(base_url=process.url) as client:
        client.get("/healthz")
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < 10


def test_requests_at_sigterm_are_answered_or_refused_never_cut(start_web: StartWeb, wait_until: Any) -> None:
    process = start_web()
    wait_until(process.answers, timeout_s=60)
    seen: list[int] = []
    cut: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=process.url, timeout=20) as client:
            while True:
                body = receipt("0" * 32 + "-0")
                try:
                    seen.append(client.post("/webhooks/telnyx", content=body, headers=signed(body)).status_code)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                    cut.append(type(error).__name__)  # the next request of a connection that had been closed
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(seen) > 20)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    for thread in threads:
        thread.join(20)
    assert set(seen) == {200}
    assert len(cut) == 4
