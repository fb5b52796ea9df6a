"""One sandbox: all that its endpoints share."""

from __future__ import annotations

import asyncio
import os
import random
import time

from worker.sandbox.callbacks import Courier
from worker.sandbox.carrier import Carrier
from worker.sandbox.idempotency import Keys
from worker.sandbox.lag import LagMeter
from worker.sandbox.messages import Message
from worker.sandbox.numbers import Numbers
from worker.sandbox.opt_outs import Blocks
from worker.sandbox.options import Faults, SandboxOptions
from worker.sandbox.profiles import Profiles
from worker.sandbox.queues import AccountLimit, SenderQueues
from worker.sandbox.record import Record
from worker.sandbox.refusals import Refusal
from worker.sandbox.signing import Signer, seed_from_file


class Sandbox:
    """Everything but HTTP. Lives in one event loop, between ``start`` and ``close``."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        seed = options.signing_seed
        if seed is None:
            seed = seed_from_file(options.key_file) if options.key_file else os.urandom(32)
        self.signer = Signer(seed)
        self.record = Record(options.keep)
        self.faults = Faults()
        self.keys = Keys(keep=options.keep, kept_s=options.keys_kept_s)
        self.blocks = Blocks()
        self.queues = SenderQueues(
            default_rate=options.default_rate, rates=options.sender_rates, longest_s=options.queue_s
        )
        self.account = AccountLimit(options.account_rate, options.retry_after_s)
        self.lag = LagMeter()
        self.closing = asyncio.Event()
        self._lag_task: asyncio.Task[None] | None = None
        self.courier = Courier(options, self.signer, self.record.callbacks)
        self.carrier = Carrier(options, self.faults, self.courier, self.record.callbacks, self._queue_again)
        self._set_up()

    def _set_up(self) -> None:
        options = self.options
        self.numbers = Numbers(
            options.numbers,
            options.mobile_numbers,
            options.sender_profiles,
            now_us=now_us(),
            settings=options.number_settings,
            refusals=options.number_errors,
            bulk_step=options.bulk_step,
        )
        self.profiles = Profiles(options.profiles, self.numbers, created_us=now_us())
        self.seen_once: set[str] = set()  # requests that already had their one 429 or 500
        self.last_webhook: dict[str, str] = {}  # by sender, and "" for the last one of all
        self.restore_faults()

    def restore_faults(self) -> None:
        """The faults of the start options, drawn anew from their seed."""
        fresh = Faults()
        fresh.update({name: value for name, value in self.options.faults.items() if name != "seed"})
        self.faults.update(fresh.as_dict())
        seed = self.options.faults.get("seed", self.options.seed)
        self.reseed(seed if isinstance(seed, int) else 0)

    def reseed(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.carrier.reseed(seed)

    async def start(self) -> None:
        await self.courier.start()
        self._lag_task = asyncio.create_task(self.lag.run())

    async def close(self) -> None:
        self.closing.set()
        self.carrier.forget_all()
        if self._lag_task is not None:
            self._lag_task.cancel()
        await self.courier.close()

    async def reset(self) -> None:
        """As if just started, but with the same key pair."""
        self.carrier.forget_all()
        await self.courier.forget_all()
        self.record.clear()
        self.keys.clear()
        self.blocks.clear()
        self.queues.clear()
        self.lag.clear()
        self._set_up()

    def _queue_again(self, message: Message) -> float:
        draft = message.draft
        try:
            return self.queues.admit(str(draft.profile) if draft.is_pool else draft.sender, draft.units, time.time())
        except Refusal:  # the queue is full, and what was accepted is sent all the same
            return self.options.queue_s

    def note_webhook(self, message: Message) -> None:
        """Remember where a sender's events go: its inbound messages go there too."""
        url = message.draft.webhook_url
        if url is not None:
            base = url.partition("?")[0]
            self.last_webhook[message.draft.sender] = self.last_webhook[""] = base

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than the sandbox lives."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return


def now_us() -> int:
    return time.time_ns() // 1000
