"""Keep receipts before Telnyx is answered, many in one call.

A receipt that is answered with 200 and then lost is lost for good, so the answer waits until the ledger has it. One call
a receipt would cost Redis more than a send does; so what arrives within a few milliseconds is kept as one batch. Then a
pointer asks a worker to apply it; a lost pointer is pointed at again by the ledger's timer. Invariants, each with a test:

- ``keep`` returns only after the ledger kept the receipt; a failure reaches every receipt of its batch.
- A batch has at most ``BATCH_MOST`` receipts, for its worker applies it in one call.
- Pointers never delay an answer, and a server that says nothing delays none for longer than ``KEEP_S``.
- Who has just refused a receipt is deaf: a refused receipt may be the one that a resend waits for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

import structlog
from redis.exceptions import RedisError
from uuid_utils import uuid7

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.scripts import Call
from producers.pointers import RECEIPTS, PointerMessage, pointer

log = structlog.get_logger()

GATHER_S = 0.003  # far below what Telnyx notices; at 1,000 receipts a second, three in a batch
BATCH_MOST = 50
BATCH_MOST_BYTES = 1_000_000
KEEP_S = 1.4  # Telnyx waits 2 s
POINT_EVERY_S = 0.01  # a pointer costs as much as keeping its batch: at a few hundred a second, ten go in one trip
POINTERS_A_TRIP = 200
DEAF_S = 6.0  # a gap of over 5 s in the stamps of those who hear makes every silence count anew

Run = Callable[[Call[int]], Awaitable[int]]
Push = Callable[[Sequence[PointerMessage]], Awaitable[None]]


class Hearing:
    """Gathers receipts into batches. One for each event loop.

    Args:
        run: Runs a call of the ledger.
        push: Enqueues pointers.
    """

    def __init__(
        self, run: Run, push: Push, *, gather_s: float = GATHER_S, point_every_s: float = POINT_EVERY_S
    ) -> None:
        self._run = run
        self._push = push
        self._gather_s = gather_s
        self._point_every_s = point_every_s
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._kept: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._unpointed: list[str] = []
        self._pointing: asyncio.Task[None] | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._refused_at: float | None = None

    def is_deaf(self) -> bool:
        """Whether a receipt was refused within the last seconds, for instance because Redis is full."""
        return self._refused_at is not None and asyncio.get_running_loop().time() - self._refused_at < DEAF_S

    async def keep(self, receipt: bytes) -> None:
        """Keep one stripped receipt. Who gives up waiting takes nobody along: each waits for a future of its own.

        Raises:
            redis.RedisError, OSError, TimeoutError: it is not known to be kept: do not answer 200.
        """
        if self._waiting and self._bytes + len(receipt) > BATCH_MOST_BYTES:
            self._close_batch()
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._timer = loop.call_later(self._gather_s, self._close_batch)
        kept = loop.create_future()
        self._kept.append(kept)
        self._waiting.append(receipt)
        self._bytes += len(receipt)
        if len(self._waiting) >= BATCH_MOST:
            self._close_batch()
        await kept

    async def finish(self) -> None:
        """Keep and point at what is under way; call it when no more can come."""
        if self._waiting:
            self._close_batch()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        if self._pointing is not None:
            await self._pointing

    def _close_batch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        receipts, kept = self._waiting, self._kept
        self._waiting, self._bytes, self._kept, self._timer = [], 0, [], None
        if receipts:
            task = asyncio.get_running_loop().create_task(self._keep_batch(receipts, kept))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _keep_batch(self, receipts: list[bytes], kept: list[asyncio.Future[None]]) -> None:
        batch = uuid7().hex
        body = json.dumps([receipt.decode() for receipt in receipts], separators=(",", ":")).encode()
        reach("hear.before")
        try:
            async with asyncio.timeout(KEEP_S):
                await self._run(calls.hear(batch, body))
        except (RedisError, OSError, TimeoutError) as error:
            self._refused_at = asyncio.get_running_loop().time()
            for one in kept:
                if not one.done():
                    one.set_exception(error)
                    one.exception()  # its caller may be about to leave, and then nobody else looks at it
            log.warning("receipts_not_kept", receipts=len(receipts), error=type(error).__name__)
            return
        reach("hear.after")
        for one in kept:
            if not one.done():
                one.set_result(None)
        self._unpointed.append(batch)
        if self._pointing is None or self._pointing.done():
            self._pointing = asyncio.get_running_loop().create_task(self._point())

    async def _point(self) -> None:
        """Point at all batches that have gathered, as many in a trip as there are by then."""
        while self._unpointed:
            await asyncio.sleep(self._point_every_s)
            batches = self._unpointed[:POINTERS_A_TRIP]
            del self._unpointed[: len(batches)]
            reach("bell.before")
            try:
                await self._push([pointer(RECEIPTS, "reconcile", batch) for batch in batches])
                reach("bell.after")
            except (RedisError, OSError) as error:  # the ledger's timer points again
                log.warning("pointers_lost", batches=len(batches), error=type(error).__name__)
