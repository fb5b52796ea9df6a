"""The chaos suite in its short form: a few deaths of each kind, with all faults at once. ``make chaos`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.chaos import MISBEHAVIOUR, Chaos, report, run, running_chaos, settle

# Points of which each run of the quick tests draws two; test_every_window.py has all of them.
ON_THE_WAY_OUT = ("load.after:kill:2", "admit.before:kill:2", "admit.after:kill:2", "take.after:kill:3")
ON_THE_WAY_BACK = (
    "request.after:kill:5",
    "answer.before:kill:5",
    "finish.before:kill:2",
    "finish.after:kill:2",
    "reconcile.after:kill:2",
    "receipt.after:kill:2",
)


def assert_all_were_texted_once(chaos: Chaos) -> None:
    found = report(chaos, settle(chaos))
    assert found["doubled"] == 0
    assert found["states"] == {"delivered": chaos.messages}
    assert found["never_accepted"] == 0, "a message is called delivered that nobody got"
    assert "poisoned" not in found["counts"] and "doubled" not in found["counts"]


@pytest.mark.timeout(240)  # 20 s on an idle machine
def test_deaths_at_chosen_points_and_at_a_drawn_instant_and_a_freeze_lose_nothing_and_double_nothing(
    tmp_path: Path, chaos_seed: int
) -> None:
    faults = {**MISBEHAVIOUR, "lose_receipts": 0.05}
    with running_chaos(tmp_path, chaos_seed, faults, rate="100/s", grace="3s", hang_s=4, poll_after="3s") as chaos:
        chaos.start(chaos.draw.choice(ON_THE_WAY_OUT), chaos.draw.choice(ON_THE_WAY_BACK))
        chaos.enqueue(100)
        chaos.await_deaths(2)
        run(chaos, [chaos.kill_a_worker, chaos.kill_clock, chaos.freeze_a_worker], messages=max(300, chaos.messages))
        assert_all_were_texted_once(chaos)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_deaths_freezes_lost_receipts_and_cut_answers_lose_nothing_and_double_nothing_where_keys_are_honoured(
    tmp_path: Path, chaos_seed: int
) -> None:
    with running_chaos(tmp_path, chaos_seed, {**MISBEHAVIOUR, "lose_receipts": 0.05}) as chaos:
        chaos.start()
        acts = [chaos.kill_a_worker] * 3 + [chaos.doom_a_worker] * 3
        acts += [chaos.kill_web, chaos.kill_the_server, chaos.freeze_a_worker]
        run(chaos, acts, messages=1000)
        chaos.calm()
        assert_all_were_texted_once(chaos)
        chaos.end()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_deaths_freezes_and_500_after_acceptance_double_nothing_where_only_receipts_tell(
    tmp_path: Path, chaos_seed: int
) -> None:
    """The provider ignores keys: only what is heard during the grace keeps a text from going twice. Web lives on."""
    faults = {**MISBEHAVIOUR, "honour_keys": False, "500_after_accept": 0.05, "lose_first_receipts": 0.05}
    with running_chaos(tmp_path, chaos_seed, faults, grace="6s") as chaos:
        chaos.start()
        run(chaos, [chaos.kill_a_worker] * 3 + [chaos.doom_a_worker] * 3 + [chaos.freeze_a_worker], messages=1000)
        chaos.calm()
        assert_all_were_texted_once(chaos)
        chaos.end()
