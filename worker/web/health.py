"""``/healthz``: this process answers. ``/readyz``: it can do its work."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request
from redis.exceptions import RedisError
from starlette.responses import Response

from worker.web.models import Health, Readiness
from worker.web.notifications import json_response
from worker.web.openapi import problems
from worker.web.problems import Problem
from worker.web.services import Services

log = structlog.get_logger()
router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)  # what many monitors send
@router.get("/healthz", summary="The process answers", response_model=Health)
async def healthz() -> Response:
    return json_response({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Redis answers and a configuration is published",
    response_model=Readiness,
    responses=problems(503),
)
async def readyz(request: Request) -> Response:
    services: Services = request.app.state.services
    ledger = services.async_ledger
    try:
        async with ledger.redis.pipeline(transaction=False) as pipe:
            pipe.exists(ledger.key("cfg"))
            pipe.hget(ledger.key("os"), "newer_us")
            pipe.time()
            published, listed_us, (now_s, _) = await pipe.execute()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("not_ready", error=type(error).__name__)
        raise Problem(503, "redis_away", "Redis does not answer: check REDIS_URL and the server") from None
    if not published:
        raise Problem(503, "not_ready", "no configuration is published yet: this process publishes its own at once")
    age_s = now_s - int(listed_us) // 1_000_000 if listed_us else None
    return json_response({"status": "ready", "opt_out_list_age_s": age_s})
