"""``/v1/notifications``: enqueue one or many, ask for their fate, cancel.

The fields of a request are those of ``Notifier.enqueue``, and the same code checks them. Bodies are read, parsed and
checked in threads: 8 MB of JSON would hold up every receipt meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic_core import to_json
from starlette.responses import Response

from producers.errors import FieldError
from producers.ledger.reading import NotificationView, read_notification
from producers.notifier import Enqueued, Stopped
from producers.problems import described
from worker.settings.variables import ApiKey
from worker.web import presenting
from worker.web.auth import needs
from worker.web.bodies import parse_json, read_body
from worker.web.dry_run import dry_run
from worker.web.models import BatchAnswer, CancelAnswer, DryRunAnswer, NotificationAnswer, TicketAnswer
from worker.web.openapi import body_schema, problems
from worker.web.problems import Problem, invalid, not_found, problem_of
from worker.web.services import Services

ROWS_MOST = 10_000
PAGE_MOST = 1_000

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", description="Or the field `idempotency_key`.")]
Id = Annotated[str, Path(description="32 hex digits, as `POST` answered.")]
_hex = frozenset("0123456789abcdef")


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json")


@router.post(
    "",
    status_code=202,
    summary="Enqueue a notification",
    responses={
        202: {"model": TicketAnswer, "description": "Kept. A repeat has the header `Idempotent-Replayed: true`."},
        200: {"model": DryRunAnswer, "description": "Of a dry run."},
        **problems(400, 401, 403, 409, 413, 422, 503),
    },
    openapi_extra=body_schema("NotificationRequest"),
)
async def enqueue(
    request: Request,
    caller: Annotated[ApiKey, Depends(needs("send"))],
    idempotency_key: Key = None,
    dry: Annotated[bool, Query(alias="dry_run", description="Say what would happen, and write nothing.")] = False,
) -> Response:
    services = _services(request)
    raw = await read_body(request)
    if dry:
        return json_response(await services.in_thread(_try_one, services, raw, idempotency_key))
    done = await services.in_thread(_enqueue_one, services, caller, raw, idempotency_key)
    headers = {"Location": f"/v1/notifications/{done.ticket.id}"}
    if done.repeated:
        headers["Idempotent-Replayed"] = "true"
    return json_response(done.ticket._asdict(), 202, headers)


@router.post(
    "/batch",
    status_code=202,
    summary="Enqueue many notifications",
    responses={
        202: {"model": BatchAnswer, "description": "All rows are kept."},
        207: {"model": BatchAnswer, "description": "Some rows are not, and say why."},
        **problems(400, 401, 403, 413, 422, 503),
    },
    openapi_extra=body_schema("NotificationRequest", many=ROWS_MOST),
)
async def enqueue_batch(
    request: Request, caller: Annotated[ApiKey, Depends(needs("send"))], idempotency_key: Key = None
) -> Response:
    services = _services(request)
    raw = await read_body(request)
    status, body = await services.in_thread(_enqueue_batch, services, caller, raw, idempotency_key)
    return Response(body, status, media_type="application/json")


@router.get(
    "/{id}",
    summary="The state of a notification and its messages",
    response_model=NotificationAnswer,
    responses=problems(401, 403, 404, 422, 503),
)
async def show(
    request: Request,
    caller: Annotated[ApiKey, Depends(needs("read"))],
    id: Id,
    limit: Annotated[int, Query(ge=1, le=PAGE_MOST, description="Messages on a page.")] = 100,
    after: Annotated[str | None, Query(max_length=12, description="`next` of the page before.")] = None,
) -> Response:
    services = _services(request)
    start = _index(after)

    def look() -> bytes:
        view = _of(services, caller, id, limit=limit, after=start)
        return to_json(presenting.notification(view, services.config))

    return Response(await services.in_thread(look), media_type="application/json")


@router.delete(
    "/{id}",
    summary="Stop what has not left yet",
    response_model=CancelAnswer,
    responses=problems(401, 403, 404, 422, 503),
)
async def cancel(request: Request, caller: Annotated[ApiKey, Depends(needs("cancel"))], id: Id) -> Response:
    services = _services(request)

    def stop() -> Stopped:
        _of(services, caller, id, limit=1)
        return services.notifier.stop_any(id)

    stopped = await services.in_thread(stop)
    more = {"asked_back": stopped.asked_back} if stopped.asked_back else {}
    return json_response({"id": id, "cancelled": stopped.messages, **more})


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _of(services: Services, caller: ApiKey, id: str, *, limit: int, after: int = -1) -> NotificationView:
    """The caller's notification. Raises Problem 404 for any other."""
    if len(id) != 32 or not _hex.issuperset(id):
        raise not_found(id if id.isascii() and id.isalnum() else "of this id")
    view = read_notification(services.ledger, id, limit=limit, after=after)
    if view is None or view.client != caller.name:
        raise not_found(id)
    return view


def _index(after: str | None) -> int:
    if after is None:
        return -1
    if not (after.isascii() and after.isdigit()):
        raise invalid(FieldError("after", ascii(after), "pass `next` of the page before, as it is"))
    return int(after)


def _enqueue_one(services: Services, caller: ApiKey, raw: bytes, key: str | None) -> Enqueued:
    fields = _with_key(parse_json(raw), key)
    return services.notifier.enqueue_as(caller.name, fields)


def _try_one(services: Services, raw: bytes, key: str | None) -> dict[str, Any]:
    fields = _with_key(parse_json(raw), key)
    job_types = services.job_types
    now_us = time.time_ns() // 1000
    return dry_run(fields, config=services.config, job_types=job_types, ledger=services.ledger, now_us=now_us)


def _enqueue_batch(services: Services, caller: ApiKey, raw: bytes, key: str | None) -> tuple[int, bytes]:
    rows = parse_json(raw)
    if not isinstance(rows, list):
        raise invalid(FieldError("body", described(rows), "send a JSON array of notifications"))
    if len(rows) > ROWS_MOST:
        raise Problem(413, "too_many_rows", f"{len(rows):,} rows, at most {ROWS_MOST:,} can go in one call: split it")
    answers: list[Any] = [None] * len(rows)
    good: list[int] = []
    keyed = []
    for index, row in enumerate(rows):
        try:
            keyed.append(_with_key(row, None if key is None else f"{key}:{index}", path=f"[{index}]."))
            good.append(index)
        except Problem as wrong:
            answers[index] = wrong
    for index, done in zip(good, services.notifier.enqueue_many_as(caller.name, keyed), strict=True):
        answers[index] = done
    bad = any(isinstance(answer, Exception) for answer in answers)
    return 207 if bad else 202, to_json({"notifications": _rows(answers)})


def _rows(answers: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"error": problem_of(answer).body} if isinstance(answer, Exception) else answer.ticket._asdict()
        for answer in answers
    ]


def _with_key(fields: Any, key: str | None, *, path: str = "") -> Any:
    """``fields`` with the header's key. Raises Problem 422 where both are given and differ."""
    if key is None or not isinstance(fields, dict):
        return fields
    own = fields.get("idempotency_key")
    if own is not None and own != key:
        remedy = "give the header Idempotency-Key or the field, or the same value in both (a batch adds `:<row>`)"
        raise invalid(FieldError(f"{path}idempotency_key", "differs from the header", remedy))
    return {**fields, "idempotency_key": key}
