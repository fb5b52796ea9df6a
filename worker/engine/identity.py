"""The id under which this process lives in the ledger: as a holder of messages, and as Dramatiq's broker id.

The two are one, so that whoever finds a process dead knows the names of its Dramatiq keys too. A process that was taken
for dead goes on under a new id; only the heartbeat thread makes it, after it has written the new id as alive.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable


class Identity:
    """The current id, and the event that it has lapsed."""

    def __init__(self) -> None:
        self.current = uuid.uuid4().hex
        self.lapsed = threading.Event()
        self._followers: list[Callable[[str], None]] = []

    def follow(self, change: Callable[[str], None]) -> None:
        """Call ``change`` with the current id, and with each later one before it is used."""
        self._followers.append(change)
        change(self.current)

    def report_lapse(self, process: str) -> None:
        """``process`` was taken for dead: if it is us, the heartbeat thread makes a new id."""
        if process == self.current:
            self.lapsed.set()

    def renew(self, process: str) -> None:
        """Go on as ``process``, which is alive already. Only the heartbeat thread calls this."""
        for change in self._followers:
            change(process)
        self.current = process
        self.lapsed.clear()
