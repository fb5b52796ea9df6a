"""Count what this process has under way, so that it asks for no more slots than it can use.

A hand is taken when a slot is granted and given back when its message is settled or its slot missed; between the two,
`posted` says that the request is on its way. Invariants, each with a test named after it:

- A hand given back twice counts once.
- Whoever found too few hands is rung when one comes free: `want` is raised *before* the count is read, else a hand that
  comes free in between is never noticed.
- A process that wastes slots (it is short of CPU) holds fewer of them: above 10 % missed, what is granted and not yet
  posted is cut by a quarter; it grows again while slots are used.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

HANDS = 1024
MISSED_SHARE = 0.10
JUDGED = 40  # outcomes between two looks at the missed share
LEAST = 8  # a process that is always late keeps trying, a little


@dataclass(frozen=True, slots=True)
class Room:
    """What may be asked for: slots in all, and the lanes in which some are taken already."""

    free: int
    in_lanes: dict[str, int]


class Hand:
    """One hand. Its methods may be called from any thread, and more than once."""

    __slots__ = ("_hands", "is_given_back", "is_posted", "lane")

    def __init__(self, hands: Hands, lane: str) -> None:
        self._hands, self.lane = hands, lane
        self.is_posted = self.is_given_back = False

    def posted(self) -> None:
        """The request is on its way."""
        self._hands._post(self)

    def give_back(self, *, missed: bool = False) -> None:
        """It is free again. ``missed``: its slot came and went unused, because we were late."""
        self._hands._give_back(self, missed)


class Hands:
    """All hands of a process. ``ring`` is called when somebody wants a hand and one came free."""

    def __init__(self, total: int = HANDS, *, ring: Callable[[], object]) -> None:
        self.total = total
        self._ring = ring
        self._lock = threading.Lock()
        self._used = 0
        self._unposted = 0
        self._lanes: Counter[str] = Counter()
        self._want = False
        self._cap = total
        self._judged = self._missed = self._peak = 0

    @property
    def used(self) -> int:
        return self._used

    @property
    def cap(self) -> int:
        """How much may be granted and not yet posted."""
        return self._cap

    def ask(self) -> Room:
        """How many hands are free; the next one to come free rings, unless :meth:`content` is called."""
        self._want = True
        with self._lock:
            free = min(self.total - self._used, self._cap - self._unposted)
            return Room(free, dict(self._lanes))

    def content(self) -> None:
        """There were hands enough: nobody waits for the next one."""
        self._want = False

    def take(self, lane: str) -> Hand:
        """One hand for a slot of this lane."""
        with self._lock:
            self._used += 1
            self._unposted += 1
            self._peak = max(self._peak, self._unposted)
            self._lanes[lane] += 1
        return Hand(self, lane)

    def _post(self, hand: Hand) -> None:
        with self._lock:
            if not hand.is_posted and not hand.is_given_back:
                hand.is_posted = True
                self._unposted -= 1
                self._judge(False)
        self._tell()

    def _give_back(self, hand: Hand, missed: bool) -> None:
        with self._lock:
            if hand.is_given_back:
                return
            hand.is_given_back = True
            self._used -= 1
            self._lanes[hand.lane] -= 1
            if not self._lanes[hand.lane]:
                del self._lanes[hand.lane]
            if not hand.is_posted:
                self._unposted -= 1
                self._judge(missed)
        self._tell()

    def _tell(self) -> None:
        if self._want:
            self._want = False
            self._ring()

    def _judge(self, missed: bool) -> None:
        self._judged += 1
        self._missed += missed
        if self._judged < JUDGED:
            return
        if self._missed > MISSED_SHARE * self._judged:
            self._cap = max(LEAST, min(self._cap, self._peak) * 3 // 4)
        else:
            self._cap = min(self.total, self._cap + self._cap // 4 + 1)
        self._judged, self._missed, self._peak = 0, 0, self._unposted
