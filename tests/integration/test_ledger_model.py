"""The scripts against a model of the rules, with random commands in virtual time."""

import pytest
from ledger_kit import HOUR_US
from ledger_model.ending import LedgerWorld
from ledger_model.machine import search
from virtual_time import VirtualLedger


@pytest.mark.timeout(600)  # it burns CPU, and a busy machine gives it little
def test_no_order_of_commands_breaks_the_rules_of_the_ledger() -> None:
    search(examples=12, steps=40, same_every_time=True)


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
