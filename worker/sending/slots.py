"""What sending works on: a slot with its local instant and the hand that it occupies, and what a lane sends as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from producers.ledger.calls import Slot
from worker.settings.model import Config
from worker.telnyx.builder import SenderSpec, builder_version


class Hand(Protocol):
    """One of the process's hands; see ``worker.engine.hands``."""

    def posted(self) -> None: ...

    def give_back(self, *, missed: bool = False) -> None: ...


class DueSlot(NamedTuple):
    """A slot, its instant by the local monotonic clock, and the hand that is taken for it."""

    slot: Slot
    at_s: float
    hand: Hand


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """What messages of a lane are sent as."""

    sender: SenderSpec
    builder: str


def lane_specs(config: Config, publication: Mapping[str, Any], public_url: str | None) -> dict[str, LaneSpec]:
    """The lanes of this configuration, by name (``<sender>``, ``<sender>.mms``)."""
    specs: dict[str, LaneSpec] = {}
    for lane, row in publication["lanes"].items():
        sender = config.senders[row["sender"]]
        spec = SenderSpec(row["sender"], sender.channel, sender.from_, sender.messaging_profile_id)
        specs[lane] = LaneSpec(spec, builder_version(spec, public_url))
    return specs
