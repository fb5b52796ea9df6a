"""Read request bodies within a limit, also those that come in pieces and never say how long they are."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from worker.web.problems import Problem

BODY_MAX_BYTES = 8_000_000
WEBHOOK_MAX_BYTES = 1_000_000


async def read_body(request: Request, most: int = BODY_MAX_BYTES) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 as soon as it is known to be longer than ``most`` bytes; the rest is not read.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:  # as Request.stream does it, without the cost of a generator
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parse_json(raw: bytes) -> Any:
    """The JSON value of ``raw``.

    Raises:
        Problem: 400 for an empty body and for what is no JSON. The body is not quoted.
    """
    if not raw.strip():
        raise Problem(400, "empty_body", "the body is empty: send JSON")
    try:
        return from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as wrong:
        where = str(wrong).rpartition(" at ")[2] if " at line " in str(wrong) else "an unknown place"
        what = "is nested too deep" if "recursion" in str(wrong) else "is no JSON"
        raise Problem(400, "unreadable_json", f"the body {what}: it goes wrong at {where}") from None


def _too_large(most: int) -> Problem:
    # The connection stays open and what still comes is thrown away: closed, it would reset under clients that send all
    # of the body before they read the answer.
    return Problem(413, "too_large", f"the body has more than {most:,} bytes: split it")
