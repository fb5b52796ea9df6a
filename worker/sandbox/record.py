"""The record of truth: what the sandbox received, accepted and refused, kept in bounded memory.

Invariant: a message that was accepted twice is known as such for as long as the sandbox runs (until a reset), even
after the messages themselves have left memory.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from worker.sandbox.messages import Message

_TWICE_KEPT = 10_000
_SAMPLE = 100

Arrival = tuple[int, str, str | None, int]
"""When a send request arrived (unix microseconds), its sender, its ref, and the HTTP status meant for it."""


class Record:
    """Counts and the last ``keep`` messages. Not for use from several threads."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.by_path: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.callbacks: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        self._messages: dict[str, Message] = {}
        self._by_identity: dict[str, list[Message]] = {}
        self._same_text: dict[tuple[str, int], str] = {}
        self._twice: dict[str, dict[str, Any]] = {}
        self._same_text_again: dict[tuple[str, int], int] = {}
        self.arrivals: deque[Arrival] = deque(maxlen=2 * self._keep)
        self.accepted = self.requests = self.replays = 0
        for counts in (self.by_path, self.refused, self.faults, self.callbacks):
            counts.clear()  # in place: others count in them too

    def add(self, message: Message) -> None:
        """Keep an accepted message; the oldest one leaves when there is no room."""
        self.accepted += 1
        self.by_path[message.path] += 1
        self._messages[message.id] = message
        identity = identity_of(message)
        same = self._by_identity.setdefault(identity, [])
        same.append(message)
        if len(same) > 1 or identity in self._twice:
            self._note_twice(identity, message)
        self._note_same_text(identity, message)
        if len(self._messages) > self._keep:
            self._evict()

    def get(self, message_id: str) -> Message | None:
        return self._messages.get(message_id)

    def newest_first(self) -> Iterator[Message]:
        return reversed(self._messages.values())

    def find(
        self, *, ref: str | None = None, to: str | None = None, since_us: int | None = None, limit: int = 1000
    ) -> list[Message]:
        """Messages that match all that is given, oldest first, the newest ``limit`` of them."""
        pool: Iterator[Message] = reversed(self._by_identity.get(ref, [])) if ref else self.newest_first()
        found: list[Message] = []
        for message in pool:
            if since_us is not None and message.arrived_us < since_us and ref is None:
                break  # arrival order is memory order, but for the few microseconds between two requests
            if (to is None or to in message.draft.to) and (since_us is None or message.arrived_us >= since_us):
                found.append(message)
                if len(found) >= limit:
                    break
        return found[::-1]

    def summary(self) -> dict[str, Any]:
        """Counts since the start or the last reset. ``texted_twice`` must be empty wherever a promise is kept."""
        return {
            "accepted": self.accepted,
            "requests": self.requests,
            "replays": self.replays,
            "by_path": dict(self.by_path),
            "refused": dict(self.refused),
            "faults": dict(self.faults),
            "callbacks": dict(self.callbacks),
            "texted_twice": list(self._twice.values()),
            "same_text_again": [
                {"to": to, "count": count} for (to, _), count in list(self._same_text_again.items())[-_SAMPLE:]
            ],
            "kept": len(self._messages),
        }

    def _note_twice(self, identity: str, message: Message) -> None:
        entry = self._twice.get(identity)
        if entry is None:
            if len(self._twice) >= _TWICE_KEPT:
                return
            first = self._by_identity[identity][0]
            entry = {"ref": message.ref, "to": list(message.draft.to), "count": 1, "ids": [first.id]}
            self._twice[identity] = entry
        entry["count"] += 1
        entry["ids"] = [*entry["ids"][-9:], message.id]

    def _note_same_text(self, identity: str, message: Message) -> None:
        key = (",".join(message.draft.to), message.draft.content_hash)
        first = self._same_text.setdefault(key, identity)
        if first != identity and len(self._same_text_again) < _TWICE_KEPT:
            self._same_text_again[key] = self._same_text_again.get(key, 1) + 1

    def _evict(self) -> None:
        message = self._messages.pop(next(iter(self._messages)))
        identity = identity_of(message)
        same = self._by_identity[identity]
        same.remove(message)
        if not same:
            del self._by_identity[identity]
        self._same_text.pop((",".join(message.draft.to), message.draft.content_hash), None)


def identity_of(message: Message) -> str:
    """What makes two accepted messages the same one: the ref, else the key, else recipient and content."""
    return message.ref or message.key or f"{','.join(message.draft.to)}#{message.draft.content_hash}"
