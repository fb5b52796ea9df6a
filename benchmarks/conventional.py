"""The conventional way, for comparison: Dramatiq's own BucketRateLimiter, and its retries for what the limiter refuses.

An actor asks the limiter of its sender; refused, it raises and is retried with backoff: Dramatiq's own (from 15 s, doubling)
or what BENCH_BACKOFF_MS says ("100-1000"). The middleware is Dramatiq's default. Requests are stamped as those of our
workers are, over connections kept open, one a thread.

    BENCH_URL=http://127.0.0.1:1234 BENCH_REDIS=redis://... dramatiq benchmarks.conventional --processes 2 --threads 64
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from urllib.parse import urlsplit

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import BucketRateLimiter
from dramatiq.rate_limits.backends import RedisBackend

_backoff = os.environ.get("BENCH_BACKOFF_MS")
_options = dict(zip(("min_backoff", "max_backoff"), map(int, _backoff.split("-")), strict=True)) if _backoff else {}
_redis_url = os.environ["BENCH_REDIS"]
_address = urlsplit(os.environ["BENCH_URL"]).netloc
_backend = RedisBackend(url=_redis_url)
_local = threading.local()

broker = RedisBroker(url=_redis_url, namespace="conventional")  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


def _post(sender: str, message: str, to: str, text: str) -> None:
    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = http.client.HTTPConnection(_address, timeout=20)
    body = json.dumps({"from": sender, "to": to, "text": text})
    headers = {"Content-Type": "application/json", "Idempotency-Key": message, "X-Sent-Ns": str(time.time_ns())}
    connection.request("POST", "/v2/messages/short_code", body, headers)
    connection.getresponse().read()


def _send(sender: str, rate: int, message: str, to: str, text: str) -> None:
    """Send one message, if its sender's second has room."""
    limiter = BucketRateLimiter(_backend, f"rate:{sender}", limit=rate, bucket=1000)  # type: ignore[no-untyped-call]
    with limiter.acquire():
        _post(sender, message, to, text)


send = dramatiq.Actor(
    _send,
    broker=broker,
    actor_name="send",
    queue_name="default",
    priority=0,
    options={"max_retries": 1_000_000, **_options},
)
