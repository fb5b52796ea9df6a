"""Processes that live, die, and come back under another id."""

from __future__ import annotations

from typing import Any

from ledger_model.site import LIVE_US
from ledger_model.world import World
from producers.ledger import calls


class Lives(World):
    def beat(self, process: str, what: Any) -> bool:
        lives: bool = self.run_call(calls.beat(process, what))
        if lives:
            self.alive_until[process] = self.now + LIVE_US
            self.held.setdefault(process, {})
        return lives

    def is_alive(self, process: str) -> bool:
        return self.now <= self.alive_until[process]

    def renew(self, name: str) -> None:
        """A process that was taken for dead goes on under a new id."""
        self.names[name] = f"{name}.{next(self.numbers)}"
        self.beat(self.names[name], "first")

    def live(self, name: str) -> None:
        process = self.names[name]
        alive = self.is_alive(process)
        assert self.beat(process, "again") is alive
        if not alive:
            self.renew(name)

    def leave(self, name: str) -> None:
        """A process ends in good order, perhaps with something left in its hands."""
        process = self.names[name]
        self.run_call(calls.beat(process, "last"))
        self.alive_until[process] = 0
        self.renew(name)
