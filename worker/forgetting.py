"""Remove what is kept of a person, but for their opt-outs: who asks to be forgotten must not be texted again.

Nothing is indexed by number, for that would cost every message of everybody; so this looks at each key once, by SCAN, a
thousand at a time, which holds nobody up. Invariants, each with a test:

- Afterwards the number stands nowhere in Redis but in opt-outs (the audit has it masked).
- What waits for the person is stopped; what may be under way stays until its fate is known, and is counted.
- Running it twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from producers.fault_points import reach
from producers.ledger import calls
from producers.ledger.ledger import Ledger

KEYS_A_TRIP = 1_000
MESSAGES_A_CALL = 100
STREAMS = ("in", "odd", "ev")  # what people wrote, callbacks that nobody understood, events
KEPT = ("o:",)


@dataclass
class Forgotten:
    """What was done. ``left``: messages whose request may be under way, and notifications that are being expanded."""

    keys: int = 0  # looked at
    messages: int = 0
    stopped: int = 0
    entries: int = 0  # of streams
    others: int = 0  # keys named after the person: frequency, WhatsApp's window
    left: int = 0


def forget(ledger: Ledger, number: str, *, progress: Callable[[Forgotten], None] = lambda done: None) -> Forgotten:
    """Forget ``number`` (E.164, or WhatsApp's id of a person).

    Raises:
        redis.RedisError: the server is away; what was done stays done, and the same call goes on.
    """
    done = Forgotten()
    redis: Any = ledger.redis
    for keys in _pages(redis, ledger.prefix):
        done.keys += len(keys)
        names = [key.decode(errors="replace")[len(ledger.prefix) :] for key in keys]
        _forget_messages(ledger, number, [name[2:] for name in names if name.startswith("m:")], done)
        _note_unexpanded(redis, ledger, number, [name for name in names if name.startswith("r:")], done)
        named = [name for name in names if _is_named_after(name, number)]
        if named:
            done.others += int(redis.unlink(*(ledger.key(name) for name in named)))
        for name in names:
            if name.startswith("sy:") and name.endswith(number[-4:]):  # the sender that they hear from
                done.others += int(redis.hdel(ledger.key(name), number))
        progress(done)
    done.others += _forget_replies(redis, ledger.key(f"lo:{number[:-2]}"), number[-2:])
    for stream in STREAMS:
        _forget_entries(redis, ledger.key(stream), number.encode(), done)
    return done


def _pages(redis: Any, prefix: str) -> Iterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, keys = redis.scan(cursor=cursor, match=f"{prefix}*", count=KEYS_A_TRIP)
        if keys:
            yield keys
        if not cursor:
            return


def _forget_replies(redis: Any, expected: str, digits: str) -> int:
    """What a reply of theirs would be matched to: the fields of one hash that start with the number's last digits."""
    fields = [field for field in redis.hkeys(expected) if field.startswith(f"{digits}:".encode())]
    return int(redis.hdel(expected, *fields)) if fields else 0


def _is_named_after(name: str, number: str) -> bool:
    """A key that ends in the person: not one of somebody whose number only contains this one."""
    return name.rpartition(":")[2] == number and not name.startswith(KEPT)


def _forget_messages(ledger: Ledger, number: str, messages: list[str], done: Forgotten) -> None:
    redis: Any = ledger.redis
    with redis.pipeline(transaction=False) as pipe:
        for message in messages:
            pipe.hget(ledger.key(f"m:{message}"), "to")
        tos = pipe.execute() if messages else []
    theirs = [m for m, to in zip(messages, tos, strict=True) if to and number in to.decode().split(",")]
    for start in range(0, len(theirs), MESSAGES_A_CALL):
        reach("forget.before")
        forgot, stopped, left = ledger.run(calls.forget(number, theirs[start : start + MESSAGES_A_CALL]))
        reach("forget.after")
        done.messages += forgot
        done.stopped += stopped
        done.left += left


def _note_unexpanded(redis: Any, ledger: Ledger, number: str, names: list[str], done: Forgotten) -> None:
    """Recipients that are still packed have no message of their own: they get one within seconds, to be forgotten then."""
    needle = f'"{number}"'.encode()
    for name in names:
        done.left += sum(needle in chunk for chunk in redis.lrange(ledger.key(name), 0, -1))


def _forget_entries(redis: Any, stream: str, needle: bytes, done: Forgotten) -> None:
    after = "-"
    while True:
        rows = redis.xrange(stream, min=after, count=KEYS_A_TRIP)
        if not rows:
            return
        theirs = [id for id, fields in rows if any(_speaks_of(value, needle) for value in fields.values())]
        if theirs:
            done.entries += int(redis.xdel(stream, *theirs))
        after = b"(" + rows[-1][0]


def _speaks_of(value: bytes, needle: bytes) -> bool:
    """Whether the number stands there whole: with no further digit behind it."""
    at = value.find(needle)
    while at >= 0:
        if not value[at + len(needle) : at + len(needle) + 1].isdigit():
            return True
        at = value.find(needle, at + 1)
    return False
