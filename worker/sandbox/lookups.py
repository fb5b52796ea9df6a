"""Everything of Telnyx's API that sends nothing: messages by id, cancel, opt-outs, numbers, bulk assignment."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from worker.sandbox.messages import Message
from worker.sandbox.recipients import Cancel, script_for
from worker.sandbox.refusals import Refusal, missing
from worker.sandbox.replies import cut, decode_object, json_response, page
from worker.sandbox.state import Sandbox, now_us

BULK_DELAY_S = 0.2
_TYPES = ("tollfree", "longcode", "shortcode")


async def retrieve(sandbox: Sandbox, request: Request) -> Response:
    """GET /messages/{id}."""
    return json_response({"data": _message(sandbox, request).payload()})


async def retrieve_group(sandbox: Sandbox, request: Request) -> Response:
    """GET /messages/group/{id}: one entry for each member."""
    message = _message(sandbox, request)
    if not message.draft.is_group:
        raise Refusal("10005", "The requested group message does not exist.")
    return json_response({"data": [message.payload([index]) for index in range(len(message.draft.to))]})


async def cancel(sandbox: Sandbox, request: Request) -> Response:
    """DELETE /messages/{id}: scheduled ones only, until a minute before; the answer has no ``data``."""
    message = _message(sandbox, request)
    send_at_us = message.draft.send_at_us
    margin_us = int(sandbox.options.cancel_margin_s * 1e6)
    how = script_for(message.draft.to[0]).cancel if sandbox.options.magic else Cancel.OK
    if how is Cancel.TOO_LATE and message.is_scheduled:
        sandbox.carrier.release(message)
    too_late = send_at_us is None or not message.is_scheduled or send_at_us - now_us() <= margin_us
    if too_late or how is Cancel.REFUSED:
        detail = "Only a scheduled message can be cancelled, until one minute before it is sent."
        raise Refusal("10010", detail, is_bare=True)  # declared so, unlike other errors
    sandbox.carrier.cancel(message)
    return await cut(request) if how is Cancel.CUT else json_response(message.payload())


async def opt_outs(sandbox: Sandbox, request: Request) -> Response:
    """GET /messaging_optouts: newest first."""
    query = request.query_params
    rows = [
        block
        for block in sandbox.blocks.rows()
        if query.get("filter[messaging_profile_id]", block.profile) == block.profile
        and query.get("filter[from]", block.number) == block.number
        and _time(request, "created_at[gte]", 0) <= block.created_us <= _time(request, "created_at[lte]", 2**62)
    ]
    chosen, meta = page(request, rows)
    is_redacted = query.get("redaction_enabled") == "true"
    return json_response({"data": [block.row(is_redacted=is_redacted) for block in chosen], "meta": meta})


async def list_numbers(sandbox: Sandbox, request: Request) -> Response:
    """GET /phone_numbers/messaging."""
    query = request.query_params
    rows = sandbox.numbers.rows()
    if profile := query.get("filter[messaging_profile_id]"):
        rows = [number for number in rows if number.profile == profile]
    if wanted := query.get("filter[phone_number]"):
        rows = [number for number in rows if number.number in wanted.split(",")]
    if part := query.get("filter[phone_number][contains]"):
        rows = [number for number in rows if part in number.number]
    if kind := query.get("filter[type]"):
        if kind not in _TYPES:
            raise Refusal("10015", f"filter[type] must be one of {', '.join(_TYPES)}, got {kind!r}.")
        rows = [number for number in rows if number.kind == kind]
    if order := query.get("sort[phone_number]"):
        rows = sorted(rows, key=lambda number: number.number, reverse=order == "desc")
    chosen, meta = page(request, rows)
    return json_response({"data": [number.row() for number in chosen], "meta": meta})


async def list_mobile(sandbox: Sandbox, request: Request) -> Response:
    """GET /mobile_phone_numbers/messaging."""
    chosen, meta = page(request, sandbox.numbers.rows(is_mobile=True))
    return json_response({"data": [number.row() for number in chosen], "meta": meta})


async def get_number(sandbox: Sandbox, request: Request) -> Response:
    """GET /phone_numbers/{id}/messaging."""
    return json_response({"data": sandbox.numbers.get(request.path_params["id"]).row()})


async def get_mobile(sandbox: Sandbox, request: Request) -> Response:
    """GET /mobile_phone_numbers/{id}/messaging."""
    return json_response({"data": sandbox.numbers.get(request.path_params["id"], is_mobile=True).row()})


async def update_number(sandbox: Sandbox, request: Request) -> Response:
    """PATCH /phone_numbers/{id}/messaging: omitted or null keeps, an empty profile unassigns."""
    number = sandbox.numbers.get(request.path_params["id"])
    body = decode_object(await request.body())
    profile, product, tags = (body.get(name) for name in ("messaging_profile_id", "messaging_product", "tags"))
    for name, value in (("messaging_profile_id", profile), ("messaging_product", product)):
        if value is not None and not isinstance(value, str):
            raise Refusal("10015", f"{name} must be a string.", f"/{name}")
    if profile:
        sandbox.profiles.get(profile)
    if tags is not None and not _is_texts(tags):
        raise Refusal("10015", "tags must be a list of strings.", "/tags")
    number.profile = number.profile if profile is None else profile or None
    number.product = product or number.product
    number.tags = number.tags if tags is None else tags
    number.updated_us = now_us()
    return json_response({"data": number.row()})


async def create_bulk(sandbox: Sandbox, request: Request) -> Response:
    """POST /messaging_numbers_bulk_updates: pending at first."""
    body = decode_object(await request.body())
    profile, numbers = body.get("messaging_profile_id"), body.get("numbers")
    if not isinstance(profile, str):
        raise missing("messaging_profile_id")
    if profile:
        sandbox.profiles.get(profile)
    if not numbers or not _is_texts(numbers):
        raise missing("numbers")
    order = sandbox.numbers.order(profile, numbers, done_at_s=time.monotonic() + BULK_DELAY_S)
    return json_response({"data": sandbox.numbers.order_row(order.id, now_s=time.monotonic())})


async def get_bulk(sandbox: Sandbox, request: Request) -> Response:
    """GET /messaging_numbers_bulk_updates/{order_id}."""
    row = sandbox.numbers.order_row(request.path_params["id"], now_s=time.monotonic())
    return json_response({"data": row})


async def list_profiles(sandbox: Sandbox, request: Request) -> Response:
    """GET /messaging_profiles."""
    chosen, meta = page(request, sandbox.profiles.rows())
    return json_response({"data": list(chosen), "meta": meta})


async def get_profile(sandbox: Sandbox, request: Request) -> Response:
    """GET /messaging_profiles/{id}."""
    return json_response({"data": sandbox.profiles.get(request.path_params["id"])})


async def balance(sandbox: Sandbox, _request: Request) -> Response:
    """GET /balance."""
    text = f"{sandbox.options.balance_usd:.2f}"
    row = {
        "record_type": "balance",
        "currency": "USD",
        "balance": text,
        "available_credit": text,
        "credit_limit": "0.00",
    }
    return json_response({"data": row})


async def list_short_codes(sandbox: Sandbox, request: Request) -> Response:
    """GET /short_codes."""
    codes = [number for number in sandbox.numbers.rows() if number.kind == "shortcode"]
    chosen, meta = page(request, codes)
    rows = [
        {
            "record_type": "short_code",
            "id": code.id,
            "short_code": code.number,
            "country_code": "US",
            "messaging_profile_id": code.profile,
            "tags": code.tags,
        }
        for code in chosen
    ]
    return json_response({"data": rows, "meta": meta})


def _message(sandbox: Sandbox, request: Request) -> Message:
    message = sandbox.record.get(request.path_params["id"])
    if message is None:
        raise Refusal("10005", "The requested message does not exist.")
    return message


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _time(request: Request, name: str, default_us: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default_us
    parse: Callable[[str], datetime] = datetime.fromisoformat
    try:
        return int(parse(text.replace(" ", "+")).timestamp() * 1e6)  # an unescaped plus arrives as a space
    except ValueError as exc:
        raise Refusal("10015", f"{name} must be an ISO 8601 time, got {text!r}.") from exc
