"""Take back what Telnyx holds for later and must not send: it was cancelled, or the person said no. On the event loop.

Telnyx cancels until a minute before; then, and where a first request did its work and the answer got lost, it refuses with
the same words. So a refusal says nothing by itself: the message is asked for, and its own status decides. Invariants, each
with a test named after it:

- A message counts as taken back only where Telnyx says ``cancelled``, of that very message.
- It counts as too late only where Telnyx shows that it has begun to send it, or refuses in its last minute; one that it
  still holds is asked for again.
- No clear answer changes nothing: the ledger's timer has it asked again, until its time has come.
- At most ``IN_FLIGHT`` are asked for at once; after a 429 all wait as long as Telnyx says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import structlog
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger import calls
from worker.patience import frames
from worker.reconciliation import ledger_fact
from worker.telnyx.outcomes import NotFound, Unavailable

if TYPE_CHECKING:
    from worker.telnyx.facts import Fact
    from worker.telnyx.gateway import Facts

IN_FLIGHT = 16
AGAIN_S = 20.0
PAUSE_MOST_S = 60.0
HELD = frozenset({"scheduled", "queued", ""})  # still to come; Telnyx's pages do not agree on the word
CANCELLED = "cancelled"

log = structlog.get_logger(__name__)


class Canceller(Protocol):
    """Of the gateway, what taking back needs."""

    async def cancel_scheduled(self, provider_id: str) -> Facts | NotFound | Unavailable: ...

    async def retrieve(self, provider_id: str) -> Facts | NotFound | Unavailable: ...


class Withdrawer:
    """What one process takes back.

    Args:
        gateway: Gives the loop's gateway; asked for each time, since it is built after this object.
        record: Runs a call against the ledger, without blocking the loop.
    """

    def __init__(
        self,
        gateway: Callable[[], Canceller],
        record: Callable[[Any], Awaitable[Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gateway, self._record, self._clock, self._sleep = gateway, record, clock, sleep
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._open: set[str] = set()
        self._next_at = 0.0

    async def take_back(self, messages: Sequence[tuple[str, str]]) -> None:
        """Ask for each message that is not being asked for already: its id, and the provider's."""
        mine = [row for row in dict(messages).items() if row[0] not in self._open]
        self._open.update(message for message, _ in mine)
        try:
            async with asyncio.TaskGroup() as asked:
                for message, provider_id in mine:
                    await self._room.acquire()
                    await self._until_allowed()
                    asked.create_task(self._one(message, provider_id))
        finally:
            self._open.difference_update(message for message, _ in mine)

    async def _until_allowed(self) -> None:
        while (wait_s := self._next_at - self._clock()) > 0:
            await self._sleep(wait_s)

    async def _one(self, message: str, provider_id: str) -> None:
        try:
            reach("withdraw.before")
            answer = await self._gateway().cancel_scheduled(provider_id)
            reach("withdraw.after")
            if not isinstance(answer, Unavailable) or _says_nothing_alone(answer):
                answer = await self._what_became(answer, message, provider_id)
            if isinstance(answer, NotFound | Unavailable):
                await self._ask_again(message, answer)
            elif answer.fact["status"] in HELD:
                log.warning("message_not_given_back", message_id=message, remedy="asked again until its time comes")
                await self._say(message, "held", AGAIN_S)
            else:
                await self._known(message, provider_id, answer.fact)
        except RedisError as exc:
            log.warning("ledger_away", job="withdraw", error=type(exc).__name__, message_id=message)
        except Exception as exc:  # noqa: BLE001 - the edge of a job: the timer has it asked for again
            log.error("job_failed", job="withdraw", error=type(exc).__name__, trace=frames(exc), message_id=message)
        finally:
            self._room.release()

    async def _what_became(
        self, answer: Facts | NotFound | Unavailable, message: str, provider_id: str
    ) -> Facts | NotFound | Unavailable:
        """The answer, if it is a clear yes about this message; else what Telnyx shows when asked for the message."""
        if isinstance(answer, NotFound | Unavailable) or not _is_about(answer.fact, message, provider_id):
            answer = await self._gateway().retrieve(provider_id)
        if isinstance(answer, NotFound | Unavailable) or _is_about(answer.fact, message, provider_id):
            return answer
        log.error("answered_about_another", message_id=message)
        return Unavailable("foreign_answer")

    async def _known(self, message: str, provider_id: str, fact: Fact) -> None:
        told = ledger_fact({**fact, "ref": message, "pid": provider_id}, "p", now_s=time.time())
        taken_back = fact["status"] == CANCELLED
        if not taken_back:  # before the fact, which may end it: what was said of it stays known
            await self._say(message, "late")
        await self._record(calls.receipt("", [told]))
        log.info(
            "message_withdrawn" if taken_back else "withdrawal_too_late", message_id=message, status=fact["status"]
        )

    async def _ask_again(self, message: str, answer: NotFound | Unavailable) -> None:
        if isinstance(answer, NotFound):
            log.error("withdrawal_unknown_at_provider", message_id=message, code=answer.code)
            return  # the ledger asks again, ever later
        say = log.error if answer.alert else log.warning
        say("withdrawal_unanswered", message_id=message, reason=answer.reason, retry_after_s=answer.retry_after_s)
        if answer.retry_after_s:
            wait_s = min(answer.retry_after_s, PAUSE_MOST_S)
            self._next_at = max(self._next_at, self._clock() + wait_s)
            await self._say(message, "again", max(wait_s, 1.0))

    async def _say(self, message: str, outcome: Literal["late", "held", "again"], after_s: float = 0.0) -> None:
        await self._record(calls.withdraw([calls.Withdrawal(message, outcome, round(after_s * 1_000_000))]))


def _says_nothing_alone(answer: Unavailable) -> bool:
    """A no, which Telnyx says alike of what is cancelled already, too late, or not ours to cancel; or a yes to something."""
    status = answer.reason.removeprefix("http_")
    refused = status.isdigit() and 400 <= int(status) < 500 and int(status) not in {401, 402, 408, 429}
    return refused or answer.reason == "unreadable"


def _is_about(fact: Fact, message: str, provider_id: str) -> bool:
    """Whether an answer speaks of this message; a proxy may mix answers up. Ours is the surer id."""
    if fact["ref"] is not None:
        return fact["ref"] == message
    return fact["pid"] in (None, provider_id)
