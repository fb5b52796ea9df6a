"""The one place that talks to Telnyx: one request a message, through the SDK's async client, and one verdict back.

No retries below us: the SDK and its transport would send a POST again after a read timeout, and the person would get
two texts. Invariants, each with a test named after it:

- A send makes at most one request. Redirects are not followed either.
- Whether a byte can have left is known from the connection itself, not from the type of an exception: the transport
  reports a connection that was cut after the request as a connect timeout.
- A request that has a connection only after its deadline does not leave; the connection is kept for the next one.
- A cancelled send is no verdict: CancelledError passes through, and its caller must call it uncertain.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from producers import fault_points
from worker.telnyx import sdk
from worker.telnyx.facts import Fact, fact_from_group, fact_from_message
from worker.telnyx.opt_out_list import OptOutPage, list_path, read_page
from worker.telnyx.outcomes import (
    UNSENDABLE,
    NotFound,
    Outcome,
    Unavailable,
    errors_in,
    from_response,
    not_sent,
    parse_json,
    retry_after_s,
    uncertain,
)

if TYPE_CHECKING:
    import aiohttp
    import httpx
    from telnyx import AsyncTelnyx

    from worker.telnyx.builder import Request

__all__ = ["Facts", "Gateway", "NotFound", "Outcome", "Unavailable"]

# Below the 60 s after which common load balancers close an idle connection: a request on a connection that the other
# side is just closing would be uncertain for nothing.
KEEP_ALIVE_S: Final = 55.0
# The SDK writes whole request bodies at DEBUG, numbers and texts included, and httpx a line for each request.
_TALKATIVE_LOGGERS: Final = {"telnyx": logging.INFO, "httpx": logging.WARNING, "httpcore": logging.WARNING}


@dataclass(frozen=True, slots=True)
class Facts:
    """What Telnyx says about a message that it knows."""

    fact: Fact


@dataclass(slots=True)
class _Flight:
    """How far one request came. ``connected`` turns true before the first byte can be written."""

    connected: bool = False
    queued: bool = False
    created: bool = False  # its connection had to be made, which may have taken long
    deadline_s: float | None = None  # monotonic: if it gets its connection later, it must not leave any more
    late: str = (
        ""  # why it did not leave: a new connection took too long ("late"), or this process stood still ("stalled")
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


_flight: ContextVar[_Flight | None] = ContextVar("telnyx_flight", default=None)


class Gateway:
    """Telnyx, as seen from one event loop. Build it inside that loop; close it there.

    Args:
        api_key: Sent as a bearer token; never logged.
        base_url: Ends in ``/v2``.
        public_url: Where Telnyx reaches us, None in poll mode. Kept for callers that build requests.
        connections: At least the number of requests under way at once, so that none waits for a connection.
        connect_s: Limit for name, connection and TLS together.
        total_s: Limit for the whole request.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        public_url: str | None,
        connections: int = 1024,
        connect_s: float = 2.0,
        total_s: float = 18.0,
    ) -> None:
        import httpx

        telnyx = sdk.load()
        for name, level in _TALKATIVE_LOGGERS.items():
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.getEffectiveLevel(), level))
        self.public_url = public_url
        self._total_s = total_s
        self._session = _session(connections)
        # read and write are bounded by the total alone: one clock, ours.
        timeout = httpx.Timeout(None, connect=connect_s, pool=connect_s)
        http_client = _direct_class()(
            transport=_transport(self._session), timeout=timeout, follow_redirects=False, trust_env=False
        )
        self._client: AsyncTelnyx = telnyx.AsyncTelnyx(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            http_client=http_client,
            # Empty, not None: from None the SDK reads the environment, and a stray pair would replace the key by OAuth.
            client_id="",
            client_secret="",
            public_key="",
            # Ours win over TELNYX_CUSTOM_HEADERS.
            default_headers={"Authorization": f"Bearer {api_key}"},
        )

    async def aclose(self) -> None:
        await self._client.close()
        await self._session.close()

    async def send(self, request: Request, *, is_resend: bool = False, deadline_s: float | None = None) -> Outcome:
        """Make the one request of a message and judge what came back.

        Args:
            request: As ``builder.build`` made it.
            is_resend: The same request left before, and no verdict came back.
            deadline_s: By the monotonic clock: no byte leaves after it. When connecting took longer, the request is
                ``not_sent`` as ``late``; when a connection was there and this process too slow, as ``stalled``.

        Raises:
            asyncio.CancelledError: The request may have left: the caller must treat it as uncertain.
        """
        flight = _Flight(deadline_s=deadline_s)
        try:
            answer = await self._call("POST", request.path, flight, body=request.body, key=request.key)
        except Exception as exc:  # noqa: BLE001 - every failure must become a verdict; only cancellation passes
            return _from_failure(exc, flight)
        return from_response(
            answer.status,
            answer.headers,
            answer.body,
            channel=request.channel,
            is_resend=is_resend,
            now_s=time.time(),
            ref=request.key,
        )

    async def retrieve(self, provider_id: str) -> Facts | NotFound | Unavailable:
        """Ask what became of one message. Telnyx answers for 10 days after it was made."""
        return await self._ask(f"/messages/{quote(provider_id, safe='')}", _read_message)

    async def retrieve_group(self, provider_id: str) -> Facts | NotFound | Unavailable:
        """Ask what became of every member of a group message."""
        return await self._ask(
            f"/messages/group/{quote(provider_id, safe='')}",
            lambda data, now_us: _read_group(data, provider_id, now_us),
        )

    async def cancel_scheduled(self, provider_id: str) -> Facts | NotFound | Unavailable:
        """Ask Telnyx to send a scheduled message never. Facts: it said yes. It refuses with 403 what is about to leave or has
        left, and with 404 what it does not know; a repeated call may get either. Only :meth:`retrieve` tells what that means.
        """
        return await self._ask(f"/messages/{quote(provider_id, safe='')}", _read_cancelled, method="DELETE")

    async def list_opt_outs(self, *, since_s: int, until_s: int, page: int) -> OptOutPage | Unavailable:
        """A page of the opt-outs that were created in a window of time."""
        answer = await self._get(list_path(since_s=since_s, until_s=until_s, page=page))
        if isinstance(answer, Unavailable):
            return answer
        if isinstance(answer, NotFound):
            return Unavailable("http_404", alert=True)
        return read_page(answer[0]) or Unavailable("unreadable")

    async def _ask(
        self, path: str, read: Callable[[Any, int], Fact | None], *, method: str = "GET"
    ) -> Facts | NotFound | Unavailable:
        answer = await self._get(path, method)
        if isinstance(answer, NotFound | Unavailable):
            return answer
        payload, now_s = answer
        data = payload.get("data") if isinstance(payload, dict) else None
        if method == "DELETE" and data is None:  # the one answer that is declared without an envelope
            data = payload
        fact = read(data, int(now_s * 1_000_000))
        return Facts(fact) if fact is not None else Unavailable("unreadable")

    async def _get(self, path: str, method: str = "GET") -> tuple[Any, float] | NotFound | Unavailable:
        """The JSON of a clear yes, and when it came."""
        flight = _Flight()
        try:
            answer = await self._call(method, path, flight)
        except Exception as exc:  # noqa: BLE001 - a poll that fails says nothing about its message
            return Unavailable(_from_failure(exc, flight).reason)
        now_s = time.time()
        payload = parse_json(answer.body)
        if 200 <= answer.status < 300:
            return payload, now_s
        code = next((code for code, _ in errors_in(payload) if code), "")
        if answer.status == 404 or code in {"10005", "40303"}:
            return NotFound(code)
        alert = answer.status in {401, 402, 403}
        return Unavailable(f"http_{answer.status}", retry_after_s(answer.headers, now_s), alert)

    async def _call(
        self, method: str, path: str, flight: _Flight, *, body: Mapping[str, Any] | None = None, key: str = ""
    ) -> _Answer:
        """One request, at most ``total_s``. Returns any answer that arrived whole, whatever its status.

        By the client's own ``get`` and ``post``: its resources and models would cost more than the request (see ``sdk``).
        """
        import httpx

        status_error = sdk.load().APIStatusError
        token = _flight.set(flight)
        try:
            async with asyncio.timeout(self._total_s):
                if method == "POST":
                    headers = {"Idempotency-Key": key}
                    response = await self._client.post(
                        path, cast_to=httpx.Response, body=body, options={"headers": headers}
                    )
                elif method == "DELETE":
                    response = await self._client.delete(path, cast_to=httpx.Response)
                else:
                    response = await self._client.get(path, cast_to=httpx.Response)
        except status_error as exc:
            response = exc.response
        finally:
            _flight.reset(token)
        return _Answer(response.status_code, response.headers, response.content)


def load() -> None:
    """Import what a gateway imports when it is made, for processes that will inherit it."""
    _direct_class()
    _connector_class()
    import httpx_aiohttp  # noqa: F401


def _read_message(data: Any, now_us: int) -> Fact | None:
    return fact_from_message(data, now_us=now_us) if isinstance(data, dict) and data.get("id") else None


def _read_cancelled(data: Any, now_us: int) -> Fact | None:
    """None where the answer does not say that it is cancelled."""
    fact = _read_message(data, now_us)
    return fact if fact is not None and fact["status"] == "cancelled" else None


def _read_group(data: Any, provider_id: str, now_us: int) -> Fact | None:
    rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
    return fact_from_group(rows, provider_id=provider_id, now_us=now_us) if rows else None


def _session(connections: int) -> aiohttp.ClientSession:
    import aiohttp
    import httpx

    connector = _connector_class()(
        limit=connections, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60, ssl=httpx.create_ssl_context()
    )
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_created)
    trace.on_connection_reuseconn.append(_note_connected)
    trace.on_connection_queued_start.append(_note_queued)
    trace.on_connection_queued_end.append(_note_unqueued)
    if fault_points.IS_ARMED:
        trace.on_request_chunk_sent.append(_note_written)
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=[trace],
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )


@cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    import aiohttp

    class Punctual(aiohttp.TCPConnector):
        """Gives no connection to a request that it comes too late for. This is the last look at the clock, right before the
        bytes: a new connection may take seconds of DNS, TCP and TLS, and other tasks run before one from the pool is given."""

        async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
            connection = await super().connect(*args, **kwargs)
            flight = _flight.get()
            if flight is None or flight.deadline_s is None or time.monotonic() <= flight.deadline_s:
                return connection
            connection.release()
            flight.connected, flight.late = False, "late" if flight.created else "stalled"
            raise aiohttp.ClientConnectionError("connected after the deadline")

    return Punctual


@cache
def _direct_class() -> type[httpx.AsyncClient]:

    client_class: type[httpx.AsyncClient] = sdk.load().DefaultAioHttpClient

    class Direct(client_class):  # type: ignore[misc, valid-type]
        """The SDK's HTTP client without what no request of ours has: cookies, redirects, hooks, a challenge to answer. They
        cost a sixth of a request's CPU."""

        def __init__(self, *, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
            super().__init__(transport=transport, **options)
            self._wire = transport

        async def send(self, request: httpx.Request, **_options: Any) -> httpx.Response:
            if self.is_closed:
                raise RuntimeError("the client is closed")
            response = await self._wire.handle_async_request(request)
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
            return response

    return Direct


def _transport(session: aiohttp.ClientSession) -> httpx.AsyncBaseTransport:
    from httpx_aiohttp import AiohttpTransport

    return AiohttpTransport(client=session)


async def _note_created(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
    if (flight := _flight.get()) is not None:
        flight.connected = flight.created = True


async def _note_connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
    if (flight := _flight.get()) is not None:
        flight.connected = True


async def _note_queued(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
    if (flight := _flight.get()) is not None:
        flight.queued = True


async def _note_unqueued(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
    if (flight := _flight.get()) is not None:
        flight.queued = False


async def _note_written(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
    # aiohttp says so just before it writes; a little later the bytes are on their way
    asyncio.get_running_loop().call_later(0.005, fault_points.reach, "request.after")


def _from_failure(exc: Exception, flight: _Flight) -> Outcome:
    """A request without an answer. Without a connection nothing left; with one, anything may have."""
    if flight.late:
        return not_sent(flight.late)
    if flight.connected:
        return uncertain(_broken_reason(exc))
    if isinstance(exc, sdk.load().APIConnectionError | TimeoutError):
        return not_sent("pool" if flight.queued else _unconnected_reason(exc))
    # Not the network: the SDK could not make a request of these arguments, and never will.
    return Outcome(kind="rejected", reason=UNSENDABLE, title=type(exc).__name__, alert=True)


def _unconnected_reason(exc: BaseException) -> str:
    import aiohttp

    causes = list(_causes(exc))
    # aiohttp names the failed lookup by class; gaierror alone also stands behind a bad literal address.
    if any(isinstance(cause, aiohttp.ClientConnectorDNSError | socket.gaierror) for cause in causes):
        return "dns"
    if any(isinstance(cause, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError) for cause in causes):
        return "tls"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "connect_refused"
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return "connect_timeout"
    return "connect"


def _broken_reason(exc: BaseException) -> str:
    import aiohttp
    import httpx

    causes = list(_causes(exc))
    if any(isinstance(cause, httpx.DecodingError | aiohttp.ClientResponseError) for cause in causes):
        return "unreadable"
    if any(isinstance(cause, OSError) and not isinstance(cause, TimeoutError) for cause in causes):
        return "cut"
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return "read_timeout"
    return "cut"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from, each once: the transport maps most, so the first one tells little."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__
