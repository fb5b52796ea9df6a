"""``/v1/lanes``: what waits for each sender, and the levers of those who operate it.

A lever acts on all lanes of its sender (its SMS and its MMS). What is set here outlives deploys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from producers.errors import FieldError
from producers.ledger import calls
from producers.masking import mask_all
from producers.problems import described, nearest, quoted
from worker.pacing.lanes import LaneView, read_lanes
from worker.pacing.rates import run_time_rate
from worker.settings.variables import ApiKey
from worker.web import presenting
from worker.web.auth import needs
from worker.web.bodies import parse_json, read_body
from worker.web.models import LanesAnswer, PauseRequest, RateRequest
from worker.web.notifications import json_response
from worker.web.openapi import body_schema, problems
from worker.web.problems import Problem, invalid
from worker.web.services import Services

router = APIRouter(prefix="/v1/lanes", tags=["lanes"], responses=problems(401, 403, 422, 503))

Body = TypeVar("Body", bound=BaseModel)
Operator = Annotated[ApiKey, Depends(needs("operate"))]
SenderName = Annotated[str, Path(description="A sender of notify.toml.", examples=["alerts"])]
Shared = Annotated[bool, Query(description="Also end what rests its profile, brand, campaign and account.")]


@router.get("", summary="All lanes", response_model=LanesAnswer)
async def show(request: Request, _caller: Operator) -> Response:
    services: Services = request.app.state.services
    views = await services.in_thread(read_lanes, services.ledger)
    return _lanes(services, views)


@router.post(
    "/{sender}/pause",
    summary="Let nothing leave until resumed",
    response_model=LanesAnswer,
    responses=problems(400, 404, 413, 422),
    openapi_extra=body_schema("PauseRequest", required=False),
)
async def pause(request: Request, caller: Operator, sender: SenderName) -> Response:
    return await _change(request, sender, "pause", await _reason(request, caller))


@router.post(
    "/{sender}/resume",
    summary="Let messages leave again; ends the sender's own hold and slow-down too",
    response_model=LanesAnswer,
    responses=problems(404),
)
async def resume(request: Request, _caller: Operator, sender: SenderName, shared: Shared = False) -> Response:
    return await _change(request, sender, "resume", "shared" if shared else "")


@router.post(
    "/{sender}/drain",
    summary="Let what was submitted until now leave, and later messages wait until resumed",
    response_model=LanesAnswer,
    responses=problems(400, 404, 413, 422),
    openapi_extra=body_schema("PauseRequest", required=False),
)
async def drain(request: Request, caller: Operator, sender: SenderName) -> Response:
    return await _change(request, sender, "drain", await _reason(request, caller))


@router.put(
    "/{sender}/rate",
    summary="Set the rate until it is set again; `configured` gives it back to the configuration",
    response_model=LanesAnswer,
    responses=problems(400, 404, 413, 422),
    openapi_extra=body_schema("RateRequest"),
)
async def set_rate(request: Request, _caller: Operator, sender: SenderName) -> Response:
    asked = _read(RateRequest, await read_body(request))
    try:
        interval = run_time_rate(asked.rate)
    except PydanticCustomError as wrong:
        remedy = str((wrong.context or {}).get("remedy") or 'write "20/s", "60/min" or "500/h"')
        raise invalid(FieldError("rate", ascii(asked.rate[:40]), remedy)) from None
    return await _change(request, sender, "rate", interval)


async def _reason(request: Request, caller: ApiKey) -> str:
    raw = await read_body(request)
    return _read(PauseRequest, raw).reason if raw.strip() else f"operator ({caller.name})"


async def _change(request: Request, sender: str, what: Any, value: str | int = "") -> Response:
    services: Services = request.app.state.services

    def change() -> list[LaneView]:
        lanes = [view.name for view in read_lanes(services.ledger) if view.sender == sender]
        if not lanes:
            raise _unknown(sender, services)
        # Both lanes of a sender share its own bucket, so one call sets the rate of both.
        for lane in lanes[:1] if what == "rate" else lanes:
            services.ledger.run(calls.lane(lane, what, value))
        return read_lanes(services.ledger, lanes)

    return _lanes(services, await services.in_thread(change))


def _unknown(sender: str, services: Services) -> Problem:
    known = services.config.senders
    otherwise = f"the senders are: {', '.join(sorted(known))}"
    return Problem(
        404,
        "not_found",
        f"no lane of sender {mask_all(ascii(sender[:40]))}; {nearest(sender, known, otherwise=otherwise)}",
    )


def _lanes(services: Services, views: list[LaneView]) -> Response:
    senders = services.config.senders
    return json_response({"lanes": [presenting.lane(view, senders.get(view.sender)) for view in views]})


def _read(model: type[Body], raw: bytes) -> Body:
    """The body as ``model``. Raises Problem 400 and 422."""
    try:
        return model.model_validate(parse_json(raw))
    except ValidationError as wrong:
        raise invalid(*(_field_error(error) for error in wrong.errors())) from None


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """Pydantic's words for a body of ours, in the words of the other problems."""
    field = mask_all(".".join(str(part) for part in error["loc"])[:40]) or "body"
    match error["type"]:
        case "missing":
            return FieldError(field, "missing", "add it")
        case "extra_forbidden":
            return FieldError(field, "unknown", "remove it")
        case "model_type" | "model_attributes_type":
            return FieldError(field, described(error["input"]), "send a JSON object")
        case _:
            said = str(error["msg"])
            return FieldError(field, mask_all(quoted(error["input"])), said[:1].lower() + said[1:])
