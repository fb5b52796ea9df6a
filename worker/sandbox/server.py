"""Run a sandbox: as a process that ends with 0 on SIGTERM, or in a thread beside a test."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from worker.sandbox.app import create_app
from worker.sandbox.options import SandboxOptions
from worker.sandbox.replies import TRANSPORT
from worker.sandbox.sends import ARRIVED
from worker.sandbox.state import Sandbox

_NICENESS = -10
_GRACE_S = 1
_KEEP_ALIVE_S = 75


class _StampingProtocol(HttpToolsProtocol):
    """Stamps each request as its bytes arrive, before anything queues behind the event loop's other work.

    Also shows the app its transport: a cut connection is one of the things it has to do.
    """

    _arrived_ns = 0

    def data_received(self, data: bytes) -> None:
        self._arrived_ns = time.time_ns()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extra: dict[str, Any] = self.scope  # type: ignore[assignment]  # names of our own in an ASGI scope
        extra[ARRIVED] = self._arrived_ns
        extra[TRANSPORT] = self.transport


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling, which raises the signal again once it has stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that answers. ``base_url`` is what ``TELNYX_BASE_URL`` takes, ``url`` the sandbox itself."""

    url: str
    public_key: str
    sandbox: Sandbox

    @property
    def base_url(self) -> str:
        return f"{self.url}/v2"


def run(
    options: SandboxOptions,
    host: str = "127.0.0.1",
    port: int = 8900,
    *,
    announce: Callable[[RunningSandbox], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then return. Port 0 lets the system choose; ``announce`` learns the address.

    Call it from the main thread. A signal may come at any instant and again: later ones are ignored until the
    process is gone, because Python would otherwise restore the deadly default while it shuts down.

    Raises:
        OSError: the address is taken or not ours.
    """
    stop = threading.Event()
    servers: list[_Server] = []

    def leave(_signal: int, _frame: object) -> None:
        stop.set()
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)  # the stamps must not wait for those whose rate they measure; without the right, they do
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # 200,000 kept messages make a full collection slow, and none of them is garbage
    with _bound(host, port) as listener:
        server, running = _prepare(options, listener)
        servers.append(server)
        server.should_exit = stop.is_set()
        if announce is not None:
            announce(running)
        server.run(sockets=[listener])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def running_sandbox(options: SandboxOptions | None = None, *, port: int = 0) -> Iterator[RunningSandbox]:
    """A sandbox in a thread of this process, for tests: real HTTP on a port that the system chose."""
    with _bound("127.0.0.1", port) as listener:
        server, running = _prepare(options or SandboxOptions(), listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield running
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def _await_start(server: _Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + 20
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the sandbox did not start: look at the log of uvicorn.error")
        time.sleep(0.005)


def _prepare(options: SandboxOptions, listener: socket.socket) -> tuple[_Server, RunningSandbox]:
    app = create_app(options)
    config = uvicorn.Config(
        app,
        http=_StampingProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        date_header=False,
        server_header=False,
        backlog=4096,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sandbox: Sandbox = app.state.sandbox
    return _Server(config), RunningSandbox(f"http://{shown}:{port}", sandbox.signer.public_key, sandbox)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        yield listener
