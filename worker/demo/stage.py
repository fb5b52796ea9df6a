"""Everything that runs during the demo, as real processes: server, sandbox, web, two worker trees, clock.

Ports are the system's choice, logs lie in a temporary directory, and the environment of the person who runs the demo is
kept out: nothing of theirs may reach Telnyx or a Redis from here. However it ends, nothing is left running.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import worker
from worker.children import Child, spawn
from worker.demo.http import Api
from worker.embedded import EmbeddedServer

T = TypeVar("T")

CONFIG = Path(__file__).with_name("notify.toml")
START_S = 120.0  # 5 s on an idle machine, ten times that on a very busy one
DRAIN_S = 28.0  # a worker ends within 25 s of SIGTERM
CLIENT = "demo"
NAMESPACE = "demo"
LATENCY_MS = 150  # of the sandbox, so that requests are under way at any moment
FOREIGN = ("REDIS_", "TELNYX_", "NOTIFY_", "HEROKU_", "PUBLIC_URL", "PORT", "LOG_LEVEL")


class StageError(Exception):
    """A process did not start; the message ends with its log."""


class Stage:
    """A context manager. Inside it, ``sandbox`` and ``web`` answer and both worker trees take work."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.directory = Path(tempfile.mkdtemp(prefix="notify-demo-"))
        self.keep_logs = False
        self.server = EmbeddedServer(self._made("redis"))
        self.children: dict[str, Child] = {}
        self.killed: set[str] = set()
        self.processes: dict[str, str] = {}  # a worker tree's name, and the id under which its process holds messages
        self.api_key = secrets.token_urlsafe(24)
        self._environ: dict[str, str] = {}
        self.sandbox = Api("")
        self.web = Api("")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as wrong:
            self.keep_logs = not isinstance(wrong, KeyboardInterrupt)
            self.close(patience_s=2)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep_logs = self.keep_logs or (kind is not None and not issubclass(kind, KeyboardInterrupt))
        self.close(patience_s=2)

    def _start(self) -> None:
        self._say("starting a Redis server, the sandbox, web, two worker trees and the clock")
        self.server.start()
        options = [f"--fault=latency_ms={LATENCY_MS}", "--set=silent_s=1", "--set=late_s=2", "--set=keep=20000"]
        self._spawn("sandbox", "sandbox", "--port", "0", "--json", *options)
        sandbox = self._told("sandbox", lambda line: json.loads(line) if line.startswith("{") else None)
        self.sandbox = Api(sandbox["url"])
        self._environ = self._service_environ(sandbox)
        self._spawn("web", "web", PORT="0")
        port = self._told("web", lambda line: _field(line, "web_listens", "port"))
        url = f"http://127.0.0.1:{port}"
        self.web = Api(url, key=self.api_key)
        self._environ["PUBLIC_URL"] = url
        for name in ("worker-1", "worker-2"):
            self._spawn(name, "worker", "--processes", "1", "--threads", "16")
        self._spawn("clock", "clock")
        self._await(lambda: self.web.get("/readyz", patient=True), "web", "answers /readyz")
        for name in ("worker-1", "worker-2"):
            self.processes[name] = self._told(name, lambda line: _field(line, "worker_booted", "process"))

    def kill_worker(self, name: str) -> None:
        """SIGKILL the whole tree: no handler, no finally, no atexit."""
        self.children[name].kill()
        self.killed.add(name)

    def stop(self) -> dict[str, int]:
        """SIGTERM to every process, as a platform does, and wait. The exit codes of those that were not killed."""
        living = [(name, child) for name, child in self.children.items() if name not in self.killed]
        for _, child in living:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_S
        codes = {name: child.stop(timeout_s=max(0.1, deadline - time.monotonic())) for name, child in living}
        self.children.clear()
        return codes

    def close(self, *, patience_s: float) -> None:
        """End whatever still runs; safe to repeat. Signals that come meanwhile do not stop it."""
        with _undisturbed():
            for child in self.children.values():
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + patience_s
            for child in self.children.values():
                child.stop(timeout_s=max(0.1, deadline - time.monotonic()))
            self.children.clear()
            self.server.stop()
            if not self.keep_logs:
                shutil.rmtree(self.directory, ignore_errors=True)

    def _service_environ(self, sandbox: Mapping[str, str]) -> dict[str, str]:
        return {
            "REDIS_URL": self.server.url,
            "TELNYX_BASE_URL": sandbox["base_url"],
            "TELNYX_API_KEY": "KEY_of_the_sandbox",
            "TELNYX_PUBLIC_KEY": sandbox["public_key"],
            "NOTIFY_CONFIG": str(CONFIG),
            "NOTIFY_API_KEYS": f"{CLIENT}:{hashlib.sha256(self.api_key.encode()).hexdigest()}",
            "NOTIFY_SECRET": secrets.token_urlsafe(32),
            "NOTIFY_NAMESPACE": NAMESPACE,
        }

    def _spawn(self, name: str, *arguments: str, **more: str) -> None:
        environ = {
            k: v for k, v in os.environ.items() if not k.startswith(FOREIGN) and not k.lower().endswith("_proxy")
        }
        environ |= self._environ | more | {"PYTHONPATH": str(Path(worker.__file__).parent.parent)}
        command = [sys.executable, "-m", "worker.cli", *arguments]
        self.children[name] = spawn(name, command, environ=environ, log=self.directory / f"{name}.log")

    def _told(self, name: str, read: Callable[[str], T | None]) -> T:
        """What ``read`` finds in a line of the process's log."""
        log = self.directory / f"{name}.log"

        def look() -> T | None:
            lines = log.read_text(errors="replace").splitlines(keepends=True)
            return next((found for line in lines if line.endswith("\n") and (found := read(line)) is not None), None)

        return self._await(look, name, "says where it listens")

    def _await(self, condition: Callable[[], T | None], name: str, what: str) -> T:
        child = self.children[name]
        deadline = time.monotonic() + START_S
        while True:
            found = condition()
            if found:
                return found
            if child.exit_code() is not None:
                raise StageError(f"{name} ended with {child.exit_code()} before it {what}:\n{child.tail()}")
            if time.monotonic() > deadline:
                raise StageError(
                    f"{name} did not get ready: {START_S:g} s until it {what} is too long:\n{child.tail()}"
                )
            time.sleep(0.05)

    def _made(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir()
        return path


def _field(line: str, event: str, field: str) -> Any:
    """A field of one event of a JSON log; None for any other line."""
    if f'"{event}"' not in line:
        return None
    with contextlib.suppress(ValueError):
        return json.loads(line).get(field)
    return None


@contextlib.contextmanager
def _undisturbed() -> Any:
    """Ignore what would interrupt the ending of things half-way."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
