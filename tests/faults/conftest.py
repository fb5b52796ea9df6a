"""The seed of everything that is drawn."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--chaos-seed")
    drawn = random.SystemRandom().randrange(1_000_000) if given is None else given
    print(f"run it again with --chaos-seed={drawn}")  # shown if the test fails
    return drawn
