"""Refuse query parameters that a route does not know.

A mistyped one must not be passed over: ``?dryrun=true`` would send for real, and ``?scop=sender:alerts`` would lift an
opt-out everywhere instead of for one sender.
"""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request

from producers.errors import FieldError
from producers.masking import mask_all
from producers.problems import nearest
from worker.web.problems import invalid

NAME_SHOWN = 40


def refuse_unknown(request: Request) -> None:
    """Raise Problem 422 for the query parameters that this request's route does not declare."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    otherwise = f"remove it; there are: {', '.join(known)}" if known else "remove it: this call takes none"
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise invalid(
            *(
                FieldError(mask_all(name[:NAME_SHOWN]), "unknown parameter", nearest(name, known, otherwise=otherwise))
                for name in unknown
            )
        )
