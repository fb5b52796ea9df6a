"""Fetch one Dramatiq queue, and never strand a message or a thread when Redis is away, read-only, full or silent.

Dramatiq's own consumer gives up an acknowledgement on most errors, or repeats it for ever in the worker thread that ran
the job. Here `ack`, `nack` and `requeue` only note the id, and the consumer's own thread writes what was noted, by
scripts that a full server runs. Invariants, each with a test named after it:

- `ack`, `nack` and `requeue` neither block nor raise.
- `__next__` never raises: on any error of Redis it waits a little and answers None.
- At most `prefetch` messages of the queue are handed out and not acknowledged: a queue's prefetch is its concurrency.
- A fetch whose answer was lost, or a consumer that is started again, strands nothing: what lies in our set of
  unacknowledged ids and was not handed out goes back into the queue.
- An undecodable body is put aside (`<queue>.XQ`), alone.

All state lives in :class:`QueueState`, outside the consumer: a restart of Dramatiq's replaces the consumer, and jobs of
the old one are acknowledged through the new one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import DecodeError
from redis import Redis
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger.calls import Fate
from producers.pointers import PointerMessage
from worker.engine.bell import Bells

ASIDE_KEPT = 10_000  # put aside and not yet looked at, by queue; the oldest leave
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0

log = structlog.get_logger(__name__)


class Keys:
    """Dramatiq's key names of one queue, as its script writes them."""

    def __init__(self, namespace: str, queue: str) -> None:
        self._namespace, self._queue = namespace, queue
        self.waiting = f"{namespace}:{queue}"
        self.bodies = f"{namespace}:{queue}.msgs"
        self.aside = f"{namespace}:{queue}.XQ"
        self.aside_bodies = f"{namespace}:{queue}.XQ.msgs"

    def unacknowledged(self, broker_id: str) -> str:
        return f"{self._namespace}:__acks__.{broker_id}.{self._queue}"


class Fetching(Protocol):
    """What the consumer needs of its broker."""

    client: Redis
    broker_id: str
    namespace: str

    def fetch(self, queue: str, count: int) -> list[bytes | None]:
        """At most ``count`` bodies, moved in one step into the ids that ``broker_id`` has not acknowledged."""

    def settle(self, queue: str, rows: Sequence[tuple[str, str, Fate]]) -> None:
        """Say what became of fetched messages: (who fetched it, id, fate). May run twice."""


@dataclass(slots=True)
class QueueState:
    """What is known of a queue's messages in this process. ``out`` maps ids that were handed out to their owner's id."""

    queue: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    flushing: threading.Lock = field(default_factory=threading.Lock)
    out: dict[str, str] = field(default_factory=dict)
    cache: deque[tuple[str, str, PointerMessage]] = field(default_factory=deque)  # id, owner, message
    done: list[tuple[str, str]] = field(default_factory=list)  # (id, owner): to be removed
    failed: list[tuple[str, str]] = field(default_factory=list)  # to be put aside
    back: list[tuple[str, str]] = field(default_factory=list)  # to go back into the queue
    suspect: bool = True  # our set of unacknowledged ids may hold some that were never handed out
    wait_s: float = _FIRST_WAIT_S


class QueueConsumer(Consumer):
    """Dramatiq's consumer of one queue. ``stopping`` tells whether anything may still be fetched."""

    def __init__(
        self, broker: Fetching, state: QueueState, *, prefetch: int, bells: Bells, stopping: Callable[[], bool]
    ) -> None:
        self._broker, self._state, self._prefetch = broker, state, prefetch
        self._bells, self._bell, self._stopping = bells, bells[state.queue], stopping
        self._keys = Keys(broker.namespace, state.queue)
        self._empty = False
        state.suspect = True

    def ack(self, message: MessageProxy) -> None:
        self._note(message, self._state.done)

    def nack(self, message: MessageProxy) -> None:
        self._note(message, self._state.failed)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            self._note(message, self._state.back)

    def _note(self, message: MessageProxy, where: list[tuple[str, str]]) -> None:
        mid = _id_of(message)
        with self._state.lock:
            owner = self._state.out.pop(mid, None)
            if owner is not None:  # else it was noted before
                where.append((mid, owner))
        self._bell.set()

    def __next__(self) -> MessageProxy | None:
        try:
            if self._state.cache:
                return self._hand_out()
            rung = True
            if self._empty:
                rung = self._bell.wait(self._bells.poll_s if not self._stopping() else 0.1)
            self._bell.clear()  # between the wait and the work: whoever rings during the work is heard
            self._empty = True
            self._flush()
            if self._stopping():
                return None
            self._give_back_strays()
            if rung or self._broker.client.exists(self._keys.waiting):  # a look costs a third of a fetch
                self._fetch()
            self._state.wait_s = _FIRST_WAIT_S
            return self._hand_out()
        except RedisError as exc:
            self._rest(exc)
        except Exception:
            log.error("queue_consumer_failed", queue=self._state.queue, exc_info=True)
            time.sleep(_LONGEST_WAIT_S)
        return None

    def close(self) -> None:
        """The last chance to write what was noted; called also when Dramatiq stops the worker."""
        try:
            with self._state.lock:
                self._state.back += [(mid, owner) for mid, owner, _ in self._state.cache]
                self._state.cache.clear()
            self._flush()
        except RedisError as exc:
            log.warning("queue_not_flushed", queue=self._state.queue, error=type(exc).__name__)

    def _hand_out(self) -> MessageProxy | None:
        with self._state.lock:
            if not self._state.cache:
                return None
            mid, owner, message = self._state.cache.popleft()
            self._state.out[mid] = owner
        self._empty = False
        return MessageProxy(message)

    def _flush(self) -> None:
        """Write what was noted. It is forgotten only after the server took it; the call may run twice."""
        state = self._state
        with state.flushing:
            with state.lock:
                done, failed, back = list(state.done), list(state.failed), list(state.back)
            rows: list[tuple[str, str, Fate]] = [(owner, mid, "done") for mid, owner in done]
            rows += [(owner, mid, "aside") for mid, owner in failed]
            rows += [(owner, mid, "back") for mid, owner in back]
            if rows:
                reach("ack.before", state.queue)
                self._broker.settle(state.queue, rows)
                reach("ack.after", state.queue)
            with state.lock:
                del state.done[: len(done)], state.failed[: len(failed)], state.back[: len(back)]

    def _give_back_strays(self) -> None:
        state = self._state
        if not state.suspect:
            return
        owner = self._broker.broker_id
        members: Any = self._broker.client.smembers(self._keys.unacknowledged(owner))
        with state.lock:
            noted = [*state.done, *state.failed, *state.back]
            known = {*state.out, *(mid for mid, _, _ in state.cache), *(mid for mid, _ in noted)}
        rows: list[tuple[str, str, Fate]] = []
        for mid in {member.decode() for member in members} - known:
            body: Any = self._broker.client.hget(self._keys.bodies, mid)
            if body is None:
                rows.append((owner, mid, "done"))
            elif _decoded(body) is None:
                log.error("message_undecodable", queue=state.queue, put_aside=mid)
                rows.append((owner, mid, "aside"))
            else:
                rows.append((owner, mid, "back"))
        if rows:
            self._broker.settle(state.queue, rows)
        state.suspect = False

    def _fetch(self) -> None:
        state = self._state
        room = self._prefetch - len(state.out)
        if room <= 0:
            return
        owner = self._broker.broker_id
        state.suspect = True  # until the answer is here and understood
        bodies = self._broker.fetch(state.queue, room)
        messages = [_decoded(body) for body in bodies]
        with state.lock:
            state.cache += [(m.options["redis_message_id"], owner, m) for m in messages if m is not None]
        state.suspect = any(message is None for message in messages)  # these are found among our ids, and put aside
        if state.suspect:
            self._empty = False

    def _rest(self, exc: RedisError) -> None:
        """Wait a little longer with each failure in a row, and say the first of them."""
        state = self._state
        state.suspect = True
        if state.wait_s == _FIRST_WAIT_S:
            log.warning("queue_unreachable", queue=state.queue, error=type(exc).__name__)
        time.sleep(state.wait_s)
        state.wait_s = min(state.wait_s * 2, _LONGEST_WAIT_S)
        self._empty = False  # look at once, when the rest is over


def _id_of(message: MessageProxy) -> str:
    return str(message.options["redis_message_id"])


def _decoded(body: bytes | None) -> PointerMessage | None:
    """The message, or None where it is none of ours, or has no id to acknowledge it by."""
    if body is None:
        return None
    try:
        message = PointerMessage.decode(body)
    except DecodeError:
        return None
    return message if isinstance(message.options.get("redis_message_id"), str) else None
