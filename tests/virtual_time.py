"""The ledger in virtual time: on a fake server, or on a real one whose scripts read the clock from a key of the test.

Only the test's own loading of the scripts differs: on the real server the line of ``lib/base.lua`` that asks for the time
reads a key instead, and on both ``grant`` counts how often it looks at each lane. Where keys are to lapse in the test's time
on a real server too, they get their time to live from far in the future, where the server itself tracks what becomes of it,
and are deleted when the test's clock passes it. What runs is otherwise the product.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
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
FAR_MS = 100 * 365 * 86_400_000
LAPSING_CALL = f"""local NOW
local function call(command, key, ...)
  local ms
  if command == 'PEXPIRE' then ms = ... elseif command == 'EXPIRE' then ms = ... * 1000 end
  local args = {{ ... }}
  if command == 'SET' then
    for i = 2, #args do
      if args[i] == 'EX' or args[i] == 'PX' then
        ms, args[i], args[i + 1] = args[i + 1] * (args[i] == 'EX' and 1000 or 1), nil, nil
        break
      end
    end
  end
  if not ms or tonumber(ms) <= 0 then return redis.call(command, key, ...) end
  local at = string.format('%.0f', math.floor(NOW / 1000) + ms)
  local far = string.format('%.0f', at + {FAR_MS})
  local done
  if command ~= 'SET' then
    done = redis.call('PEXPIREAT', key, far)
  elseif args[2] == 'NX' then
    done = redis.call('SET', key, args[1], 'NX', 'PXAT', far)
  else
    done = redis.call('SET', key, args[1], 'PXAT', far)
  end
  if done and done ~= 0 then redis.call('ZADD', P .. 'lapses', at, key) end
  return done
end
"""
MOVE_CLOCK = f"""redis.call('SET', KEYS[1] .. 'clock', ARGV[1])
local lapses, now = KEYS[1] .. 'lapses', math.floor(ARGV[1] / 1000)
local upto = '(' .. string.format('%.0f', now)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', lapses, '-inf', upto)) do
  local at = redis.call('PEXPIRETIME', key) - {FAR_MS}
  if at > 0 and at < now then redis.call('DEL', key) end
  if at < now then redis.call('ZREM', lapses, key) else redis.call('ZADD', lapses, at, key) end
end"""


@cache
def _source(name: str, *, real_server: bool, lapsing: bool = False) -> str:
    source = script(name, real_server=real_server).source
    changes = {CLOCK: CLOCK_OF_THE_TEST} if real_server else {}
    if lapsing:
        changes[CALL + "local NOW\n"] = LAPSING_CALL
    elif name == "grant":
        changes[CALL] = COUNTING_CALL
    for old, new in changes.items():
        assert source.count(old) == 1, f"{name}.lua no longer starts as this test expects: {old!r}"
        source = source.replace(old, new)
    return source


class VirtualLedger(Ledger):
    """A ledger whose server lives in the test's time. Close it, for the fake one moves this process's clock."""

    def __init__(
        self, redis: Any = None, namespace: str = "t", *, start: datetime.datetime = START, lapsing: bool = False
    ) -> None:
        """``redis``: a client of a real server, or None for a fake one, where keys lapse anyway."""
        self.calls = 0
        self._lapsing = lapsing and redis is not None
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
        elif self._lapsing:
            self._eval(MOVE_CLOCK, now_us)
        else:
            self.redis.set(self.key("clock"), now_us)

    def pass_us(self, us: int) -> None:
        self.at(self._now_us + us)

    def run(self, call: Call[T]) -> T:
        self.calls += 1
        source = _source(call.script, real_server=self._real_server, lapsing=self._lapsing)
        return call.decode(self._eval(source, *call.args))

    def _eval(self, source: str, *args: Any) -> Any:
        from redis.exceptions import NoScriptError

        try:
            return self.redis.evalsha(_sha(source), 1, self.prefix, *args)
        except NoScriptError:
            return self.redis.eval(source, 1, self.prefix, *args)

    def run_many(self, calls: Sequence[Call[T]]) -> list[T | Exception]:
        return [self.run(call) for call in calls]

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
