"""All commands in one application."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.commands import (
    dead,
    forget,
    inbound,
    lanes,
    notifications,
    numbers,
    opt_outs,
    processes,
    route,
    schedules,
    stats,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"notify {version('notification-worker')}")
        raise typer.Exit


def make_app() -> typer.Typer:
    """The application; each command imports what it needs when it runs."""
    app = typer.Typer(
        name="notify",
        help="Queue-driven notification worker for Telnyx. Exit codes: 0 done, 1 no, 2 usage or configuration, 3 unreachable.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=app.info.help if isinstance(app.info.help, str) else None)(_options)
    app.command("demo")(processes.demo)
    app.command("web")(processes.web)
    app.command("worker")(processes.worker)
    app.command("clock")(processes.clock)
    app.command("sandbox")(processes.sandbox)
    app.command("send")(notifications.send)
    app.command("status")(notifications.status)
    app.command("cancel")(notifications.cancel)
    app.command("dead")(dead.dead)
    app.command("replay")(dead.replay)
    app.command("forget")(forget.forget)
    app.command("route")(route.route)
    app.command("doctor")(processes.doctor)
    app.command("stats")(stats.stats)
    app.command("inbound")(inbound.inbound)
    app.add_typer(lanes.app, name="lanes")
    app.add_typer(opt_outs.app, name="opt-outs")
    app.add_typer(numbers.app, name="numbers")
    app.add_typer(schedules.app, name="schedules")
    return app


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and leave.")
    ] = False,
) -> None:
    """Options of ``notify`` itself. Without a text of its own the application's stays."""
