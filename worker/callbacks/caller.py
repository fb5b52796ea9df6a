"""Call apps as far as this process has room. Runs on the worker's event loop.

What is owed lies in the ledger; a job only says that something is due, and a process takes as much of it as it has room
for. Invariants, each with a test named after it:

- At most ``IN_FLIGHT`` calls are open at once, and at most ``TO_ONE_ENDPOINT`` to one endpoint: what is slow or silent
  holds up nobody else.
- A callback counts as told only once its app has said so: a process that dies leaves it owed.
- A process on its way out takes none.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger import callbacks
from producers.ledger.callbacks import IN_FLIGHT, Claimed, Settled
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from worker.callbacks.letters import Letter, write_letter
from worker.callbacks.post import Posted
from worker.patience import frames, patiently
from worker.settings import Config

T = TypeVar("T")

WORRY_AFTER = 5  # tries; before that, a failure is a line for those who look

log = structlog.get_logger(__name__)


class Sends(Protocol):
    async def send(self, letter: Letter) -> Posted: ...


class Caller:
    """The callbacks of one process.

    Args:
        post: Gives the loop's post; asked for when there is something to send.
        stopping: Whether this process is on its way out.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: Config,
        post: Callable[[], Sends],
        *,
        stopping: Callable[[], bool] = lambda: False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger, self._config = ledger, config
        self._post = post
        self._stopping = stopping
        self._chance = chance
        self._here: Counter[str] = Counter()
        self._calls: set[asyncio.Task[None]] = set()
        self._pumping = False
        self._again = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """May be read from any thread."""
        return len(self._calls)

    async def call_what_is_due(self) -> None:
        """Take and call until nothing is due and nothing open. Once at a time: a second call has the first look again."""
        self._again.set()
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._stopping():
                self._again.clear()
                claimed = await self._claim()
                for one in claimed:
                    self._start(one)
                if not self._calls:
                    return
                await self._again.wait()  # for room, or for news
        except RedisError as exc:
            log.warning("ledger_away", job="call_back", error=type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - the edge of a job: what is owed stays so
            log.error("job_failed", job="call_back", error=type(exc).__name__, trace=frames(exc))
        finally:
            self._pumping = False

    async def _claim(self) -> list[Claimed]:
        room = IN_FLIGHT - len(self._calls)
        if room <= 0:
            return []
        reach("claim.before")
        claimed = await self._run(callbacks.claim(room, +self._here))
        if claimed:
            reach("claim.after")
        return claimed

    def _start(self, claimed: Claimed) -> None:
        self._here[claimed.endpoint] += 1
        task = asyncio.get_running_loop().create_task(self._call(claimed))
        self._calls.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._calls.discard(task)
            self._here[claimed.endpoint] -= 1
            self._again.set()

        task.add_done_callback(ended)

    async def _call(self, claimed: Claimed) -> None:
        """Tell one, and say how it went; what goes wrong here leaves it owed until its lease is over."""
        try:
            letter = await asyncio.to_thread(write_letter, claimed.item, ledger=self._ledger, config=self._config)
            posted = Posted("skip") if letter is None else await self._tell(letter)
            wait = 1.0 - self._chance() / 4  # apart, and never later than twice the wait before
            settled = Settled(claimed, posted.outcome, posted.why, posted.after_s * 1_000_000, wait)
            reach("settle.before")
            (word,) = await self._run(callbacks.settle([settled]))
            reach("settle.after")
            self._report(claimed, posted, word)
        except RedisError as exc:
            log.warning("ledger_away", job="call_back", error=type(exc).__name__, item=claimed.item)
        except Exception as exc:  # noqa: BLE001 - the edge of a job: it is due again when its lease ends
            log.error("job_failed", job="call_back", error=type(exc).__name__, trace=frames(exc), item=claimed.item)

    async def _tell(self, letter: Letter) -> Posted:
        reach("callback.before")
        posted = await self._post().send(letter)
        reach("callback.after")
        return posted

    async def _run(self, call: Call[T]) -> T:
        return await asyncio.to_thread(patiently, lambda: self._ledger.run(call))

    def _report(self, claimed: Claimed, posted: Posted, word: str) -> None:
        if word == "dead":
            log.error("callback_given_up", item=claimed.item, endpoint=claimed.endpoint, why=posted.why)
        elif posted.outcome == "failed":
            say = log.warning if claimed.tries + 1 >= WORRY_AFTER else log.info
            say(
                "callback_failed", item=claimed.item, endpoint=claimed.endpoint, why=posted.why, tries=claimed.tries + 1
            )
        elif posted.outcome == "gone":
            log.info("callbacks_not_wanted", item=claimed.item, endpoint=claimed.endpoint)
