"""The actor ``poll``: hand questions about silent messages to the event loop, and end at once."""

from __future__ import annotations

import asyncio

import dramatiq

from producers.fault_points import reach
from producers.ledger import calls
from producers.pointers import CHORES
from worker.actors.context import Context
from worker.actors.declare import declare
from worker.patience import edge, patiently
from worker.polling import Poller


def register(broker: dramatiq.Broker, context: Context) -> None:
    async def record(fact: calls.Fact) -> None:
        reach("poll.before")
        await asyncio.to_thread(patiently, lambda: context.ledger.run(calls.receipt("", [fact])))
        reach("poll.after")

    poller = Poller(context.gateway, record)

    def poll(messages: list[list[str]]) -> None:
        with edge("poll"):
            questions = poller.poll([(row[0], row[1], "group" in row[2:]) for row in messages])
            try:
                context.run_async(questions)
            except BaseException:  # the loop is gone: Python would complain of a coroutine that nobody awaited
                questions.close()
                raise

    declare(broker, poll, name="poll", queue=CHORES)
