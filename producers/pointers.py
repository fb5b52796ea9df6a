"""Point workers at work: put the id of what the ledger already holds on a Dramatiq queue, and ring the bell.

A pointer carries ids only. It may be lost, late or doubled: whoever follows it asks the ledger what there is to do, and a
timer of the ledger points again at what was forgotten. Invariants, each with a test named after it:

- The global broker and the global encoder of the host process are neither read nor changed: the messages encode
  themselves, and the broker is an object of ours.
- The bell is rung after the push, never before it: a consumer that wakes finds the message.
- No pointer is delayed: Dramatiq keeps delayed messages by worker clocks, and ours wait in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DecodeError
from dramatiq.message import Message

if TYPE_CHECKING:
    from redis import Redis

FORGOTTEN = "forgotten"  # rung, not a queue: the server has forgotten what some process took
SEND = "send"  # fetched from lanes, by grant: nothing is ever pushed to it
EXPAND_URGENT = "expand.urgent"
RECEIPTS = "receipts"
EXPAND = "expand"
CHORES = "chores"
QUEUES = (SEND, EXPAND_URGENT, RECEIPTS, EXPAND, CHORES)
LIST_QUEUES = (EXPAND_URGENT, RECEIPTS, EXPAND, CHORES)

PRIORITIES = {SEND: 0, EXPAND_URGENT: 10, RECEIPTS: 20, EXPAND: 30, CHORES: 40}  # lower first
URGENT_RECIPIENTS = 10  # an urgent notification of at most so many has a queue of its own
EXPANDS_A_JOB = 100  # messages; a job should take some ten milliseconds
POLLS_A_JOB = 100

# One name for all producers: they fetch nothing, so nothing of theirs is ever given back, and each further name would
# cost whoever cleans up a look.
PRODUCER_ID = "producers"
_PIPELINED = 500
# How many values Dramatiq's script unpacks at once; it would ask the server, once a process, for half of Lua's stack.
_UNPACKED = 1000


def broker_namespace(namespace: str) -> str:
    """What Dramatiq's own keys start with: inside the hash tag of the ledger's, so all share one slot."""
    return f"{{{namespace}}}:d"


def bell_channel(namespace: str) -> str:
    """The pub/sub channel that says what has become due: "send", or a queue's name."""
    return f"{{{namespace}}}:bell"


class PointerMessage(Message[Any]):
    """A Dramatiq message that encodes itself as JSON, whatever encoder the host app gave Dramatiq."""

    def encode(self) -> bytes:
        return json.dumps(self.asdict(), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> PointerMessage:
        """Read what :meth:`encode` wrote.

        Raises:
            DecodeError: ``data`` is something else.
        """
        try:
            fields = json.loads(data)
            fields["args"] = tuple(fields["args"])
            return cls(**fields)
        except Exception as exc:
            raise DecodeError("no message of ours", data, exc) from exc  # type: ignore[no-untyped-call]


class _Writer(RedisBroker):
    """A broker that writes through the client it is given; a pipeline will do."""

    def __init__(self, client: Redis, namespace: str) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=client, middleware=[], namespace=broker_namespace(namespace), maintenance_chance=0
        )
        self.broker_id = PRODUCER_ID

    def _max_unpack_size(self) -> int:
        return _UNPACKED


def pointer(queue: str, actor: str, *args: object) -> PointerMessage:
    return PointerMessage(queue_name=queue, actor_name=actor, args=args, kwargs={}, options={})


def expand_pointer(notification: str, urgent_and_small: bool, cursor: str | None = None) -> PointerMessage:
    queue, actor = (EXPAND_URGENT, "expand_urgent") if urgent_and_small else (EXPAND, "expand")
    return pointer(queue, actor, notification, cursor)


def expand_pointers(fresh: Iterable[tuple[str, bool, int]]) -> list[PointerMessage]:
    """Pointers at fresh notifications, several in one as long as they are one job's work together.

    Args:
        fresh: id, whether it is urgent and small, and how many messages it has.
    """
    packs: dict[bool, list[list[str]]] = {True: [], False: []}
    room = {True: 0, False: 0}
    for notification, urgent, messages in fresh:
        most = URGENT_RECIPIENTS if urgent else EXPANDS_A_JOB
        cost = min(messages, most)  # of a larger one, a job takes one chunk
        if cost > room[urgent]:
            packs[urgent].append([])
            room[urgent] = most
        packs[urgent][-1].append(notification)
        room[urgent] -= cost
    found = []
    for urgent, queue, actor in ((True, EXPAND_URGENT, "expand_urgent"), (False, EXPAND, "expand")):
        found += [pointer(queue, actor, pack if len(pack) > 1 else pack[0], None) for pack in packs[urgent]]
    return found


def reconcile_pointer(batch: str) -> PointerMessage:
    return pointer(RECEIPTS, "reconcile", batch)


def poll_pointers(messages: Sequence[tuple[str, ...]]) -> list[PointerMessage]:
    """Polls of messages: message id and provider id, and "group" of one; at most ``POLLS_A_JOB`` in a job."""
    pairs = [list(pair) for pair in messages]
    return [pointer(CHORES, "poll", pairs[i : i + POLLS_A_JOB]) for i in range(0, len(pairs), POLLS_A_JOB)]


def withdraw_pointers(messages: Sequence[tuple[str, str]]) -> list[PointerMessage]:
    """Messages to be taken back from Telnyx: message id and provider id; at most ``POLLS_A_JOB`` in a job."""
    pairs = [list(pair) for pair in messages]
    return [pointer(CHORES, "withdraw", pairs[i : i + POLLS_A_JOB]) for i in range(0, len(pairs), POLLS_A_JOB)]


def inbound_pointer(entry: str) -> PointerMessage:
    return pointer(CHORES, "inbound", entry)


class Pointers:
    """Enqueue pointers, from threads. ``redis`` must not retry by itself (see ``producers.ledger.connection``).

    Every method blocks for a round trip or two; an event loop calls it in a thread.

    Raises:
        redis.RedisError: by every method. The pointer may or may not be there, and nothing is lost either way: the
            ledger's timer points again about 10 s later. So a caller whose work is already in the ledger may go on.
    """

    def __init__(self, redis: Redis, namespace: str = "notify") -> None:
        self.redis = redis
        self.namespace = namespace

    def expand(self, notification: str, urgent_and_small: bool, cursor: str | None = None) -> None:
        """Have a notification expanded; ``cursor`` names the chunk, None of a fresh one.

        ``urgent_and_small``: of class urgent, with at most ``URGENT_RECIPIENTS`` recipients.
        """
        self.push([expand_pointer(notification, urgent_and_small, cursor)])

    def expand_many(self, fresh: Iterable[tuple[str, bool, int]]) -> None:
        """Have many expanded: id, whether it is urgent and small, and how many messages it has. Packed and pipelined."""
        self.push(expand_pointers(fresh))

    def reconcile(self, batch: str) -> None:
        """Have a kept batch of receipts applied."""
        self.push([reconcile_pointer(batch)])

    def poll(self, messages: Sequence[tuple[str, ...]]) -> None:
        """Ask Telnyx about messages: pairs of message id and provider id."""
        self.push(poll_pointers(messages))

    def push(self, messages: Sequence[PointerMessage]) -> None:
        """Enqueue messages, then ring once for each of their queues."""
        for i in range(0, len(messages), _PIPELINED):
            batch = messages[i : i + _PIPELINED]
            with self.redis.pipeline(transaction=False) as pipe:
                writer = _Writer(pipe, self.namespace)
                for message in batch:
                    writer.enqueue(message)
                for queue in dict.fromkeys(message.queue_name for message in batch):
                    pipe.publish(bell_channel(self.namespace), queue)
                pipe.execute()
