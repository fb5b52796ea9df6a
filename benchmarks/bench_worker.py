"""The worker's main module in benchmarks: the product's own, with requests stamped and, if asked for, a bare sender.

Loaded by Dramatiq in place of ``worker.main``. It changes two things of ``worker.engine.runtime``: each request carries
the instant at which its bytes were written (``X-Sent-Ns``), and with ``BENCH_SENDER=bare`` a plain aiohttp POST stands in
for the SDK, to tell what the pacing can do from what the SDK costs. Threads get names that /proc shows, so that their CPU
can be told apart.
"""

from worker.engine.shutdown import drop_repeated_signals

drop_repeated_signals()

import contextlib  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import aiohttp  # noqa: E402

from worker.engine import runtime, slot_consumer  # noqa: E402
from worker.telnyx import gateway  # noqa: E402
from worker.telnyx.builder import Request  # noqa: E402
from worker.telnyx.outcomes import Outcome, from_response, not_sent, uncertain  # noqa: E402

GRANT_THREAD, LOOP_THREAD = "bench-grant", "bench-loop"
_named = threading.local()
_session, _next_job = gateway._session, slot_consumer.Granter.next_job


def _name_thread(name: str) -> None:
    if getattr(_named, "name", None) != name:
        _named.name = name
        with contextlib.suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
            comm.write(name)


async def _stamp(_session: aiohttp.ClientSession, _context: SimpleNamespace, params: Any) -> None:
    params.headers["X-Sent-Ns"] = str(time.time_ns())  # aiohttp serializes the headers right after this


def _stamped_session(connections: int) -> aiohttp.ClientSession:
    _name_thread(LOOP_THREAD)
    session = _session(connections)
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_stamp)
    trace.freeze()
    session.trace_configs.append(trace)
    return session


def _named_next_job(self: slot_consumer.Granter) -> int | None:
    _name_thread(GRANT_THREAD)
    return _next_job(self)


class BareGateway(gateway.Gateway):
    """The same request by a plain POST. Polls still go through the SDK."""

    def __init__(self, api_key: str, base_url: str, **options: Any) -> None:
        super().__init__(api_key, base_url, **options)
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def send(self, request: Request, *, is_resend: bool = False, deadline_s: float | None = None) -> Outcome:
        headers = {**self._headers, "Idempotency-Key": request.key}
        flight = gateway._Flight(deadline_s=deadline_s)
        gateway._flight.set(flight)  # of this message's task: the connector looks at the clock for it
        try:
            async with self._session.post(
                self._base_url + request.path, json=request.body, headers=headers
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return not_sent(flight.late) if flight.late else uncertain("cut")
        return from_response(
            response.status,
            {name.lower(): value for name, value in response.headers.items()},
            answer,
            channel=request.channel,
            is_resend=is_resend,
            now_s=time.time(),
        )


gateway._session = _stamped_session
setattr(slot_consumer.Granter, "next_job", _named_next_job)  # noqa: B010
if os.environ.get("BENCH_SENDER") == "bare":
    setattr(runtime, "Gateway", BareGateway)  # noqa: B010 - mypy would have it exported there

import worker.main  # noqa: E402

broker = worker.main.broker
