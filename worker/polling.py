"""Ask Telnyx about messages of which nothing was heard. Runs on the worker's event loop.

Polls are what is left when receipts got lost, so they may be slow, and must never be in the way of sending. Invariants,
each with a test named after it:

- At most ``IN_FLIGHT`` questions are open at once, and at most ``PER_SECOND`` are begun in a second. Over all processes it
  is the ledger that hands out no more: this limit spreads what comes to one of them.
- What became of a group is asked of each member, and of the message where Telnyx knows no group of that id.
- What waits is bounded: beyond it, the ledger's timer asks for the message again.
- A question without a clear answer says nothing about its message, and never ends it; nor does an answer about another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from redis.exceptions import RedisError

from producers.ledger import calls
from worker.patience import frames
from worker.reconciliation import ledger_fact, tell_of_rests
from worker.telnyx.outcomes import NotFound, Unavailable

if TYPE_CHECKING:
    from worker.telnyx.facts import Fact
    from worker.telnyx.gateway import Facts

IN_FLIGHT = 32
PER_SECOND = 5.0
WAITING_MOST = 500  # 100 s of polls
PAUSE_MOST_S = 60.0

log = structlog.get_logger(__name__)


class Retriever(Protocol):
    """Of the gateway, what polls need."""

    async def retrieve(self, provider_id: str) -> Facts | NotFound | Unavailable: ...

    async def retrieve_group(self, provider_id: str) -> Facts | NotFound | Unavailable: ...


class Poller:
    """The polls of one process.

    Args:
        gateway: Gives the loop's gateway; asked for at each poll, since it is built after this object.
        record: Writes a fact to the ledger, without blocking the loop.
    """

    def __init__(
        self,
        gateway: Callable[[], Retriever],
        record: Callable[[calls.Fact], Awaitable[Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gateway = gateway
        self._record = record
        self._clock = clock
        self._sleep = sleep
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._open: set[str] = set()
        self._next_at = 0.0

    async def poll(self, messages: Sequence[tuple[str, str] | tuple[str, str, bool]]) -> None:
        """Ask about each message that is not being asked about already: its id, the provider's, and whether it is a group."""
        mine: list[tuple[str, str, bool]] = []
        for message, provider_id, *more in messages:
            if len(self._open) < WAITING_MOST and message not in self._open:
                self._open.add(message)
                mine.append((message, provider_id, any(more)))
        if len(mine) < len(messages):
            log.info("polls_skipped", skipped=len(messages) - len(mine))
        try:
            async with asyncio.TaskGroup() as questions:
                for message, provider_id, is_group in mine:
                    await self._turn()
                    await self._room.acquire()
                    questions.create_task(self._ask(message, provider_id, is_group))
        finally:
            self._open.difference_update(message for message, *_ in mine)

    async def _turn(self) -> None:
        """Wait until the next question may begin."""
        while (wait_s := self._next_at - self._clock()) > 0:
            await self._sleep(wait_s)
        self._next_at = max(self._next_at, self._clock()) + 1 / PER_SECOND

    async def _retrieve(self, provider_id: str, *, is_group: bool) -> Facts | NotFound | Unavailable:
        if is_group:
            answer = await self._gateway().retrieve_group(provider_id)
            if not isinstance(answer, NotFound):
                return answer
        return await self._gateway().retrieve(provider_id)

    async def _ask(self, message: str, provider_id: str, is_group: bool) -> None:
        try:
            answer = await self._retrieve(provider_id, is_group=is_group)
            if isinstance(answer, Unavailable):
                self._pause(answer)
            elif isinstance(answer, NotFound):
                log.info("poll_found_nothing", message_id=message, code=answer.code)
            elif not _is_about(answer.fact, message, provider_id):
                log.error("poll_answered_about_another", message_id=message)
            else:
                # Telnyx was asked by its own id, and the ledger by ours: both are known, what the answer leaves out.
                told = ledger_fact({**answer.fact, "ref": message, "pid": provider_id}, "p", now_s=time.time())
                await self._record(told)
                tell_of_rests([told])
        except RedisError as exc:
            log.warning("ledger_away", job="poll", error=type(exc).__name__, message_id=message)
        except Exception as exc:  # noqa: BLE001 - the edge of a job: the timer asks for the message again
            log.error("job_failed", job="poll", error=type(exc).__name__, trace=frames(exc), message_id=message)
        finally:
            self._open.discard(message)
            self._room.release()

    def _pause(self, answer: Unavailable) -> None:
        if answer.retry_after_s:
            self._next_at = max(self._next_at, self._clock() + min(answer.retry_after_s, PAUSE_MOST_S))
        say = log.error if answer.alert else log.info
        say("poll_unanswered", reason=answer.reason, retry_after_s=answer.retry_after_s)


def _is_about(fact: Fact, message: str, provider_id: str) -> bool:
    """Whether an answer speaks of the message that was asked about; a proxy may mix answers up. Ours is the surer id."""
    if fact["ref"] is not None:
        return fact["ref"] == message
    return fact["pid"] in (None, provider_id)
