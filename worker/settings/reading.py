"""Read ``notify.toml`` into a ``Config``, or into every problem it has.

Each table is read by itself, so that a mistake in one hides none in another, and the cross-checks run over all tables
that could be read. Only a file without any problem becomes a Config.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import PydanticCustomError

from worker.settings.checks import cross_check
from worker.settings.model import (
    Brand,
    Callbacks,
    Campaign,
    Compliance,
    Config,
    Defaults,
    Events,
    Inbound,
    JobType,
    Limits,
    Receipts,
    Schedule,
    Sender,
    Storage,
    Table,
    Timing,
    read_profile,
)
from worker.settings.names import NAME, NAME_RULE
from worker.settings.problems import Problem, SettingsError, choose, nearest, read_model, show
from worker.settings.quantities import Rate, parse_rate

T = TypeVar("T", bound=Table)

SECTIONS = tuple(Config.model_fields)
SHARED = ("account", "account_mms")
PROFILE = "profile:"
# What a table cannot be made without. A channel has none: without it nothing can be said of a sender's other keys.
PLACEHOLDERS: Mapping[type[Table], Mapping[str, Any]] = {
    Sender: {"rate": "1/s"},
    Campaign: {"class": "A"},
    Schedule: {"job_type": "", "cron": "0 0 * * *"},
}


def load_config(path: str | Path) -> Config:
    """The configuration in the file at ``path``.

    Raises:
        SettingsError: the file is missing, is no TOML, or has problems; all of them.
    """
    config, problems, _ = read_file(path)
    if config is None:
        raise SettingsError(problems)
    return config


def parse_config(text: str, *, source: str = "notify.toml") -> Config:
    """As ``load_config``, of a text; ``source`` is the name that messages call it."""
    config, problems, _ = read_text(text, source=source)
    if config is None:
        raise SettingsError(problems)
    return config


def read_file(path: str | Path) -> tuple[Config | None, list[Problem], Mapping[str, Any]]:
    """The configuration (None if anything is wrong), the problems, and the file's raw tables."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except FileNotFoundError:
        remedy = "copy notify.example.toml there and edit it, or set NOTIFY_CONFIG to the file you have"
        return None, [Problem(str(path), "does not exist", remedy)], {}
    except (OSError, UnicodeDecodeError) as exc:
        return (
            None,
            [Problem(str(path), f"cannot be read ({exc})", "make it a UTF-8 file that this process may read")],
            {},
        )
    return read_text(text, source=str(path))


def read_text(text: str, *, source: str) -> tuple[Config | None, list[Problem], Mapping[str, Any]]:
    """As ``read_file``, of a text."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        where = str(exc).replace("at end of document", f"at line {text.count(chr(10)) + 1}, the end of the file")
        remedy = "correct the syntax there; text values need quotes, and a table may stand only once"
        return None, [Problem(source, f"is no valid TOML: {where}", remedy)], {}
    problems = [
        Problem(key, "is not a known section", choose(key, SECTIONS, otherwise="take it out"))
        for key in raw
        if key not in SECTIONS
    ]
    campaigns = _named(Campaign, "campaigns", raw, problems)
    brands = _named(Brand, "brands", raw, problems)
    senders = _named(Sender, "senders", raw, problems)
    job_types = _named(JobType, "job_types", raw, problems)
    schedules = _named(Schedule, "schedules", raw, problems)
    for section, example in (("senders", "[senders.alerts]"), ("job_types", "[job_types.otp]")):
        if not raw.get(section):
            problems.append(Problem(section, "has no entry", f"add one, as {example} in notify.example.toml"))
    limits = _limits(raw.get("limits", {}), problems)
    timing = _single(Timing, "timing", raw, problems)
    storage = _single(Storage, "storage", raw, problems)
    receipts = _single(Receipts, "receipts", raw, problems)
    events = _single(Events, "events", raw, problems)
    inbound = _single(Inbound, "inbound", raw, problems)
    callbacks = _single(Callbacks, "callbacks", raw, problems)
    compliance = _single(Compliance, "compliance", raw, problems)
    defaults = _single(Defaults, "defaults", raw, problems)
    config = Config(
        senders=senders,
        job_types=job_types,
        campaigns=campaigns,
        brands=brands,
        schedules=schedules,
        limits=limits,
        timing=timing,
        storage=storage,
        receipts=receipts,
        events=events,
        inbound=inbound,
        callbacks=callbacks,
        compliance=compliance,
        defaults=defaults,
    )
    # Names are looked up among those that the file declares, also where their own table has a mistake.
    declared = {key: set(_mapping(raw.get(key))) for key in ("senders", "campaigns", "brands", "job_types")}
    named = {problem.path for problem in problems}
    problems += [problem for problem in cross_check(config, declared) if problem.path not in named]
    return (None if problems else config), problems, raw


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _named(model: type[T], section: str, raw: Mapping[str, Any], problems: list[Problem]) -> dict[str, T]:
    """The tables ``[section.<name>]``; what is wrong goes to ``problems``, and the rest of its table is kept."""
    tables = raw.get(section, {})
    if not isinstance(tables, Mapping):
        problems.append(Problem(section, "must be tables with names", f"write [{section}.some_name]", show(tables)))
        return {}
    found: dict[str, T] = {}
    for name, table in tables.items():
        path = f"{section}.{name}"
        if NAME.fullmatch(name) is None:
            problems.append(Problem(path, f"has a name that must be {NAME_RULE}", "rename it", show(name)))
        entry, wrong = read_model(model, path, table)
        problems += wrong
        if entry is None and isinstance(table, Mapping):
            entry = _right_part(model, path, table, wrong)
        if entry is not None:
            found[name] = entry
    return found


def _right_part(model: type[T], path: str, table: Mapping[str, Any], wrong: list[Problem]) -> T | None:
    """A table without its wrong keys, so that the cross-checks see the others. It never gets into a Config in use."""
    kept = {
        key: value for key, value in table.items() if not any(_is_at(problem, f"{path}.{key}") for problem in wrong)
    }
    entry, _ = read_model(model, path, {**PLACEHOLDERS.get(model, {}), **kept})
    return entry


def _is_at(problem: Problem, path: str) -> bool:
    """Is the problem at this key, or inside it?"""
    return problem.path == path or problem.path.startswith((f"{path}.", f"{path}["))


def _single(model: type[T], section: str, raw: Mapping[str, Any], problems: list[Problem]) -> T:
    """The table ``[section]``; its defaults where it is absent or wrong."""
    entry, wrong = read_model(model, section, raw.get(section, {}))
    problems += wrong
    return model() if entry is None else entry


def _limits(raw: object, problems: list[Problem]) -> Limits:
    """``[limits]``: its keys are names of shared limits, and those of profiles hold an id."""
    if not isinstance(raw, Mapping):
        problems.append(Problem("limits", "must be a table", "write a section [limits]", show(raw)))
        return Limits()
    shared: dict[str, Rate] = {}
    profiles: dict[str, Rate] = {}
    for key, value in raw.items():
        path = f"limits.{key}" if ":" not in key else f'limits."{key}"'
        profile = key.removeprefix(PROFILE)
        if profile == key and key not in SHARED:
            near = nearest(key, SHARED)
            remedy = f"did you mean `{near}`?" if near else 'use account, account_mms or "profile:<id>"'
            problems.append(Problem(path, "is not a known limit", remedy))
            continue
        subject = profile
        try:
            name = key if profile == key else read_profile(profile)
            subject = value
            (shared if profile == key else profiles)[name] = parse_rate(value)
        except PydanticCustomError as exc:
            context = exc.context or {}
            problems.append(Problem(path, str(context["what"]), str(context["remedy"]), show(subject)))
    return Limits(account=shared.get("account"), account_mms=shared.get("account_mms"), profiles=profiles)
