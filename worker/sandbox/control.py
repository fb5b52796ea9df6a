"""The endpoints under /sandbox: what was received, what goes wrong, and people who text back."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from worker.sandbox import inbound
from worker.sandbox.messages import Message
from worker.sandbox.options import OptionError
from worker.sandbox.refusals import Refusal
from worker.sandbox.replies import Endpoint, decode_object, json_response
from worker.sandbox.state import Sandbox

_MOST = 200_000


def control_routes(sandbox: Sandbox) -> list[Route]:
    """The sandbox's own pages and endpoints; none of them asks for a key."""

    def route(path: str, endpoint: Endpoint, *methods: str) -> Route:
        return Route(path, _guarded(sandbox, endpoint), methods=list(methods))

    return [
        route("/", _page, "GET"),
        route("/sandbox/public_key", _public_key, "GET"),
        route("/sandbox/summary", _summary, "GET"),
        route("/sandbox/messages", _messages, "GET"),
        route("/sandbox/arrivals", _arrivals, "GET"),
        route("/sandbox/lag", _lag, "GET"),
        route("/sandbox/faults", _faults, "GET"),
        route("/sandbox/faults", _set_faults, "POST"),
        route("/sandbox/inbound", _inbound, "POST"),
        route("/sandbox/callback", _callback, "POST"),
        route("/sandbox/release", _release, "POST"),
        route("/sandbox/reset", _reset, "POST"),
    ]


def row_of(message: Message) -> dict[str, Any]:
    """A message as the record shows it. Nothing is masked: these are made-up people."""
    draft = message.draft
    return {
        "id": message.id,
        "ref": message.ref,
        "key": message.key,
        "path": message.path,
        "type": draft.kind,
        "from": draft.sender,
        "to": list(draft.to) if draft.is_group else draft.to[0],
        "profile": message.profile,
        "text": draft.text,
        "text_length": len(draft.text),
        "parts": draft.parts,
        "body_sha256": message.body_sha256,
        "arrived_at": message.arrived_us,
        "send_at": draft.send_at_us,
        "sent_at": message.sent_us,
        "completed_at": message.completed_us,
        "wait_seconds": message.wait_seconds,
        "status": message.statuses[0] if len(message.statuses) == 1 else message.statuses,
        "errors": [error["code"] for errors in message.errors for error in errors],
        "replayed": message.replays,
        "callbacks": message.callbacks,
    }


def _guarded(sandbox: Sandbox, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(sandbox, request)
        except OptionError as problem:
            return json_response({"error": str(problem)}, 422)
        except Refusal as refusal:
            return json_response({"error": refusal.detail}, 400)

    return answer


async def _page(_sandbox: Sandbox, _request: Request) -> Response:
    return HTMLResponse(_html())


@functools.cache
def _html() -> str:
    return files("worker.sandbox").joinpath("page.html").read_text(encoding="utf-8")


async def _public_key(sandbox: Sandbox, _request: Request) -> Response:
    return PlainTextResponse(sandbox.signer.public_key)


async def _summary(sandbox: Sandbox, _request: Request) -> Response:
    summary = sandbox.record.summary()
    summary["callbacks"]["pending"] = sandbox.courier.pending
    summary["blocked"] = len(sandbox.blocks.rows())
    return json_response(summary)


async def _release(sandbox: Sandbox, _request: Request) -> Response:
    """The time of all that is scheduled has come."""
    due = [message for message in sandbox.record.find(limit=_MOST) if message.is_scheduled]
    for message in due:
        sandbox.carrier.release(message)
    return json_response({"released": len(due)})


async def _messages(sandbox: Sandbox, request: Request) -> Response:
    query = request.query_params
    found = sandbox.record.find(
        ref=query.get("ref"),
        to=_number(query.get("to")),
        since_us=_count(request, "since", None),
        limit=_count(request, "limit", 1000) or 1000,
    )
    return json_response([row_of(message) for message in found])


async def _arrivals(sandbox: Sandbox, request: Request) -> Response:
    """``[[us, sender, ref], …]`` of what was accepted; with ``?all=1`` each send request, and its status as a fourth."""
    since_us = _count(request, "since", None) or 0
    chosen = [arrival for arrival in sandbox.record.arrivals if arrival[0] >= since_us]
    if request.query_params.get("all") == "1":
        return json_response(chosen)
    return json_response([arrival[:3] for arrival in chosen if arrival[3] == 200])


async def _lag(sandbox: Sandbox, _request: Request) -> Response:
    return json_response(sandbox.lag.summary())


async def _faults(sandbox: Sandbox, _request: Request) -> Response:
    return json_response(sandbox.faults.as_dict())


async def _set_faults(sandbox: Sandbox, request: Request) -> Response:
    """Change the faults that are named; ``{"seed": 7}`` starts the random choices anew, ``{}`` shows."""
    body = decode_object(await request.body())
    seed = body.pop("seed", None)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise OptionError(f"seed must be a whole number, got {seed!r}")
    sandbox.faults.update(body)
    if seed is not None:
        sandbox.reseed(seed)
    return json_response(sandbox.faults.as_dict())


async def _inbound(sandbox: Sandbox, request: Request) -> Response:
    return json_response(await inbound.receive(sandbox, decode_object(await request.body())))


async def _callback(sandbox: Sandbox, request: Request) -> Response:
    """Sign any ``body`` (an object, or a string sent as it is) and POST it to ``webhook_url``, once."""
    asked = decode_object(await request.body())
    url, body = asked.get("webhook_url"), asked.get("body")
    if not isinstance(url, str) or body is None:
        raise OptionError('write {"webhook_url": "http://…", "body": {…}}: both are needed')
    attempt = await sandbox.courier.send_raw(url, body.encode() if isinstance(body, str) else msgspec.json.encode(body))
    return json_response({"status": attempt.status, "answered_at_us": attempt.answered_us})


async def _reset(sandbox: Sandbox, _request: Request) -> Response:
    await sandbox.reset()
    return json_response({"reset": True})


def _number(text: str | None) -> str | None:
    """A number from a query, where an unescaped plus arrives as a space."""
    return None if text is None else text.replace(" ", "+", 1) if text.startswith(" ") else text


def _count(request: Request, name: str, default: int | None) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise OptionError(f"{name} must be a whole number, got {text!r}")
    return min(int(text), _MOST) if name == "limit" else int(text)
