"""An app that is called back, in this process: it verifies as any receiver would, and answers as it is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from worker.callbacks.post import signing_secret


@dataclass
class App:
    """``answers`` are the statuses of the coming calls, 200 once they are used up; ``silent`` holds every answer back."""

    secret: str
    url: str = ""
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    heard: list[dict[str, Any]] = field(default_factory=list)  # verified, in order; also those not answered with 200
    silent: threading.Event = field(default_factory=threading.Event)
    open: int = 0
    most_open: int = 0
    connections: set[Any] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kind: str, about: str = "") -> list[dict[str, Any]]:
        """What was heard of a type and of a message or notification."""
        return [
            e for e in list(self.heard) if e["type"] == kind and about in ("", e["message"], e["notification"])
        ]  # fmt: skip


@contextlib.contextmanager
def running_app(secret: str) -> Iterator[App]:
    app = App(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = Webhook(signing_secret(app.secret)).verify(body, dict(self.headers))
            assert event["id"] == self.headers["webhook-id"]
            with app.lock:
                app.connections.add(self.client_address)
                app.heard.append(event)
                app.open += 1
                app.most_open = max(app.most_open, app.open)
                status = app.answers.pop(0) if app.answers else 200
            if app.silent.is_set():
                while app.silent.is_set():
                    threading.Event().wait(0.01)
            with app.lock:
                app.open -= 1
            self.send_response(status)
            for name, value in app.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(app.body)))
            self.end_headers()
            self.wfile.write(app.body)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    app.url = f"http://127.0.0.1:{server.server_address[1]}/events"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield app
    finally:
        app.silent.clear()
        server.shutdown()
        server.server_close()
        thread.join(5)
