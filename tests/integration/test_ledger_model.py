"""The scripts against a model of the rules, with random commands in virtual time."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_kit import HOUR_US
from ledger_model.ending import LedgerWorld
from ledger_model.machine import search
from ledger_model.steps import STEPS
from ledger_model.walk import Disagreement, Walked, real_server, walk
from virtual_time import VirtualLedger


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with real_server() as redis:
        yield redis


@pytest.mark.slow
@pytest.mark.timeout(600)  # it burns CPU, and a busy machine gives it little
def test_no_order_of_commands_breaks_the_rules_of_the_ledger() -> None:
    search(examples=12, steps=40, same_every_time=True)


@pytest.mark.timeout(600)
def test_a_walk_of_a_thousand_steps_agrees_with_the_rules_on_a_real_server(server: Any) -> None:
    walked = walk(server, steps=1_000, seed=1)
    assert set(walked.taken) == set(STEPS), "a step that is never taken proves nothing"


@pytest.mark.model
@pytest.mark.timeout(0)
@pytest.mark.parametrize("on", ["a real server", "a fake one"])
def test_no_walk_disagrees_with_the_rules(on: str, request: pytest.FixtureRequest) -> None:
    """``make model``; a fake server is twenty times slower, and walks a hundredth of the way."""
    steps: int = request.config.getoption("--model-steps")
    given: int | None = request.config.getoption("--model-seed")
    seed = random.SystemRandom().randrange(1_000_000) if given is None else given
    print(f"\non {on}: walk again with --model-seed={seed}", flush=True)
    is_real, began_s = on == "a real server", time.monotonic()
    said_s = began_s

    def tell(walked: Walked) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > 30:
            said_s = time.monotonic()
            print(f"{walked.steps} steps, {walked.steps / (said_s - began_s):.0f}/s", flush=True)

    with real_server() if is_real else contextlib.nullcontext() as redis:
        walked = walk(redis, steps=steps if is_real else steps // 100, seed=seed, tell=tell)
    print(f"{walked.steps} steps in {walked.episodes} episodes, {walked.calls} calls: no disagreement")


def test_a_walk_that_disagrees_says_with_which_few_steps(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that believes in a longer stall than there is: the walk finds it, and leaves out what is not needed for it."""
    monkeypatch.setattr("ledger_model.timing.GRACE_US", 60_000_000)
    with pytest.raises(Disagreement, match=r"cut to \d+ steps") as found:
        walk(server, steps=5_000, seed=1, shrink_s=10)
    assert "by the rules" in str(found.value) or "taken" in str(found.value)


def test_the_search_reaches_what_it_is_for() -> None:
    """Else a search that finds nothing says nothing: a fixed day goes through the model's own steps and checks."""
    ledger = VirtualLedger()
    try:
        world = LedgerWorld(ledger)
        world.begin()
        for klass in range(3):
            world.queue(to="+13125550300", klass=klass, job_type="notice", where="a", count=2, valid_us=24 * HOUR_US)
        world.send("p1", 0, 4)
        world.everything_holds()
        states = [m.state for m in world.messages.values()]
        assert states.count("S") >= 1
        world.live_on(20)
        world.send("p2", 5, 6)
        world.everything_holds()
        world.settle()
        assert {m.state for m in world.messages.values()} <= set("DX")
    finally:
        ledger.close()
