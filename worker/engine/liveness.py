"""Say that this process lives, and look after those that no longer do.

Two threads: one beats, the other does each second what any worker may do for all: `wake` (timers) and `reap` (what dead
processes held). Both wait out an absence of Redis; any other failure ends the process, for a worker that neither beats
nor wakes looks alive and does nothing. Invariants:

- The first beat is written before a consumer starts, else what it takes would have no living holder.
- A process that was taken for dead goes on under a new id, which is alive before it is used.
- A dead process's Dramatiq keys are dropped, not given back: their messages are pointers, and timers point again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.calls import Pointer
from producers.ledger.ledger import Ledger
from producers.pointers import (
    CHORES,
    LIST_QUEUES,
    PRODUCER_ID,
    PointerMessage,
    broker_namespace,
    expand_pointer,
    inbound_pointer,
    pointer,
    poll_pointers,
    reconcile_pointer,
    withdraw_pointers,
)
from worker.engine.ending import vital_thread
from worker.engine.identity import Identity
from worker.engine.queue_consumer import Keys

BEAT_S, TEND_S, SWEEP_S, CHORES_S = 2.0, 1.0, 300.0, 30.0
WAKES_A_TURN = 50  # of at most 100 timers each; then reap has its turn
_LONGEST_WAIT_S = 2.0

log = structlog.get_logger(__name__)


class Liveness:
    """The heartbeat of this process.

    Args:
        limit_s: After this time without a beat a process counts as dead.
        stopping: True once this process is on its way out: then it leaves the timers to the others.
        orphaned: Called when the process that started us has gone.
        chores: Called every ``CHORES_S``: starts what the clock starts too, for the clock may be down.
    """

    def __init__(
        self,
        ledger: Ledger,
        identity: Identity,
        *,
        limit_s: float,
        stopping: Callable[[], bool],
        orphaned: Callable[[], None],
        chores: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._identity = ledger, identity
        self._beat_s = min(BEAT_S, limit_s / 4)
        self._stopping, self._orphaned, self._chores = stopping, orphaned, chores
        self._parent = os.getppid()
        self._namespace = broker_namespace(ledger.namespace)
        self._swept_s = 0.0
        self._chores_at_s = 0.0

    def start(self) -> None:
        """Write the first beat, then start both threads.

        Raises:
            redis.RedisError: the first beat could not be written.
        """
        self._ledger.run(calls.beat(self._identity.current, "first"))
        vital_thread("heartbeat", self._beat)
        vital_thread("timers", self._tend)

    def end(self) -> None:
        """The last word: this process is gone in good order. Called when nothing is under way any more."""
        try:
            self._ledger.run(calls.beat(self._identity.current, "last"))
        except RedisError as exc:
            log.warning("last_beat_unwritten", error=type(exc).__name__)  # it lapses by itself

    def _beat(self) -> None:
        outage = _Outage("heartbeat")
        while True:
            self._identity.lapsed.wait(self._beat_s)
            with outage:
                if self._identity.lapsed.is_set() or not self._ledger.run(calls.beat(self._identity.current, "again")):
                    self._go_on_under_a_new_id()
            outage.rest()

    def _go_on_under_a_new_id(self) -> None:
        fresh = uuid.uuid4().hex
        self._ledger.run(calls.beat(fresh, "first"))
        log.warning("process_had_lapsed", was=self._identity.current, now=fresh)
        self._identity.renew(fresh)

    def _tend(self) -> None:
        outage = _Outage("timers")
        while True:
            time.sleep(TEND_S)
            if self._stopping():
                continue  # still a daemon thread: it ends with the process
            if os.getppid() != self._parent:
                self._orphaned()
                continue
            with outage:
                self._wake()
            with outage:
                self._reap()
            with outage:
                self._start_chores()
            outage.rest()

    def _start_chores(self) -> None:
        if time.monotonic() >= self._chores_at_s:
            self._chores_at_s = time.monotonic() + CHORES_S
            self._chores()

    def _wake(self) -> None:
        for _ in range(WAKES_A_TURN):
            reach("wake.before")
            found, more = self._ledger.run(calls.wake())
            if found:  # not by Dramatiq's own script, which a full server refuses
                reach("wake.after")
                self._ledger.run(calls.point(_rows(_messages(found))))
            if not more or self._stopping():
                return

    def _reap(self) -> None:
        reach("reap.before")
        gone, messages = self._ledger.run(calls.reap(self._identity.current))
        if gone or messages:
            reach("reap.after")
            log.warning("processes_reaped", processes=gone, messages_in_doubt=messages)
        for process in gone:
            self._drop(process)
        if time.monotonic() - self._swept_s > SWEEP_S:
            self._swept_s = time.monotonic()
            self._sweep()

    def _drop(self, process: str) -> None:
        """Forget what a dead process had fetched from Dramatiq's queues; its bodies would stay for ever."""
        redis = self._ledger.redis
        for queue in LIST_QUEUES:
            keys = Keys(self._namespace, queue)
            ids: Any = redis.smembers(keys.unacknowledged(process))
            if ids:
                redis.hdel(keys.bodies, *ids)
                redis.delete(keys.unacknowledged(process))
        redis.zrem(f"{self._namespace}:__heartbeats__", process)

    def _sweep(self) -> None:
        """Drop what ended without being reaped: Dramatiq's own list of ids names every process that ever fetched."""
        redis = self._ledger.redis
        known: Any = redis.zrange(f"{self._namespace}:__heartbeats__", 0, -1)
        for process in {member.decode() for member in known} - {PRODUCER_ID, self._identity.current}:
            lives: Any = redis.exists(self._ledger.key(f"alive:{process}"))
            listed: Any = redis.sismember(self._ledger.key("procs"), process)
            if not lives and not listed:
                self._drop(process)


class _Outage:
    """Swallow errors of Redis inside a `with`, and say the first and the last of a row."""

    def __init__(self, what: str) -> None:
        self._what, self._failures, self._failed = what, 0, False

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _trace: object) -> bool:
        if not isinstance(exc, RedisError):
            return False
        self._failed = True
        if self._failures == 0:
            log.warning("ledger_unreachable", part=self._what, error=type(exc).__name__, detail=str(exc)[:200])
        self._failures += 1
        return True

    def rest(self) -> None:
        """Once a turn: wait longer after each failed one; a turn without failures ends the row."""
        if self._failed:
            time.sleep(min(_LONGEST_WAIT_S, 0.1 * 2 ** min(self._failures, 5)))
        elif self._failures:
            log.info("ledger_reachable_again", part=self._what)
            self._failures = 0
        self._failed = False


def _messages(found: list[Pointer]) -> list[PointerMessage]:
    polls: list[tuple[str, ...]] = [(row.id, row.more) for row in found if row.kind == "poll"]
    polls += [(row.id, row.more, "group") for row in found if row.kind == "poll_group"]
    messages = [expand_pointer(row.id, row.more == "0") for row in found if row.kind == "expand"]
    messages += [reconcile_pointer(row.id) for row in found if row.kind == "reconcile"]
    if any(row.kind == "call" for row in found):
        messages.append(pointer(CHORES, "call_back"))
    messages += [inbound_pointer(row.id) for row in found if row.kind == "inbound"]
    messages += withdraw_pointers([(row.id, row.more) for row in found if row.kind == "withdraw"])
    return messages + poll_pointers(polls)


def _rows(messages: list[PointerMessage]) -> list[tuple[str, str, bytes]]:
    """What Dramatiq's own enqueue would write: each message under an id of its own, which it also carries."""
    rows = []
    for message in messages:
        id = uuid.uuid4().hex
        rows.append((message.queue_name, id, message.copy(options={"redis_message_id": id}).encode()))
    return rows
