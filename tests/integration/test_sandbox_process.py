"""The sandbox as a process: it ends with 0, whatever it is doing and however often it is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

CODE = """
import sys
from worker.sandbox import SandboxOptions, run
options = SandboxOptions(key_file=sys.argv[1])
run(options, port=0, announce=lambda running: print(running.url, running.public_key, flush=True))
"""
DEADLINE_S = 60.0

Start = Callable[[], tuple[subprocess.Popen[str], str, str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def started() -> tuple[subprocess.Popen[str], str, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(tmp_path / "seed")], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        url, public_key = process.stdout.readline().split()
        return process, url, public_key

    yield started
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_it_with_0(start: Start, number: signal.Signals) -> None:
    process, _, _ = start()  # the line comes before the socket listens: the signal falls into its start
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0


def test_many_signals_end_it_with_0_while_an_answer_hangs(start: Start) -> None:
    process, url, _ = start()
    accepted = threading.Event()
    body = {"from": "+13125550001", "to": "+13125550176", "text": "hello"}

    def hang() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/v2/messages", json=body, headers={"authorization": "Bearer key"}, timeout=DEADLINE_S)

    thread = threading.Thread(target=hang)
    thread.start()
    while not accepted.wait(0.02):
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/sandbox/summary", timeout=DEADLINE_S).json()["accepted"] == 1:
                accepted.set()
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    assert process.returncode == 0
    thread.join(DEADLINE_S)


def test_the_public_key_outlives_a_restart(start: Start) -> None:
    first, _, key = start()
    first.terminate()
    first.wait(DEADLINE_S)
    assert start()[2] == key
