"""A web process of our own: in a thread for most tests, as a real process where its end matters."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey

from worker.settings import SCOPES, Settings, parse_config
from worker.settings.variables import ApiKey
from worker.web.app import create_app
from worker.web.server import bind, make_server

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
CONFIG = f"""
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "100/s"

[senders.local]
channel = "long_code"
from = "+13125550001"
rate = "10/s"

[senders.pool]
channel = "number_pool"
messaging_profile_id = "{PROFILE}"
rate = "20/s"

[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "{PROFILE}"
rate = "auto"

[senders.family]
channel = "group_mms"
from = "+13125550002"
rate = "1/s"

[senders.wa]
channel = "whatsapp"
from = "+13125550003"
rate = "20/s"

[job_types.otp]
sender = "alerts"
priority = "urgent"
template = "Your code is {{{{ code }}}}"

[job_types.notice]
sender = "local"

[job_types.promotion]
sender = "pool"
priority = "bulk"

[job_types.abroad]
sender = "brand"

[job_types.family_update]
sender = "family"

[job_types.chat]
sender = "wa"
"""
SIGNING_KEY = SigningKey(b"a web test's own signing key 32b")
APP_KEY, OTHER_KEY, READER_KEY = "app-key", "other-key", "reader-key"
PERSON = "+13125550100"


def api_keys() -> tuple[ApiKey, ...]:
    def made(name: str, key: str, scopes: tuple[str, ...]) -> ApiKey:
        return ApiKey(name, hashlib.sha256(key.encode()).hexdigest(), frozenset(scopes))

    return made("app", APP_KEY, SCOPES), made("other", OTHER_KEY, SCOPES), made("reader", READER_KEY, ("read",))


def web_settings(redis_url: str, namespace: str) -> Settings:
    return Settings(
        role="web",
        redis_url=redis_url,
        namespace=namespace,
        telnyx_public_keys=(bytes(SIGNING_KEY.verify_key),),
        loaded_config=parse_config(CONFIG),
        api_keys=api_keys(),
        secret="a secret of the tests",
    )


def signed(body: bytes, *, at_s: int | None = None, key: SigningKey = SIGNING_KEY) -> dict[str, str]:
    """Headers that prove ``body``, as Telnyx makes them."""
    at_s = int(time.time()) if at_s is None else at_s
    signature = key.sign(b"%d|%b" % (at_s, body)).signature
    return {
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        "telnyx-timestamp": str(at_s),
        "content-type": "application/json",
    }


def receipt(ref: str, *, event_type: str = "message.finalized", status: str = "delivered", **more: Any) -> bytes:
    payload = {
        "record_type": "message", "direction": "outbound", "id": str(uuid.uuid4()), "type": "SMS",
        "from": {"phone_number": "+13125550001"}, "to": [{"phone_number": PERSON, "status": status}],
        "text": "a secret text", "webhook_url": f"https://x.example/webhooks/telnyx?ref={ref}", **more,
    }  # fmt: skip
    return _event(event_type, payload)


def inbound(text: str, *, to: str = "+13125550001", keyword: str | None = None, **more: Any) -> bytes:
    payload: dict[str, Any] = {
        "record_type": "message", "direction": "inbound", "id": str(uuid.uuid4()), "type": "SMS",
        "from": {"phone_number": PERSON}, "to": [{"phone_number": to, "status": "webhook_delivered"}], "text": text,
        **more,
    }  # fmt: skip
    if keyword:
        payload["autoresponse_type"] = keyword
    return _event("message.received", payload)


def _event(event_type: str, payload: dict[str, Any]) -> bytes:
    # The clock is read once: of two readings, the turn of a second may lie in between.
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    data = {"record_type": "event", "id": str(uuid.uuid4()), "event_type": event_type, "occurred_at": now}
    return json.dumps({"data": {**data, "payload": payload}, "meta": {"attempt": 1}}).encode()


@dataclass
class Web:
    """A web process that answers."""

    url: str
    client: httpx.Client = field(repr=False)

    def call(self, method: str, path: str, *, key: str | None = APP_KEY, **more: Any) -> httpx.Response:
        headers = {**({"authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)

    def webhook(self, body: bytes, **more: Any) -> httpx.Response:
        headers = more.pop("headers", None)
        return self.client.post("/webhooks/telnyx", content=body, headers=signed(body) if headers is None else headers)


def _await(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def running(settings: Settings, *, ready: bool = True) -> Iterator[Web]:
    """A web process in a thread; ``ready``: wait until its configuration is published."""
    server = make_server(create_app(settings))
    with bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        thread.start()
        with httpx.Client(base_url=url, timeout=30) as client:
            try:
                _await(lambda: server.started or not thread.is_alive(), "web to start")
                assert server.started, "web did not start"
                if ready:
                    _await(lambda: client.get("/readyz").status_code == 200, "web to be ready")
                yield Web(url, client)
            finally:
                server.should_exit = True
                thread.join(timeout=20)
        assert not thread.is_alive(), "web did not stop"


@pytest.fixture
def web(redis_url: str, namespace: str) -> Iterator[Web]:
    with running(web_settings(redis_url, namespace)) as started:
        yield started


@dataclass
class Process:
    """A web process of its own."""

    popen: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        return self.popen.wait(timeout_s)

    def find_url(self) -> str:
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("event") == "web_listens":
                    self.url = f"http://127.0.0.1:{said['port']}"
        return self.url

    def answers(self) -> bool:
        if self.popen.poll() is not None:
            pytest.fail(f"web ended with {self.popen.returncode}: {self.log.read_text()[-2000:]}")
        if not (self.url or self.find_url()):
            return False
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False


LAUNCH = """
import sys
from worker.settings import load_settings
from worker.web import run
sys.exit(run(load_settings("web")))
"""


@pytest.fixture
def start_web(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``start_web()``: a process on a port that the system chose."""
    started: list[Process] = []

    def start(**environ: str) -> Process:
        config = tmp_path / "notify.toml"
        config.write_text(CONFIG)
        log = tmp_path / f"web-{len(started)}.log"
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "REDIS_URL": redis_url,
            "NOTIFY_NAMESPACE": namespace,
            "NOTIFY_CONFIG": str(config),
            "NOTIFY_SECRET": "a secret of the tests",
            "NOTIFY_API_KEYS": ",".join(f"{key.name}:{key.sha256}" for key in api_keys()),
            "TELNYX_PUBLIC_KEY": base64.b64encode(bytes(SIGNING_KEY.verify_key)).decode(),
            "PORT": "0",
            **environ,
        }
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-c", LAUNCH], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
            )
        process = Process(popen, log)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.signal(signal.SIGKILL)
            process.wait()
