"""What every test may use: a real server (one for each test process), keys of its own, and a way to wait.

The run fails without a server; it is never skipped and never a fake. Where CI is set, what is missing on the machine
fails instead of being skipped.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import hypothesis
import pytest

from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.embedded import EmbeddedServer

IN_CI = bool(os.environ.get("CI"))
# A machine that stalls for a moment is no counterexample: no property of ours is about how long a call takes.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """The server that the tests of this process share. Who kills, fills or stalls a server starts one of its own."""
    with EmbeddedServer(appendonly=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: EmbeddedServer) -> str:
    return redis_server.url


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """Keys of this test alone, removed afterwards."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield name
    redis = connect(redis_url, answer_s=10)
    try:
        keys: list[Any] = []
        for key in redis.scan_iter(match=f"{{{name}}}:*", count=5000):
            keys.append(key)
            if len(keys) >= 5000:
                redis.unlink(*keys)
                keys.clear()
        if keys:
            redis.unlink(*keys)
    finally:
        redis.close()


@pytest.fixture
def ledger(redis_url: str, namespace: str) -> Iterator[Ledger]:
    """The ledger on the shared server. ``.redis`` is its client."""
    redis = connect(redis_url, answer_s=10)
    yield Ledger(redis, namespace)
    redis.close()


@pytest.fixture
def numbers() -> Callable[[int], list[str]]:
    """Distinct possible numbers in Chicago: ``numbers(3)``. None of them has a meaning to the sandbox."""

    def make(count: int) -> list[str]:
        if count > 7_000_000:
            raise ValueError(f"one area code has no {count} numbers: ask for at most 7,000,000")
        return [f"+1312{2_000_000 + i * 7_919 % 7_000_000:07d}" for i in range(count)]

    return make


class WaitUntil(Protocol):
    def __call__(
        self, condition: Callable[[], Any], *, timeout_s: float = ..., every_s: float = ..., what: str = ...
    ) -> Any: ...


@pytest.fixture
def wait_until() -> WaitUntil:
    """``wait_until(condition, timeout_s=20)``: the first true value of ``condition``, or a failed test at the deadline."""

    def wait(condition: Callable[[], Any], *, timeout_s: float = 20, every_s: float = 0.02, what: str = "") -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s:g} s for {what or condition!r}; it last gave {value!r}")
            time.sleep(every_s)

    return wait


@pytest.fixture
def missing() -> Callable[[str], None]:
    """``missing("chromium: apt install chromium")``: skip with the remedy, or fail where CI is set."""

    def decide(remedy: str) -> None:
        if IN_CI:
            pytest.fail(f"missing, and CI is set: {remedy}")
        pytest.skip(f"missing: {remedy}")

    return decide


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--many", default=20_000, type=int, help="recipients in test_many_recipients.py")
    parser.addoption("--model-steps", default=1_000_000, type=int, help="steps in make model")
    parser.addoption("--model-seed", default=None, type=int, help="seed of make model; drawn if not given")
    parser.addoption("--silence-scale", default=20, type=float, help="test_silence.py divides its durations by this")
    parser.addoption("--chaos-seed", default=None, type=int, help="seed of the chaos suite; drawn if not given")
    parser.addoption("--chaos-messages", default=20_000, type=int, help="messages in each test of make chaos")
    parser.addoption("--chaos-kills", default=60, type=int, help="deaths of workers there; others in proportion")


# Whose service or site is made once for the file: its tests stay in one process. (xdist's own groups do not work with
# this pytest: they rename a test, and pytest keeps the old name.)
ONE_PROCESS = ("tests/integration/test_end_to_end.py",)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return file if file.startswith("tests/unit/") or file.endswith(ONE_PROCESS) else nodeid

    return Grouped(config, log)
