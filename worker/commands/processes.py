"""The processes: ``notify web | worker | clock | sandbox | demo``, and ``notify doctor``, which checks before they start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.terminal import AsJson, Exit, Failure, print_json

if TYPE_CHECKING:
    from worker.sandbox import SandboxOptions

MIN_THREADS = 8  # each queue needs some; with fewer, receipts wait behind expansion


def web() -> None:
    """Serve the HTTP API and Telnyx's webhooks, on $PORT."""
    from worker.settings import load_settings
    from worker.web import run

    raise typer.Exit(run(load_settings("web")))


def worker(
    processes: Annotated[int, typer.Option(min=1, help="Processes of this tree.")] = 1,
    threads: Annotated[int, typer.Option(min=MIN_THREADS, help="Threads of each process.")] = 16,
) -> None:
    """Expand, pace and send. Runs Dramatiq's own command line on worker.main; one tree a dyno."""
    from worker.engine.launch import run_worker

    run_worker(processes, threads)


def clock() -> None:
    """Do what is periodic by the calendar. Run one; nothing is lost while it is down."""
    from worker.clock import run
    from worker.log import configure_logging
    from worker.settings import load_settings

    settings = load_settings("clock")
    configure_logging(settings.log_level, json=not sys.stderr.isatty())
    raise typer.Exit(run(settings))


def doctor(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="The configuration; Redis only where it answers, and then as warnings.")
    ] = False,
    country: Annotated[
        list[str] | None, typer.Option(metavar="ISO", help="A country that you send to, as US; repeat it.")
    ] = None,
    webhook: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recorded webhook, to try TELNYX_PUBLIC_KEY on.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the settings, Redis, the account at Telnyx and the way of its webhooks. Warnings are no failure."""
    from worker.doctor import examine
    from worker.settings import SettingsError, read_settings

    for code in country or []:
        if len(code) != 2 or not code.isalpha():
            raise Failure(f'--country is "{code}": write two letters, as US', Exit.USAGE)
    settings, problems = read_settings("doctor")
    if problems and offline:
        raise SettingsError(problems)
    countries = tuple(code.upper() for code in country or [])
    report = examine(settings, problems, offline=offline, countries=countries, webhook=webhook)
    if as_json:
        print_json(report.as_dict())
    else:
        report.show()
    raise typer.Exit(int(report.code))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a scripted day against a sandbox: no account, no internet. 0 only if nothing was lost and nobody texted twice."""
    from worker.demo import run

    raise typer.Exit(run(keep=keep, as_json=as_json))


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 lets the system choose.")] = 8900,
    api_key: Annotated[str | None, typer.Option(help="The only key that is taken; otherwise any.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="The seed of the signing key; written if missing.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    rate: Annotated[
        list[str] | None, typer.Option(metavar="FROM=N", help="Segments a second of one sender; repeat it.")
    ] = None,
    default_rate: Annotated[float | None, typer.Option(help="Segments a second of every other sender.")] = None,
    account_rate: Annotated[float | None, typer.Option(help="Requests a second in all, then 429.")] = None,
    inbound_webhook: Annotated[str | None, typer.Option(help="Where inbound messages go.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Something that goes wrong: 500_before=0.05.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other option: final_delay_s=1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stand in for Telnyx over HTTP: signed callbacks, magic recipients, faults, and a page that shows it all."""
    from worker.sandbox import OptionError, RunningSandbox, SandboxOptions, run

    given: dict[str, Any] = _pairs("--set", option, SandboxOptions)
    given |= {"seed": seed, "default_rate": default_rate, "account_rate": account_rate, "api_key": api_key}
    given |= {"inbound_webhook": inbound_webhook, "key_file": str(key_file) if key_file else None}
    given["sender_rates"] = {name: _value(value) for name, value in _split("--rate", rate)}
    given["faults"] = {name: _value(value) for name, value in _split("--fault", fault)}
    try:
        options = SandboxOptions(**given)
    except (OptionError, TypeError) as error:
        raise Failure(str(error), Exit.USAGE) from None

    def announce(running: RunningSandbox) -> None:
        if as_json:
            print_json({"url": running.url, "base_url": running.base_url, "public_key": running.public_key})
        else:
            print(f"sandbox: {running.url}  TELNYX_BASE_URL={running.base_url}  TELNYX_PUBLIC_KEY={running.public_key}")
        sys.stdout.flush()

    try:
        run(options, host, port, announce=announce)
    except OptionError as error:
        raise Failure(str(error), Exit.USAGE) from None
    except OSError as error:
        remedy = "choose another --host or --port"
        raise Failure(f"cannot listen on {host}:{port} ({error.strerror}): {remedy}", Exit.USAGE) from None


def _split(option: str, pairs: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failure(f'{option} must be NAME=VALUE, got "{pair}"', Exit.USAGE)
        found.append((name, value))
    return found


def _value(text: str) -> object:
    """A number, true or false where it is one, else the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _pairs(option: str, pairs: list[str] | None, model: type[SandboxOptions]) -> dict[str, object]:
    """Options of the sandbox by name; those whose value is one word or number."""
    from dataclasses import fields

    from producers.problems import nearest

    simple = {f.name for f in fields(model) if f.type in ("str", "int", "float", "bool", "str | None", "float | None")}
    found = {}
    for name, value in _split(option, pairs):
        if name not in simple:
            listed = f"there are {', '.join(sorted(simple))}"
            raise Failure(f'{option} knows no option "{name}": {nearest(name, simple, otherwise=listed)}', Exit.USAGE)
        found[name] = value if "str" in str(_type_of(model, name)) else _value(value)
    return found


def _type_of(model: type[SandboxOptions], name: str) -> object:
    return model.__dataclass_fields__[name].type
