"""What this process took and finished in the last seconds, so that a server that has forgotten it can be told again.

A replica that takes over lacks what it had not received yet, and a server that restarts after a crash lacks up to its last
second. A message whose take is forgotten would leave twice. Invariants, each with a test named after it:

- A take is remembered until some seconds after the server has taken its result, and of a message only the latest one.
- What went back unsent is no take to be told; its result is, for the take may be known.
- It is bounded: beyond ``MOST`` the oldest takes are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from producers.ledger.calls import Finish, Take, Taken

KEPT_S = 5.0  # longer than a replica that is fit to take over lags
MOST = 50_000  # ten thousand a second is more than one process sends

CLEAR = frozenset({"rejected", "opted_out", "retry", "slow_down", "configuration", "conflict", "not_sent"})


@dataclass(slots=True)
class _Entry:
    take: Take
    result: Finish | None = None


class Memory:
    """For the event loop only. Times are of the monotonic clock."""

    def __init__(self, *, kept_s: float = KEPT_S, most: int = MOST) -> None:
        self._kept_s, self._most = kept_s, most
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._finished: deque[tuple[float, str, str]] = deque()
        self._kept: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def took(self, process: str, taken: Taken, builder: str) -> None:
        """The server gave leave to send this message."""
        self._entries.pop(taken.message, None)
        self._entries[taken.message] = _Entry(
            Take(taken.message, taken.token, process, taken.attempt, builder, send_at_us=taken.send_at_us)
        )
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def finished(self, results: Iterable[Finish], now_s: float) -> None:
        """The server has taken these results."""
        for result in results:
            entry = self._entries.get(result.message)
            if entry is not None and entry.take.token == result.token:
                entry.result = result
                self._finished.append((now_s, result.message, result.token))

    def forget(self, now_s: float) -> None:
        """Drop what is old. Call it on news from a server that is known to have forgotten nothing."""
        while self._finished and self._finished[0][0] < now_s - self._kept_s:
            _, message, token = self._finished.popleft()
            entry = self._entries.get(message)
            if entry is not None and entry.take.token == token and message not in self._kept:
                del self._entries[message]

    def keep(self, messages: Iterable[str]) -> None:
        """Until the next call, these are not forgotten, however long ago they were finished."""
        released, self._kept = self._kept, set(messages)
        for message in released - self._kept:
            entry = self._entries.get(message)
            if entry is not None and entry.result is not None:
                del self._entries[message]

    def takes(self) -> list[Take]:
        """What must be told, oldest first."""
        return [
            entry.take if entry.result is None else replace(entry.take, may_have_left=entry.result.outcome not in CLEAR)
            for entry in self._entries.values()
            if entry.result is None or entry.result.outcome != "not_sent"
        ]

    def results(self) -> dict[str, list[Finish]]:
        """By the process that took them: what must be told after the takes."""
        found: dict[str, list[Finish]] = {}
        for entry in self._entries.values():
            if entry.result is not None:
                found.setdefault(entry.take.process, []).append(entry.result)
        return found

    def results_of(self, messages: Iterable[str]) -> dict[str, list[Finish]]:
        """As :meth:`results`, of these messages only."""
        wanted = set(messages)
        every = self.results().items()
        return {process: some for process, rs in every if (some := [r for r in rs if r.message in wanted])}
