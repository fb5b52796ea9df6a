"""The gateway against a real server on a real socket, because only there the transport shows its true exceptions."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from telnyx import AsyncTelnyx

from worker.telnyx.builder import METHODS, Content, Request, SenderSpec, build
from worker.telnyx.gateway import Facts, Gateway, NotFound, Outcome, Unavailable

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
PERSON = "+13125550100"
BODY = "the code is 918273"
API_KEY = "KEY0123456789SECRET"
DEADLINE_S = 30.0

pytestmark = pytest.mark.anyio

Answer = Callable[["Received", asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Provider:
    """A server that does what a test tells it, one answer function for every request."""

    answer: Answer
    url: str = ""
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = await _read_request(reader)
                self.received.append(request)
                await self.answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def provider(answer: Answer) -> AsyncIterator[Provider]:
    served = Provider(answer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
    try:
        yield served
    finally:
        server.close()


@asynccontextmanager
async def gateway(url: str, **options: Any) -> AsyncIterator[Gateway]:
    opened = Gateway(
        API_KEY, url, public_url="https://app.test", **{"total_s": DEADLINE_S, "connect_s": 10.0} | options
    )
    try:
        yield opened
    finally:
        await opened.aclose()


def respond(status: int, body: bytes | dict[str, Any], **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(_request: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(raw)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        await writer.drain()

    return answer


def refuse(status: int, code: str, title: str, **headers: str) -> Answer:
    return respond(status, {"errors": [{"code": code, "title": title, "detail": f"about {PERSON}"}]}, **headers)


async def stall(_request: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def close(_request: Received, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionError


async def reset(_request: Received, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionError


def raw_then_close(raw: bytes) -> Answer:
    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        await close(request, writer)

    return answer


ACCEPTED = {
    "data": {
        "id": "40385f64-5717-4562-b3fc-2c9600000000",
        "from": {"phone_number": "+13125550001", "carrier": "Telnyx"},
        "to": [{"phone_number": PERSON, "status": "queued"}],
        "parts": 1,
        "encoding": "GSM-7",
        "wait_seconds": 0.5,
    }
}


def sms(channel: str = "long_code", ref: str = "0123456789abcdef0123456789abcdef-0", **changes: Any) -> Request:
    sender = SenderSpec("alerts", channel, "+13125550001", PROFILE)
    return build(sender, [PERSON], Content(text=BODY, **changes), ref=ref, public_url="https://app.test")


async def outcome_of(
    answer: Answer, request: Request | None = None, *, is_resend: bool = False, **options: Any
) -> Outcome:
    """One send to a server that answers so; fails if the person would have been asked for more than once."""
    async with provider(answer) as server, gateway(server.url, **options) as client:
        outcome = await client.send(request or sms(), is_resend=is_resend)
        assert len(server.received) <= 1, "one send made several requests"
        return outcome


# --- accepted


async def test_an_accepted_message_tells_all_that_the_answer_held() -> None:
    outcome = await outcome_of(respond(200, ACCEPTED))
    assert outcome == Outcome(
        kind="accepted",
        reason="accepted",
        provider_id="40385f64-5717-4562-b3fc-2c9600000000",
        provider_status={PERSON: "queued"},
        from_number="+13125550001",
        parts=1,
        wait_seconds=0.5,
        encoding="GSM-7",
        http_status=200,
    )


async def test_an_answer_about_another_message_is_uncertain() -> None:
    theirs = {**ACCEPTED["data"], "webhook_url": "https://app.test/webhooks/telnyx?ref=another-0"}
    outcome = await outcome_of(respond(200, {"data": theirs}))
    assert (outcome.kind, outcome.reason, outcome.provider_id) == ("uncertain", "foreign_answer", None)


async def test_a_replayed_answer_is_accepted_and_says_so() -> None:
    outcome = await outcome_of(respond(201, ACCEPTED, Idempotent_Replayed="true"), is_resend=True)
    assert (outcome.kind, outcome.replayed) == ("accepted", True)


@pytest.mark.parametrize(
    ("channel", "path", "expected"),
    [
        ("short_code", "/v2/messages/short_code", {"from": "+13125550001", "to": PERSON, "text": BODY}),
        ("long_code", "/v2/messages/long_code", {"from": "+13125550001", "to": PERSON, "text": BODY}),
        (
            "toll_free",
            "/v2/messages",
            {"from": "+13125550001", "messaging_profile_id": PROFILE, "to": PERSON, "text": BODY},
        ),
        (
            "auto",
            "/v2/messages",
            {"from": "+13125550001", "messaging_profile_id": PROFILE, "to": PERSON, "text": BODY},
        ),
        ("number_pool", "/v2/messages/number_pool", {"messaging_profile_id": PROFILE, "to": PERSON, "text": BODY}),
        (
            "alphanumeric",
            "/v2/messages/alphanumeric_sender_id",
            {"from": "+13125550001", "messaging_profile_id": PROFILE, "to": PERSON, "text": BODY},
        ),
        ("group_mms", "/v2/messages/group_mms", {"from": "+13125550001", "to": [PERSON], "text": BODY}),
        (
            "whatsapp",
            "/v2/messages/whatsapp",
            {
                "from": "+13125550001",
                "messaging_profile_id": PROFILE,
                "to": PERSON,
                "whatsapp_message": {"type": "text", "text": {"body": BODY}},
            },
        ),
    ],
)
async def test_every_channel_posts_what_telnyx_needs_to_its_own_path(
    channel: str, path: str, expected: dict[str, Any]
) -> None:
    changes: dict[str, Any] = {"whatsapp": {"type": "text", "text": {"body": BODY}}} if channel == "whatsapp" else {}
    request = sms(channel, **changes)
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        first, again = await client.send(request), await client.send(request, is_resend=True)
    assert (first.kind, again.kind) == ("accepted", "accepted")
    one, two = server.received
    assert (one.method, one.path) == ("POST", path)
    assert json.loads(one.body) == expected | {"webhook_url": f"https://app.test/webhooks/telnyx?ref={request.key}"}
    assert one.headers["idempotency-key"] == request.key
    assert one.headers["authorization"] == f"Bearer {API_KEY}"
    # Telnyx compares byte for byte: anything else under the same key would be 422.
    assert (two.path, two.body, two.headers["idempotency-key"]) == (one.path, one.body, request.key)


async def test_media_make_it_an_mms() -> None:
    request = sms("short_code", media_urls=("https://cdn.test/a.png",), subject="hello")
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        await client.send(request)
    body = json.loads(server.received[0].body)
    assert (body["type"], body["media_urls"], body["subject"]) == ("MMS", ["https://cdn.test/a.png"], "hello")


async def test_as_many_requests_as_connections_are_under_way_at_once() -> None:
    wide = 150  # above the 100 that the SDK opens by itself
    everybody = asyncio.Event()
    arrived = 0
    reply = respond(200, ACCEPTED)

    async def answer_when_all_are_there(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == wide:
            everybody.set()
        await everybody.wait()
        await reply(request, writer)

    async with (
        provider(answer_when_all_are_there) as server,
        gateway(server.url, connections=wide) as client,
    ):
        outcomes = await asyncio.gather(*(client.send(sms(ref=f"ref-{index}")) for index in range(wide)))
    assert {outcome.kind for outcome in outcomes} == {"accepted"}


async def test_a_connection_is_used_again() -> None:
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        for _ in range(3):
            await client.send(sms())
    assert server.connections == 1


# --- refused, by what the answer says


@pytest.mark.parametrize(
    ("status", "code", "title", "kind", "reason"),
    [
        (400, "40310", "Invalid 'to' address", "rejected", "40310"),
        (422, "10015", "Bad Request", "rejected", "10015"),
        (400, "40300", "Blocked due to STOP message", "opted_out", "40300"),
        (400, "40300", "Blocked", "configuration", "40300"),
        (409, "10036", "Request in progress", "conflict", "10036"),
        (409, "40306", "Alpha sender not configured", "configuration", "40306"),
        (401, "10009", "Authentication failed", "configuration", "10009"),
        (500, "10007", "Unexpected error", "uncertain", "10007"),
        (503, "", "", "uncertain", "http_503"),
    ],
)
async def test_a_refusal_is_judged_by_its_code(status: int, code: str, title: str, kind: str, reason: str) -> None:
    outcome = await outcome_of(refuse(status, code, title))
    assert (outcome.kind, outcome.reason, outcome.code, outcome.title) == (kind, reason, code, title)
    assert outcome.http_status == status


async def test_a_422_on_a_resend_is_uncertain() -> None:
    outcome = await outcome_of(refuse(422, "10027", "Unprocessable"), is_resend=True)
    assert (outcome.kind, outcome.note) == ("uncertain", "key_reused")


async def test_429_rests_as_long_as_the_answer_asks() -> None:
    outcome = await outcome_of(refuse(429, "10011", "Too many requests", Retry_After="7"))
    assert (outcome.kind, outcome.hold_s, outcome.retry_after_s, outcome.scope) == ("slow_down", 7.0, 7.0, "account")


async def test_429_without_a_code_slows_down() -> None:
    outcome = await outcome_of(respond(429, b"slow down"))
    assert (outcome.kind, outcome.reason) == ("slow_down", "http_429")


async def test_the_daily_spend_limit_holds_until_midnight_and_not_for_retry_after() -> None:
    outcome = await outcome_of(refuse(429, "40333", "Spend limit reached", Retry_After="1"))
    assert (outcome.kind, outcome.alert, outcome.resets) == ("configuration", True, "UTC")
    assert outcome.hold_s is not None
    assert 1 < outcome.hold_s <= 86_400


@pytest.mark.parametrize(
    "answer",
    [
        respond(503, b"", x_should_retry="true", Retry_After="0"),
        respond(307, b"", Location="/v2/messages"),
        close,
        respond(500, b"<html>"),
    ],
)
async def test_nothing_below_us_repeats_a_request(answer: Answer) -> None:
    async with provider(answer) as server, gateway(server.url) as client:
        outcome = await client.send(sms())
        assert len(server.received) == 1
    assert outcome.kind in {"uncertain", "configuration"}


# --- no answer: did a byte leave?


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (respond(200, b"<html>fine</html>"), "unreadable"),
        (respond(200, {}), "no_id"),
        (respond(200, {"data": {"id": ""}}), "no_id"),
        (respond(200, b""), "unreadable"),
        (respond(500, b"<html>oops</html>"), "http_500"),
        (respond(200, b"not gzip at all", Content_Encoding="gzip"), "unreadable"),
        (raw_then_close(b"SMTP ready\r\n\r\n"), "unreadable"),
        (raw_then_close(b"HTTP/1.1 200 OK\r\nContent-Le"), "cut"),
        (raw_then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"), "cut"),
        (close, "cut"),
        (reset, "cut"),
    ],
)
async def test_a_request_that_left_without_a_clear_answer_is_uncertain(answer: Answer, reason: str) -> None:
    outcome = await outcome_of(answer)
    assert (outcome.kind, outcome.reason) == ("uncertain", reason)


async def test_a_server_that_stalls_is_uncertain_once_the_total_is_over() -> None:
    outcome = await outcome_of(stall, total_s=1.5)
    assert (outcome.kind, outcome.reason) == ("uncertain", "read_timeout")


async def test_a_body_that_stops_half_way_is_uncertain_once_the_total_is_over() -> None:
    async def half(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        await asyncio.sleep(3600)

    outcome = await outcome_of(half, total_s=1.5)
    assert (outcome.kind, outcome.reason) == ("uncertain", "read_timeout")


@pytest.mark.parametrize("framing", ["length", "chunked", "until it closes"])
@pytest.mark.parametrize("cut", [close, reset], ids=["closed", "reset"])
async def test_an_answer_that_is_cut_at_any_byte_is_uncertain(cut: Answer, framing: str) -> None:
    body = json.dumps(ACCEPTED).encode()
    head = {
        "length": b"Content-Length: %d" % len(body),
        "chunked": b"Transfer-Encoding: chunked",
        "until it closes": b"Connection: close",
    }[framing]
    if framing == "chunked":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, body)
    lengths = [*range(0, len(whole) - len(b"0\r\n\r\n") - 2, 3)]

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(whole[: lengths[len(served.received) - 1]])
        await writer.drain()
        await cut(request, writer)

    async with provider(answer) as served, gateway(served.url) as client:
        for length in lengths:
            outcome = await client.send(sms())
            assert outcome.kind == "uncertain", f"cut after {length} of {len(whole)} bytes: {outcome}"
        assert len(served.received) == len(lengths), "each was asked for once"


async def test_a_kept_connection_that_the_server_drops_is_uncertain() -> None:
    reply = respond(200, ACCEPTED)

    async def once(request: Received, writer: asyncio.StreamWriter) -> None:
        if len(server.received) > 1:
            await close(request, writer)
        await reply(request, writer)

    async with provider(once) as server, gateway(server.url) as client:
        first, second = await client.send(sms()), await client.send(sms())
        assert (len(server.received), server.connections) == (2, 1)
    assert (first.kind, second.kind, second.reason) == ("accepted", "uncertain", "cut")


async def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port, and nobody answers on it
        async with gateway(f"http://127.0.0.1:{taken.getsockname()[1]}/v2") as client:
            outcome = await client.send(sms())
    assert (outcome.kind, outcome.reason) == ("not_sent", "connect_refused")


async def test_an_unknown_host_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail, raising=False)
    async with gateway("http://telnyx.invalid/v2") as client:
        outcome = await client.send(sms())
    assert (outcome.kind, outcome.reason) == ("not_sent", "dns")


async def test_a_name_that_never_resolves_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_args: Any, **_kwargs: Any) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang, raising=False)
    async with gateway("http://telnyx.invalid/v2", connect_s=0.3) as client:
        outcome = await client.send(sms())
    assert (outcome.kind, outcome.reason) == ("not_sent", "connect_timeout")


async def test_a_failed_tls_handshake_is_not_sent() -> None:
    async def plain_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    outcome = await _send_by_tls_to(plain_text)
    assert (outcome.kind, outcome.reason) == ("not_sent", "tls")


async def test_a_tls_handshake_that_is_cut_is_not_sent() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    assert (await _send_by_tls_to(cut)).kind == "not_sent"


async def test_a_tls_handshake_that_stalls_is_not_sent() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    outcome = await _send_by_tls_to(silent, connect_s=0.3)
    assert (outcome.kind, outcome.reason) == ("not_sent", "connect_timeout")


async def _send_by_tls_to(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> Outcome:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with gateway(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2", **options) as client:
            return await client.send(sms())
    finally:
        server.close()


async def test_a_request_that_waited_for_a_connection_in_vain_is_not_sent() -> None:
    async with provider(stall) as server, gateway(server.url, connections=1, connect_s=1.5) as client:
        first = asyncio.create_task(client.send(sms()))
        while not server.received:
            await asyncio.sleep(0.005)
        second = await client.send(sms(ref="second"))
        first.cancel()
    assert (second.kind, second.reason, len(server.received)) == ("not_sent", "pool", 1)


async def test_a_request_that_is_connected_after_its_deadline_does_not_leave_and_its_connection_serves_the_next() -> (
    None
):
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        late = await client.send(sms(), deadline_s=time.monotonic() - 0.001)
        assert (late.kind, late.reason, server.received) == ("not_sent", "late", [])
        again = await client.send(sms(), deadline_s=time.monotonic() + 5)
        assert (again.kind, len(server.received), server.connections) == ("accepted", 1, 1)
        stalled = await client.send(sms(), deadline_s=time.monotonic() - 0.001)
        assert (stalled.kind, stalled.reason, len(server.received)) == ("not_sent", "stalled", 1)


async def test_the_total_over_before_a_connection_stands_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_args: Any, **_kwargs: Any) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang, raising=False)
    async with gateway("http://telnyx.invalid/v2", total_s=0.3) as client:
        assert (await client.send(sms())).kind == "not_sent"


async def test_cancellation_is_no_verdict() -> None:
    async with provider(stall) as server, gateway(server.url) as client:
        task = asyncio.create_task(client.send(sms()))
        while not server.received:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_arguments_that_make_no_request_are_rejected_and_reported() -> None:
    request = sms("whatsapp", whatsapp={"type": "text", "text": {"body": object()}})
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        outcome = await client.send(request)
    assert (outcome.kind, outcome.reason, outcome.alert) == ("rejected", "unsendable", True)
    assert server.received == []


# --- what must not matter, and what must not show


async def test_the_environment_changes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELNYX_CLIENT_ID", "id")
    monkeypatch.setenv("TELNYX_CLIENT_SECRET", "secret")
    monkeypatch.setenv("TELNYX_CUSTOM_HEADERS", "Authorization: Bearer other")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        assert (await client.send(sms())).kind == "accepted"
    assert server.received[0].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize("answer", [respond(200, ACCEPTED), refuse(400, "40310", f"bad {PERSON}"), close])
async def test_no_body_number_or_key_reaches_a_log_or_a_repr(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("telnyx", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.DEBUG)
    request = sms()
    outcome = await outcome_of(answer, request)
    shown = caplog.text + repr(outcome) + repr(request) + str(request)
    for secret in (BODY, PERSON, PERSON[1:], API_KEY):
        assert secret not in shown


# --- questions


async def test_a_poll_tells_the_fact() -> None:
    data = ACCEPTED["data"] | {
        "to": [{"phone_number": PERSON, "status": "delivered"}],
        "completed_at": "2026-11-24T02:10:04Z",
        "webhook_url": "https://app.test/webhooks/telnyx?ref=abc-0",
    }
    async with provider(respond(200, {"data": data})) as server, gateway(server.url) as client:
        found = await client.retrieve("40385f64-5717-4562-b3fc-2c9600000000")
    assert isinstance(found, Facts)
    assert (found.fact["status"], found.fact["ref"], found.fact["final"]) == ("delivered", "abc-0", True)
    assert server.received[0].path == "/v2/messages/40385f64-5717-4562-b3fc-2c9600000000"


async def test_a_group_poll_tells_every_member() -> None:
    rows = [
        {
            "id": "a",
            "to": [{"phone_number": "+13125550101", "status": "delivered"}],
            "completed_at": "2026-11-24T02:10:04Z",
        },
        {"id": "b", "to": [{"phone_number": "+13125550102", "status": "sent"}]},
    ]
    async with provider(respond(200, {"data": rows})) as server, gateway(server.url) as client:
        found = await client.retrieve_group("group-1")
    assert isinstance(found, Facts)
    assert found.fact["to"] == [["+13125550101", "delivered"], ["+13125550102", "sent"]]
    assert (found.fact["pid"], found.fact["status"], found.fact["final"]) == ("group-1", "sent", False)
    assert server.received[0].path == "/v2/messages/group/group-1"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refuse(404, "10005", "Resource not found"), NotFound("10005")),
        (refuse(429, "10011", "Too many requests", Retry_After="3"), Unavailable("http_429", 3.0)),
        (respond(500, b""), Unavailable("http_500")),
        (respond(401, b""), Unavailable("http_401", None, alert=True)),
        (respond(200, {"data": {}}), Unavailable("unreadable")),
        (respond(200, b"<html>"), Unavailable("unreadable")),
    ],
)
async def test_a_poll_without_an_answer_says_nothing_about_its_message(
    answer: Answer, expected: NotFound | Unavailable
) -> None:
    async with provider(answer) as server, gateway(server.url) as client:
        assert await client.retrieve("some-id") == expected


@pytest.mark.parametrize("channel", sorted(METHODS))
async def test_what_leaves_is_what_the_sdks_own_method_would_send(channel: str) -> None:
    """Only the order of the fields is ours; the path, the names, the values and the key are the SDK's."""
    message = {"type": "template", "template": {"name": "code", "language": {"policy": "deterministic", "code": "en_US"},
               "components": [{"type": "body", "parameters": [{"type": "text", "text": BODY}]}]}}  # fmt: skip
    content = Content(text=BODY, media_urls=("https://a.test/a.png",), subject="hello", whatsapp=message)
    sender = SenderSpec("s", channel, "+13125550001", PROFILE)
    request = build(sender, [PERSON], content, ref="r-0", public_url="https://app.test")
    async with provider(respond(200, ACCEPTED)) as server:
        async with gateway(server.url) as client:
            await client.send(request)
        sdk = AsyncTelnyx(api_key=API_KEY, base_url=server.url, max_retries=0)
        method = getattr(sdk.messages, request.method_name)
        await method(**request.kwargs, idempotency_key=request.key)
        await sdk.close()
    ours, theirs = server.received
    assert (ours.method, ours.path, json.loads(ours.body)) == (theirs.method, theirs.path, json.loads(theirs.body))
    for name in ("idempotency-key", "authorization", "content-type", "accept"):
        assert ours.headers[name] == theirs.headers[name]


async def test_what_asks_for_a_message_is_what_the_sdks_own_method_would_ask() -> None:
    async with provider(respond(200, {"data": {}})) as server:
        async with gateway(server.url) as client:
            await client.retrieve("an id/..")
            await client.retrieve_group("an id/..")
        sdk = AsyncTelnyx(api_key=API_KEY, base_url=server.url, max_retries=0)
        await sdk.messages.with_raw_response.retrieve("an id/..")
        await sdk.messages.with_raw_response.retrieve_group_messages("an id/..")
        await sdk.close()
    paths = [(asked.method, asked.path) for asked in server.received]
    assert paths[:2] == paths[2:]


async def test_a_closed_gateway_sends_nothing() -> None:
    async with provider(respond(200, ACCEPTED)) as server, gateway(server.url) as client:
        await client.send(sms())
        await client.aclose()
        assert (await client.send(sms())).kind == "not_sent"
        assert len(server.received) == 1
