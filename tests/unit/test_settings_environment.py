"""The environment: each role reads its own variables, and what is missing or wrong stops the start, all at once."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from producers.ledger.connection import connect
from worker.settings import SCOPES, ApiKey, Role, Settings, SettingsError, load_settings, settings_table

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "notify.example.toml")
KEY = base64.b64encode(bytes(range(32))).decode()
HASH = hashlib.sha256(b"key").hexdigest()
ENVIRON = {
    "REDIS_URL": "redis://:hunter2@localhost:6379/0",
    "TELNYX_API_KEY": "KEY0123456789secret",
    "TELNYX_PUBLIC_KEY": KEY,
    "PUBLIC_URL": "https://notify.example.com/",
    "NOTIFY_CONFIG": EXAMPLE,
    "NOTIFY_API_KEYS": f"billing:{HASH}",
    "NOTIFY_SECRET": "correct horse battery staple",
}


def load(role: Role = "doctor", **changes: str | None) -> Settings:
    environ = {name: value for name, value in (ENVIRON | changes).items() if value is not None}
    return load_settings(role, environ)


def problems(role: Role = "doctor", **changes: str | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(role, **changes)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        ("web", {"REDIS_URL", "TELNYX_PUBLIC_KEY", "NOTIFY_API_KEYS", "NOTIFY_SECRET"}),
        ("worker", {"REDIS_URL", "TELNYX_API_KEY", "PUBLIC_URL", "NOTIFY_SECRET"}),
        ("clock", {"REDIS_URL", "TELNYX_API_KEY"}),
        ("producer", {"REDIS_URL"}),
        ("cli", {"REDIS_URL"}),
        (
            "doctor",
            {"REDIS_URL", "TELNYX_API_KEY", "TELNYX_PUBLIC_KEY", "PUBLIC_URL", "NOTIFY_API_KEYS", "NOTIFY_SECRET"},
        ),
    ],
)
def test_each_role_needs_its_own_variables_and_names_all_that_are_missing(role: Role, needed: set[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(role, {"NOTIFY_CONFIG": EXAMPLE})
    assert {problem.path for problem in caught.value.problems} == needed
    load_settings(role, {name: ENVIRON[name] for name in needed} | {"NOTIFY_CONFIG": EXAMPLE})


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = load()
    assert (settings.namespace, settings.client, settings.log_level, settings.release) == (
        "notify",
        "default",
        "info",
        0,
    )
    assert settings.telnyx_base_url == "https://api.telnyx.com/v2"
    assert settings.listen == ("127.0.0.1", 8000)


def test_values_are_read_and_trimmed() -> None:
    settings = load(
        "doctor",
        PORT="5000",
        LOG_LEVEL="DEBUG",
        NOTIFY_NAMESPACE=" eu-1 ",
        HEROKU_RELEASE_VERSION="v12",
        TELNYX_BASE_URL="http://127.0.0.1:9000/v2/",
        TELNYX_PUBLIC_KEY=f"{KEY}, {KEY}",
    )
    assert settings.listen == ("0.0.0.0", 5000)
    assert (settings.namespace, settings.log_level, settings.release) == ("eu-1", "debug", 12)
    assert settings.telnyx_base_url == "http://127.0.0.1:9000/v2"
    assert settings.public_url == "https://notify.example.com"
    assert settings.telnyx_public_keys == (bytes(range(32)), bytes(range(32)))


def test_api_keys_are_read_with_their_scopes() -> None:
    other = hashlib.sha256(b"other").hexdigest()
    settings = load(NOTIFY_API_KEYS=f"billing:{HASH.upper()},ops:{other}:read+metrics,")
    assert settings.api_keys == (
        ApiKey("billing", HASH, frozenset(SCOPES)),
        ApiKey("ops", other, frozenset({"read", "metrics"})),
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REDIS_URL", "localhost:6379", "must begin with redis://"),
        ("REDIS_URL", "redis://", "must name a server"),
        ("REDIS_URL", "redis://host:99999", "must be a URL"),
        ("TELNYX_API_KEY", "KEY one", "must have no blanks"),
        ("TELNYX_BASE_URL", "https://api.telnyx.com", 'must end in /v2, got https://api.telnyx.com: write TELNYX_BASE_URL="https://api.telnyx.com/v2"'),
        ("TELNYX_BASE_URL", "api.telnyx.com/v2", "must be an http or https URL"),
        ("TELNYX_PUBLIC_KEY", "not base64!", "must be base64"),
        ("TELNYX_PUBLIC_KEY", base64.b64encode(b"short").decode(), "must be base64 of 32 bytes, and this is 5"),
        ("PUBLIC_URL", "https://example.com/?a=1", "must have no query"),
        ("PUBLIC_URL", "ftp://example.com", "must be an http or https URL"),
        ("PUBLIC_URL", "https://me:pw@example.com", "must hold no user or password"),
        ("NOTIFY_API_KEYS", "billing:", "has no SHA-256 in hex for `billing`"),
        ("NOTIFY_API_KEYS", f"a b:{HASH}", "has a row whose name is not"),
        ("NOTIFY_API_KEYS", f"billing:{HASH}:sned", "did you mean `send`?"),
        ("NOTIFY_API_KEYS", f"a:{HASH},b:{HASH}", "has one key twice"),
        ("NOTIFY_SECRET", "fifteen-letters", "must have at least 16 characters, got (hidden, 15 characters)"),
        ("NOTIFY_NAMESPACE", "a:b", "must be 1 to 40 letters"),
        ("PORT", "http", "must be a port"),
        ("PORT", "65536", "must be a port"),
        ("LOG_LEVEL", "warn", "did you mean `warning`?"),
        ("HEROKU_RELEASE_VERSION", "latest", "write HEROKU_RELEASE_VERSION=v12"),
        ("NOTIFY_CONFIG", "/nowhere/notify.toml", "copy notify.example.toml"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_remedy(name: str, value: str, says: str) -> None:
    (line,) = problems("doctor", **{name: value})
    assert line.startswith("/nowhere" if name == "NOTIFY_CONFIG" else name)
    assert says in line


def test_a_role_does_not_stop_over_what_it_does_not_read() -> None:
    assert load("clock", NOTIFY_SECRET="short", PORT="x", NOTIFY_API_KEYS="x", TELNYX_PUBLIC_KEY="x").role == "clock"


def test_all_problems_of_environment_and_file_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_text("[timing]\ngrace = 5\n")
    lines = problems(NOTIFY_CONFIG=str(path), PORT="x", NOTIFY_SECRET=None)
    named = {line.split()[0] for line in lines}
    assert {"PORT", "NOTIFY_SECRET", "timing.grace", "senders", "job_types"} <= named


def write_polling(tmp_path: Path, rest: str = "") -> str:
    path = tmp_path / "notify.toml"
    path.write_text(
        '[senders.a]\nchannel = "short_code"\nfrom = "12345"\nrate = "1/s"\n[job_types.j]\nsender = "a"\n'
        '[receipts]\nmode = "poll"\n' + rest
    )
    return str(path)


def test_polling_needs_no_public_url_and_ignores_one(tmp_path: Path) -> None:
    path = write_polling(tmp_path)
    assert load("worker", NOTIFY_CONFIG=path, PUBLIC_URL=None).public_url is None
    assert load("worker", NOTIFY_CONFIG=path).public_url is None


def test_polling_asks_for_no_public_url_also_when_the_file_has_mistakes(tmp_path: Path) -> None:
    (line,) = problems("worker", NOTIFY_CONFIG=write_polling(tmp_path, "typo = 1"), PUBLIC_URL=None)
    assert line.startswith("receipts.typo")


def test_stray_oauth_credentials_stop_the_start() -> None:
    (line,) = problems("worker", TELNYX_CLIENT_ID="id", TELNYX_CLIENT_SECRET="secret")
    assert line.startswith("TELNYX_CLIENT_ID and TELNYX_CLIENT_SECRET are both set")
    assert load("worker", TELNYX_CLIENT_ID="id").telnyx_api_key
    assert load("web", TELNYX_CLIENT_ID="id", TELNYX_CLIENT_SECRET="secret").role == "web"


def test_a_mistyped_name_is_recognised() -> None:
    (line,) = problems("worker", TELNYX_API_KEY=None, TELNYX_APIKEY="x")
    assert "`TELNYX_APIKEY` is set: rename it" in line
    (line,) = problems("worker", NOTIFY_NAMESPCE="x")
    assert line == "NOTIFY_NAMESPCE is not a known variable: did you mean `NOTIFY_NAMESPACE`?"


def test_other_programs_variables_are_left_alone() -> None:
    """systemd's NOTIFY_SOCKET looks much like NOTIFY_SECRET, which the command line may go without."""
    settings = load("cli", NOTIFY_SOCKET="/run/systemd/notify", NOTIFY_SECRET=None, TELNYX_CUSTOM_HEADERS="x")
    assert settings.role == "cli"


def test_secrets_are_in_no_repr_and_in_no_problem() -> None:
    settings = load()
    for secret in ("hunter2", "KEY0123456789secret", "correct horse", HASH):
        assert secret not in repr(settings)
        assert secret not in str(settings)
    wrong = problems(
        REDIS_URL="redis//user:hunter2@h",
        TELNYX_API_KEY="KEY hunter2",
        TELNYX_PUBLIC_KEY="hunter2",
        NOTIFY_API_KEYS="hunter2:hunter2",
        NOTIFY_SECRET="hunter2",
        PUBLIC_URL="https://hunter2@example.com",
        TELNYX_BASE_URL="https://user:hunter2@example.com:x/v2",
    )
    assert len(wrong) == 7
    shown = [line.replace("`hunter2`", "") for line in wrong]  # a key's name is no secret
    assert not [line for line in shown if "hunter2" in line]


def test_producers_read_no_file() -> None:
    settings = load("producer", NOTIFY_CONFIG="/nowhere", NOTIFY_CLIENT="billing")
    assert settings.client == "billing"
    with pytest.raises(SettingsError, match="was not read by producer"):
        _ = settings.config


def test_the_command_line_reads_the_file_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("cli", NOTIFY_CONFIG=None).loaded_config is None
    assert "alerts" in load("cli").config.senders
    assert problems("cli", NOTIFY_CONFIG="missing.toml")


def test_a_given_path_wins_over_the_environment() -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "NOTIFY_CONFIG"} | {
        "NOTIFY_CONFIG": "/nowhere"
    }
    assert load_settings("worker", environ, config_path=EXAMPLE).config_path == EXAMPLE


def test_the_table_has_a_row_for_each_variable_of_the_contract() -> None:
    table = settings_table()
    assert [name for name, _, _ in table] == [
        "REDIS_URL", "TELNYX_API_KEY", "TELNYX_BASE_URL", "TELNYX_PUBLIC_KEY", "PUBLIC_URL", "NOTIFY_CONFIG",
        "NOTIFY_API_KEYS", "NOTIFY_SECRET", "NOTIFY_NAMESPACE", "NOTIFY_CLIENT", "PORT", "LOG_LEVEL",
        "HEROKU_RELEASE_VERSION",
    ]  # fmt: skip
    assert all(who and meaning for _, who, meaning in table)


def test_no_other_module_of_the_worker_reads_one_of_these_variables() -> None:
    names = "|".join(name for name, _, _ in settings_table())
    reads = re.compile(rf"""\b(environ(\.get)?|getenv)[\[(]\s*["']({names})["']""")
    assert reads.search('os.environ.get("PORT")')
    modules = [path for path in (ROOT / "worker").rglob("*.py") if path.parent.name != "settings"]
    assert modules
    assert [path.name for path in modules if reads.search(path.read_text())] == []


def test_a_bare_key_where_a_row_belongs_is_not_shown() -> None:
    (line,) = problems(NOTIFY_API_KEYS="my-plain-key-0123456789")
    assert "without a name" in line
    assert "my-plain" not in line


def test_a_public_url_with_our_own_path_is_wrong_and_the_remedy_is_the_url_without_it() -> None:
    (line,) = problems(PUBLIC_URL="https://notify.example.com/webhooks/telnyx/")
    assert 'write PUBLIC_URL="https://notify.example.com"' in line
    assert load(PUBLIC_URL="https://example.com/notify/").public_url == "https://example.com/notify"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hunter2@localhost:6379/0?foo=1", "`foo`"),
        ("redis://:hunter2@localhost:6379/0?ssl_cert_reqs=none", "`ssl_cert_reqs`"),
        ("redis://:hunter2@localhost:6379/0?socket_timeout=soon", "socket_timeout"),
        ("redis://:hunter2@localhost:6379/O", "number of a database"),
    ],
)
def test_a_redis_url_that_no_connection_can_be_made_of_is_named_at_the_start(url: str, said: str) -> None:
    (line,) = problems(REDIS_URL=url)
    assert line.startswith("REDIS_URL ")
    assert said in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "url", ["unix:///run/redis.sock?db=1", "rediss://h:1/0?ssl_cert_reqs=none", "redis://h", "redis://h/"]
)
def test_every_documented_form_of_a_redis_url_makes_a_connection(url: str) -> None:
    assert connect(load(REDIS_URL=url).redis_url).connection_pool.make_connection() is not None
