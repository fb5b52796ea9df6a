"""When a web process says that it hears."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.web import upkeep

EVERY_S = 0.2


class Stamps:
    """A ledger that notes when it was told."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.redis = self

    async def run(self, call: Any) -> Any:
        if call.script == "ear":
            self.at_s.append(time.monotonic())
        return "same"

    async def exists(self, _key: str) -> int:
        return 1

    def key(self, rest: str) -> str:
        return rest


def test_who_was_held_up_lets_what_came_meanwhile_be_read_before_it_says_that_it_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that was frozen, or swamped, has callbacks in its sockets that nobody has read."""
    monkeypatch.setattr(upkeep, "publish_call", lambda *_args, **_named: SimpleNamespace(script="publish"))
    ledger = Stamps()
    services = SimpleNamespace(async_ledger=ledger, config=None, settings=SimpleNamespace(release=1), id="w1")

    async def scenario() -> float:
        hearing = asyncio.create_task(upkeep.keep_hearing(cast(Any, services), lambda: False, every_s=EVERY_S))
        while len(ledger.at_s) < 2:
            await asyncio.sleep(0.01)
        time.sleep(2 * EVERY_S)  # the loop is held up
        thawed_s, before = time.monotonic(), len(ledger.at_s)
        while len(ledger.at_s) == before:
            await asyncio.sleep(0.01)
        hearing.cancel()
        return ledger.at_s[-1] - thawed_s

    assert asyncio.run(scenario()) >= 0.9 * EVERY_S
