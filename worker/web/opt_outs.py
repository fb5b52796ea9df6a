"""``/v1/opt-outs/{number}``: look, set, lift. What an app sets here, only an app lifts: START does not."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from producers.errors import FieldError
from producers.ledger import calls
from producers.masking import mask, mask_all
from producers.phone import NotANumber, is_bsuid, normalise
from worker.compliance.opt_outs import is_scope, read_opt_out
from worker.settings.variables import ApiKey
from worker.web import presenting
from worker.web.auth import needs
from worker.web.models import OptOutAnswer
from worker.web.notifications import json_response
from worker.web.openapi import problems
from worker.web.problems import invalid
from worker.web.services import Services

router = APIRouter(prefix="/v1/opt-outs", tags=["opt-outs"], responses=problems(401, 403, 422, 503))

Caller = Annotated[ApiKey, Depends(needs("opt-outs"))]
Number = Annotated[str, Path(description="E.164; a plus sign may be written %2B.", examples=["+13125550100"])]
Scope = Annotated[str, Query(description="`global`, `profile:<id>` or `sender:<name>`.")]


@router.get("/{number}", summary="Whether a person is opted out", response_model=OptOutAnswer)
async def show(request: Request, _caller: Caller, number: Number, scope: Scope = "global") -> Response:
    services: Services = request.app.state.services
    person, where = _person(number), _scope(scope, services)
    held = await services.in_thread(read_opt_out, services.ledger, person, where)
    return json_response(presenting.opt_out(person, where, held))


@router.put("/{number}", summary="Opt a person out", status_code=204)
async def put(request: Request, caller: Caller, number: Number, scope: Scope = "global") -> Response:
    return await _say(request, caller, number, scope, out=True)


@router.delete("/{number}", summary="Lift what an app or operator set; a person's own STOP stays", status_code=204)
async def delete(request: Request, caller: Caller, number: Number, scope: Scope = "global") -> Response:
    return await _say(request, caller, number, scope, out=False)


async def _say(request: Request, caller: ApiKey, number: str, scope: str, *, out: bool) -> Response:
    services: Services = request.app.state.services
    call = calls.opt(
        _person(number),
        "out" if out else "in",
        scopes=[_scope(scope, services)],
        source="api",
        evidence=caller.name,
        by_operator=True,
    )
    await services.async_ledger.run(call)
    await services.durability.synced()
    return Response(status_code=204)


def _person(number: str) -> str:
    """The one spelling of a person's address. Raises Problem 422."""
    if is_bsuid(number):
        return number
    try:
        return normalise(number)
    except NotANumber as wrong:
        raise invalid(FieldError("number", mask(number), wrong.remedy)) from None


def _scope(scope: str, services: Services) -> str:
    """The scope. Raises Problem 422, also for a sender that is not configured: it would silence nobody."""
    if not is_scope(scope):
        remedy = "write global, profile:<id> or sender:<name>"
        raise invalid(FieldError("scope", mask_all(ascii(scope[:60])), remedy))
    kind, _, name = scope.partition(":")
    if kind == "sender" and name not in services.config.senders:
        known = ", ".join(sorted(services.config.senders))
        raise invalid(FieldError("scope", ascii(scope), f"name a sender of notify.toml; they are: {known}"))
    return scope.lower() if kind == "profile" else scope
