"""Run calls against the server, one at a time or many in a round trip, from threads or from an event loop.

Every call may be repeated: a time-out means *unknown*, and the same call again gives the same answer (see each script's
contract; ``grant`` alone is not idempotent, and a lost grant lapses).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from producers.ledger.scripts import Call, script

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

T = TypeVar("T")


class Ledger:
    """The ledger, for threads. ``redis`` must return bytes and must not retry by itself (see ``connect``)."""

    def __init__(self, redis: Redis, namespace: str = "notify", *, real_server: bool = True) -> None:
        self.redis = redis
        self.namespace = namespace
        self.prefix = f"{{{namespace}}}:"
        self._real_server = real_server

    def key(self, rest: str) -> str:
        return self.prefix + rest

    def run(self, call: Call[T]) -> T:
        """Run one call.

        Raises:
            redis.RedisError: the server is away, refuses or did not answer; the call may or may not have run.
        """
        from redis.exceptions import NoScriptError

        s = script(call.script, real_server=self._real_server, when_full=call.when_full)
        try:
            reply: Any = self.redis.evalsha(s.sha, 1, self.prefix, *call.args)
        except NoScriptError:
            reply = self.redis.eval(s.source, 1, self.prefix, *call.args)
        return call.decode(reply)

    def run_many(self, calls: Sequence[Call[T]]) -> list[T | Exception]:
        """Run calls in one round trip; each answer in its place, or the error that it met.

        Raises:
            redis.RedisError: the connection failed; any of the calls may or may not have run.
        """
        from redis.exceptions import NoScriptError

        replies: list[Any] = self._pipeline(calls, whole=False)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for i, reply in zip(unknown, self._pipeline([calls[i] for i in unknown], whole=True), strict=True):
                replies[i] = reply
        return [r if isinstance(r, Exception) else c.decode(r) for c, r in zip(calls, replies, strict=True)]

    def _pipeline(self, calls: Sequence[Call[T]], *, whole: bool) -> list[Any]:
        with self.redis.pipeline(transaction=False) as pipe:
            for call in calls:
                s = script(call.script, real_server=self._real_server, when_full=call.when_full)
                if whole:
                    pipe.eval(s.source, 1, self.prefix, *call.args)
                else:
                    pipe.evalsha(s.sha, 1, self.prefix, *call.args)
            return list(pipe.execute(raise_on_error=False))


class AsyncLedger:
    """The ledger, for an event loop."""

    def __init__(self, redis: AsyncRedis, namespace: str = "notify") -> None:
        self.redis = redis
        self.namespace = namespace
        self.prefix = f"{{{namespace}}}:"

    def key(self, rest: str) -> str:
        return self.prefix + rest

    async def run(self, call: Call[T]) -> T:
        """Run one call; see :meth:`Ledger.run`."""
        from redis.exceptions import NoScriptError

        s = script(call.script, when_full=call.when_full)
        try:
            reply: Any = await self.redis.evalsha(s.sha, 1, self.prefix, *call.args)
        except NoScriptError:
            reply = await self.redis.eval(s.source, 1, self.prefix, *call.args)
        return call.decode(reply)
