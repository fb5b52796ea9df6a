"""The chaos suite in its long form: ``make chaos``. Sizes by ``--chaos-messages`` and ``--chaos-kills``, a run again by
``--chaos-seed``.

Of the deaths of workers half come at drawn instants, half at drawn points. The grace of those who have nothing but receipts
is longer than the longest wait between two tries of the provider's callbacks: within a shorter one a receipt could come
too late whatever we did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.chaos import FINAL_WITHIN_S, MISBEHAVIOUR, Chaos, report, run, running_chaos, settle

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

RATES = {"rate": "150/s", "other_rate": "100/s"}


@pytest.fixture
def messages(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--chaos-messages"))


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--chaos-kills"))


def deaths(chaos: Chaos, kills: int) -> list[Callable[[], None]]:
    """So many of workers; of web, the server, the clock, and freezes, a twelfth of that each."""
    some = max(1, kills // 12)
    acts: list[Callable[[], None]] = [chaos.kill_a_worker] * (kills - kills // 2) + [chaos.doom_a_worker] * (kills // 2)
    acts += [chaos.kill_web, chaos.kill_the_server, chaos.kill_clock] * some
    return acts + [chaos.freeze_a_worker, chaos.freeze_web, chaos.stall_the_server] * some


def live_through(
    chaos: Chaos, acts: list[Callable[[], None]], messages: int, *, within_s: float = FINAL_WITHIN_S
) -> dict[str, Any]:
    chaos.start()
    run(chaos, acts, messages=messages)
    chaos.calm()
    found = report(chaos, settle(chaos, within_s=within_s))
    chaos.end()
    assert found["messages"] == messages and found["lost"] == 0, found
    assert found["final after the last kill and text, s"] <= within_s
    assert "poisoned" not in found["counts"]
    return found


def test_nothing_is_lost_and_nothing_doubled_where_the_provider_honours_keys(
    tmp_path: Path, chaos_seed: int, messages: int, kills: int
) -> None:
    faults = {**MISBEHAVIOUR, "lose_receipts": 0.05}
    options: dict[str, Any] = {"grace": "5s", "poll_after": "10s", "hang_s": 20, **RATES}
    with running_chaos(tmp_path, chaos_seed, faults, **options) as chaos:
        found = live_through(chaos, deaths(chaos, kills), messages)
    assert found["doubled"] == 0 and "doubled" not in found["counts"]
    assert found["states"] == {"delivered": messages} and found["never_accepted"] == 0


def test_nothing_is_lost_and_nothing_doubled_where_keys_are_ignored_and_no_message_loses_all_its_receipts(
    tmp_path: Path, chaos_seed: int, messages: int, kills: int
) -> None:
    faults = {**MISBEHAVIOUR, "500_after_accept": 0.02, "honour_keys": False, "lose_first_receipts": 0.1}
    options: dict[str, Any] = {"grace": "12s", "poll_after": "10s", "hang_s": 20, "backoff_s": 0.7, **RATES}
    with running_chaos(tmp_path, chaos_seed, faults, **options) as chaos:
        found = live_through(chaos, deaths(chaos, kills), messages)
    assert found["doubled"] == 0 and "doubled" not in found["counts"]
    assert found["states"] == {"delivered": messages} and found["never_accepted"] == 0


@pytest.mark.parametrize("policy", ["give_up", "resend"])
def test_with_neither_keys_nor_receipts_giving_up_never_doubles_and_resending_never_loses(
    tmp_path: Path, chaos_seed: int, messages: int, kills: int, policy: str
) -> None:
    """A twentieth of the size, and more time: every fate has to be asked for, at five a second and process on purpose."""
    faults = {**MISBEHAVIOUR, "honour_keys": False, "lose_receipts": 1.0}
    options: dict[str, Any] = {"grace": "3s", "poll_after": "3s", "on_uncertain": policy, **RATES}
    with running_chaos(tmp_path, chaos_seed, faults, **options) as chaos:
        acts = deaths(chaos, max(4, kills // 6))
        found = live_through(chaos, acts, max(100, messages // 20), within_s=400)
    assert found["messages"] == found["states"].get("delivered", 0) + found["states"].get("unconfirmed", 0)
    if policy == "give_up":
        assert found["doubled"] == 0
    else:
        assert found["never_accepted"] == 0
