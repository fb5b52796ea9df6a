"""Answer every error as an RFC 9457 problem: FastAPI's own, Starlette's, ours and those nobody expected.

One form for all, so a client has one place that reads errors. Invariants, each with a test:

- Whatever goes wrong, the answer is ``application/problem+json``.
- No problem holds a text, a whole number, a key, or the words of an exception that we did not write.
"""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import to_json
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producers.errors import EnqueueError, FieldError, IdempotencyConflict, InvalidNotification, NotFound, NotReady
from producers.masking import mask_all

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
VALUE_SHOWN = 80


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where, as the caller wrote it.", examples=["to[17]"])
    value: str = Field(description="What was found there; numbers are masked, content is described.")
    remedy: str = Field(description="What to do.")


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field("about:blank", description="Always about:blank: `code` tells problems apart.")
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str
    code: str = Field(description="A word for machines.", examples=["invalid_notification"])
    errors: list[FieldProblem] | None = Field(None, description="Of a 422: the first 100 fields that are wrong.")
    total: int | None = Field(None, description="Of a 422: how many there were, where more than are shown.")
    id: str | None = Field(None, description="Of a 409 and a 503: the notification that it is about.")
    may_exist: bool | None = Field(None, description="Of a 503: true if the notification may have been written.")


class Problem(Exception):
    """Raise it from a route; ``more`` are further members of the body."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self.body = {
            "type": "about:blank",
            "title": title_of(status),
            "status": status,
            "detail": detail,
            "code": code,
            **more,
        }
        if status == 503:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))

    def response(self) -> Response:
        return Response(to_json(self.body), self.status, self.headers, MEDIA_TYPE)


def title_of(status: int) -> str:
    titles = {413: "Content Too Large", 422: "Unprocessable Content"}  # as RFC 9110 has them; Python's names are older
    return titles.get(status) or http.HTTPStatus(status).phrase


def invalid(*errors: FieldError) -> Problem:
    """422 for these fields."""
    return _invalid(errors, len(errors))


def not_found(id: str) -> Problem:
    """404 for a notification: the same for an unknown one and another client's, so that ids cannot be probed."""
    return Problem(404, "not_found", f"no notification {id[:40]}: unknown, of another client, or past its retention")


def redis_away() -> Problem:
    return Problem(503, "redis_away", "Redis does not answer: repeat the request; nothing is lost by repeating it")


def problem_of(error: Exception) -> Problem:
    """The problem that tells of ``error``."""
    match error:
        case Problem():
            return error
        case InvalidNotification():
            return _invalid(error.errors, error.total)
        case IdempotencyConflict():
            return Problem(409, "idempotency_conflict", str(error), id=error.id)
        case NotFound():
            return not_found(error.id)
        case NotReady():
            return Problem(503, "not_ready", str(error))
        case EnqueueError():
            detail = "Redis gave no clear answer in time: repeat with the same idempotency key"
            if not error.id:  # it was to be read, not written
                return redis_away()
            return Problem(503, "not_confirmed", detail, id=error.id, may_exist=error.may_exist)
        case RedisError() | TimeoutError():
            return redis_away()
        case RequestValidationError():
            return _invalid([_field_error(e) for e in error.errors()], len(error.errors()))
        case HTTPException():
            code = http.HTTPStatus(error.status_code).name.lower()
            if error.detail == "Not Found":  # the router's own words
                return Problem(404, code, "there is nothing at this path: /openapi.json lists what there is")
            return Problem(error.status_code, code, mask_all(str(error.detail)), headers=error.headers)
        case _:
            return Problem(500, "internal_error", "this is our mistake, and our log has its details")


def install(app: FastAPI) -> None:
    """Make ``app`` answer each error as a problem."""

    async def answer(_request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    async def hung_up(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    ours = (Problem, InvalidNotification, IdempotencyConflict, NotFound, NotReady, EnqueueError)
    for kind in (*ours, RedisError, TimeoutError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(ClientDisconnect, hung_up)


def _invalid(errors: Sequence[FieldError], total: int) -> Problem:
    rows = [{"field": e.field, "value": e.value, "remedy": e.remedy} for e in errors]
    more: dict[str, Any] = {"total": total} if total > len(rows) else {}
    count = "1 field is" if total == 1 else f"{total:,} fields are"
    return Problem(422, "invalid_notification", f"{count} wrong; nothing was written", errors=rows, **more)


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """One of FastAPI's own, about a parameter of the URL."""
    where = [str(part) for part in error["loc"][1:]] or [str(error["loc"][0])]
    value = "missing" if error["type"] == "missing" else mask_all(ascii(error.get("input")))[:VALUE_SHOWN]
    return FieldError(".".join(where), value, error["msg"][:1].lower() + error["msg"][1:])
