"""Deliver signed callbacks: 2 s to answer, three attempts per URL with growing pauses, then the next URL, then gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from worker.sandbox.options import SandboxOptions
from worker.sandbox.signing import Signer

_MAX_TRIES = 6  # over all URLs of one event


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one callback; ``status`` 0 means no answer."""

    url: str
    status: int
    answered_us: int


class Courier:
    """Sends callbacks over one HTTP session. Start and close it inside the running loop."""

    def __init__(self, options: SandboxOptions, signer: Signer, counts: Counter[str]) -> None:
        self._options = options
        self._signer = signer
        self._counts = counts
        self._session: aiohttp.ClientSession | None = None
        self._gate = asyncio.Semaphore(options.callback_limit)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),  # below uvicorn's 5 s: never a dead line
            timeout=aiohttp.ClientTimeout(total=self._options.callback_timeout_s),
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self.forget_all()
        if self._session is not None:
            await self._session.close()

    async def forget_all(self) -> None:
        """Give up every callback that is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def pending(self) -> int:
        return len(self._tasks)

    def post(self, urls: Sequence[str], data: dict[str, Any], statuses: list[int]) -> None:
        """Deliver an event in the background; every attempt's status is appended to ``statuses``."""
        self._spawn(self.deliver(urls, data, statuses))

    async def deliver(self, urls: Sequence[str], data: dict[str, Any], statuses: list[int]) -> list[Attempt]:
        """Deliver ``data`` as an event, and say how each attempt went."""
        encoded = msgspec.json.encode(data)
        attempts: list[Attempt] = []
        for url in dict.fromkeys(urls):
            for nth in range(self._options.callback_attempts):
                if nth:
                    await asyncio.sleep(self._options.callback_backoff_s * 2 ** (nth - 1))
                number = len(attempts) + 1
                meta = msgspec.json.encode({"attempt": number, "delivered_to": url})
                attempt = await self._try(url, b'{"data":%b,"meta":%b}' % (encoded, meta))
                attempts.append(attempt)
                statuses.append(attempt.status)
                if 200 <= attempt.status < 300:
                    self._counts["delivered"] += 1
                    return attempts
                if number >= _MAX_TRIES:
                    break
        self._counts["given_up"] += 1
        return attempts

    async def send_raw(self, url: str, body: bytes) -> Attempt:
        """Sign and send bytes as they are, once."""
        return await self._try(url, body)

    async def _try(self, url: str, body: bytes) -> Attempt:
        if self._session is None:
            raise RuntimeError("the courier was not started")
        self._counts["attempts"] += 1
        async with self._gate:
            headers = self._signer.headers(body, int(time.time()))
            headers["content-type"] = "application/json"
            headers["user-agent"] = "telnyx-webhooks"
            try:
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                status = 0
        if not 200 <= status < 300:
            self._counts["failed_attempts"] += 1
        return Attempt(url, status, time.time_ns() // 1000)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
