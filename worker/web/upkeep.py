"""What a web process does on its own: publish the configuration, and say every 2 s that it can hear.

A silence proves nothing while nobody could hear, so resends count hearing time, and the stamps written here are that
clock. One live web process is enough. A process that had to refuse a receipt does not stamp for a while; nor does one
that was held up, for it has callbacks in its sockets which nobody has read yet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from producers.ledger import calls
from worker.publishing import publish_call
from worker.web.services import Services

log = structlog.get_logger()

EAR_EVERY_S = 2.0
LOOK_EVERY = 5  # stamps: how often to look whether the configuration is still there
FAILURES = (RedisError, OSError, TimeoutError)


async def keep_hearing(services: Services, is_deaf: Callable[[], bool], *, every_s: float = EAR_EVERY_S) -> None:
    """Publish, then stamp until cancelled. While Redis is away it only waits: web answers 503 meanwhile."""
    published = await _publish(services)
    away = not published
    stamps = 0
    clock = asyncio.get_running_loop().time
    due_s = clock()
    while True:
        was_held_up = clock() - due_s > every_s / 2
        try:
            if not is_deaf() and not was_held_up:
                await services.async_ledger.run(calls.ear(services.id))
            stamps += 1
            if not published or (stamps % LOOK_EVERY == 0 and not await _is_published(services)):
                published = await _publish(services)
            if away:
                log.info("redis_back")
            away = False
        except FAILURES as error:
            if not away:
                log.warning("redis_away", error=type(error).__name__)
            away = True
        wait_s = 0.25 if away else every_s
        due_s = clock() + wait_s
        await asyncio.sleep(wait_s)


async def _publish(services: Services) -> bool:
    settings = services.settings
    try:
        outcome = await services.async_ledger.run(
            publish_call(services.config, settings.release, now_us=time.time_ns() // 1000)
        )
    except FAILURES as error:
        log.warning("configuration_not_published", error=type(error).__name__)
        return False
    if outcome == "older":
        log.warning("configuration_is_older", release=settings.release)
    else:
        log.info("configuration_published", release=settings.release, outcome=outcome)
    return True


async def _is_published(services: Services) -> bool:
    """False after Redis lost its data: nobody else would publish before the next deploy."""
    ledger = services.async_ledger
    return bool(await ledger.redis.exists(ledger.key("cfg")))
