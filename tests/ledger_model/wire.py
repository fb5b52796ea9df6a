"""A client for one thread that does nothing but send and read: redis-py's own takes three times as long as the server."""

from __future__ import annotations

import socket
from typing import Any

import hiredis
from redis import Redis
from redis.exceptions import NoScriptError, ResponseError


class Wire(Redis):
    """All commands of redis-py, over one socket of our own; pipelines go the usual way."""

    def __init__(self, path: str) -> None:
        super().__init__(unix_socket_path=path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()
        self.execute_command("HELLO", 3)  # as redis-py reads replies

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self._socket.sendall(hiredis.pack_command(args))
        reply = self._reader.gets()
        while reply is False:
            self._reader.feed(self._socket.recv(1 << 16))
            reply = self._reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            raise (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text)
        decode = self.response_callbacks.get(args[0])
        return decode(reply, **options) if decode else reply

    def close(self) -> None:
        self._socket.close()
        super().close()
