"""Have the server write an opt-out to its disk before anybody is told that it counts.

``WAITAOF`` (Redis 7.2, Valkey) waits until what its own connection has written is synced; a server that lacks it, or keeps no
append-only file, says so at the first try and is asked again a minute later, for after a failover it may be another one. A
wait that ends without the disk's word changes nothing: the opt-out is written, it may only not outlive a crash of this very
second, so it is counted and logged, and never refused.

Where a sync takes a second, thirty people who say STOP in that second must not hold thirty connections. So those who ask
share a round: one connection writes a count after their opt-outs, which is what ``WAITAOF`` waits for, and so for theirs too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import structlog
from redis.exceptions import RedisError, ResponseError

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

log = structlog.get_logger()

Synced = Literal["yes", "timeout", "unsupported", "away"]

WAIT_S = 1.0  # with appendfsync everysec, the longest that a healthy disk takes
ROUNDS = 4  # connections that may wait at once
ASK_AGAIN_S = 60.0
FAILURES = (RedisError, OSError, TimeoutError)


class Durability:
    """What ``WAITAOF`` says, for one event loop.

    Args:
        redis: Of its own, with ``ROUNDS`` connections and an answer limit above ``WAIT_S``.
        key: Of the hash that counts: ``opt_outs_synced``, ``opt_outs_unsynced``.
    """

    def __init__(self, redis: AsyncRedis, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._key = key
        self._clock = clock
        self._unsupported_until_s = 0.0
        self._room = asyncio.Semaphore(ROUNDS)
        self._next: asyncio.Future[Synced] | None = None
        self._rounds: set[asyncio.Task[None]] = set()

    async def synced(self, *, within_s: float = WAIT_S) -> Synced:
        """Whether what was written before this call is on the disk. Never raises, and never takes longer than that."""
        if self._clock() < self._unsupported_until_s:
            return "unsupported"
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._round(self._next))
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(self._next), within_s)
        except TimeoutError:
            log.warning("opt_out_not_synced", within_s=within_s)
            return "timeout"

    async def probe(self) -> None:
        """Find out, and say, whether the server can do it. Says nothing while it is away."""
        with contextlib.suppress(*FAILURES):
            async with self._redis.client() as one:
                try:
                    await one.execute_command("WAITAOF", 1, 0, 1)  # type: ignore[no-untyped-call]
                except ResponseError as error:
                    self._note_unsupported(error)

    async def close(self) -> None:
        for task in self._rounds:
            task.cancel()
        await asyncio.gather(*self._rounds, return_exceptions=True)
        await self._redis.aclose()

    async def _round(self, done: asyncio.Future[Synced]) -> None:
        async with self._room:
            self._next = None  # who comes from here on has written after this round's count may have gone
            outcome: Synced = "away"
            try:
                outcome = await self._wait()
            except FAILURES as error:
                log.warning("opt_out_not_synced", error=type(error).__name__)
            finally:
                if not done.done():
                    done.set_result(outcome)

    async def _wait(self) -> Synced:
        async with self._redis.client() as one:  # a single connection: WAITAOF speaks of its own
            await one.hincrby(self._key, "opt_outs_synced", 1)
            try:
                local, _ = await one.execute_command("WAITAOF", 1, 0, int(WAIT_S * 1000))  # type: ignore[no-untyped-call]
            except ResponseError as error:
                self._note_unsupported(error)
                return "unsupported"
            if int(local) >= 1:
                return "yes"
            await one.hincrby(self._key, "opt_outs_unsynced", 1)
            log.warning("opt_out_not_synced", waited_s=WAIT_S)
            return "timeout"

    def _note_unsupported(self, error: ResponseError) -> None:
        if not self._unsupported_until_s:
            log.warning("opt_outs_not_synced_here", reason=str(error)[:120], remedy=REMEDY)
        self._unsupported_until_s = self._clock() + ASK_AGAIN_S


REMEDY = "for opt-outs that outlive a crash of the server: Redis 7.2 or Valkey, with appendonly yes"


def sync_to_disk(redis: Redis, write: Callable[[Redis], Any], *, wait_s: float = WAIT_S) -> Synced:
    """Run ``write`` with a client of one connection, then wait until that is on the disk. For threads.

    Raises:
        redis.RedisError: by ``write``; the wait itself never fails.
    """
    with redis.client() as one:  # type: ignore[no-untyped-call]
        write(one)
        with contextlib.suppress(RedisError):
            reply: Any = one.execute_command("WAITAOF", 1, 0, int(wait_s * 1000))
            return "yes" if int(reply[0]) >= 1 else "timeout"
    return "unsupported"
