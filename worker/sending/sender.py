"""Send what was taken: build the request, wait for the slot's instant, make one request, record what came of it.

Everything between the take and the record happens here, on the event loop. Invariants, each with a test named after it:

- No request leaves before its slot's instant by the local clock, nor later than the slot's tolerance: a late one goes
  back to its lane unsent.
- One request a take. Whatever fails before it is `not_sent`, whatever fails once it may have left is uncertain.
- A message of which we cannot make a request waits a little and uses up a try, and the ledger rejects it as poison once
  all are used: it never holds up its lane.
- Every message that was taken is recorded, and its hand comes back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from producers.fault_points import reach
from producers.ledger.calls import Finish, Taken
from producers.masking import mask
from worker.patience import frames
from worker.sending.parts import other_count
from worker.sending.slots import DueSlot, LaneSpec
from worker.sending.verdicts import not_sent, to_finish, unbuildable, uncertain
from worker.telnyx.builder import Content, Request, build
from worker.telnyx.outcomes import UNSENDABLE, Outcome

POISON_DELAY_S = 1.0
MISSED_SAID_EACH_S = 5.0
# Of the tolerance: until when a request may be begun, and until when its bytes may leave. Between the two it is made.
BEGUN_WITHIN, OUT_WITHIN = 0.9, 0.97
LATE, STALLED, LATE_TRIES = "late", "stalled", 3
_REMEMBERED = 1000

log = structlog.get_logger(__name__)


class Sending(Protocol):
    """What makes the request: the gateway, or a stand-in."""

    async def send(self, request: Request, *, is_resend: bool = False, deadline_s: float | None = None) -> Outcome: ...


class Sender:
    """Sends taken messages; for the event loop only.

    Args:
        gateway: Makes the requests.
        lanes: What each lane sends as.
        public_url: Where Telnyx reports back, None in poll mode.
        record: Takes each result, with the id under which the message was taken.
        more: Rings for the next slots, after one was missed.
    """

    def __init__(
        self,
        gateway: Sending,
        *,
        lanes: Mapping[str, LaneSpec],
        public_url: str | None,
        record: Callable[[str, Finish], None],
        more: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        self._gateway, self._lanes, self._public_url = gateway, lanes, public_url
        self._record, self._more = record, more
        self._rng = rng or random.Random()
        self._tasks: set[asyncio.Task[None]] = set()
        self._streak = 0
        self._late: OrderedDict[str, int] = OrderedDict()
        self._missed: Counter[tuple[str, str]] = Counter()
        self._say_missed_s = 0.0

    def missed(self, due: DueSlot, why: str) -> None:
        """A slot gave no message. Late ones count against us; the next slot is asked for at once."""
        late = why in ("late", "gone")
        due.hand.give_back(missed=late)
        if late:
            self._note_missed(due, why)
            self._more()

    def taken(self, taken: Taken, due: DueSlot, process: str) -> None:
        """Send this message at its slot."""
        task = asyncio.get_running_loop().create_task(self._send(taken, due, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unsafe(self, taken: Taken, due: DueSlot, process: str) -> None:
        """This message was taken and must not be sent now: it goes back as it came."""
        self._record(process, not_sent(taken, "failover"))
        due.hand.give_back()

    async def _send(self, taken: Taken, due: DueSlot, process: str) -> None:
        result, missed = not_sent(taken, "interrupted"), False
        try:
            request = self._build(taken, due)
            if isinstance(request, Finish):
                result = request
                return
            await _until(due.at_s)
            reach("request.before")
            if time.monotonic() > _at_most(BEGUN_WITHIN, taken, due):
                result, missed = not_sent(taken, LATE), True
                self._note_missed(due, STALLED)
                return
            due.hand.posted()
            result = uncertain(taken, "interrupted")  # what remains if this task is cancelled from here on
            result = await self._request(taken, request, due)
            missed = result.outcome == "not_sent" and result.why == LATE
            reach("answer.after")
        finally:
            self._record(process, result)
            due.hand.give_back(missed=missed)

    def _note_missed(self, due: DueSlot, why: str) -> None:
        """One line for all that were missed in some seconds: a process short of CPU must not spend it on its log."""
        self._missed[due.slot.lane, why] += 1
        now_s = time.monotonic()
        if now_s >= self._say_missed_s:
            for (lane, reason), count in self._missed.items():
                log.info("slot_missed", lane=lane, why=reason, count=count)
            self._missed.clear()
            self._say_missed_s = now_s + MISSED_SAID_EACH_S

    def _build(self, taken: Taken, due: DueSlot) -> Request | Finish:
        try:
            content = Content.from_json(taken.content)
            sender = self._lanes[due.slot.lane].sender
            at_s = taken.send_at_us // 1_000_000
            return build(sender, taken.to, content, ref=taken.message, public_url=self._public_url, send_at_s=at_s)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, the ledger counts the tries
            log.error("request_unbuildable", message_id=taken.message, error=type(exc).__name__, trace=frames(exc))
            return unbuildable(taken, exc, delay_s=POISON_DELAY_S)

    async def _request(self, taken: Taken, request: Request, due: DueSlot) -> Finish:
        started_s = time.monotonic()
        try:
            outcome = await self._gateway.send(
                request, is_resend=taken.may_be_out, deadline_s=self._deadline_s(taken, due)
            )
        except Exception:
            log.error("request_failed", message_id=taken.message, exc_info=True)
            outcome = Outcome(kind="uncertain", reason="internal")
        reach("answer.before")
        if outcome.kind == "not_sent" and outcome.reason == STALLED:
            self._note_missed(due, STALLED)
            return not_sent(taken, LATE)
        if outcome.kind == "not_sent" and outcome.reason == LATE:
            self._late[taken.message] = self._late.pop(taken.message, 0) + 1
            return not_sent(taken, LATE)
        self._late.pop(taken.message, None)
        if outcome.reason != UNSENDABLE:  # nobody was asked, so that says nothing about who answers
            self._streak = self._streak + 1 if outcome.kind in ("uncertain", "not_sent") else 0
        took_ms = round((time.monotonic() - started_s) * 1000)
        self._say(taken, due, outcome, took_ms)
        finish = to_finish(taken, outcome, streak=self._streak, rng=self._rng)
        ours = other_count(taken, self._lanes[due.slot.lane].sender.channel, outcome)
        if ours is not None:
            log.info(
                "parts_differ", message_id=taken.message, ours=ours, telnyx=outcome.parts, encoding=outcome.encoding
            )
            finish = replace(finish, parts_differ=True)
        return finish

    def _deadline_s(self, taken: Taken, due: DueSlot) -> float | None:
        """Until when it may leave. A message that came too late for want of a connection finds one next time, as a rule;
        where each request needs a new one, waiting for that must end."""
        while len(self._late) > _REMEMBERED:
            self._late.popitem(last=False)
        if self._late.get(taken.message, 0) >= LATE_TRIES:
            return None
        return _at_most(OUT_WITHIN, taken, due)

    def _say(self, taken: Taken, due: DueSlot, outcome: Outcome, took_ms: int) -> None:
        write = log.error if outcome.alert else log.info
        write(
            f"message_{outcome.kind}",
            message_id=taken.message,
            lane=due.slot.lane,
            recipient=mask(taken.to[0]) if taken.to else "",
            attempt=taken.attempt,
            why=outcome.reason,
            code=outcome.code,
            took_ms=took_ms,
        )


def _at_most(part: float, taken: Taken, due: DueSlot) -> float:
    """The instant at which this part of the slot's tolerance is over."""
    return due.at_s + taken.tolerance_us / 1e6 * part


async def _until(at_s: float) -> None:
    """Sleep until a monotonic instant. Event loops round to a millisecond, also down: look again, never go early."""
    while (left_s := at_s - time.monotonic()) > 0:
        await asyncio.sleep(left_s)
