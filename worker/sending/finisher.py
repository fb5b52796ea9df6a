"""Write results to the ledger, in batches, until it has taken them.

A result that is lost leaves its message in doubt, and a message in doubt waits a minute and may go out again. So while
this process lives, no result is dropped because Redis is away: it is repeated until it is taken (the token makes a
repeat harmless). Invariants, each with a test named after it:

- A result stays pending until the ledger has answered.
- A result that breaks the script holds up no other: its batch is split, and it is written alone.
- No result is written to a server that may have forgotten its take, before that server has been told of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import structlog
from redis.exceptions import DataError, RedisError, ResponseError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.calls import Finish
from producers.ledger.ledger import AsyncLedger
from worker.sending.failover import Failover

BATCH = 50
GATHER_S = 0.015  # how long a result waits for others
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0

DOUBLED = (
    "Telnyx has two ids for one message, so the person got it twice: see its timeline for the answer that was lost"
)

log = structlog.get_logger(__name__)


def breaks_script(exc: BaseException) -> bool:
    """Whether an argument of the call, or a record that it meets, is at fault: the same call would fail again."""
    return isinstance(exc, DataError) or (isinstance(exc, ResponseError) and "user_script" in str(exc))


class Finisher:
    """One a process; all methods are for the event loop, except that ``pending`` may be read from anywhere."""

    def __init__(self, ledger: AsyncLedger, failover: Failover) -> None:
        self._ledger, self._failover = ledger, failover
        self._waiting: deque[tuple[str, Finish]] = deque()
        self._some = asyncio.Event()
        self.pending = 0

    def add(self, process: str, result: Finish) -> None:
        """Record ``result``, soon. ``process``: the id under which its message was taken."""
        self.pending += 1
        self._waiting.append((process, result))
        self._some.set()

    async def run(self) -> None:
        """Write results for ever."""
        while True:
            await self._some.wait()
            if len(self._waiting) < BATCH:
                await asyncio.sleep(GATHER_S)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not self._waiting:
                self._some.clear()
            for process in dict.fromkeys(process for process, _ in batch):
                await self._write(process, [result for whose, result in batch if whose == process])

    async def _write(self, process: str, results: list[Finish]) -> None:
        try:
            await self._until_taken(process, results)
        except RedisError as exc:  # not a server that is away: something in the batch breaks the script
            if len(results) > 1:
                for result in results:
                    await self._write(process, [result])
                return
            log.error(
                "result_unwritable", message_id=results[0].message, outcome=results[0].outcome, error=str(exc)[:200]
            )
        self.pending -= len(results)

    async def _until_taken(self, process: str, results: list[Finish]) -> None:
        policy = AsyncRetrying(
            retry=retry_if_exception(lambda exc: isinstance(exc, RedisError) and not breaks_script(exc)),
            wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
            before_sleep=_say,
            reraise=True,
        )
        reach("finish.before")
        answers: list[str] = await policy(self._once, process, results)
        reach("finish.after")
        for result, word in zip(results, answers, strict=True):
            if word == "duplicate":
                log.error("message_doubled", message_id=result.message, remedy=DOUBLED)
            elif word not in ("ok", "applied", "known"):
                log.info("result_late", message_id=result.message, outcome=result.outcome, answer=word)

    async def _once(self, process: str, results: list[Finish]) -> list[str]:
        await self._failover.told()
        sent_s, mark = time.monotonic(), self._failover.mark()
        try:
            words = await self._ledger.run(calls.finish(process, results))
        except RedisError as exc:
            self._failover.lost(exc, sent_s)
            raise
        self._failover.memory.finished(results, time.monotonic())
        self._failover.answered(mark, words.gen)
        return words


def _say(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("results_wait", error=type(state.outcome.exception()).__name__)
