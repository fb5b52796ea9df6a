"""Which senders people last heard from, or wrote to: read here, written by ``admit`` and ``opt`` (``lib/sticky.lua``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producers.ledger.scripts import Call

Remembered = dict[str, tuple[str, ...]]


def remembered(people: Sequence[str]) -> Call[Remembered]:
    """The senders of each person, newest first; who is not known is left out."""

    def decode(reply: list[Any]) -> Remembered:
        found = {person: tuple(names.decode().split()) for person, names in zip(people, reply, strict=True)}
        return {person: names for person, names in found.items() if names}

    return Call("sticky", list(people), decode)
