"""One factory for connections to Redis, so that every process has the same time-outs and none retries in secret.

redis-py's own defaults either repeat a command up to ten times (a script then runs several times and the caller sees
one success) or, from a URL, have no time-out at all. Here: time-outs of a second or two, no hidden repeats. What may be
repeated is repeated by the caller, who knows that it is safe.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

CONNECT_S = 1.0
ANSWER_S = 2.0


def _options(url: str, max_connections: int, answer_s: float) -> dict[str, Any]:
    over_tcp = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return {
        **over_tcp,
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": answer_s,
        "health_check_interval": 0,
        "max_connections": max_connections,
        "decode_responses": False,
    }


def problem_of_url(url: str) -> tuple[str, str] | None:
    """What is wrong with the options of a URL, and the remedy. redis-py finds out with the first command, and cryptically.

    It makes a connection object and connects to nothing.
    """
    from redis.connection import ConnectionPool

    try:
        ConnectionPool.from_url(url, **_options(url, 1, ANSWER_S)).make_connection()
    except TypeError as unknown:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(unknown))
        what = f"`{found[1]}`" if found else "one"
        return f"has an option that is not known for its scheme: {what}", "remove it; TLS has the scheme rediss://"
    except ValueError as wrong:
        return "cannot be used", f"correct it: {wrong}"
    return None


def server_of(url: str) -> str:
    """Host and port of a URL, without what may be secret."""
    try:
        parts = urlsplit(url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        return "the server"


def connect(url: str, *, max_connections: int = 66, answer_s: float = ANSWER_S) -> Redis:
    """A client for threads. Nothing is sent yet.

    Raises:
        ValueError: no connection can be made of the URL. It is not shown, for it may hold a password.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    wrong = problem_of_url(url)
    if wrong is not None:
        raise ValueError(f"the URL of Redis {wrong[0]}: {wrong[1]}")

    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url, max_connections, answer_s))


def connect_async(url: str, *, max_connections: int = 66, answer_s: float = ANSWER_S) -> AsyncRedis:
    """A client for one event loop. Nothing is sent yet."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url, max_connections, answer_s))
