"""One factory for connections to Redis, so that every process has the same time-outs and none retries in secret.

redis-py's own defaults either repeat a command up to ten times (a script then runs several times and the caller sees
one success) or, from a URL, have no time-out at all. Here: time-outs of a second or two, no hidden repeats. What may be
repeated is repeated by the caller, who knows that it is safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

CONNECT_S = 1.0
ANSWER_S = 2.0


def _options(max_connections: int, answer_s: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": answer_s,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "max_connections": max_connections,
        "decode_responses": False,
    }


def connect(url: str, *, max_connections: int = 66, answer_s: float = ANSWER_S) -> Redis:
    """A client for threads. Nothing is sent yet."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(max_connections, answer_s))


def connect_async(url: str, *, max_connections: int = 66, answer_s: float = ANSWER_S) -> AsyncRedis:
    """A client for one event loop. Nothing is sent yet."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(max_connections, answer_s))
