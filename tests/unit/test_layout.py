"""The tree: what a producer's import brings along, and what the command line does before it is asked for anything."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"redis", "dramatiq", "pydantic", "phonenumbers", "structlog", "tenacity"}
FORBIDDEN = {"worker", "telnyx", "fastapi", "starlette", "uvicorn", "aiohttp", "httpx", "rich", "typer", "jinja2"}


def loaded_by(code: str) -> set[str]:
    """The top-level packages in a fresh interpreter after ``code``, beyond those of an empty one."""
    report = "import sys; before = set(sys.modules); exec(sys.argv[1]); print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", report, code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_importing_producers_loads_nothing_heavy_and_nothing_of_the_worker():
    loaded = loaded_by("import producers; producers.Notifier")
    assert not packages(loaded) & (HEAVY | FORBIDDEN)
    # 20 ms on an idle machine; a busy one makes any figure of time a lottery, modules are what it is made of
    assert len(loaded) < 120, sorted(loaded)


def test_making_a_notifier_loads_redis_but_no_telnyx_no_worker_no_web_framework():
    loaded = packages(loaded_by("import producers; producers.Notifier('redis://127.0.0.1:1')"))
    assert "redis" in loaded
    assert not loaded & FORBIDDEN


def test_using_a_notifier_leaves_the_apps_own_broker_and_encoder_alone():
    code = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
own = StubBroker(); dramatiq.set_broker(own); encoder = dramatiq.get_encoder()
import producers
from producers.errors import NotifyError
try:
    producers.Notifier('redis://127.0.0.1:1', deadline_s=0.2).enqueue('otp', to='+13125550100')
except NotifyError:
    pass
else:
    raise SystemExit('nothing listens at port 1')
assert dramatiq.get_broker() is own and dramatiq.get_encoder() is encoder
assert not own.queues and not own.actors
"""
    assert "dramatiq" in packages(loaded_by(code))


@pytest.mark.parametrize("arguments", [["--help"], ["send", "--help"], ["lanes", "--help"], ["worker", "--help"]])
def test_help_imports_neither_redis_nor_telnyx_nor_rich(arguments):
    code = f"""
import sys
from worker.commands.app import make_app
try:
    make_app()(args={arguments!r}, prog_name='notify')
except SystemExit:
    pass
print()
"""
    loaded = packages(loaded_by(code))
    assert "typer" in loaded
    assert not loaded & {
        "redis",
        "dramatiq",
        "telnyx",
        "rich",
        "fastapi",
        "structlog",
        "phonenumbers",
        "pydantic_settings",
    }


def test_every_process_of_the_procfile_is_a_command():
    from typer.main import get_command

    from worker.commands.app import make_app

    commands = get_command(make_app()).commands
    rows = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(rows) == {"release", "web", "worker", "clock"}
    for command in rows.values():
        program, name, *_ = command.split()
        assert program == "notify"
        assert name in commands


def test_the_deploy_button_asks_for_every_variable_that_a_process_needs():
    import json

    from worker.settings.variables import VARIABLES

    app = json.loads((ROOT / "app.json").read_text())
    given_by_the_platform = {"REDIS_URL", "PORT", "HEROKU_RELEASE_VERSION"}
    needed = {v.name for v in VARIABLES if v.needed_by & {"web", "worker", "clock"}} - given_by_the_platform
    assert needed <= set(app["env"])
    assert set(app["env"]) <= {v.name for v in VARIABLES}
    processes = {line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()} - {"release"}
    assert set(app["formation"]) == processes


def test_the_locks_have_what_the_metadata_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "base": project["dependencies"],
        "worker": project["dependencies"] + extras["worker"] + extras["web"],
        "dev": project["dependencies"] + [row for rows in extras.values() for row in rows],
    }
    for lock, rows in wanted.items():
        locked = {
            line.partition("==")[0].lower()
            for line in (ROOT / "requirements" / f"{lock}.lock").read_text().splitlines()
            if line[:1].isalnum()
        }
        for row in rows:
            name = row.partition("[")[0].split("=")[0].split(">")[0].split("<")[0].strip().lower()
            assert name == "notification-worker" or name in locked, f"{name} is missing in {lock}.lock: make lock"
    assert "telnyx" not in (ROOT / "requirements" / "base.lock").read_text()
