"""What `notify worker` checks before it becomes Dramatiq's master."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.engine.conftest import CONFIG

RUN = (
    "import sys; from worker.engine.launch import run_worker; run_worker(*map(int, sys.argv[1:3]), queues=sys.argv[3:])"
)


def run(folder: Path, *arguments: str, code: str = RUN, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "notify.toml").write_text(CONFIG)
    given = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "NOTIFY_CONFIG": str(folder / "notify.toml"),
        "NOTIFY_SECRET": "a secret of these tests",
        "TELNYX_API_KEY": "KEY0123456789",
        **variables,
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_wrong_settings_exit_with_2_and_name_the_variable(tmp_path: Path) -> None:
    done = run(tmp_path, "1", "8", TELNYX_API_KEY="")
    assert done.returncode == 2
    assert "TELNYX_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_exits_with_3(tmp_path: Path) -> None:
    done = run(tmp_path, "1", "8", REDIS_URL="redis://:hidden@127.0.0.1:1/0")
    assert done.returncode == 3
    assert "REDIS_URL" in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("0", "8"), "--processes"), (("1", "7"), "--threads"), (("1", "8", "expnad"), "expnad")],
)
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...], named: str, tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert named in done.stderr


HANDLERS = """
import os, signal, sys
from worker.engine.shutdown import Stopping, drop_repeated_signals

told = []
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: told.append(number))
drop_repeated_signals()
os.kill(os.getpid(), signal.SIGTERM)  # before the process knows what to stop
stopping = Stopping()
begun = []
stopping.on_begin(lambda: begun.append(1))
drop_repeated_signals(stopping)
assert stopping() and begun == [1], begun
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
    os.kill(os.getpid(), number)
assert told == [signal.SIGTERM], told
assert begun == [1], begun
print("once")
"""


def test_the_first_signal_counts_and_later_ones_are_dropped() -> None:
    done = subprocess.run([sys.executable, "-c", HANDLERS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("once\n", 0), done.stderr
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # in a process of its own, not in this one


LOADED_BEFORE_THE_FORK = """
import gc, sys
from worker.engine import preflight
preflight.load()
before = set(sys.modules)
import worker.main
from worker.telnyx.gateway import Gateway
async def make():
    await Gateway("KEY0123456789", "http://127.0.0.1:1/v2", public_url=None).aclose()
import asyncio
asyncio.run(make())
ours = ("worker", "producers", "telnyx", "redis", "dramatiq", "httpx", "aiohttp", "pydantic", "structlog", "jinja2")
print("later:", sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ours))
print("needless:", [name for name in ("rich", "click", "opentelemetry") if name in sys.modules], gc.isenabled())
from worker.engine.runtime import _quiet_the_collector
_quiet_the_collector()
print("collected once booted:", gc.isenabled())
"""


def test_processes_of_a_tree_inherit_what_they_need_loaded(tmp_path: Path) -> None:
    """Each would otherwise load it again, at the cost of the trees beside it."""
    done = run(tmp_path, "1", "8", code=LOADED_BEFORE_THE_FORK)
    assert done.stdout == "later: ['worker.main']\nneedless: [] False\ncollected once booted: True\n", done.stderr
