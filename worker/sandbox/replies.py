"""JSON in and out, the Bearer key, pages: what all endpoints share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from worker.sandbox.refusals import Refusal
from worker.sandbox.state import Sandbox

MAX_PAGE = 250
TRANSPORT = "sandbox.transport"
_CUT = Response(status_code=500)  # never sent: marks an answer whose connection was cut

Endpoint = Callable[[Sandbox, Request], Awaitable[Response]]


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def refuse(sandbox: Sandbox, refusal: Refusal) -> Response:
    """The answer to a refused request, counted."""
    sandbox.record.refused[refusal.code] += 1
    headers = None if refusal.retry_after_s is None else {"retry-after": str(refusal.retry_after_s)}
    return json_response(refusal.body(), refusal.http_status, headers)


def check_key(sandbox: Sandbox, request: Request) -> None:
    """Raises ``Refusal`` 10009 unless the request carries the key."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    expected = sandbox.options.api_key
    if kind.lower() != "bearer" or not key.strip() or (expected is not None and key.strip() != expected):
        raise Refusal("10009", "The API key is missing or wrong: send Authorization: Bearer <key>.")


def decode_object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Refusal("10015", f"The body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise Refusal("10015", "The body must be a JSON object.")
    return body


def api(sandbox: Sandbox, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint of Telnyx's API that sends nothing: key, refusals, faults, and nothing at all while it is down."""

    async def answer(request: Request) -> Response:
        if sandbox.faults.down:
            sandbox.record.faults["down"] += 1
            return Response("upstream unavailable", 503)
        try:
            check_key(sandbox, request)
            if _hits(sandbox, "api_cut"):
                return await cut(request)
            if _hits(sandbox, "api_429"):
                raise Refusal("10011", "Too many requests.", retry_after_s=sandbox.options.retry_after_s)
            if _hits(sandbox, "api_500"):
                raise Refusal("10007", "An unexpected error occurred.")
            response = await endpoint(sandbox, request)
            return await cut(request) if _hits(sandbox, "api_cut_after") else response
        except Refusal as refusal:
            return refuse(sandbox, refusal)

    return answer


async def cut(request: Request) -> Response:
    """Close the connection without a word, and wait until it is gone."""
    transport = request.scope.get(TRANSPORT)
    if transport is None:
        raise RuntimeError("only a real server can cut a connection")
    transport.abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return _CUT


def _hits(sandbox: Sandbox, name: str) -> bool:
    if not sandbox.faults.hits(name, sandbox.chance):
        return False
    sandbox.record.faults[name] += 1
    return True


def page(request: Request, rows: Sequence[Any]) -> tuple[Sequence[Any], dict[str, int]]:
    """The rows of the page asked for, and its ``meta``."""
    number = _positive(request, "page[number]", 1, most=1_000_000)
    size = _positive(request, "page[size]", 20, most=MAX_PAGE)
    pages = max(1, -(-len(rows) // size))
    meta = {"page_number": number, "page_size": size, "total_pages": pages, "total_results": len(rows)}
    return rows[(number - 1) * size : number * size], meta


def _positive(request: Request, name: str, default: int, *, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Refusal("10015", f"{name} must be from 1 to {most}, got {text!r}.")
    return int(text)
