"""The sending endpoints: check, accept, and answer, or fail to answer in one of the ways that happen.

The order is what callers depend on: an arrival is stamped before anything else; faults before acceptance leave no
trace but a count; a message is accepted in one step, without an await, so a connection that dies cannot half-accept
it; faults after acceptance touch the answer only.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from worker.sandbox.checks import CHECKS, Context
from worker.sandbox.idempotency import KeyRecord
from worker.sandbox.messages import Draft, Message, ref_of
from worker.sandbox.recipients import DELIVERED, Answer, Script, script_for
from worker.sandbox.refusals import Refusal
from worker.sandbox.replies import check_key, cut, decode_object, json_response, refuse
from worker.sandbox.state import Sandbox, now_us

ARRIVED = "sandbox.arrived_ns"
GARBLED = b'{"data": {"id": "'

_ONCE_KEPT = 100_000
_FAULTS_BEFORE = {"500_before": Answer.ERROR_BEFORE, "429": Answer.LIMITED_ONCE}
_FAULTS_AFTER = {"cut_after_accept": Answer.CUT, "500_after_accept": Answer.ERROR, "hang_20s": Answer.HANG}


def send_endpoint(sandbox: Sandbox, path: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that accepts messages at ``path`` (below /v2)."""

    async def answer(request: Request) -> Response:
        return await _Send(sandbox, request, path).run()

    return answer


class _Send:
    """One send request from arrival to answer."""

    def __init__(self, sandbox: Sandbox, request: Request, path: str) -> None:
        self._sandbox = sandbox
        self._request = request
        self._path = path
        self._arrived_us = request.scope.get(ARRIVED, time.time_ns()) // 1000
        self._key = request.headers.get("idempotency-key")

    async def run(self) -> Response:
        sandbox = self._sandbox
        sandbox.record.requests += 1
        if sandbox.faults.down:
            sandbox.record.faults["down"] += 1
            return Response("upstream unavailable", 503)
        record: KeyRecord | None = None
        try:
            check_key(sandbox, self._request)
            raw = await self._request.body()
            record = self._begin(raw)
            if record is not None and record.message is not None:
                return await self._replay(record.message)
            message, fault = self._accept(raw)
        except Refusal as refusal:
            if record is not None:
                sandbox.keys.drop(record)
            sandbox.record.arrivals.append((self._arrived_us, "", None, refusal.http_status))
            return refuse(sandbox, refusal)
        except _CutError:
            if record is not None:
                sandbox.keys.drop(record)
            return await cut(self._request)
        return await self._answer(message, fault, record)

    def _begin(self, raw: bytes) -> KeyRecord | None:
        if self._key is None or not self._sandbox.faults.honour_keys or self._path == "/messages/schedule":
            return None
        digest = hashlib.sha256(self._request.scope.get("query_string", b"") + b"\n" + raw).digest()
        return self._sandbox.keys.begin((self._key, "POST", self._path), digest, time.monotonic())

    def _accept(self, raw: bytes) -> tuple[Message, Answer]:
        """Check and accept, with no await in between. Returns the message and how to answer."""
        sandbox = self._sandbox
        sandbox.account.draw(time.monotonic())
        fault = self._fault_before()
        draft = CHECKS[self._path](decode_object(raw), self._context())
        script = self._script(draft)
        if fault is Answer.OK and not self._had_its_once(script.answer, draft):
            fault = script.answer
        _fail_before(fault, sandbox.options.retry_after_s)
        profile = self._check_sender(draft, script)
        wait_s = sandbox.queues.admit(str(draft.profile) if draft.is_pool else draft.sender, draft.units, time.time())
        message = Message(
            id=str(uuid.uuid4()),
            draft=draft,
            path=self._path,
            ref=ref_of(draft.webhook_url),
            key=self._key,
            profile=profile,
            arrived_us=self._arrived_us,
            wait_s=wait_s,
            body_sha256=hashlib.sha256(raw).hexdigest(),
            statuses=["queued"] * len(draft.to),
            errors=[[] for _ in draft.to],
        )
        sandbox.record.add(message)
        sandbox.record.arrivals.append((self._arrived_us, draft.sender, message.ref, 200))
        sandbox.note_webhook(message)
        sandbox.carrier.accept(message)
        return message, fault if fault is not Answer.OK else self._fault_after()

    async def _answer(self, message: Message, fault: Answer, record: KeyRecord | None) -> Response:
        """Answer an accepted message; the key's record becomes a success, or vanishes with a 500."""
        sandbox = self._sandbox
        if fault is not Answer.OK:
            sandbox.record.faults[fault.value] += 1
        if fault is Answer.ERROR:
            if record is not None:
                sandbox.keys.drop(record)
            return refuse(sandbox, Refusal("10007", "An unexpected error occurred."))
        if fault is Answer.HANG:
            await sandbox.pause(sandbox.options.hang_s)
        elif fault is Answer.SLOW:
            await sandbox.pause(sandbox.options.slow_s)
        await self._latency()
        if record is not None:
            record.message = message
        if fault is Answer.CUT:
            return await cut(self._request)
        if fault is Answer.GARBLED:
            return Response(GARBLED, media_type="application/json")
        return json_response({"data": message.first_answer()})

    async def _replay(self, message: Message) -> Response:
        self._sandbox.record.replays += 1
        message.replays += 1
        self._sandbox.record.arrivals.append((self._arrived_us, message.draft.sender, message.ref, 208))
        await self._latency()
        return json_response({"data": message.first_answer()}, headers={"idempotent-replayed": "true"})

    async def _latency(self) -> None:
        faults = self._sandbox.faults
        latency_ms = faults.latency_ms + faults.latency_jitter_ms * self._sandbox.chance.random()
        if latency_ms > 0:
            await self._sandbox.pause(latency_ms / 1000)

    def _context(self) -> Context:
        options = self._sandbox.options
        return Context(
            now_us=now_us(),
            schedule_min_s=options.schedule_min_s,
            schedule_max_s=options.schedule_max_s,
            pool_sender=self._sandbox.numbers.pool_sender,
        )

    def _fault_before(self) -> Answer:
        sandbox = self._sandbox
        for name, fault in _FAULTS_BEFORE.items():
            if sandbox.faults.hits(name, sandbox.chance):
                sandbox.record.faults[name] += 1
                return fault
        return Answer.OK

    def _fault_after(self) -> Answer:
        sandbox = self._sandbox
        return next((f for name, f in _FAULTS_AFTER.items() if sandbox.faults.hits(name, sandbox.chance)), Answer.OK)

    def _script(self, draft: Draft) -> Script:
        """The script that answers: for a group, that of the first member with anything but a plain answer."""
        if not self._sandbox.options.magic:
            return DELIVERED
        scripts = [script_for(number) for number in draft.to]
        return next((s for s in scripts if s.refusal or s.answer is not Answer.OK), scripts[0])

    def _had_its_once(self, answer: Answer, draft: Draft) -> bool:
        if answer not in (Answer.ERROR_ONCE, Answer.LIMITED_ONCE):
            return False
        name = ref_of(draft.webhook_url) or self._key or f"{draft.to}#{draft.content_hash}"
        if name in self._sandbox.seen_once:
            return True
        if len(self._sandbox.seen_once) >= _ONCE_KEPT:
            self._sandbox.seen_once.clear()
        self._sandbox.seen_once.add(name)
        return False

    def _check_sender(self, draft: Draft, script: Script) -> str:
        """What the account says about sender and recipient; returns the sender's profile."""
        sandbox = self._sandbox
        profile = sandbox.numbers.profile_of(draft.sender, draft.profile, self._arrived_us)
        errors = sandbox.options.sender_errors
        code = errors.get(draft.sender) or errors.get(profile) or script.refusal
        if code is not None:
            raise Refusal(code, "The sandbox was told to refuse this.", "/to" if code == script.refusal else "/from")
        if any(sandbox.blocks.holds(profile, number) for number in draft.to):
            raise Refusal("40300", "The recipient sent STOP to this messaging profile.", "/to")
        return profile


class _CutError(Exception):
    """The connection is to be cut before anything is accepted."""


def _fail_before(fault: Answer, retry_after_s: int) -> None:
    if fault in (Answer.ERROR_BEFORE, Answer.ERROR_ONCE):
        raise Refusal("10007", "An unexpected error occurred.")
    if fault is Answer.LIMITED_ONCE:
        raise Refusal("10011", "Too many requests.", retry_after_s=retry_after_s)
    if fault is Answer.CUT_BEFORE:
        raise _CutError
