"""docs/telnyx-api.md is true: of the pinned SDK, of the code, and of the tests that it names."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from worker.sandbox import SandboxOptions
from worker.sandbox.app import create_app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telnyx-api.md").read_text()
# Telnyx's messaging API, as its OpenAPI document of July 2026 groups it: method, path, and the SDK's name.
OPERATIONS = {
    "messages.send": ("POST", "/messages"),
    "messages.send_long_code": ("POST", "/messages/long_code"),
    "messages.send_short_code": ("POST", "/messages/short_code"),
    "messages.send_number_pool": ("POST", "/messages/number_pool"),
    "messages.send_group_mms": ("POST", "/messages/group_mms"),
    "messages.send_with_alphanumeric_sender": ("POST", "/messages/alphanumeric_sender_id"),
    "messages.whatsapp": ("POST", "/messages/whatsapp"),
    "messages.schedule": ("POST", "/messages/schedule"),
    "messages.retrieve": ("GET", "/messages/{id}"),
    "messages.cancel_scheduled": ("DELETE", "/messages/{id}"),
    "messages.retrieve_group_messages": ("GET", "/messages/group/{message_id}"),
    "messaging_optouts.list": ("GET", "/messaging_optouts"),
    "phone_numbers.messaging.retrieve": ("GET", "/phone_numbers/{id}/messaging"),
    "phone_numbers.messaging.update": ("PATCH", "/phone_numbers/{id}/messaging"),
    "phone_numbers.messaging.list": ("GET", "/phone_numbers/messaging"),
    "mobile_phone_numbers.messaging.retrieve": ("GET", "/mobile_phone_numbers/{id}/messaging"),
    "mobile_phone_numbers.messaging.list": ("GET", "/mobile_phone_numbers/messaging"),
    "messaging_numbers_bulk_updates.create": ("POST", "/messaging_numbers_bulk_updates"),
    "messaging_numbers_bulk_updates.retrieve": ("GET", "/messaging_numbers_bulk_updates/{order_id}"),
}
BESIDE = {
    "messaging_profiles.retrieve": ("GET", "/messaging_profiles/{messaging_profile_id}"),
    "short_codes.list": ("GET", "/short_codes"),
    "balance.retrieve": ("GET", "/balance"),
}
RESOURCES = (
    "messages",
    "messaging_optouts",
    "phone_numbers.messaging",
    "mobile_phone_numbers.messaging",
    "messaging_numbers_bulk_updates",
)
WEBHOOKS = ("delivery update", "inbound message", "replaced link click")


def rows_of(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows if not row.startswith(("operation", "webhook"))]


def operations() -> dict[str, tuple[str, str, str, str]]:
    found = {}
    for _, request, name, used_by, proof in rows_of("Operations"):
        method, path = request.replace("`", "").split(" ")
        found[name.strip("`")] = (method, path, used_by, proof)
    return found


@cache
def resource_type(path: str) -> Any:
    import telnyx

    found: Any = telnyx.Telnyx(api_key="none", base_url="http://127.0.0.1:1/v2")
    for part in path.split("."):
        found = getattr(found, part)
    return type(found)


def test_every_operation_is_in_the_table_once_by_its_method_and_path() -> None:
    assert {name: row[:2] for name, row in operations().items()} == OPERATIONS | BESIDE


@pytest.mark.parametrize("name", OPERATIONS | BESIDE)
def test_the_pinned_sdk_sends_it_there(name: str) -> None:
    method, path = (OPERATIONS | BESIDE)[name]
    resource, _, function = name.rpartition(".")
    source = inspect.getsource(getattr(resource_type(resource), function))
    assert f'"{path}"' in source
    word = {"GET": "get", "POST": "post", "PATCH": "patch", "DELETE": "delete"}[method]
    assert re.search(rf"self\._({word}|{word}_api_list)\(", source)


def test_the_pinned_sdk_has_no_other_messaging_operation() -> None:
    theirs = {
        f"{resource}.{name}"
        for resource in RESOURCES
        for name, function in inspect.getmembers(resource_type(resource), inspect.isfunction)
        if not name.startswith("_")
    }
    assert theirs == set(OPERATIONS)


@pytest.mark.parametrize("name", [name for name, row in operations().items() if not row[2].startswith("–")])
def test_what_is_said_to_be_used_is_asked_for_in_the_code(name: str) -> None:
    _, path, _, _ = operations()[name]
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", path)]
    asked = re.compile(r"[\"']" + r"\{[^\"']+?\}".join(parts) + r"[\"'?]")
    sources = [file.read_text() for file in (ROOT / "worker" / "telnyx").glob("*.py")]
    # of two quotes in one f-string the inner ones belong to `quote(id, safe='')`
    assert any(asked.search(source.replace("safe=''", "")) for source in sources), path


def test_every_webhook_is_in_the_table() -> None:
    assert tuple(row[0] for row in rows_of("Webhooks")) == WEBHOOKS


@pytest.mark.parametrize("proof", sorted({row[-1] for row in rows_of("Operations") + rows_of("Webhooks")} - {"–"}))
def test_the_named_test_exists(proof: str) -> None:
    file, _, name = proof.strip("`").partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), proof


def test_what_is_not_used_says_why() -> None:
    for name, (_, _, used_by, proof) in operations().items():
        assert used_by.startswith("–") == (proof == "–"), name
        assert len(used_by) > 10, name


def test_every_command_that_is_named_exists() -> None:
    from worker.commands.app import make_app

    app = make_app()
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"`notify ([a-z-]+)", PAGE))
    assert named <= known


def test_the_sandbox_answers_every_operation() -> None:
    routes = {
        (method, re.sub(r"\{\w+\}", "{}", route.path.removeprefix("/v2")))
        for route in create_app(SandboxOptions()).routes
        for method in getattr(route, "methods", None) or ()
    }
    for method, path in (OPERATIONS | BESIDE).values():
        assert (method, re.sub(r"\{\w+\}", "{}", path)) in routes, path
