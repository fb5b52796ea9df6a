"""The consumer of the queue `send`: it fetches slots for this process, by `grant`, instead of messages from a list.

A slot is an instant at which one message of a lane may leave; which message, is decided at that instant. So nothing is
bound to a process before it leaves, and a process that dies here wastes slots, never messages. Invariants:

- Never more slots than free hands; of one lane at most half of all hands, less what it has under way.
- No hand is left over: whatever way a job ends, also one that never ran, its hands come back.
- No exception leaves `__next__`, and a stopping process asks for no slots; nor does one that rests after a failover.

All state lives in :class:`Granter`, outside the consumer, which Dramatiq replaces when it restarts.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable

import structlog
from dramatiq.broker import Consumer, MessageProxy
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.pointers import SEND, PointerMessage
from worker.engine.bell import Bells
from worker.engine.clock import ServerClock
from worker.engine.hands import Hands, Room
from worker.engine.identity import Identity
from worker.sending.slots import DueSlot

ACTOR = "send"
GAP_S = 0.015  # between two grants, unless rung: else every process wakes at every lane's due time
RUNG_GAP_S = 0.002
LO_S = calls.GRANT_LO_US / 1e6  # a lane may be served this long before it is due
LONGEST_S = 1.0
LITTLE = 64  # of a lane with at most this part of all hands under way, the exact count does not matter
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0

log = structlog.get_logger(__name__)


class Granter:
    """Asks for slots, and keeps them until the actor of the queue picks them up.

    Args:
        ledger: For the consumer's thread.
        lanes: The lanes that this process can send from. Others (a newer release has published them) are left alone.
        stopping: True once nothing new may begin.
        rests: True while slots may be of a server that has forgotten what was sent.
        lost: Told of each call that failed, with the monotonic time at which it was sent.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        identity: Identity,
        hands: Hands,
        clock: ServerClock,
        bells: Bells,
        lanes: Collection[str],
        stopping: Callable[[], bool],
        rests: Callable[[], bool] = lambda: False,
        lost: Callable[[RedisError, float], None] = lambda _exc, _sent_s: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rests, self._lost = rests, lost
        self._ledger, self._identity, self._hands, self._clock = ledger, identity, hands, clock
        self._bells, self._bell, self._lanes, self._stopping = bells, bells[SEND], lanes, stopping
        self._now = now
        self._strange: set[str] = set()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, list[DueSlot]] = {}
        self._lock = threading.Lock()
        self._asked_s = self._next_s = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._nudged = False

    def nudge(self) -> None:
        """Ask again soon: a hand came free, or a slot was missed. Less pressing than a ring, which may mean urgent."""
        self._nudged = True
        self._bells.ring(SEND)

    def next_job(self) -> int | None:
        """Wait until a lane is due, then ask for slots: the number of the job that holds them, or None. Never raises."""
        try:
            if self._stopping():
                time.sleep(0.1)  # the bell may be set: waiting on it would spin
                return None
            if self._rests():
                time.sleep(_FIRST_WAIT_S)
                self._next_s = 0.0
                return None
            if not self._is_time():
                return None
            self._bell.clear()
            return self._ask()
        except RedisError as exc:
            self._lost(exc, self._asked_s)
            if self._wait_s == _FIRST_WAIT_S:
                log.warning("slots_unreachable", error=type(exc).__name__)
        except Exception:
            log.error("slot_consumer_failed", exc_info=True)
        time.sleep(self._wait_s)
        self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
        self._next_s = 0.0
        return None

    def pick_up(self, job: int) -> list[DueSlot]:
        """The slots of a job, once; empty when its hands were given back meanwhile."""
        with self._lock:
            return self._jobs.pop(job, [])

    def drop(self, job: int) -> None:
        """Give back the hands of a job that never ran; of one that ran, nothing is left here."""
        for due in self.pick_up(job):
            due.hand.give_back()

    def _is_time(self) -> bool:
        wait_s = min(max(self._next_s, self._asked_s + GAP_S) - self._now(), self._bells.poll_s)
        if wait_s > 0 and self._bell.wait(wait_s):
            gap_s = self._asked_s + (GAP_S if self._nudged else RUNG_GAP_S) - self._now()
            if gap_s > 0:
                time.sleep(gap_s)
        self._nudged = False
        return not self._stopping()

    def _ask(self) -> int | None:
        room = self._hands.ask()
        self._next_s = self._now() + LONGEST_S
        if room.free <= 0:
            return None  # the next hand to come free rings
        process, quota, quotas = self._identity.current, self._quota, self._quotas(room)
        sent_s = self._asked_s = self._now()
        reach("grant.before")
        granted = self._ledger.run(calls.grant(process, room.free, lane_quota=quota, quotas=quotas))
        reach("grant.after", "slots" if granted.slots else "")
        received_s = self._now()
        self._wait_s = _FIRST_WAIT_S
        if granted.lapsed:
            self._identity.report_lapse(process)
            self._next_s = received_s + _FIRST_WAIT_S
            return None
        self._clock.observe(sent_s=sent_s, server_us=granted.now_us, received_s=received_s)
        if granted.next_us is not None:
            self._next_s = min(self._next_s, self._clock.local_s(granted.next_us) - LO_S)
        if not self._is_cramped(granted.slots, room, quotas):
            self._hands.content()
        return self._keep(granted.slots)

    @property
    def _quota(self) -> int:
        """Of a lane that is not among :meth:`_quotas`: it has little under way, and with this it stays within half."""
        return self._hands.total // 2 - self._hands.total // LITTLE

    def _quotas(self, room: Room) -> dict[str, int]:
        """What lanes may get that have much under way. The others are not named: there may be a thousand of them."""
        most, little = self._hands.total // 2, self._hands.total // LITTLE
        quotas = {lane: max(0, most - used) for lane, used in room.in_lanes.items() if used > little}
        return {**quotas, **dict.fromkeys(self._strange, 0)}

    def _is_cramped(self, slots: list[calls.Slot], room: Room, quotas: dict[str, int]) -> bool:
        """Would more have been granted with more hands? Then the next hand to come free should ring."""
        if len(slots) >= room.free:
            return True
        counts: dict[str, int] = {}
        for slot in slots:
            counts[slot.lane] = counts.get(slot.lane, 0) + 1
        spent = any(count >= quotas.get(lane, self._quota) for lane, count in counts.items())
        return spent or any(quota == 0 and lane not in self._strange for lane, quota in quotas.items())

    def _keep(self, slots: list[calls.Slot]) -> int | None:
        due: list[DueSlot] = []
        for slot in slots:
            if slot.lane not in self._lanes:
                if slot.lane not in self._strange:
                    log.warning("lane_unknown", lane=slot.lane, remedy="restart this worker on the newer configuration")
                self._strange.add(slot.lane)
                continue
            due.append(DueSlot(slot, self._clock.local_s(slot.at_us), self._hands.take(slot.lane)))
        if not due:
            return None
        job = next(self._numbers)
        with self._lock:
            self._jobs[job] = due
        return job


class SlotConsumer(Consumer):
    """Dramatiq's consumer of the queue `send`. Its messages name a job of the granter and exist only in this process."""

    def __init__(self, granter: Granter) -> None:
        self._granter = granter

    def __next__(self) -> MessageProxy | None:
        job = self._granter.next_job()
        if job is None:
            return None
        return MessageProxy(PointerMessage(queue_name=SEND, actor_name=ACTOR, args=(job,), kwargs={}, options={}))

    def ack(self, message: MessageProxy) -> None:
        self._granter.drop(message.args[0])

    def nack(self, message: MessageProxy) -> None:
        self._granter.drop(message.args[0])

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            self._granter.drop(message.args[0])
