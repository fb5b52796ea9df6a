"""Map the server's clock to this process's monotonic one, so that a slot leaves at the server's instant.

Each call that returns the server's time says two things: it was executed after the request was sent, and before the
reply arrived. The mapping takes the first (a late reply, or a process that was stopped meanwhile, then makes us judge a
slot as later than it is, never as earlier), and of several calls the one that was held up least. Invariants:

- A reply that arrives late moves no slot into the future.
- A request that was held up on its way moves no slot, once another one was quicker.
- A server whose clock jumped (a failover to another machine) is followed with the next reply.
"""

from __future__ import annotations

import threading

# Clocks that are being slewed differ by at most 500 ppm; twice that, so that an old best never outlives the truth.
DRIFT = 1e-3


class ServerClock:
    """The server's time as local monotonic seconds; one a process, shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset_us: float | None = None  # server minus local: the least that any request allowed
        self._seen_s = 0.0

    def observe(self, *, sent_s: float, server_us: int, received_s: float) -> None:
        """Learn from one call: when it was sent and answered by the local clock, and what the server said."""
        at_most = server_us - sent_s * 1e6
        at_least = server_us - received_s * 1e6
        with self._lock:
            best = self._offset_us
            if best is not None:
                best += (received_s - self._seen_s) * DRIFT * 1e6
            if best is None or best < at_least or at_most < best:
                best = at_most
            self._offset_us, self._seen_s = best, received_s

    def local_s(self, server_us: int) -> float:
        """The local monotonic instant of a server time.

        Raises:
            RuntimeError: nothing was observed yet.
        """
        if self._offset_us is None:
            raise RuntimeError("no call to the server was observed yet: observe one before mapping its times")
        return (server_us - self._offset_us) / 1e6
