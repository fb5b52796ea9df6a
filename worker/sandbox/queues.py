"""Telnyx's own queues: first in, first out for each sender, at its rate; four hours long; and the account's limit.

Pure: the clock is an argument. What is over the rate is accepted and waits, and nothing urgent can overtake it.
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.sandbox.refusals import Refusal


class SenderQueues:
    """When each sender's next message may leave."""

    def __init__(self, *, default_rate: float | None, rates: Mapping[str, float], longest_s: float) -> None:
        self._default_rate = default_rate
        self._rates = rates
        self._longest_s = longest_s
        self._free_at_s: dict[str, float] = {}

    def admit(self, sender: str, units: int, now_s: float) -> float:
        """Seconds that a message of ``units`` waits behind what the sender has queued; 0.0 without a rate.

        Raises:
            Refusal: 40318, the queue is full; nothing was queued.
        """
        rate = self._rates.get(sender, self._default_rate)
        if rate is None:
            return 0.0
        leaves_s = max(now_s, self._free_at_s.get(sender, now_s))
        if leaves_s - now_s > self._longest_s:
            raise Refusal("40318", "The queue of this sender is full.", "/from")
        self._free_at_s[sender] = leaves_s + units / rate
        return leaves_s - now_s

    def clear(self) -> None:
        self._free_at_s.clear()


class AccountLimit:
    """Requests per second over all senders; one second's worth may come at once."""

    def __init__(self, rate: float | None, retry_after_s: int) -> None:
        self._rate = rate
        self._retry_after_s = retry_after_s
        self._empty_at_s = 0.0

    def draw(self, now_s: float) -> None:
        """Count one request, or refuse it with 10011 and Retry-After; a refused one does not count."""
        if self._rate is None:
            return
        if self._empty_at_s - now_s > max(0.0, 1.0 - 1.0 / self._rate) + 1e-9:
            raise Refusal("10011", "Too many requests over all senders.", retry_after_s=self._retry_after_s)
        self._empty_at_s = max(self._empty_at_s, now_s) + 1.0 / self._rate
