"""What the tests of faults send, and what must be true of it in the end."""

from __future__ import annotations

import itertools
import time
from typing import Any

from service_kit import Service, wait_until

NUMBERS = itertools.count(2_000_000)  # no two messages of a test process share a recipient


class Load:
    """Some dozens of messages over several lanes, urgent ones and one of many recipients among them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.ids: list[str] = []
        self.messages = 0
        self._fed_s = 0.0

    def add(self, job_type: str, recipients: int, **content: Any) -> None:
        to = [f"+1312{next(NUMBERS):07d}" for _ in range(recipients)]
        ticket = self._service.notifier.enqueue(job_type, to=to, **(content or {"text": "hello"}))
        self.ids.append(ticket.id)
        self.messages += ticket.messages

    def add_some(self, *, many: int = 12) -> None:
        self.add("notice", many)
        for _ in range(3):
            self.add("otp", 1, variables={"code": "1234"})
        self.add("promotion", 8)
        self.add("reminder", 8)
        self.add("family", 3)

    def feed(self) -> None:
        """Some more, at most each second: for a point that is reached by chance. Gives None, so it may stand in a condition."""
        if time.monotonic() - self._fed_s > 1:
            self._fed_s = time.monotonic()
            self.add_some()

    def assert_all_got_one(self, *, timeout_s: float = 60) -> None:
        service = self._service
        counts = service.wait_final(*self.ids, timeout_s=timeout_s)
        total = sum(c.get("delivered", 0) for c in counts)
        assert total == self.messages, counts
        assert service.sandbox("summary")["texted_twice"] == []
        ours = {m["ref"][:32] for m in service.sent()} & set(self.ids)
        assert ours == set(self.ids), "a message is called delivered that nobody got"
        redis: Any = service.ledger.redis
        assert redis.hmget(service.ledger.key("counts"), "poisoned", "doubled") == [None, None]
        wait_until(lambda: redis.zcard(service.ledger.key("rx")) == 0, what="every receipt to be applied")
