"""The scripts against a model of the rules, with random commands in virtual time."""

import pytest
from ledger_kit import HOUR_US
from ledger_model import LedgerMachine, search


@pytest.mark.timeout(600)  # it burns CPU, and a busy machine gives it little
def test_no_order_of_commands_breaks_the_rules_of_the_ledger() -> None:
    search(examples=12, steps=40, same_every_time=True)


def test_the_search_reaches_what_it_is_for() -> None:
    """Else a search that finds nothing says nothing: a fixed day goes through the machine's own steps and checks."""
    machine = LedgerMachine()
    try:
        machine.begin()
        for klass in range(3):
            machine.queue(to="+13125550300", klass=klass, job_type="notice", where="a", count=2, valid_us=24 * HOUR_US)
        machine.send("p1", 0, 4)
        machine.everything_holds()
        states = [m.state for m in machine.messages.values()]
        assert states.count("S") >= 1
        machine.live_on(20)
        machine.send("p2", 5, 6)
        machine.everything_holds()
        machine.settle()
        assert {m.state for m in machine.messages.values()} <= set("DX")
    finally:
        machine.traveller.stop()
