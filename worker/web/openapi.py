"""The parts of the OpenAPI document that FastAPI cannot work out: bodies that we read ourselves, and problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from worker.web.problems import MEDIA_TYPE, ProblemBody, title_of

_REF = "#/components/schemas/{model}"
_SAYS = {
    400: "The body is empty or no JSON.",
    401: "No key, or one that is not known.",
    403: "The key lacks the scope.",
    404: "Unknown, malformed, or another client's.",
    409: "The idempotency key belongs to another request.",
    413: "The body is too large, or has too many rows.",
    422: "Names every field that is wrong.",
    501: "Not in this version.",
    503: "Redis is away, or nothing is published yet; see `Retry-After`.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that answers these problems."""
    return {
        status: {
            "description": _SAYS.get(status, title_of(status)),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=ProblemBody.__name__)}}},
        }
        for status in statuses
    }


def body_schema(model: str, *, many: int | None = None, required: bool = True) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose body is one ``model``, or an array of up to ``many``."""
    schema: dict[str, Any] = {"$ref": _REF.format(model=model)}
    if many is not None:
        schema = {"type": "array", "items": schema, "maxItems": many}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI, models: Sequence[type[BaseModel]]) -> None:
    """Make ``app.openapi`` include ``models``, which routes only name."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                license_info=app.license_info,
            )
            _, definitions = models_json_schema(
                [(model, "validation") for model in models], ref_template=_REF, by_alias=True
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in definitions.get("$defs", {}).items():
                schemas.setdefault(name, schema)
            _drop_fastapis_own(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _drop_fastapis_own(made: dict[str, Any]) -> None:
    """FastAPI adds a 422 of its own shape where it finds none; ours are problems everywhere."""
    for path in made["paths"].values():
        for operation in path.values():
            found = operation.get("responses", {}).get("422", {})
            if "application/json" in found.get("content", {}):
                operation["responses"]["422"] = problems(422)[422]
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)
