"""The ASGI app: Telnyx's paths under /v2, the sandbox's own beside them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.sandbox import lookups
from worker.sandbox.checks import CHECKS
from worker.sandbox.control import control_routes
from worker.sandbox.options import SandboxOptions
from worker.sandbox.refusals import Refusal
from worker.sandbox.replies import Endpoint, api, json_response
from worker.sandbox.sends import send_endpoint
from worker.sandbox.state import Sandbox

_LOOKUPS: list[tuple[str, str, Endpoint]] = [
    ("GET", "/messages/group/{id}", lookups.retrieve_group),
    ("GET", "/messages/{id}", lookups.retrieve),
    ("DELETE", "/messages/{id}", lookups.cancel),
    ("GET", "/messaging_optouts", lookups.opt_outs),
    ("GET", "/phone_numbers/messaging", lookups.list_numbers),
    ("GET", "/phone_numbers/{id}/messaging", lookups.get_number),
    ("PATCH", "/phone_numbers/{id}/messaging", lookups.update_number),
    ("GET", "/mobile_phone_numbers/messaging", lookups.list_mobile),
    ("GET", "/mobile_phone_numbers/{id}/messaging", lookups.get_mobile),
    ("GET", "/messaging_profiles", lookups.list_profiles),
    ("GET", "/messaging_profiles/{id}", lookups.get_profile),
    ("GET", "/balance", lookups.balance),
    ("GET", "/short_codes", lookups.list_short_codes),
    ("POST", "/messaging_numbers_bulk_updates", lookups.create_bulk),
    ("GET", "/messaging_numbers_bulk_updates/{id}", lookups.get_bulk),
]


def create_app(options: SandboxOptions) -> Starlette:
    """An ASGI app that behaves as Telnyx does. Needs its lifespan run; each call is a sandbox of its own."""
    sandbox = Sandbox(options)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await sandbox.start()
        yield
        await sandbox.close()

    sends = [Route(f"/v2{path}", send_endpoint(sandbox, path), methods=["POST"]) for path in CHECKS]
    others = [Route(f"/v2{path}", api(sandbox, endpoint), methods=[method]) for method, path, endpoint in _LOOKUPS]
    app = Starlette(
        routes=[*sends, *others, *control_routes(sandbox)],
        exception_handlers={404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )
    app.state.sandbox = sandbox
    return app


async def _not_found(_request: Request, _exc: Exception) -> Response:
    refusal = Refusal("10005", "The requested resource or URL could not be found.")
    return json_response(refusal.body(), refusal.http_status)
