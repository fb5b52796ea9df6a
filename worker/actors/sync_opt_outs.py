"""The actor ``sync_opt_outs``: have the event loop read some of Telnyx's list of opt-outs, and end at once."""

from __future__ import annotations

import asyncio

import dramatiq
import structlog
from redis.exceptions import RedisError

from producers.pointers import CHORES, pointer
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.opt_out_sync import OptOutSync
from worker.patience import edge

log = structlog.get_logger(__name__)


def register(broker: dramatiq.Broker, context: Context) -> None:
    sync = OptOutSync(context.gateway, context.ledger, context.config.senders)

    async def go_on() -> None:
        if await sync.turn():
            try:
                await asyncio.to_thread(context.pointers.push, [pointer(CHORES, "sync_opt_outs")])
            except RedisError as exc:  # it is started again in a few minutes, at the place that was reached
                log.warning("pointer_lost", job="sync_opt_outs", error=type(exc).__name__)

    def sync_opt_outs() -> None:
        with edge("sync_opt_outs"):
            reading = go_on()
            try:
                context.run_async(reading)
            except BaseException:  # the loop is gone: Python would complain of a coroutine that nobody awaited
                reading.close()
                raise

    declare(broker, sync_opt_outs, name="sync_opt_outs", queue=CHORES)
