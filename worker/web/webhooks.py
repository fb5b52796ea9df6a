"""Take Telnyx's callbacks: verify, keep, answer.

It stands before FastAPI (see ``app.py``), for thousands a second may come, and its layers would cost more than all of the
rest; a plain receipt is parsed once, by the shortest way. The answer is 200 only for what is kept; anything else makes Telnyx
try again, at most six times. Invariants, each with a test:

- Nothing is read from a callback whose signature does not hold, and nothing from the query of its URL.
- A STOP is in force when its 200 leaves, and on the server's disk where it can say so within a second.
- While Redis is away the answer is 503, within what Telnyx waits.
- What is signed but not understood gets 200 and is kept aside: a repeat would be no clearer.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import structlog
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producers.ledger import calls
from worker.telnyx.receipts import Parsed, parse_event, strip, strip_receipt
from worker.telnyx.signatures import BadSignature
from worker.web.bodies import WEBHOOK_MAX_BYTES, read_body
from worker.web.hearing import KEEP_S, Hearing
from worker.web.inbound import Keyword, encodable, evidence_of, opt_call
from worker.web.problems import Problem, problem_of, redis_away
from worker.web.services import Services

log = structlog.get_logger()

PATH = "/webhooks/telnyx"
ANSWERING_S = 0.1  # of it; what waits for the disk must not turn into a refusal
ODD_MOST, ODD_MOST_BYTES = 10_000, 16_000
OPTS_AT_ONCE = 32  # half of the connections: receipts use the others

KEPT = Response(status_code=200)

REASONS = {
    "missing_signature": "the header telnyx-signature-ed25519 is missing",
    "missing_timestamp": "the header telnyx-timestamp is missing",
    "malformed": "the signature or the timestamp cannot be read",
    "stale": "the timestamp is more than 300 s from our clock: compare the clocks",
    "mismatch": "no key of TELNYX_PUBLIC_KEY verifies the signature: compare it with the portal's",
}


class Webhooks:
    """The route of ``POST /webhooks/telnyx``."""

    def __init__(self, services: Services, hearing: Hearing, keyword: Keyword) -> None:
        self._services = services
        self._hearing = hearing
        self._keyword = keyword
        self._opting = asyncio.Semaphore(OPTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback: an ASGI app of its own."""
        unexpected: Exception | None = None
        try:
            response = await self.answer(Request(scope, receive))
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody reads it
        except Problem as problem:
            response = problem.response()
        except Exception as error:  # noqa: BLE001 - the edge of a request: answered, then logged by the server
            response, unexpected = problem_of(error).response(), error
        await response(scope, receive, send)
        if unexpected is not None:
            raise unexpected

    async def answer(self, request: Request) -> Response:
        """The answer to one callback.

        Raises:
            Problem: 401 for a signature that does not hold, 413, or 503 while Redis is away.
        """
        raw = await read_body(request, WEBHOOK_MAX_BYTES)
        self._verify(request, raw)
        kind = "receipt"
        try:
            receipt = strip_receipt(raw)
            if receipt is not None:
                await self._hearing.keep(receipt)
                return KEPT
            event = parse_event(raw)
            kind = event.kind
            until_s = asyncio.get_running_loop().time() + KEEP_S
            async with asyncio.timeout_at(until_s):
                await self._keep(event, raw, until_s)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("callback_refused", kind=kind, error=type(error).__name__)
            raise redis_away() from None
        return KEPT

    def _verify(self, request: Request, raw: bytes) -> None:
        headers = request.headers
        try:
            self._services.verifier.verify(
                raw, headers.get("telnyx-signature-ed25519"), headers.get("telnyx-timestamp"), time.time()
            )
        except BadSignature as bad:
            log.warning("callback_not_telnyx", reason=bad.reason)
            raise Problem(401, bad.reason, REASONS[bad.reason]) from None

    async def _keep(self, event: Parsed, raw: bytes, until_s: float) -> None:
        stripped = strip(raw)
        if event.kind == "receipt":
            await self._hearing.keep(stripped)
        elif event.kind == "inbound" and event.inbound is not None:
            await self._keep_inbound(event, stripped, until_s)
        elif event.kind == "link_click" and event.details.get("message_id"):
            await self._count_click(event, stripped)
        else:
            await self._keep_aside(event, stripped)

    async def _count_click(self, event: Parsed, stripped: bytes) -> None:
        pid, url = (encodable(str(event.details.get(name) or "")) for name in ("message_id", "url"))
        call = calls.click(evidence_of(None, stripped), pid[:100], url)  # a click has no id: its copies are alike
        async with self._opting:
            await self._services.async_ledger.run(call)

    async def _keep_inbound(self, event: Parsed, stripped: bytes, until_s: float) -> None:
        if event.inbound is None:
            return
        call = opt_call(event.inbound, stripped, self._services.config, self._keyword, now_us=time.time_ns() // 1000)
        async with self._opting:
            changed = await self._services.async_ledger.run(call)
        if changed:
            log.info("opt_out_recorded", direction=call.args[1], scopes=changed, inbound=event.event)
        if call.args[1]:  # also of a repeat: the first try may have been answered with 503 for want of this
            left_s = until_s - asyncio.get_running_loop().time() - ANSWERING_S
            await self._services.durability.synced(within_s=max(0.0, left_s))

    async def _keep_aside(self, event: Parsed, stripped: bytes) -> None:
        why = event.kind if event.kind != "other" else "unknown_event"
        log.warning("callback_kept_aside", why=why, event_type=event.event_type[:60])
        fields: dict[Any, Any] = {
            "why": why,
            "type": encodable(event.event_type[:60]),
            "details": json.dumps(event.details)[:1_000],
            "d": stripped[:ODD_MOST_BYTES],
        }
        ledger = self._services.async_ledger
        async with self._opting:
            await ledger.redis.xadd(ledger.key("odd"), fields, maxlen=ODD_MOST, approximate=True)
