"""What the routes of one web process share, made once at start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import anyio
from anyio import CapacityLimiter, to_thread

from producers.ledger.connection import connect, connect_async
from producers.ledger.ledger import AsyncLedger, Ledger
from producers.notifier import Notifier
from producers.pointers import Pointers
from worker.compliance.durability import ROUNDS, WAIT_S, Durability
from worker.publication import publication
from worker.settings import Config, Settings
from worker.telnyx.signatures import Verifier
from worker.web.auth import Keys

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16  # they wait for Redis more than they compute
ANSWER_S = 1.0  # Telnyx gives a callback 2 s in all, so a silent Redis must be known as such well before
DEADLINE_S = 1.0  # of the Notifier: a client that hears 503 repeats, and its key makes that safe
CONNECTIONS = 64


@dataclass(kw_only=True)
class Services:
    """One web process. ``ledger`` and ``notifier`` block: use them in :meth:`in_thread`."""

    settings: Settings
    config: Config
    keys: Keys
    verifier: Verifier
    notifier: Notifier
    ledger: Ledger
    async_ledger: AsyncLedger
    pointers: Pointers
    durability: Durability
    id: str = field(default_factory=lambda: uuid4().hex)
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))

    @cached_property
    def job_types(self) -> dict[str, Any]:
        """Our own job types, in the form that is published."""
        job_types: dict[str, Any] = publication(self.config, release=self.settings.release)["job_types"]
        return job_types

    async def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks. At most ``THREADS`` at once, the others wait."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self.threads)

    async def close(self) -> None:
        """Close every connection."""
        with anyio.move_on_after(2, shield=True):
            await self.durability.close()
            await self.async_ledger.redis.aclose()
        self.ledger.redis.close()
        self.notifier.ledger.redis.close()


def make_services(settings: Settings, config: Config) -> Services:
    """Connects to nothing yet: web starts, and says 503, while Redis is away."""
    redis = connect(settings.redis_url, max_connections=CONNECTIONS, answer_s=ANSWER_S)
    redis_async = connect_async(settings.redis_url, max_connections=CONNECTIONS, answer_s=ANSWER_S)
    redis_sync = connect_async(settings.redis_url, max_connections=ROUNDS + 1, answer_s=WAIT_S + 0.3)
    ledger = AsyncLedger(redis_async, settings.namespace)
    return Services(
        settings=settings,
        config=config,
        keys=Keys(settings.api_keys),
        verifier=Verifier(settings.telnyx_public_keys),
        notifier=Notifier(settings.redis_url, namespace=settings.namespace, deadline_s=DEADLINE_S),
        ledger=Ledger(redis, settings.namespace),
        async_ledger=ledger,
        durability=Durability(redis_sync, ledger.key("counts")),
        pointers=Pointers(redis, settings.namespace),
    )
