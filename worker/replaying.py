"""Send dead letters again: each as a new leg, a message of its own under a key of its own.

Invariants, each with a test named after it:

- The same bytes go out again; what was never rendered is rendered now, by the configuration that is here.
- Repeating a replay makes no second leg.
- Nobody who opted out, and no group of which somebody has it, gets a leg.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from producers.ledger import calls
from producers.ledger.calls import Leg, Loaded
from producers.ledger.dead_letters import DeadLetter
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from producers.ledger.states import STATES
from worker.expansion import facts_for, plan
from worker.settings import Config
from worker.titles import short_title

US = 1_000_000
REFUSALS = {
    "gone": "there is no such message: unknown, or older than [storage] retention",
    "passed": "it got another leg at the same moment: look again",
    "not_dead": "only rejected, failed and unconfirmed messages are replayed",
    "partly_delivered": "some of the group have it, and a leg would go to all: enqueue it anew for the others",
    "not_rendered": "it was never rendered: replay it where NOTIFY_CONFIG names the configuration",
    "content_erased": "its content is erased (dead letters keep it for 24 hours): enqueue it anew",
    "no_lane": "its sender is not in notify.toml: bring it back, or enqueue it anew under another job type",
    "opted_out": "opted out: nothing may be sent until the person, or who opted them out, lifts it",
    "still_rejected": "it would be rejected again",
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one: ``message`` is the new leg's id; of a refusal ``why`` is a word of ``REFUSALS``."""

    entry: str
    outcome: Literal["made", "exists", "refused"]
    message: str = ""
    why: str = ""
    words: str = ""


def replay(
    letters: Sequence[DeadLetter], *, ledger: Ledger, config: Config | None, valid_for_s: Callable[[DeadLetter], int]
) -> list[Replayed]:
    """Make the next leg of each, in one round trip.

    Args:
        letters: Newest legs.
        config: Renders what never was; None where there is none.
        valid_for_s: How long each may wait, from now.

    Raises:
        redis.RedisError: the ledger is away; the same call again makes those that are missing.
    """
    asked = [_call(letter, config, valid_for_s(letter), ledger) for letter in letters]
    wanted = [call for call in asked if isinstance(call, Call)]
    answered: list[Leg | Exception] = ledger.run_many(wanted) if wanted else []
    answers = iter(answered)
    done: list[Replayed] = []
    for letter, call in zip(letters, asked, strict=True):
        if isinstance(call, Replayed):
            done.append(call)
            continue
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        done.append(_told(letter, answer))
    return done


def _call(letter: DeadLetter, config: Config | None, valid_for_s: int, ledger: Ledger) -> Call[Leg] | Replayed:
    valid_us = valid_for_s * US
    if letter.rendered or letter.why_not:
        return calls.leg(letter.entry, letter.leg + 1, "replay", valid_for_us=valid_us)
    if config is None:
        return _refused(letter, "not_rendered")
    record = {"jt": letter.job_type.encode(), "to": letter.to.encode(), "at": str(time.time_ns() // 1000).encode()}
    loaded = Loaded(record, letter.request.encode(), None, b"")
    try:
        item = plan(loaded, config, facts_for([loaded], config, ledger)).items[0]
    except ValueError:  # a request that cannot even be read: it was given up for that
        return _refused(letter, "still_rejected", ": its request cannot be read")
    if item.reject or item.content is None:
        return _refused(letter, "still_rejected", f": {item.title or item.reject}")
    return calls.leg(
        letter.entry, letter.leg + 1, "replay", valid_for_us=valid_us,
        lane=item.lane, content=item.content, units=item.units,
    )  # fmt: skip


def _told(letter: DeadLetter, answer: Leg) -> Replayed:
    if answer.outcome != "refused":
        return Replayed(letter.entry, answer.outcome, answer.message)
    # the script refuses what was never rendered before it looks for content, and we know what is the matter
    why = letter.why_not if answer.why == "not_rendered" and letter.why_not else answer.why
    if why == "not_dead":
        return _refused(letter, why, f": this one is {STATES.get(answer.state, letter.state)}")
    return _refused(letter, why)


def _refused(letter: DeadLetter, why: str, more: str = "") -> Replayed:
    return Replayed(letter.entry, "refused", "", why, REFUSALS[why] + (short_title(more) if more else ""))
