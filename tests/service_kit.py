"""Run the whole service in a test: a real server, the sandbox in this process, web, worker trees and clock as real processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from producers import Notifier
from producers.ledger.ledger import Ledger
from worker.children import Child, spawn
from worker.embedded import EmbeddedServer, free_port
from worker.sandbox import SandboxOptions, running_sandbox

NOTIFY = Path(sys.executable).with_name("notify")
API_KEY = "a key of the tests"
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
CONFIG = Template("""
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "$rate"

[senders.local]
channel = "long_code"
from = "+13125550001"
rate = "$other_rate"

[senders.service]
channel = "toll_free"
from = "+18885550001"
rate = "20/s"

[senders.pool]
channel = "number_pool"
messaging_profile_id = "$profile"
rate = "$other_rate"

[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "$profile"
rate = "20/s"

[senders.whichever]
channel = "auto"
from = "+13125550009"
rate = "20/s"

[senders.family_number]
channel = "group_mms"
from = "+13125550002"
rate = "20/s"

[senders.whatsapp_main]
channel = "whatsapp"
from = "+13125550003"
rate = "20/s"

[limits]
account = "2000/s"
account_mms = "100/s"

[job_types.otp]
sender = "alerts"
priority = "urgent"
template = "Your code is {{ code }}"
valid_for = "5m"
on_uncertain = "$on_uncertain"

[job_types.login]
sender = "alerts"
priority = "urgent"
template = "Your code is {{ code }}"
valid_for = "5m"
on_uncertain = "$on_uncertain"
fallback = [{ sender = "whatsapp_main", after = "$after", whatsapp_template = { name = "code", language = "en_US" } }]

[job_types.notice]
sender = "alerts"
on_uncertain = "$on_uncertain"

[job_types.reminder]
sender = "local"
on_uncertain = "$on_uncertain"

[job_types.ticket]
sender = "service"
on_uncertain = "$on_uncertain"

[job_types.promotion]
sender = "pool"
priority = "bulk"
on_uncertain = "$on_uncertain"

[job_types.travel]
sender = "brand"

[job_types.generic]
sender = "whichever"

[job_types.family]
sender = "family_number"

[job_types.order]
sender = "whatsapp_main"
whatsapp_template = { name = "order_update", language = "en_US", components = [
  { type = "body", parameters = [{ type = "text", text = "{{ order }}" }] },
] }

[timing]
grace = "$grace"
grace_urgent = "$grace"
liveness = "$liveness"
poll_after = "$poll_after"

[receipts]
mode = "$mode"

[callbacks]
allow_private = true
""")


class Service:
    """The processes of one service under test; everything ends with :meth:`close`."""

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        telnyx: Any,
        *,
        rate: str = "100/s",
        grace: str = "3s",
        liveness: str = "3s",
        poll_after: str = "60s",
        mode: str = "webhook",
        other_rate: str = "50/s",
        on_uncertain: str = "resend",
        after: str = "2s",
    ) -> None:
        self.directory = directory
        self.telnyx = telnyx
        self.namespace = f"t{uuid.uuid4().hex[:12]}"
        self.port = free_port()
        config = directory / "notify.toml"
        config.write_text(
            CONFIG.substitute(
                rate=rate,
                other_rate=other_rate,
                grace=grace,
                liveness=liveness,
                poll_after=poll_after,
                mode=mode,
                on_uncertain=on_uncertain,
                after=after,
                profile=PROFILE,
            )
        )
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "REDIS_URL": redis_url,
            "TELNYX_API_KEY": "KEY0",
            "TELNYX_BASE_URL": telnyx.base_url,
            "TELNYX_PUBLIC_KEY": telnyx.public_key,
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "NOTIFY_CONFIG": str(config),
            "NOTIFY_API_KEYS": f"default:{hashlib.sha256(API_KEY.encode()).hexdigest()}",
            "NOTIFY_SECRET": "a secret of the tests, long enough",
            "NOTIFY_NAMESPACE": self.namespace,
            "PORT": str(self.port),
        }
        self.notifier = Notifier(redis_url, namespace=self.namespace)
        self.children: list[Child] = []

    @property
    def ledger(self) -> Ledger:
        return self.notifier.ledger

    def start(self, name: str, *arguments: str, fault: str = "", redis_url: str = "") -> Child:
        """Start ``notify <name> ...``; its log is in the test's directory.

        Args:
            fault: Where it dies or freezes, as ``producers.fault_points`` has it; see :meth:`reached`.
            redis_url: Where it finds Redis, if not where the others do: through a proxy.
        """
        nth = len(self.children)
        log = self.directory / f"{name}{nth}.log"
        environ = dict(self.environ)
        if fault:
            environ |= {"NOTIFY_FAULT_POINT": fault, "NOTIFY_FAULT_MARK": str(self.directory / f"{name}{nth}.mark")}
        if redis_url:
            environ["REDIS_URL"] = redis_url
        child = spawn(name, [NOTIFY, name, *arguments], environ=environ, log=log, directory=self.directory)
        self.children.append(child)
        return child

    def reached(self, child: Child) -> int | None:
        """The id of the process that reached the point at which ``child`` was to die or freeze, once one has."""
        mark = child.log.with_suffix(".mark") if child.log else None
        if mark is None or not mark.exists() or not (line := mark.read_text()).endswith("\n"):
            return None
        return int(line.split()[1])

    def start_web(self, **how: str) -> Child:
        """Start web and wait until it answers. There is one at a time, for they share a port."""
        for child in self.children:
            if child.name == "web":
                child.kill()
        web = self.start("web", **how)
        wait_until(lambda: self.get("/readyz")[0] == 200, what="web to be ready", child=web, timeout_s=90)
        return web

    def start_worker(self, processes: int = 1, threads: int = 16, **how: str) -> Child:
        """Start a worker tree and wait until all its processes live."""
        before = self.living()
        worker = self.start("worker", "--processes", str(processes), "--threads", str(threads), **how)
        wait_until(
            lambda: len(self.living() - before) >= processes, what="the worker to live", child=worker, timeout_s=90
        )
        return worker

    def living(self) -> set[str]:
        redis: Any = self.ledger.redis
        return {p.decode() for p in redis.smembers(self.ledger.key("procs"))}

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.call("GET", path, **headers)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", f"Bearer {API_KEY}")
        for key, value in headers.items():
            request.add_header(key.replace("_", "-"), value)
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            request.add_header("Content-Type", "application/json")
        return _answer(request, data)

    def sandbox(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{self.telnyx.url}/sandbox/{path}", method="GET" if body is None else "POST")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        status, answer = _answer(request, None if body is None else json.dumps(body).encode())
        assert status < 300, (status, answer)
        return answer

    def sent(self, **filters: str) -> list[dict[str, Any]]:
        """What the sandbox accepted, oldest first."""
        query = "&".join(f"{k}={v}" for k, v in {"limit": "100000", **filters}.items())
        found: list[dict[str, Any]] = self.sandbox(f"messages?{query}")
        return found

    def states(self, id: str) -> dict[str, int]:
        return self.notifier.status(id, limit=0).state_counts

    def wait_final(self, *ids: str, timeout_s: float = 40) -> list[dict[str, int]]:
        def ended() -> list[dict[str, int]] | None:
            counts = [self.notifier.status(id, limit=0) for id in ids]
            return [c.state_counts for c in counts] if all(c.is_final for c in counts) else None

        found: list[dict[str, int]] = wait_until(
            ended, timeout_s=timeout_s, what="every message to be final", seen=lambda: [self.states(i) for i in ids]
        )
        return found

    def close(self) -> None:
        for child in self.children:
            child.kill()
        self.notifier.ledger.redis.close()


def _answer(request: urllib.request.Request, data: bytes | None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, data, timeout=20) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        text = error.read()
        with contextlib.suppress(ValueError):
            return error.code, json.loads(text)
        return error.code, text
    except (urllib.error.URLError, ConnectionError) as error:
        return 0, str(error)


def wait_until(
    condition: Any, *, timeout_s: float = 30, what: str = "", child: Child | None = None, seen: Any = None
) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if child is not None and child.exit_code() is not None:
            raise AssertionError(f"{child.name} ended with {child.exit_code()}:\n{child.tail(40)}")
        if time.monotonic() > deadline:
            more = f"; last seen {seen()!r}" if seen else ""
            tail = f"\n{child.tail(40)}" if child else ""
            raise AssertionError(f"waited {timeout_s:g} s for {what or condition}{more}{tail}")
        time.sleep(0.03)


@contextlib.contextmanager
def running_service(
    directory: Path, redis_url: str | None = None, *, sandbox: SandboxOptions | None = None, **options: Any
) -> Iterator[Service]:
    """A service with web running and no worker yet; on a server of its own unless ``redis_url`` is given."""
    with contextlib.ExitStack() as stack:
        if redis_url is None:
            redis_url = stack.enter_context(EmbeddedServer(appendonly=True)).url
        telnyx = stack.enter_context(running_sandbox(sandbox or SandboxOptions(seed=1)))
        service = Service(directory, redis_url, telnyx, **options)
        stack.callback(service.close)
        yield service


def terminate(child: Child) -> int:
    child.signal(signal.SIGTERM)
    return child.wait(timeout_s=30)
