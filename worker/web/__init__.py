"""The web process: the HTTP API, Telnyx's webhooks, health. ``run`` serves; ``create_app`` makes the ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.web.app import create_app
    from worker.web.server import run

__all__ = ["create_app", "run"]

_HOMES = {"create_app": "worker.web.app", "run": "worker.web.server"}


def __getattr__(name: str) -> Any:
    # Late, so that a module of this package can be imported without FastAPI's half a second.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
