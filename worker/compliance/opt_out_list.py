"""How far the reading of the provider's list of opt-outs is. Written by whoever reads it, shown to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from producers.ledger import calls
from producers.ledger.ledger import Ledger

STALE_S = 2 * 86_400  # it is read once a day; of an older one somebody should know


@dataclass(slots=True, kw_only=True)
class SyncState:
    """Times are microseconds of the server, 0 for never. A *list* is one reading of the whole list, and has a number."""

    new_us: int = 0  # when what is new was last read
    phase: str = ""  # of the list under way: list, count, lift; empty between two
    number: int = 0  # of the last list begun
    began_us: int = 0
    tried_us: int = 0  # a day after this one the next list begins
    cursor_s: int = 0  # it is read up to what was created then
    span_s: int = 1
    rows: int = 0
    requests: int = 0
    newer: int = 0  # the last two complete lists
    newer_us: int = 0
    newer_rows: int = 0
    older: int = 0
    older_us: int = 0
    scan: str = "0"
    gone: int = 0
    listed: int = 0
    lifted: int = 0  # by the last list
    held: int = 0  # would have been lifted, and were too many
    wanted: str = ""  # somebody asked for a whole list
    allowed: str = ""  # somebody said that many are lifted indeed
    error: str = ""
    error_us: int = 0

    def whole_age_s(self, now_us: int) -> int | None:
        """How long ago the list was begun that was last read whole; None for never."""
        return max(0, (now_us - self.newer_us) // 1_000_000) if self.newer_us else None

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Self:
        state = cls()
        state.become(stored)
        return state

    def become(self, stored: Mapping[str, str]) -> None:
        for field in fields(self):
            value: Any = stored.get(field.name)
            default = field.default
            if isinstance(default, int):
                value = int(value) if value else default
            setattr(self, field.name, default if value is None else value)


def read_sync(ledger: Ledger) -> tuple[SyncState, int]:
    """The state, and the server's time."""
    view = ledger.run(calls.opt_sync("", "look"))
    if view is None:
        raise AssertionError("whoever only looks needs no lease")
    return SyncState.of(view.fields), view.now_us


def ask_for_list(ledger: Ledger, *, lift: bool = False) -> None:
    """Have the whole list read by the next worker that looks; ``lift``: whatever number it no longer shows."""
    redis: Any = ledger.redis
    redis.hset(ledger.key("os"), mapping={"wanted": "1", **({"allowed": "1"} if lift else {})})
