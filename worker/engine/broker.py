"""Dramatiq's broker as this service uses it: our consumers, no delay queues, no maintenance, chosen middleware only.

Dramatiq runs every job. What it would do besides, the ledger does better: retries and delays (by the server's clock),
recovery of what a dead process held (within seconds, not minutes), limits. So all of that is off here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dramatiq.broker import Consumer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message
from dramatiq.middleware import Middleware
from redis import Redis

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.pointers import CHORES, EXPAND, EXPAND_URGENT, RECEIPTS, SEND, bell_channel, broker_namespace
from worker.engine.bell import Bells
from worker.engine.queue_consumer import ASIDE_KEPT, QueueConsumer, QueueState
from worker.engine.slot_consumer import Granter, SlotConsumer

# How many messages of a queue are handed out and not acknowledged, in one process: its concurrency. These jobs burn CPU,
# and four expansions at once halve the rate that the process's senders hold.
PREFETCH = {EXPAND_URGENT: 4, RECEIPTS: 2, EXPAND: 1, CHORES: 2}


class NotifyBroker(RedisBroker):
    """The broker of a worker process, made in it: an id inherited over a fork would hide the death of a sibling."""

    def __init__(
        self,
        client: Redis,
        namespace: str,
        *,
        bells: Bells,
        granter: Granter,
        stopping: Callable[[], bool],
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=client, middleware=list(middleware), namespace=broker_namespace(namespace), maintenance_chance=0
        )
        self._ledger = Ledger(client, namespace)
        self._bell_channel = bell_channel(namespace)
        self._bells, self._granter, self._stopping = bells, granter, stopping
        self._states: dict[str, QueueState] = {}

    def use_id(self, broker_id: str) -> None:
        """Fetch under this id from now on."""
        self.broker_id = broker_id

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, without the delay queue that Dramatiq would announce: nothing of ours is delayed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue a message, then ring for its queue.

        Raises:
            ValueError: there is a delay, which no consumer of ours would wait for.
        """
        if delay is not None:
            raise ValueError(f"delay is {delay} ms, must be None: what waits for a time, waits in the ledger")
        enqueued = super().enqueue(message)
        self.client.publish(self._bell_channel, message.queue_name)
        return enqueued

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Our consumer of the queue; Dramatiq's own prefetch and timeout are for its own consumers."""
        if queue_name == SEND:
            return SlotConsumer(self._granter)
        state = self._states.setdefault(queue_name, QueueState(queue_name))
        return QueueConsumer(
            self, state, prefetch=PREFETCH.get(queue_name, 1), bells=self._bells, stopping=self._stopping
        )

    def fetch(self, queue: str, count: int) -> list[bytes | None]:
        """By a script of ours: a full server refuses Dramatiq's own, and then nothing that was queued is ever done."""
        return self._ledger.run(calls.fetch(queue, self.broker_id, count))

    def settle(self, queue: str, rows: Sequence[tuple[str, str, calls.Fate]]) -> None:
        self._ledger.run(calls.ack(queue, rows, kept=ASIDE_KEPT))
