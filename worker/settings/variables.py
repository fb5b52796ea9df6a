"""The environment variables: what each is for, who needs it, and how it is read.

A reader takes the text, already stripped and not empty, and returns a value or raises ``Wrong`` with the rule and the
remedy. Secrets are never shown in a problem; neither is anything that may be one by mistake, such as a plain API key
where its hash belongs.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from producers.ledger.connection import problem_of_url
from worker.settings.names import NAME, NAME_RULE
from worker.settings.problems import choose

Role = Literal["web", "worker", "clock", "producer", "doctor", "cli"]
Scope = Literal["send", "read", "cancel", "opt-outs", "operate", "metrics"]
SCOPES: tuple[Scope, ...] = ("send", "read", "cancel", "opt-outs", "operate", "metrics")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
WEBHOOK_PATH = "/webhooks/telnyx"
SECRET_LENGTH = 16  # characters; shorter ones can be guessed offline from one signed callback


class Wrong(Exception):
    """A variable's value does not hold: the rule and the remedy. ``shown`` replaces the value where it is secret."""

    def __init__(self, what: str, remedy: str, shown: str | None = None) -> None:
        self.what, self.remedy, self.shown = what, remedy, shown
        super().__init__(what)


@dataclass(frozen=True)
class ApiKey:
    """One key of the HTTP API. ``name`` is the client; ``sha256`` the hex digest of the key itself."""

    name: str
    sha256: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class Variable:
    """One row of the table of settings."""

    name: str
    who: str  # as people read it
    meaning: str
    read: Callable[[str], object]
    needed_by: frozenset[Role] = frozenset()  # without it these do not start
    read_by: frozenset[Role] = frozenset()  # these take it if it is there
    is_secret: bool = False


def hidden(value: str) -> str:
    """What a problem says instead of a secret."""
    return f"(hidden, {len(value)} characters)"


def read_redis_url(value: str) -> str:
    example = 'write REDIS_URL="redis://localhost:6379/0" (also rediss://, unix://)'
    parts = _split(value, "must be a URL of a Redis server", example)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise Wrong("must begin with redis://, rediss:// or unix://", example, _without_password(value))
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise Wrong("must name a server", example, _without_password(value))
    if parts.scheme != "unix" and re.fullmatch(r"/?\d*", parts.path) is None:  # redis-py would take database 0 for it
        raise Wrong("must end in the number of a database, or in none", example, _without_password(value))
    wrong = problem_of_url(value)
    if wrong is not None:
        raise Wrong(*wrong, _without_password(value))
    return value


def read_telnyx_key(value: str) -> str:
    if re.search(r"\s", value):
        raise Wrong("must have no blanks", "copy the API key again from the Telnyx portal", hidden(value))
    return value


def read_base_url(value: str) -> str:
    url = _http_url(value, 'write TELNYX_BASE_URL="https://api.telnyx.com/v2"')
    if not url.endswith("/v2"):
        raise Wrong("must end in /v2", f'write TELNYX_BASE_URL="{url}/v2"', value)
    return url


def read_public_keys(value: str) -> tuple[bytes, ...]:
    return tuple(_public_key(key.strip()) for key in value.split(","))


def read_public_url(value: str) -> str:
    url = _http_url(value, 'write PUBLIC_URL="https://notify.example.com"')
    if url.endswith(WEBHOOK_PATH):  # what the portal wants; here it would stand twice in every webhook_url
        remedy = f'write PUBLIC_URL="{url.removesuffix(WEBHOOK_PATH)}"'
        raise Wrong(f"must not have our path {WEBHOOK_PATH}, for that is added to it", remedy, value)
    return url


def read_api_keys(value: str) -> tuple[ApiKey, ...]:
    keys = tuple(_api_key(row.strip()) for row in value.split(",") if row.strip())
    hashes = [key.sha256 for key in keys]
    if len(set(hashes)) != len(hashes):
        raise Wrong("has one key twice", "give each client a key of its own", hidden(value))
    return keys


def read_secret(value: str) -> str:
    if len(value) < SECRET_LENGTH:
        remedy = 'make one: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        raise Wrong(f"must have at least {SECRET_LENGTH} characters", remedy, hidden(value))
    return value


def read_namespace(value: str) -> str:
    return _name(value, "notify")


def read_client(value: str) -> str:
    return _name(value, "billing")


def read_port(value: str) -> int:
    if re.fullmatch(r"\d{1,5}", value) is None or int(value) > 65_535:
        raise Wrong("must be a port from 0 to 65535", "write PORT=8000", value)
    return int(value)


def read_log_level(value: str) -> str:
    level = value.lower()
    if level not in LOG_LEVELS:
        raise Wrong("must be one of " + ", ".join(LOG_LEVELS), choose(level, LOG_LEVELS, otherwise="info"), value)
    return level


def read_release(value: str) -> int:
    found = re.fullmatch(r"v?(\d{1,9})", value)
    if found is None:
        raise Wrong("must be the number of a release", "write HEROKU_RELEASE_VERSION=v12, or unset it", value)
    return int(found[1])


def read_path(value: str) -> str:
    return value


def _split(value: str, what: str, remedy: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port  # read here because it is checked only when asked for
    except ValueError as exc:
        raise Wrong(f"{what} ({exc})", remedy, "(hidden, for it may hold a password)") from None
    return parts


def _without_password(value: str) -> str:
    """What can be shown of a URL, also of a broken one: nothing before an ``@`` and nothing of the query."""
    scheme, slashes, rest = value.partition("://")
    if not slashes:
        scheme, rest = "", value
    shown = rest.partition("?")[0]
    _, at, server = shown.rpartition("@")
    return f"{scheme}{slashes}{'***@' if at else ''}{server}"


def _http_url(value: str, remedy: str) -> str:
    parts = _split(value, "must be an http or https URL", remedy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Wrong("must be an http or https URL", remedy, _without_password(value))
    if "@" in parts.netloc:
        raise Wrong("must hold no user or password", remedy, _without_password(value))
    if parts.query or parts.fragment:
        raise Wrong("must have no query and no fragment", remedy, value)
    return value.rstrip("/")


def _public_key(value: str) -> bytes:
    remedy = "copy the public key from the Telnyx portal (Keys & Credentials), 44 characters that end in ="
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("must be base64, several with commas between", remedy, hidden(value)) from None
    if len(key) != 32:
        raise Wrong(f"must be base64 of 32 bytes, and this is {len(key)}", remedy, hidden(value))
    return key


def _api_key(row: str) -> ApiKey:
    remedy = 'write name:sha256hex[:scope+scope]; the hash is what `printf %s "$KEY" | sha256sum` prints'
    name, colon, rest = row.partition(":")
    digest, _, scopes = rest.partition(":")
    if not colon:  # a bare key, most likely: nothing of it may be shown
        raise Wrong("has a row without a name", remedy, hidden(row))
    if NAME.fullmatch(name) is None:
        raise Wrong(f"has a row whose name is not {NAME_RULE}", remedy, hidden(row))
    if re.fullmatch(r"[0-9a-fA-F]{64}", digest) is None:
        raise Wrong(f"has no SHA-256 in hex for `{name}`", remedy, hidden(digest))
    given = [scope.strip() for scope in scopes.split("+")] if scopes else list(SCOPES)
    for scope in given:
        if scope not in SCOPES:
            raise Wrong(f"gives `{name}` an unknown scope", choose(scope, SCOPES, otherwise=""), scope)
    return ApiKey(name, digest.lower(), frozenset(given))


def _name(value: str, example: str) -> str:
    if NAME.fullmatch(value) is None:
        raise Wrong(f"must be {NAME_RULE}", f'write "{example}"', value)
    return value


_ALL: frozenset[Role] = frozenset({"web", "worker", "clock", "producer", "doctor", "cli"})
_SERVICES: frozenset[Role] = frozenset({"web", "worker", "clock", "doctor"})
_TELNYX: frozenset[Role] = frozenset({"worker", "clock", "doctor"})
_WEB: frozenset[Role] = frozenset({"web", "doctor"})
_CLI: frozenset[Role] = frozenset({"cli"})
_HOOKED: frozenset[Role] = frozenset({"worker", "doctor"})

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "REDIS_URL",
        "all",
        "the Redis or Valkey server: `redis://`, `rediss://` (`?ssl_cert_reqs=none` for a self-signed chain), `unix://`",
        read_redis_url,
        needed_by=_ALL,
        is_secret=True,
    ),
    Variable(
        "TELNYX_API_KEY",
        "worker, clock",
        "the API key from the Telnyx portal",
        read_telnyx_key,
        needed_by=_TELNYX,
        read_by=_CLI,
        is_secret=True,
    ),
    Variable(
        "TELNYX_BASE_URL",
        "worker, clock",
        "where Telnyx's API is, ending in `/v2`; default `https://api.telnyx.com/v2`",
        read_base_url,
        read_by=_TELNYX | _CLI,
    ),
    Variable(
        "TELNYX_PUBLIC_KEY",
        "web",
        "the account's public key (base64), which webhooks are verified with; a comma list during a rotation",
        read_public_keys,
        needed_by=_WEB,
        read_by=_CLI,
    ),
    Variable(
        "PUBLIC_URL",
        "worker",
        'where Telnyx reaches `web`, without a path of ours; not needed with `[receipts] mode = "poll"`',
        read_public_url,
        needed_by=_HOOKED,
        read_by=_CLI,
    ),
    Variable(
        "NOTIFY_CONFIG",
        "worker, web, clock",
        "the configuration file; default `notify.toml`",
        read_path,
        read_by=_SERVICES | _CLI,
    ),
    Variable(
        "NOTIFY_API_KEYS",
        "web",
        "keys of the HTTP API: `name:sha256hex[:scope+scope],…`; no scope means all of " + ", ".join(SCOPES),
        read_api_keys,
        needed_by=_WEB,
        read_by=_CLI,
        is_secret=True,
    ),
    Variable(
        "NOTIFY_SECRET",
        "web, worker",
        f"signs callbacks to apps and sessions, and keys hashes; at least {SECRET_LENGTH} characters",
        read_secret,
        needed_by=frozenset({"web", "worker", "doctor"}),
        read_by=_CLI,
        is_secret=True,
    ),
    Variable(
        "NOTIFY_NAMESPACE",
        "all",
        "the prefix of all keys in Redis, one a Telnyx account; default `notify`",
        read_namespace,
        read_by=_ALL,
    ),
    Variable(
        "NOTIFY_CLIENT",
        "producers",
        "the client whose notifications an app sees; default `default`",
        read_client,
        read_by=frozenset({"producer", "cli"}),
    ),
    Variable(
        "PORT",
        "web",
        "web listens on `0.0.0.0:$PORT`; without it on `127.0.0.1:8000`",
        read_port,
        read_by=_WEB | _CLI,
    ),
    Variable(
        "LOG_LEVEL", "all", "debug, info, warning, error or critical; default `info`", read_log_level, read_by=_ALL
    ),
    Variable(
        "HEROKU_RELEASE_VERSION",
        "web, worker, clock",
        "set by the platform (`v12`): of two versions that run during a deploy, the greater one's configuration holds",
        read_release,
        read_by=_SERVICES | _CLI,
    ),
)
