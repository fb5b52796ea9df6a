"""The document that clients are generated from: valid, complete, and true of what the server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import APP_KEY, Web

OPERATIONS = {
    "POST /v1/notifications",
    "POST /v1/notifications/batch",
    "GET /v1/notifications/{id}",
    "DELETE /v1/notifications/{id}",
    "GET /v1/opt-outs/{number}",
    "PUT /v1/opt-outs/{number}",
    "DELETE /v1/opt-outs/{number}",
    "GET /v1/lanes",
    "POST /v1/lanes/{sender}/pause",
    "POST /v1/lanes/{sender}/resume",
    "POST /v1/lanes/{sender}/drain",
    "PUT /v1/lanes/{sender}/rate",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
}
OPEN = {"GET /healthz", "GET /readyz"}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


@pytest.fixture
def document(web: Web) -> dict[str, Any]:
    answer = web.client.get("/openapi.json")
    assert answer.status_code == 200
    made: dict[str, Any] = answer.json()
    return made


def test_every_call_is_documented_with_its_key_and_its_problems(document: dict[str, Any]) -> None:
    operations = dict(_operations(document))
    assert set(operations) == OPERATIONS
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["apiKey"] == {
        "type": "http", "scheme": "bearer", "description": "A key of NOTIFY_API_KEYS.",
    }  # fmt: skip
    for name, operation in operations.items():
        assert operation.get("security", []) == ([] if name in OPEN else [{"apiKey": []}]), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"] == PROBLEM, (name, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_document_is_the_same_for_everyone(web: Web, document: dict[str, Any]) -> None:
    assert web.call("GET", "/openapi.json", key=None).json() == document


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "POST /v1/notifications" else pytest.mark.slow)
        for name in sorted(OPERATIONS)
    ],
)
def test_what_the_server_answers_is_what_the_document_says(web: Web, name: str) -> None:
    """Requests made from the document, good and odd ones: no answer that it does not know, and none of ours is a 500."""
    method, path = name.split(" ")
    operation = schemathesis.openapi.from_url(f"{web.url}/openapi.json")[path][method]

    @seed(1)
    @settings(
        max_examples=25, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(headers={"authorization": f"Bearer {APP_KEY}"}, timeout=20)
        checks = [status_code_conformance, content_type_conformance, response_schema_conformance, not_a_server_error]
        case.validate_response(response, checks=checks)

    ask()
