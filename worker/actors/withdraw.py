"""The actor ``withdraw``: hand what Telnyx is to give back to the event loop, and end at once."""

from __future__ import annotations

import asyncio

import dramatiq

from producers.fault_points import reach
from producers.ledger.scripts import Call
from producers.pointers import CHORES
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.patience import edge, patiently
from worker.withdrawing import Withdrawer


def register(broker: dramatiq.Broker, context: Context) -> None:
    async def record(call: Call[list[str]]) -> None:
        reach("withdrawn.before")
        await asyncio.to_thread(patiently, lambda: context.ledger.run(call))
        reach("withdrawn.after")

    withdrawer = Withdrawer(context.gateway, record)

    def withdraw(messages: list[list[str]]) -> None:
        with edge("withdraw"):
            asking = withdrawer.take_back([(message, provider_id) for message, provider_id in messages])
            try:
                context.run_async(asking)
            except BaseException:  # the loop is gone: Python would complain of a coroutine that nobody awaited
                asking.close()
                raise

    declare(broker, withdraw, name="withdraw", queue=CHORES)
