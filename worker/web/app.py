"""The ASGI app of the web process: API, webhooks, health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.pointers import PointerMessage
from producers.request_schema import NotificationRequest
from worker.compliance.keywords import match
from worker.settings import Config, Settings
from worker.web import health, lanes, metrics, notifications, openapi, opt_outs, problems
from worker.web.hearing import Hearing
from worker.web.models import PauseRequest, RateRequest
from worker.web.services import Services, make_services
from worker.web.upkeep import keep_hearing
from worker.web.webhooks import PATH, Webhooks

CLOSING_S = 5.0


class App(FastAPI):
    """FastAPI, with Telnyx's webhook before it: its layers cost a receipt more than verifying it does."""

    webhook: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self.webhook(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, config: Config | None = None) -> FastAPI:
    """The app. It connects to nothing until it is started, and starts without Redis."""
    services = make_services(settings, config or settings.config)

    async def push(messages: Sequence[PointerMessage]) -> None:
        await services.in_thread(services.pointers.push, messages)

    hearing = Hearing(services.async_ledger.run, push)
    keyword = partial(match, profile_keywords=services.config.compliance.keywords)
    webhooks = Webhooks(services, hearing, keyword)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        probe = asyncio.create_task(services.durability.probe(), name="probe")
        upkeep = asyncio.create_task(keep_hearing(services, hearing.is_deaf), name="upkeep")
        try:
            yield
        finally:
            probe.cancel()
            await _close(services, hearing, upkeep)

    app = App(
        title="Notification Worker",
        version=_version(),
        summary="Enqueue notifications, follow them, stop them.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # the pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.services = services

    app.webhook = webhooks

    async def callback(request: Request) -> Response:  # for other methods: 405
        return await webhooks.answer(request)

    app.router.routes.append(Route(PATH, callback, methods=["POST"], include_in_schema=False))
    for router in (notifications.router, opt_outs.router, lanes.router, metrics.router, health.router):
        app.include_router(router)
    problems.install(app)
    openapi.install(app, [NotificationRequest, PauseRequest, RateRequest, problems.ProblemBody])
    return app


async def _close(services: Services, hearing: Hearing, upkeep: asyncio.Task[None]) -> None:
    upkeep.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upkeep
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSING_S):
            await hearing.finish()
    await services.close()


def _version() -> str:
    try:
        return version("notification-worker")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "0"
