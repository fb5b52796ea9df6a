"""Run the web process: from the settings to exit code 0.

uvicorn raises a signal again once it has stopped, and Python restores the deadly default of a signal while it shuts
down. So the handlers here are our own, from the first line to the last: SIGTERM at any instant, however often, ends the
process with 0.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any
from urllib.parse import unquote

import structlog
import uvicorn

from producers.masking import mask
from worker.log import configure_logging
from worker.settings import Settings

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 20  # Heroku kills after 30
KEEP_ALIVE_S = 75
BACKLOG = 4096

CALLBACKS = "/webhooks/telnyx"

_OPT_OUT = re.compile(r"(/v1/opt-outs/)([^/?\s]+)")


class Server(uvicorn.Server):
    """uvicorn without its own signal handling."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AccessLog(logging.Filter):
    """Masks the numbers in an access log's paths, however they are written there; leaves out callbacks that went well.

    There may be a thousand of those a second, all alike, and each line would cost as much as its callback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not isinstance(record.args, tuple) or len(record.args) != 5:  # client, method, path, version, status
            return True
        path, status = str(record.args[2]), record.args[4]
        if status == 200 and path.partition("?")[0] == CALLBACKS:
            return False
        record.args = (*record.args[:2], masked_path(path), *record.args[3:])
        return True


def masked_path(path: str) -> str:
    """``path`` with the number after ``/v1/opt-outs/`` masked."""
    return _OPT_OUT.sub(lambda found: found[1] + mask(unquote(found[2])), path)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Call it from the main thread; returns the exit code of the process.

    0 after a signal, also one that came before the server stood; 2 if the address is taken or not ours.
    """
    leave = _Leave()
    configure_logging(settings.log_level, json=not sys.stderr.isatty())
    logging.getLogger("uvicorn.access").addFilter(AccessLog())
    from worker.web.app import create_app  # after the handlers: it takes half a second

    host, port = settings.listen
    try:
        listener = bind(host, port)
    except OSError as error:
        log.error("cannot_listen", host=host, port=port, error=error.strerror, remedy="set PORT to a free port")
        return leave.code(2)
    with listener:
        server = make_server(create_app(settings))
        leave.server = server
        if not leave.asked.is_set():
            log.info("web_listens", host=host, port=listener.getsockname()[1])
            server.run(sockets=[listener])
    log.info("web_stopped")
    return leave.code(0)


def make_server(app: Any) -> Server:
    """A server for ``app`` that ends by its ``should_exit``."""
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            backlog=BACKLOG,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's precursor; port 0 lets the system choose. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class _Leave:
    """What the signals do. Installed when made."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.server: Server | None = None
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        again = self.asked.is_set()
        self.asked.set()
        if self.server is not None:
            self.server.should_exit = True
            if again and number == signal.SIGINT:  # a person at a terminal who will not wait for open requests
                self.server.force_exit = True

    def code(self, code: int) -> int:
        """The exit code; from here on signals are ignored, for nobody handles them while Python shuts down."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return 0 if self.asked.is_set() else code
