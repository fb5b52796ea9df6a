"""The steps as a machine of hypothesis, which shrinks what it finds to the steps that matter.

``cd tests && python -m ledger_model.machine --examples 1000 --steps 80`` searches for as long as you like.
"""

from __future__ import annotations

import argparse
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from virtual_time import VirtualLedger

from ledger_model.draws import Shrinking
from ledger_model.ending import LedgerWorld
from ledger_model.steps import STEPS, Step


class LedgerMachine(RuleBasedStateMachine):
    """Every step a rule, and every check after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = VirtualLedger()
        self.world = LedgerWorld(self.ledger)
        self.world.begin()

    @invariant()
    def everything_holds(self) -> None:
        self.world.everything_holds()

    def teardown(self) -> None:
        try:
            if self.world.messages:
                self.world.settle()
        finally:
            self.ledger.close()


def _as_rule(step: Step) -> Any:
    def take(self: LedgerMachine, data: st.DataObject) -> None:
        step.take(self.world, Shrinking(data))

    take.__name__ = step.name
    return precondition(lambda self: step.possible(self.world))(rule(data=st.data())(take))


for _step in STEPS.values():
    setattr(LedgerMachine, _step.name, _as_rule(_step))


def search(examples: int, steps: int, *, same_every_time: bool = False) -> None:
    """Look for a counterexample; raises with the steps that lead to it."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same_every_time,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=80)
    options = parser.parse_args()
    search(options.examples, options.steps)
