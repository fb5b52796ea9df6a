"""The ledger in virtual time: on a fake server, or on a real one whose scripts read the clock from a key of the test.

Only the test's own loading of the scripts differs: on the real server the line of ``lib/base.lua`` that asks for the time
reads a key instead, and on both ``grant`` counts how often it looks at each lane. What runs is otherwise the product.
"""

from __future__ import annotations

import datetime
import math
from functools import cache
from hashlib import sha1
from typing import Any, TypeVar

import fakeredis
import time_machine

from producers.ledger.calls import GRANT_LO_US
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call, script

T = TypeVar("T")
START = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
SECOND_US = 1_000_000
MINUTE_US, HOUR_US, DAY_US = 60 * SECOND_US, 3600 * SECOND_US, 86_400 * SECOND_US

CLOCK = "local t = call('TIME')\n  NOW = t[1] * 1000000 + t[2]"
CLOCK_OF_THE_TEST = "NOW = tonumber(call('GET', P .. 'clock'))"
CALL = "local call = redis.call\n"
COUNTING_CALL = """local function call(command, ...)
  local key = ...
  if command == 'HMGET' and string.sub(key, #P + 1, #P + 5) == 'lane:' then
    redis.call('HINCRBY', P .. 'visits', string.sub(key, #P + 6), 1)
  end
  return redis.call(command, ...)
end
"""


@cache
def _source(name: str, *, real_server: bool) -> str:
    source = script(name, real_server=real_server).source
    changes = {CLOCK: CLOCK_OF_THE_TEST} if real_server else {}
    if name == "grant":
        changes[CALL] = COUNTING_CALL
    for old, new in changes.items():
        assert source.count(old) == 1, f"{name}.lua no longer starts as this test expects: {old!r}"
        source = source.replace(old, new)
    return source


class VirtualLedger(Ledger):
    """A ledger whose server lives in the test's time. Close it, for the fake one moves this process's clock."""

    def __init__(self, redis: Any = None, namespace: str = "t", *, start: datetime.datetime = START) -> None:
        """``redis``: a client of a real server, or None for a fake one."""
        super().__init__(redis or fakeredis.FakeRedis(), namespace, real_server=redis is not None)
        self._now_us = int(start.timestamp()) * SECOND_US
        self._traveller = None if redis else time_machine.travel(start, tick=False)
        self._clock: Any = self._traveller.start() if self._traveller else None
        self.at(self._now_us)

    @property
    def now_us(self) -> int:
        return self._now_us

    def at(self, now_us: int) -> None:
        """It is now ``now_us``, later or earlier than before."""
        self._now_us = now_us
        if self._clock:
            self._clock.move_to(datetime.datetime.fromtimestamp(now_us // SECOND_US, datetime.UTC))
            self._clock.shift(datetime.timedelta(microseconds=now_us % SECOND_US))
        else:
            self.redis.set(self.key("clock"), now_us)

    def pass_us(self, us: int) -> None:
        self.at(self._now_us + us)

    def run(self, call: Call[T]) -> T:
        from redis.exceptions import NoScriptError

        source = _source(call.script, real_server=self._real_server)
        try:
            reply: Any = self.redis.evalsha(_sha(source), 1, self.prefix, *call.args)
        except NoScriptError:
            reply = self.redis.eval(source, 1, self.prefix, *call.args)
        return call.decode(reply)

    def visits(self) -> dict[str, int]:
        """How often ``grant`` looked at each lane since this was last asked."""
        key = self.key("visits")
        with self.redis.pipeline(transaction=False) as pipe:
            counts, _ = pipe.hgetall(key).delete(key).execute()
        return {lane.decode(): int(count) for lane, count in counts.items()}

    def next_us(self) -> tuple[float, float]:
        """When a grant, and when a timer, has something to do next; infinite for never."""
        with self.redis.pipeline(transaction=False) as pipe:
            for name in ("due", "timers"):
                pipe.zrange(self.key(name), 0, 0, withscores=True)
            due, timers = ([score for _, score in head] for head in pipe.execute())
        return min(due, default=math.inf) - GRANT_LO_US, min(timers, default=math.inf)

    def forget(self) -> None:
        """Remove every key, for the next run on the same server."""
        keys = list(self.redis.scan_iter(match=self.prefix + "*", count=1000))
        if keys:
            self.redis.delete(*keys)

    def close(self) -> None:
        if self._traveller:
            self._traveller.stop()
        self.redis.close()


@cache
def _sha(source: str) -> str:
    return sha1(source.encode(), usedforsecurity=False).hexdigest()
