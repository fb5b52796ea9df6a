"""Follow the day by the stream of events, as an app would: which messages have ended, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from producers.events import Event
from producers.ledger.states import STATES
from worker.demo.day import Fed


class Progress:
    """Counts by channel. ``channels`` maps a job type to its channel."""

    def __init__(self, channels: Mapping[str, str]) -> None:
        self._channels = channels
        self._asked: Counter[str] = Counter()
        self._ended: dict[str, tuple[str, str]] = {}
        self._channel_of: dict[str, str] = {}
        self.cursor = "0"

    def expect(self, fed: Iterable[Fed]) -> None:
        """Know of what was handed over; each notification counts once."""
        for one in fed:
            if one.id not in self._channel_of:
                self._channel_of[one.id] = self._channels[one.job_type]
                self._asked[self._channels[one.job_type]] += one.messages

    def hear(self, events: Iterable[Event]) -> None:
        for event in events:
            self.cursor = event.cursor
            if event.type in ("message.final", "message.corrected") and event.notification in self._channel_of:
                state = STATES.get(event.state, event.state)
                self._ended[event.message] = (self._channel_of[event.notification], state)

    @property
    def messages(self) -> int:
        return sum(self._asked.values())

    @property
    def final(self) -> int:
        return len(self._ended)

    @property
    def delivered(self) -> int:
        return sum(state == "delivered" for _, state in self._ended.values())

    def rows(self) -> list[tuple[str, tuple[int, int, int, int]]]:
        """By channel: messages, under way, delivered, ended otherwise."""
        ended = Counter(channel for channel, _ in self._ended.values())
        delivered = Counter(channel for channel, state in self._ended.values() if state == "delivered")
        return [
            (channel, (asked, asked - ended[channel], delivered[channel], ended[channel] - delivered[channel]))
            for channel, asked in self._asked.items()
        ]
