"""Unclear answers in a row: ten of them rest the account, and only who was asked counts."""

from __future__ import annotations

import asyncio
import time

import pytest

from producers.ledger.calls import Finish, Slot, Taken
from worker.sending.sender import Sender
from worker.sending.slots import DueSlot, LaneSpec
from worker.sending.verdicts import STREAK
from worker.telnyx.builder import Request, SenderSpec
from worker.telnyx.outcomes import Outcome

UNCLEAR = Outcome(kind="uncertain", reason="read_timeout")
UNSENDABLE = Outcome(kind="rejected", reason="unsendable")
REFUSED = Outcome(kind="rejected", reason="40310")


class Hand:
    def posted(self) -> None: ...

    def give_back(self, *, missed: bool = False) -> None: ...


class Gateway:
    def __init__(self, answers: list[Outcome]) -> None:
        self._answers = iter(answers)

    async def send(self, _request: Request, *, is_resend: bool = False, deadline_s: float | None = None) -> Outcome:
        return next(self._answers)


async def results_of(answers: list[Outcome]) -> list[Finish]:
    found: list[Finish] = []
    lanes = {"alerts": LaneSpec(SenderSpec("alerts", "short_code", "12345", None), "b1")}
    sender = Sender(
        Gateway(answers), lanes=lanes, public_url=None, record=lambda _p, r: found.append(r), more=lambda: None
    )
    for nth in range(len(answers)):
        taken = Taken(f"{nth:032x}-0", "k.1", ["+13125550001"], b'{"text":"hello"}', "notice", 1, False, 60_000_000)
        sender.taken(taken, DueSlot(Slot("alerts", 0), time.monotonic(), Hand()), "p1")
        while len(found) == nth:  # in their order
            await asyncio.sleep(0)
    return found


@pytest.mark.parametrize(("between", "rests"), [(UNSENDABLE, True), (REFUSED, False)])
def test_what_could_not_even_be_asked_is_no_clear_answer(between: Outcome, rests: bool) -> None:
    answers = [*[UNCLEAR] * (STREAK - 1), between, UNCLEAR]
    *before, last = asyncio.run(results_of(answers))
    assert all(result.hold_us == 0 for result in before)
    assert (last.hold_us > 0) is rests
