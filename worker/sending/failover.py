"""Notice that the server may have forgotten something, and tell it again before anything else leaves.

After a failover, or a restart that lost the last second, messages that were just sent look as if nobody had taken them. So
a process that lost its connection, or that sees the count of takes and finishes go backward, first says again what it took
and finished lately; and for two seconds it asks for no slots, so that the other processes have had their say too.
Invariants, each with a test named after it:

- Nothing is taken, and no result is written, between the loss and the moment the server has been told.
- An answer whose count went backward, or that comes while the server is in doubt, gives no leave to send: it goes back.
- Calls overtake each other: a count is compared with the greatest one that was seen when its call was sent.
- A connection that broke before the server was told is old news.
- What a take gave whose answer was lost goes back as soon as the server answers again: it was never sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import structlog
from redis import exceptions as e

from producers.ledger import calls
from producers.ledger.calls import Finish, Take
from producers.ledger.ledger import AsyncLedger
from producers.retrying import may_pass
from worker.sending.memory import Memory

QUIET_S = 2.0
EARLY_EVERY_S, EARLY_TRIES = 1.0, 120  # what is not expanded yet is pointed at again within some seconds
BATCH = 100
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 0.5

T = TypeVar("T")

log = structlog.get_logger(__name__)


def may_have_failed_over(exc: BaseException) -> bool:
    """Whether another server, or the same one without its last second, may answer next."""
    if isinstance(exc, e.AuthenticationError | e.AuthorizationError | e.MaxConnectionsError):
        return False
    if isinstance(exc, e.ResponseError):
        return str(exc).startswith(("MASTERDOWN", "READONLY")) or isinstance(exc, e.ReadOnlyError)
    return isinstance(exc, e.ConnectionError | e.TimeoutError | OSError)


async def _no_connections() -> None:
    """For a ledger whose connections are nobody else's."""


class Failover:
    """One a process. ``lost``, ``heard_of`` and ``rests`` are for any thread, all else for the event loop.

    Args:
        process: The current id of this process.
        reconnect: Drops idle connections: each of them may be as dead as the one that broke.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        *,
        process: Callable[[], str],
        reconnect: Callable[[], Awaitable[None]] = _no_connections,
        memory: Memory | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._process, self._reconnect, self._now = ledger, process, reconnect, now
        self.memory = Memory() if memory is None else memory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._suspect = False
        self._told_s = self._quiet_s = 0.0
        self._seen = 0
        self._early: dict[str, Take] = {}
        self._early_tries = 0
        self._unanswered: dict[str, str] = {}

    @property
    def rests(self) -> bool:
        """Whether this process may neither ask for slots nor take: others may have to say what they sent."""
        return self._suspect or self._now() < self._quiet_s

    def lost(self, exc: BaseException, sent_s: float) -> None:
        """A call that was sent at ``sent_s`` failed."""
        if may_have_failed_over(exc) and sent_s >= self._told_s:
            self._doubt(type(exc).__name__)

    def heard_of(self) -> None:
        """Another process found that the server had forgotten something. Who rests knows already."""
        if not self.rests:
            self._doubt("another process says so")

    def mark(self) -> int:
        """The greatest count seen; to be asked for when a call is sent."""
        return self._seen

    def answered(self, mark: int, gen: int) -> bool:
        """A call that was sent at ``mark`` was answered with the count ``gen``. Is it safe to send what it gave?

        Not if the count went backward; nor if the server is in doubt by now, for then it may be the other one's answer.
        """
        if gen <= mark:
            self._doubt("the count went backward")
        if self._suspect:
            return False
        self._seen = max(self._seen, gen)
        self.memory.forget(self._now())
        return True

    def unanswered(self, process: str, token: str) -> None:
        """The take of this token failed: it may have taken something, which will not be sent unless it is asked for again."""
        self._unanswered[token] = process

    def asked(self, token: str) -> None:
        """The take of this token is under way: from here on its answer may give leave to send, so nothing of it may go back."""
        self._unanswered.pop(token, None)

    async def told(self) -> None:
        """Wait until the server has been told what it may have forgotten."""
        while self._suspect:
            await asyncio.sleep(0.02)

    async def rested(self) -> None:
        """Wait until this process may take again."""
        while self.rests:
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        """Tell the server whenever it may have forgotten something; for ever."""
        self._loop = asyncio.get_running_loop()
        if self._suspect:
            self._wake.set()
        while True:
            try:
                async with asyncio.timeout(EARLY_EVERY_S if self._early else None):
                    await self._wake.wait()
            except TimeoutError:
                await self._tell_early()
                continue
            self._wake.clear()
            if self._suspect:
                await self._tell()

    def _doubt(self, why: str) -> None:
        if self._suspect:
            return
        self._suspect = True
        log.warning("server_may_have_forgotten", why=why, remembered=len(self.memory))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _tell(self) -> None:
        """Until the server has taken it all. A server that fails meanwhile is told from the start."""
        wait_s = _FIRST_WAIT_S
        words: list[str] = []
        while True:
            asked_s = self._now()
            try:
                await self._reconnect()
                words = await self._repost(self.memory.takes())
                await self._rewrite(self.memory.results())
                await self._give_back()
                break
            except e.RedisError as exc:
                if not may_pass(exc):  # a fault of ours: to rest for ever would be worse than to have said nothing
                    log.error("repost_failed", error=f"{type(exc).__name__}: {str(exc)[:200]}")
                    break
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        self._early_tries = 0
        self.memory.keep(self._early)
        self._told_s, self._quiet_s = asked_s, self._now() + QUIET_S
        self._suspect = False
        log.info("server_was_told", quiet_s=QUIET_S, **{word: words.count(word) for word in sorted(set(words))})

    async def _repost(self, takes: Sequence[Take]) -> list[str]:
        words: list[str] = []
        early: dict[str, Take] = {}
        for batch in _batches(takes) if takes else [[]]:
            answer = await self._ledger.run(calls.repost(self._process(), batch))
            self._seen = answer.gen
            words += answer
            early |= {take.message: take for take, word in zip(batch, answer, strict=True) if word == "early"}
        self._early = early
        return words

    async def _rewrite(self, results: dict[str, list[Finish]]) -> None:
        for process, some in results.items():
            for batch in _batches(some):
                answer = await self._ledger.run(calls.finish(process, batch))
                self._seen = max(self._seen, answer.gen)

    async def _give_back(self) -> None:
        """Put back what lies in our hands of takes that failed: left there it would be in doubt, and wait out its grace."""
        failed = dict(self._unanswered)
        found: dict[str, list[Finish]] = {}
        for process in set(failed.values()):
            held: Any = await self._ledger.redis.hgetall(self._ledger.key(f"held:{process}"))
            for message, token in ((m.decode(), t.decode()) for m, t in held.items()):
                if token.rpartition(".")[0] in failed:
                    result = Finish(message=message, token=token, outcome="not_sent", why="unanswered")
                    found.setdefault(process, []).append(result)
        await self._rewrite(found)
        for token in failed:
            self._unanswered.pop(token, None)

    async def _tell_early(self) -> None:
        """Once what was forgotten has been expanded again, it is held as taken; its result must follow."""
        self._early_tries += 1
        waiting = list(self._early.values())
        try:
            words = await self._repost(waiting)
            arrived = [take.message for take, word in zip(waiting, words, strict=True) if word != "early"]
            await self._rewrite(self.memory.results_of(arrived))
        except e.RedisError as exc:
            self.lost(exc, self._now())
        if self._early_tries >= EARLY_TRIES:
            self._early = {}
        self.memory.keep(self._early)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))
