"""What apps are owed: take what is due, say how it went, and read what was given up. The scripts are claim and settle.

An item is an entry ("m" and its message id), a notification ("n" and its id), or one event ("e" and its place in the stream).
It names what to tell about; what is told is the state at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from producers.ledger.calls import compact
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Arg, Call

IN_FLIGHT, TO_ONE_ENDPOINT = 64, 4  # of one process
LEASE_US = 20_000_000  # beyond the longest request, so that nobody is told by two at once


class Claimed(NamedTuple):
    """One item to tell, until its lease (microseconds of the server's clock) ends."""

    endpoint: str
    item: str
    lease: str
    tries: int


def claim(room: int, here: Mapping[str, int], *, each: int = TO_ONE_ENDPOINT) -> Call[list[Claimed]]:
    """Take at most ``room`` items that are due; ``here`` counts what this process has in flight to each endpoint."""

    def decode(r: Sequence[bytes]) -> list[Claimed]:
        rows = [r[i : i + 4] for i in range(0, len(r), 4)]
        return [Claimed(e.decode(), item.decode(), lease.decode(), int(tries)) for e, item, lease, tries in rows]

    args: list[Arg] = [room, each, LEASE_US]
    for endpoint, count in here.items():
        args += [endpoint, count]
    return Call("claim", args, decode)


Outcome = Literal["told", "skip", "gone", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Settled:
    """How one went. ``why`` is a word of [a-z0-9_]; ``wait`` the share, 0.5 to 1, of the usual time until the repeat."""

    claimed: Claimed
    outcome: Outcome
    why: str = ""
    after_us: int = 0
    wait: float = 1.0

    def packed(self) -> str:
        c = self.claimed
        return compact(
            {"e": c.endpoint, "i": c.item, "l": c.lease, "o": self.outcome, "why": self.why, "after": self.after_us,
             "wait": round(self.wait, 3)}
        )  # fmt: skip


def settle(results: Iterable[Settled]) -> Call[list[str]]:
    """Record how callbacks went; a word each: done, again, dead, known."""
    return Call("settle", [result.packed() for result in results], lambda r: [w.decode() for w in r])


@dataclass(frozen=True, slots=True)
class DeadCallback:
    """One that was given up: after a day of failures, or because it must not be made."""

    id: str  # endpoint and item, as the ledger lists it
    at_us: int
    why: str

    @property
    def about(self) -> str:
        """The id of its message or notification, or the place of its event in the stream."""
        return self.id[9:]


def read_dead_callbacks(ledger: Ledger, *, limit: int) -> list[DeadCallback]:
    """The newest ``limit``."""
    redis: Any = ledger.redis
    rows = redis.zrange(ledger.key("cbd"), 0, limit - 1, desc=True, withscores=True)
    if not rows:
        return []
    why = redis.hmget(ledger.key("cbw"), [id for id, _ in rows])
    return [
        DeadCallback(id.decode(), int(at), (word or b"").decode()) for (id, at), word in zip(rows, why, strict=True)
    ]


def call_again(ids: Iterable[str]) -> Call[list[str]]:
    """Have dead callbacks called again: "again" for each, "known" where it is no dead one."""
    packed = [compact({"e": id[:8], "i": id[8:], "o": "again"}) for id in ids]
    return Call("settle", packed, lambda r: [w.decode() for w in r])
