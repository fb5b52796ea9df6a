"""Lose the reply of a script: a proxy in front of Redis that cuts a client's connection once the server has run the call.

That is the worst instant at which a connection can break: the caller does not know whether the call ran, and it did. Scripts
are recognised by their digest in EVALSHA, so load them into the server first: what is sent whole is not recognised.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Self

from redis import Redis

from producers.ledger.scripts import LUA, script

LINGER_S = 0.02  # a reply in several pieces: the last one is lost too
PIECE = 1 << 16


class ReplyCutter:
    """Passes everything on, but for the replies that it was told to lose. ``lost`` counts them."""

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._sha, self._every, self._most = b"", 0, 0
        self._seen = self.lost = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, name: str, *, every: int, most: int) -> None:
        """From now on lose the reply of each ``every``-th call of the script ``name``, ``most`` times in all."""
        self._seen = self.lost = 0
        self._every, self._most = every, most
        self._sha = script(name).sha.encode()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                back, forth = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            except OSError:
                writer.transport.abort()
                return
            doomed = asyncio.Event()
            ways = [
                asyncio.create_task(self._pass_on(reader, forth, doomed)),
                asyncio.create_task(self._answer(back, writer, doomed)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            writer.transport.abort()
            forth.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        tail = b""
        while data := await reader.read(PIECE):
            if self._is_to_be_lost(tail + data):
                doomed.set()
            tail = data[-39:]  # a digest has 40 characters: none is seen twice
            forth.write(data)
            await forth.drain()

    def _is_to_be_lost(self, data: bytes) -> bool:
        if not self._sha or self.lost >= self._most:
            return False
        before = self._seen // self._every
        self._seen += data.count(self._sha)
        if self._seen // self._every == before:
            return False
        self.lost += 1
        return True

    async def _answer(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await back.read(PIECE):
            if doomed.is_set():
                with contextlib.suppress(TimeoutError):
                    while await asyncio.wait_for(back.read(PIECE), LINGER_S):
                        pass
                return
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def losing_replies(port: int) -> Iterator[ReplyCutter]:
    """A proxy in front of the server at ``port``, which knows every script."""
    with contextlib.closing(Redis(port=port)) as redis:
        for file in LUA.glob("*.lua"):
            redis.script_load(script(file.stem).source)
    with ReplyCutter(port) as cutter:
        yield cutter
