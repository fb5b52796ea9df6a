"""The demo as somebody runs it: the whole service in real processes, judged by the sandbox, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "worker.cli", "demo"]


def descendants(marker: str) -> set[int]:
    """Processes that were started below the one whose environment holds ``marker``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_scripted_day_keeps_every_promise(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["notifications"] >= 400
    assert all(check["ok"] for check in report["checks"])
    assert {channel for channel, states in report["channels"].items() if states.get("delivered")} == {
        "short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "group_mms", "whatsapp",
    }  # fmt: skip
    states = {state for row in report["channels"].values() for state in row}
    assert {"failed", "unconfirmed", "rejected", "expired", "cancelled", "opted_out"} <= states
    assert report["killed"]["in_hands"] > 0
    assert report["urgent"]["count"] >= 20
    assert not list(tmp_path.iterdir()), "a day without failures leaves no logs"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.timeout(240)
def test_whatever_ends_the_demo_leaves_nothing_running(number, tmp_path, wait_until):
    marker = f"NOTICE_DEMO_TEST={tmp_path.name}-{os.getpid()}-{int(number)}"
    name, _, value = marker.partition("=")
    demo = subprocess.Popen(
        COMMAND,
        env={**os.environ, name: value, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # whoever runs the tests in the background of a shell has SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads of ours here
    )
    try:
        # the server, the sandbox and web run, so there is something to leave behind
        wait_until(lambda: len(descendants(marker)) >= 5, timeout_s=120)
        demo.send_signal(number)
        assert demo.wait(60) == (1 if number != signal.SIGKILL else -9)
        wait_until(lambda: not descendants(marker), timeout_s=20)
    finally:
        demo.kill()
        demo.wait()
