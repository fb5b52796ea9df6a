"""How late the sandbox's own event loop runs: arrival stamps are no better than this."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_PERIOD_S = 0.02
_KEPT = 3000  # one minute


class LagMeter:
    """Sleeps a fixed time over and over, and notes by how much it overslept."""

    def __init__(self) -> None:
        self._samples: deque[int] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        while True:
            before = time.perf_counter_ns()
            await asyncio.sleep(_PERIOD_S)
            self._samples.append(max(0, (time.perf_counter_ns() - before) // 1000 - int(_PERIOD_S * 1e6)))

    def clear(self) -> None:
        self._samples.clear()

    def summary(self) -> dict[str, int]:
        """Microseconds over the last minute at most; zeros while there is no sample."""
        ordered = sorted(self._samples)
        if not ordered:
            return {"samples": 0, "p50_us": 0, "p99_us": 0, "max_us": 0}
        return {
            "samples": len(ordered),
            "p50_us": ordered[len(ordered) // 2],
            "p99_us": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            "max_us": ordered[-1],
        }
