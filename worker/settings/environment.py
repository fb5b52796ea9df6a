"""The settings of one process: its environment and ``notify.toml``, read once and checked whole.

This is the only place of the worker that reads ``os.environ``. A process reads the variables of its role and no others,
so that a web process does not stop over a key that only the worker uses.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.settings.model import Config
from worker.settings.problems import Problem, SettingsError, nearest
from worker.settings.reading import read_file
from worker.settings.variables import VARIABLES, ApiKey, Role, Variable, Wrong, hidden

TELNYX_BASE_URL = "https://api.telnyx.com/v2"
DEFAULT_CONFIG = "notify.toml"
# Other programs' variables that look like ours: systemd sets the first, the SDK reads the others.
_FOREIGN = frozenset({"NOTIFY_SOCKET", "TELNYX_CLIENT_ID", "TELNYX_CLIENT_SECRET", "TELNYX_CUSTOM_HEADERS"})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process was started with. Fields that its role does not read have their defaults; secrets have no repr."""

    role: Role
    redis_url: str = field(repr=False)  # holds a password on most platforms
    namespace: str = "notify"
    client: str = "default"
    telnyx_api_key: str = field(default="", repr=False)
    telnyx_base_url: str = TELNYX_BASE_URL
    telnyx_public_keys: tuple[bytes, ...] = ()
    public_url: str | None = None  # None where fates are polled
    config_path: str = DEFAULT_CONFIG
    loaded_config: Config | None = field(default=None, repr=False)
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)
    secret: str = field(default="", repr=False)
    port: int | None = None
    log_level: str = "info"
    release: int = 0

    @property
    def config(self) -> Config:
        """The configuration. Roles web, worker, clock and doctor always have one; cli where the file exists."""
        if self.loaded_config is None:
            raise SettingsError(
                [Problem(self.config_path, f"was not read by {self.role}", "give the file, or set NOTIFY_CONFIG")]
            )
        return self.loaded_config

    @property
    def listen(self) -> tuple[str, int]:
        """Where web listens. A platform that sets PORT forwards to it from outside; without one we stay at home."""
        return ("127.0.0.1", 8000) if self.port is None else ("0.0.0.0", self.port)


def load_settings(role: Role, environ: Mapping[str, str] = os.environ, *, config_path: str | None = None) -> Settings:
    """The settings of a process of this role.

    Args:
        role: Which variables are read, and which must be there. ``doctor`` needs what all processes together need.
        environ: The environment.
        config_path: The configuration file; NOTIFY_CONFIG where it is not given.

    Raises:
        SettingsError: something is missing or wrong; all of it.
    """
    settings, problems = read_settings(role, environ, config_path=config_path)
    if problems:
        raise SettingsError(problems)
    return settings


def read_settings(
    role: Role, environ: Mapping[str, str] = os.environ, *, config_path: str | None = None
) -> tuple[Settings, list[Problem]]:
    """As ``load_settings``, but what is wrong beside what could be read: for a check of more than the settings alone.

    What is missing is empty then, and there is no configuration unless all of it is right.
    """
    values, problems = _read_variables(role, environ)
    path = config_path or str(values.get("NOTIFY_CONFIG", DEFAULT_CONFIG))
    config: Config | None = None
    raw: Mapping[str, Any] = {}
    is_optional = role == "cli" and config_path is None and "NOTIFY_CONFIG" not in values and not os.path.exists(path)
    if role != "producer" and not is_optional:
        config, wrong, raw = read_file(path)
        problems += wrong
    if _polls(raw):
        problems = [problem for problem in problems if not _is_missing(problem, "PUBLIC_URL")]
    return _settings(role, {"REDIS_URL": "", **values}, path, config), problems


def raw_variable(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """One variable as it stands, unchecked and empty where it is not set.

    For words about a failure that may come before, or from, reading the settings; everything else takes ``Settings``.
    """
    return environ.get(name, "").strip()


def settings_table() -> list[tuple[str, str, str]]:
    """Name, who needs it, meaning: one row a variable."""
    return [(variable.name, variable.who, variable.meaning) for variable in VARIABLES]


def _settings(role: Role, values: Mapping[str, Any], path: str, config: Config | None) -> Settings:
    polls = config is not None and config.receipts.mode == "poll"
    fields = {
        "redis_url": "REDIS_URL",
        "namespace": "NOTIFY_NAMESPACE",
        "client": "NOTIFY_CLIENT",
        "telnyx_api_key": "TELNYX_API_KEY",
        "telnyx_base_url": "TELNYX_BASE_URL",
        "telnyx_public_keys": "TELNYX_PUBLIC_KEY",
        "public_url": "PUBLIC_URL",
        "api_keys": "NOTIFY_API_KEYS",
        "secret": "NOTIFY_SECRET",
        "port": "PORT",
        "log_level": "LOG_LEVEL",
        "release": "HEROKU_RELEASE_VERSION",
    }
    given = {name: values[variable] for name, variable in fields.items() if variable in values}
    if polls:  # whatever is set: no webhook_url is sent then
        given["public_url"] = None
    return Settings(role=role, config_path=path, loaded_config=config, **given)


def _read_variables(role: Role, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    mine = [variable for variable in VARIABLES if role in variable.needed_by | variable.read_by]
    for variable in mine:
        text = environ.get(variable.name, "").strip()
        if not text:
            problems += _missing(variable, role, environ)
            continue
        try:
            values[variable.name] = variable.read(text)
        except Wrong as exc:
            shown = exc.shown or (hidden(text) if variable.is_secret else text)
            problems.append(Problem(variable.name, exc.what, exc.remedy, shown))
    if any(variable.name == "TELNYX_API_KEY" for variable in mine) and all(
        environ.get(name, "").strip() for name in ("TELNYX_CLIENT_ID", "TELNYX_CLIENT_SECRET")
    ):
        what = "and TELNYX_CLIENT_SECRET are both set, so the Telnyx SDK would use OAuth and ignore TELNYX_API_KEY"
        problems.append(Problem("TELNYX_CLIENT_ID", what, "unset both"))
    return values, problems


def _missing(variable: Variable, role: Role, environ: Mapping[str, str]) -> list[Problem]:
    """A needed variable that is not there; or an optional one that seems to be there under a mistyped name."""
    known = {known.name for known in VARIABLES} | _FOREIGN
    strangers = [
        name for name in environ if name.startswith(("NOTIFY_", "TELNYX_", "REDIS_", "PUBLIC_")) and name not in known
    ]
    stranger = nearest(variable.name, strangers, cutoff=0.85)
    if role in variable.needed_by:
        remedy = EXAMPLES[variable.name]
        if stranger is not None:
            remedy = f"`{stranger}` is set: rename it, if it is meant; otherwise {remedy}"
        return [Problem(variable.name, f"is missing; {role} needs it", remedy)]
    if stranger is not None and stranger.startswith(("NOTIFY_", "TELNYX_")):
        return [Problem(stranger, "is not a known variable", f"did you mean `{variable.name}`?")]
    return []


def _is_missing(problem: Problem, name: str) -> bool:
    return problem.path == name and problem.what.startswith("is missing")


def _polls(raw: Mapping[str, Any]) -> bool:
    """Does the file say so, even if the rest of it has mistakes?"""
    receipts = raw.get("receipts")
    return isinstance(receipts, Mapping) and receipts.get("mode") == "poll"


EXAMPLES: Mapping[str, str] = {
    "REDIS_URL": "set it, as REDIS_URL=redis://localhost:6379/0",
    "TELNYX_API_KEY": "set it to the API key of the Telnyx portal",
    "TELNYX_PUBLIC_KEY": "set it to the public key of the Telnyx portal (Keys & Credentials)",
    "PUBLIC_URL": 'set it, as PUBLIC_URL=https://notify.example.com, or write mode = "poll" under [receipts]',
    "NOTIFY_API_KEYS": 'set it, as NOTIFY_API_KEYS=billing:<hash>; `printf %s "$KEY" | sha256sum` prints the hash',
    "NOTIFY_SECRET": 'set it to what python3 -c "import secrets; print(secrets.token_urlsafe(32))" prints',
}
