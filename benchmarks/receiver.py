"""A receiving server that stamps arrivals and answers like Telnyx, cheap enough not to disturb what it measures.

A bare epoll loop in a process of its own at raised priority. Each request carries three instants, all of the machine's
real-time clock: when the sender wrote it (its header ``X-Sent-Ns``), when the kernel had it (``SO_TIMESTAMPNS``: free of
this server's own lag), and when this loop read it. The difference of the last two is the server's lag, so that it is
published for each arrival and not guessed from a heartbeat. Without kernel stamps (not Linux) the reading counts twice.

    python -m benchmarks.receiver --latency-ms 100        # prints its port
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import time
import uuid
from dataclasses import dataclass, field

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the socket module has no name for it
_ANCILLARY = socket.CMSG_SPACE(16)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_KEY = re.compile(rb"\r\nidempotency-key: *([^\r]+)", re.IGNORECASE)
_SENT = re.compile(rb"\r\nx-sent-ns: *(\d+)", re.IGNORECASE)
_FROM = re.compile(rb'"from": ?"([^"]+)"')
_TO = re.compile(rb'"to": ?"([^"]+)"')


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    buffer: bytes = b""
    arrived_ns: int = 0  # of the first byte of the request in the buffer
    read_ns: int = 0
    open: bool = True


@dataclass(slots=True)
class Receiver:
    """The server. ``rows``: kernel's stamp, our stamp, sender's stamp (0 without), sender, key."""

    latency_s: float
    port: int = 0
    rows: list[tuple[int, int, int, bytes, bytes]] = field(default_factory=list)
    _answers: list[tuple[float, int, _Connection, bytes]] = field(default_factory=list)
    _count: int = 0

    def run(self) -> None:
        """Serve for ever."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # connections inherit it
        listener.bind(("127.0.0.1", self.port))
        listener.listen(4096)
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        epoll = select.epoll()
        epoll.register(listener.fileno(), select.EPOLLIN)
        connections: dict[int, _Connection] = {}
        while True:
            wait_s = self._answers[0][0] - time.monotonic() if self._answers else -1.0
            for number, _ in epoll.poll(max(0.0, wait_s) if self._answers else -1):
                if number == listener.fileno():
                    self._accept(listener, epoll, connections)
                elif not self._read(connections[number]):
                    epoll.unregister(number)
                    connections.pop(number).socket.close()
            self._answer()

    @staticmethod
    def _accept(listener: socket.socket, epoll: select.epoll, connections: dict[int, _Connection]) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[accepted.fileno()] = _Connection(accepted)
            epoll.register(accepted.fileno(), select.EPOLLIN)

    def _read(self, connection: _Connection) -> bool:
        try:
            data, ancillary, _, _ = connection.socket.recvmsg(65536, _ANCILLARY)
        except BlockingIOError:
            return True
        except OSError:
            data, ancillary = b"", []
        now_ns = time.time_ns()
        if not data:
            connection.open = False
            return False
        if not connection.buffer:
            connection.arrived_ns = connection.read_ns = now_ns
            for _, kind, value in ancillary:
                if kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    connection.arrived_ns = seconds * 1_000_000_000 + nanoseconds
        connection.buffer += data
        self._take(connection)
        return True

    def _take(self, connection: _Connection) -> None:
        head, blank, body = connection.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = _LENGTH.search(head)
        if (length and len(body) < int(length[1])) or (_CHUNKED.search(head) and not body.endswith(b"0\r\n\r\n")):
            return
        connection.buffer = b""
        if head.startswith(b"POST"):
            self._keep(connection, head, body)
        elif b"/arrivals" in head[:64]:
            self._send(connection, "200 OK", "text/plain", self._dump())
        else:
            self._send(connection, "404 Not Found", "application/json", b'{"errors":[{"code":"10005"}]}')

    def _keep(self, connection: _Connection, head: bytes, body: bytes) -> None:
        sent, sender, key, to = _SENT.search(head), _FROM.search(body), _KEY.search(head), _TO.search(body)
        self.rows.append(
            (
                connection.arrived_ns,
                connection.read_ns,
                int(sent[1]) if sent else 0,
                sender[1] if sender else b"-",
                key[1] if key else b"-",
            )
        )
        number = to[1].decode() if to else ""
        data = {"record_type": "message", "id": str(uuid.uuid4()), "parts": 1}
        answer = {"data": {**data, "to": [{"phone_number": number, "status": "queued"}]}}
        self._count += 1
        due_s = time.monotonic() + self.latency_s
        heapq.heappush(self._answers, (due_s, self._count, connection, json.dumps(answer).encode()))

    def _answer(self) -> None:
        now_s = time.monotonic()
        while self._answers and self._answers[0][0] <= now_s:
            _, _, connection, body = heapq.heappop(self._answers)
            if connection.open:
                self._send(connection, "200 OK", "application/json", body)

    @staticmethod
    def _send(connection: _Connection, status: str, kind: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            connection.socket.setblocking(True)
            connection.socket.sendall(head.encode() + body)
            connection.socket.setblocking(False)
        except OSError:
            connection.open = False  # the read that follows says so

    def _dump(self) -> bytes:
        lines = b"\n".join(b"%d %d %d %s %s" % row for row in self.rows)
        self.rows.clear()
        return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        # Its answers must not wait for those whose rate it measures. Not by niceness: Linux may group processes by
        # session, and then it counts only within the group.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, OSError):
        print("no right to raise the priority: stamps of reading may be late", file=sys.stderr)
    gc.disable()  # rows are no garbage, and there are no cycles
    Receiver(latency_s=given.latency_ms / 1000, port=given.port).run()


if __name__ == "__main__":
    main()
