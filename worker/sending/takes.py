"""Take a message for each slot just before its instant: the one step that gives leave to send.

A take runs ten milliseconds ahead, so that its round trip and the building of the request are over when the slot comes.
Takes that are due together share one call, for a call costs more than a message. Invariants, each with a test named
after it:

- A call whose answer was lost is repeated with the same token, and so gives the same messages; it is repeated also when
  the slot has passed, to learn what the lost call took: that goes back unsent, instead of being in doubt. (Where it took
  long to answer, what is held under its token has gone back before; see ``worker.sending.failover``.)
- While the server may have forgotten what was sent, nothing is taken; and what an answer of such a server gave goes back.
- Every slot that is added ends in exactly one of the three callbacks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import time
from collections.abc import Callable, Mapping

import structlog
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.calls import Missed, Taken, Takes
from producers.ledger.ledger import AsyncLedger
from worker.sending.failover import Failover
from worker.sending.slots import DueSlot, LaneSpec

LEAD_S, TOGETHER_S = 0.010, 0.002
# With many slots ahead a call carries more of them: fewer calls, and messages are chosen 8 ms earlier.
MANY = 50
LEAD_MANY_S, TOGETHER_MANY_S = 0.018, 0.008
MOST_A_CALL = 100  # a slot may end up to fifty messages on its way, and a script blocks the server meanwhile
GIVE_UP_S = 25.0  # before the ledger's own limit of 30 s for what is neither sent nor finished
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.5

log = structlog.get_logger(__name__)


class TakeSchedule:
    """Slots by their instant; for the event loop only.

    Args:
        process: The current id of this process.
        lanes: What each lane sends as.
        on_taken: Called with each taken message, its slot and the id under which it was taken.
        on_missed: Called with each slot that gave none, and why: late, gone, held, passed, empty, or "lapsed", "unknown", "rest".
        on_unsafe: As ``on_taken``, for what must go back unsent: it may have been sent before the server forgot so.
        on_lapsed: Called with an id that was taken for dead.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        *,
        process: Callable[[], str],
        failover: Failover,
        lanes: Mapping[str, LaneSpec],
        on_taken: Callable[[Taken, DueSlot, str], None],
        on_missed: Callable[[DueSlot, str], None],
        on_unsafe: Callable[[Taken, DueSlot, str], None],
        on_lapsed: Callable[[str], None],
    ) -> None:
        self._ledger, self._process, self._lanes = ledger, process, lanes
        self._failover = failover
        self._on_taken, self._on_missed, self._on_unsafe, self._on_lapsed = on_taken, on_missed, on_unsafe, on_lapsed
        self._heap: list[tuple[float, int, DueSlot]] = []
        self._order, self._calls = itertools.count(), itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, slots: list[DueSlot]) -> None:
        """Take these when they are due; what is due already, at once."""
        for due in slots:
            heapq.heappush(self._heap, (due.at_s, next(self._order), due))
        self._fire()

    def _fire(self) -> None:
        """Start a call for what is due, then set the timer for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        many = len(self._heap) > MANY
        lead_s, together_s = (LEAD_MANY_S, TOGETHER_MANY_S) if many else (LEAD_S, TOGETHER_S)
        now_s = time.monotonic()
        while self._heap and self._heap[0][0] - lead_s <= now_s:
            batch: list[DueSlot] = []
            while self._heap and len(batch) < MOST_A_CALL and self._heap[0][0] - lead_s <= now_s + together_s:
                batch.append(heapq.heappop(self._heap)[2])
            task = asyncio.get_running_loop().create_task(self._take(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._heap:
            delay_s = self._heap[0][0] - lead_s - now_s
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)

    async def _take(self, batch: list[DueSlot]) -> None:
        if self._failover.rests:
            for due in batch:
                self._on_missed(due, "rest")
            return
        process = self._process()
        reach("take.before")
        takes, is_safe = await self._until_answered(process, batch)
        reach("take.after")
        if takes is None or takes.lapsed:
            if takes is not None:
                self._on_lapsed(process)
            for due in batch:
                self._on_missed(due, "lapsed" if takes is not None else "unknown")
            return
        for due, answer in zip(batch, takes.answers, strict=True):
            if isinstance(answer, Missed):
                self._on_missed(due, answer.why)
            elif is_safe:
                self._failover.memory.took(process, answer, self._lanes[due.slot.lane].builder)
                self._on_taken(answer, due, process)
            else:
                self._on_unsafe(answer, due, process)

    async def _until_answered(self, process: str, batch: list[DueSlot]) -> tuple[Takes | None, bool]:
        """The answer, and whether what it gave may be sent."""
        # Random, since the token is what decides who may send; short, since each record keeps it.
        token = f"{process[:8]}.{next(self._calls):x}.{secrets.token_hex(6)}"
        call = calls.take(process, token, [(due.slot, self._lanes[due.slot.lane].builder) for due in batch])
        give_up_s, wait_s = time.monotonic() + GIVE_UP_S, _FIRST_WAIT_S
        while True:
            sent_s, mark = time.monotonic(), self._failover.mark()
            try:
                self._failover.asked(token)
                takes = await self._ledger.run(call)
                return takes, takes.lapsed or self._failover.answered(mark, takes.gen)
            except RedisError as exc:
                log.warning("take_unanswered", slots=len(batch), error=type(exc).__name__)
                self._failover.unanswered(process, token)
                self._failover.lost(exc, sent_s)
                if time.monotonic() > give_up_s:
                    log.error("take_given_up", slots=len(batch), error=str(exc)[:200])
                    return None, False
            await asyncio.sleep(wait_s)
            # After a rest its slots are over: it gives what the lost call took, and nothing new.
            await self._failover.rested()
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
