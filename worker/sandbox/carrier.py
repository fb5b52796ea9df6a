"""What becomes of an accepted message: its queue, the carrier, the verdict, and the events about it.

Statuses move by timers. The script of the recipient and the faults decide which events come, how often and in which
order; what a poll shows does not depend on lost events.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from worker.sandbox.callbacks import Courier
from worker.sandbox.messages import Message, cost_of, iso
from worker.sandbox.options import Faults, SandboxOptions
from worker.sandbox.recipients import DELIVERED, META_DETAILS, Receipts, Script, code_of, script_for
from worker.sandbox.refusals import RECEIPT_TITLES

_STEP_S = 0.1  # between a finalized event and what follows it: a late "sent", a correction, a read


class Carrier:
    """Moves messages through their lives. All methods run inside the event loop."""

    def __init__(
        self,
        options: SandboxOptions,
        faults: Faults,
        courier: Courier,
        counts: Counter[str],
        queue_again: Callable[[Message], float],
    ) -> None:
        self._queue_again = queue_again
        self._options = options
        self._faults = faults
        self._courier = courier
        self._counts = counts
        self._epoch = 0
        self.reseed(options.seed)

    def reseed(self, seed: int) -> None:
        self._delays = random.Random(seed)
        self._chance = random.Random(seed + 1)

    def forget_all(self) -> None:
        """Nothing that is planned happens any more."""
        self._epoch += 1

    def accept(self, message: Message) -> None:
        """Plan the life of a message: at once, or from ``send_at`` on."""
        send_at_us = message.draft.send_at_us
        if send_at_us is not None:
            message.statuses = ["scheduled"] * len(message.statuses)
            self._later(max(0.0, send_at_us / 1e6 - time.time()), self.release, message)
        else:
            self._leave(message)

    def cancel(self, message: Message) -> None:
        message.statuses = ["cancelled"] * len(message.statuses)
        message.completed_us = _now_us()

    def urls_of(self, message: Message) -> list[str]:
        """Where events about ``message`` go, in order."""
        draft = message.draft
        profile = self._options.profile_webhook_url if draft.use_profile_webhooks or not draft.webhook_url else None
        return [url for url in (draft.webhook_url, draft.failover_url, profile) if url]

    def release(self, message: Message) -> None:
        """A scheduled message's time has come; it draws on its sender's rate once more."""
        if message.is_scheduled:
            message.wait_s = self._queue_again(message)
            self._leave(message)

    def _leave(self, message: Message) -> None:
        message.statuses = ["queued"] * len(message.statuses)
        delay_s = self._options.sent_delay_s  # without jitter where a queue must be left in order
        self._later(message.wait_s + delay_s if message.wait_s else self._jittered(delay_s), self._sent, message)

    def _sent(self, message: Message) -> None:
        message.sent_us = _now_us()
        scripts = [self._script(number) for number in message.draft.to]
        is_reordered = any(s.is_reordered for s in scripts) or self._faults.hits("reorder_receipts", self._chance)
        for index, script in enumerate(scripts):
            message.statuses[index] = "sending_failed" if script.final == "sending_failed" else "sent"
        last_s = 0.0
        for index, script in enumerate(scripts):
            if not script.never_final:
                delay_s = self._final_delay(script)
                last_s = max(last_s, delay_s)
                self._later(delay_s, self._final, message, index, script)
        if all(s.receipts is Receipts.NONE or s.final == "sending_failed" for s in scripts):
            return
        event = self._event("message.sent", message, message.payload(), odd=any(s.is_odd for s in scripts))
        copies = self._copies(any(s.is_duplicated for s in scripts))
        if self._faults.hits("lose_first_receipts", self._chance):
            self._counts["lost"] += 1
        elif is_reordered:
            self._later(last_s + _STEP_S, self._emit, message, event, copies)
        else:
            self._emit(message, event, copies)

    def _final(self, message: Message, index: int, script: Script) -> None:
        message.statuses[index] = script.final
        if script.error is not None:
            message.errors[index] = [_receipt_error(script.error, index, message.draft.to[index])]
        message.completed_us = _now_us()
        if script.receipts is Receipts.BOTH:
            self._emit_final(message, index, script)
        if script.correction is not None:
            self._later(_STEP_S, self._correct, message, index, script)
        if script.is_read and message.draft.kind == "WHATSAPP":
            self._later(_STEP_S, self._read, message, index)

    def _emit_final(self, message: Message, index: int, script: Script) -> None:
        shows_all = not message.draft.is_group or self._options.group_receipts == "all"
        payload = message.payload(None if shows_all else [index])
        event = self._event("message.finalized", message, payload, odd=script.is_odd)
        self._emit(message, event, self._copies(script.is_duplicated))

    def _correct(self, message: Message, index: int, script: Script) -> None:
        message.statuses[index] = script.correction or script.final
        self._emit_final(message, index, script)

    def _read(self, message: Message, index: int) -> None:
        message.statuses[index] = "read"
        self._emit(message, self._event("message.read", message, message.payload([index]), odd=False), 1)

    def _emit(self, message: Message, event: dict[str, Any], copies: int) -> None:
        urls = self.urls_of(message)
        if not urls:
            self._counts["without_url"] += 1
            return
        if self._faults.hits("lose_receipts", self._chance):
            self._counts["lost"] += 1
            return
        self._counts["events"] += 1
        for _ in range(copies):
            self._courier.post(urls, event, message.callbacks)

    def _event(self, event_type: str, message: Message, payload: dict[str, Any], *, odd: bool) -> dict[str, Any]:
        if odd:
            payload = {**payload, "from": message.draft.sender, "cc": ["+13125550199"]}
            if payload["cost"] is not None:
                payload["cost"] = {**payload["cost"], "amount": float(cost_of(message.draft.parts)["amount"])}
        return {
            "record_type": "event",
            "id": str(uuid.uuid4()),
            "event_type": event_type,
            "occurred_at": iso(_now_us()),
            "payload": payload,
        }

    def _copies(self, is_duplicated: bool) -> int:
        return 2 if is_duplicated or self._faults.hits("duplicate_receipts", self._chance) else 1

    def _final_delay(self, script: Script) -> float:
        if script.receipts is Receipts.NONE:
            return self._options.silent_s
        if script.is_late:
            return self._options.late_s
        return self._jittered(max(0.0, self._options.final_delay_s - self._options.sent_delay_s))

    def _jittered(self, delay_s: float) -> float:
        return delay_s * (1.0 + self._options.delay_jitter * (2.0 * self._delays.random() - 1.0))

    def _script(self, number: str) -> Script:
        return script_for(number) if self._options.magic else DELIVERED

    def _later(self, delay_s: float, step: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._run, self._epoch, step, arguments)

    def _run(self, epoch: int, step: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if epoch == self._epoch:
            step(*arguments)


def _receipt_error(code: str, index: int, number: str) -> dict[str, Any]:
    detail = META_DETAILS.get(code_of(number) or 0) if code == "41000" else None
    return {
        "code": code,
        "title": RECEIPT_TITLES[code],
        "detail": detail or f"{RECEIPT_TITLES[code]}.",
        "source": {"pointer": f"/to/{index}"},
    }


def _now_us() -> int:
    return time.time_ns() // 1000
