"""Send requests at a fixed rate, whether or not the server keeps up, and time each from the instant at which it was due.

A generator that waits for answers asks less of a slow server and flatters it. Here request *i* is due at ``i / rate``, goes
over a connection that is free, or a new one, and its time counts from then: what queues up before the server counts too.
One process, one epoll loop; the requests lie ready in a file, so that the cores are left to the server.

    python -m benchmarks.open_loop FILE PORT RATE        # prints one JSON object

FILE holds requests, each after its length in four bytes. Every answer must be one without a body, or tell its length.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

CONNECTIONS_MOST = 256
SILENCE_S = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def pack(requests: Sequence[bytes]) -> bytes:
    """The file of these requests."""
    return b"".join(struct.pack(">I", len(request)) + request for request in requests)


def unpack(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


class Generator:
    """One run. ``times``: due, written, answered, of each answered request; seconds of the monotonic clock."""

    def __init__(self, port: int, requests: Sequence[bytes], rate: float) -> None:
        self._port, self._requests, self._rate = port, requests, rate
        self._epoll = select.epoll()
        self._free: list[socket.socket] = []
        self._busy: dict[int, tuple[socket.socket, float, float, bytes]] = {}
        self.times: list[tuple[float, float, float]] = []
        self.statuses: Counter[str] = Counter()
        self.connections = 0

    def run(self) -> None:
        started_s = time.monotonic() + 0.2
        heard_s, sent, total = started_s, 0, len(self._requests)
        while len(self.times) + self.statuses["cut"] < total:
            now_s = time.monotonic()
            while sent < total and (due_s := started_s + sent / self._rate) <= now_s and self._send(sent, due_s):
                sent += 1
                now_s = time.monotonic()
            wait_s = 0.001 if sent < total else 0.1
            if sent < total and self._room():
                wait_s = max(0.0, started_s + sent / self._rate - time.monotonic())
            for number, _ in self._epoll.poll(wait_s):
                self._read(number)
                heard_s = time.monotonic()
            if time.monotonic() - heard_s > SILENCE_S:
                self.statuses["silent"] = total - len(self.times) - self.statuses["cut"]
                return

    def _room(self) -> bool:
        return bool(self._free) or self.connections < CONNECTIONS_MOST

    def _send(self, nth: int, due_s: float) -> bool:
        if not self._room():
            return False
        if self._free:
            connection = self._free.pop()
        else:
            connection = socket.create_connection(("127.0.0.1", self._port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(connection.fileno(), select.EPOLLIN)
            self.connections += 1
        self._busy[connection.fileno()] = (connection, due_s, time.monotonic(), b"")
        connection.sendall(self._requests[nth])
        return True

    def _read(self, number: int) -> None:
        busy = self._busy.get(number)
        if busy is None:  # an idle connection that the server has closed
            self._forget(next(c for c in self._free if c.fileno() == number))
            return
        connection, due_s, written_s, before = busy
        data = connection.recv(65_536)
        head, blank, body = (before + data).partition(b"\r\n\r\n")
        if not data:
            self.statuses["cut"] += 1
            del self._busy[number]
            self._forget(connection)
            return
        length = _LENGTH.search(head)
        if not blank or (length and len(body) < int(length[1])):
            self._busy[number] = (connection, due_s, written_s, before + data)
            return
        self.times.append((due_s, written_s, time.monotonic()))
        self.statuses[head[9:12].decode()] += 1
        del self._busy[number]
        self._free.append(connection)

    def _forget(self, connection: socket.socket) -> None:
        if connection in self._free:
            self._free.remove(connection)
        self._epoll.unregister(connection.fileno())
        connection.close()
        self.connections -= 1


def summary(generator: Generator) -> dict[str, object]:
    times = sorted(generator.times)
    return {
        "sent": len(times),
        "statuses": dict(generator.statuses),
        "connections": generator.connections,
        "began_s": times[0][0],
        "span_s": times[-1][1] - times[0][0],
        "from_due_ms": _quantiles([done - due for due, _, done in times]),
        "from_written_ms": _quantiles([done - written for _, written, done in times]),
        "late_ms": _quantiles([written - due for due, written, _ in times]),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("worst", 1.0))
    }


def main() -> None:
    file, port, rate = sys.argv[1:4]
    generator = Generator(int(port), unpack(Path(file).read_bytes()), float(rate))
    gc.collect()
    gc.disable()
    generator.run()
    print(json.dumps(summary(generator)))


if __name__ == "__main__":
    main()
