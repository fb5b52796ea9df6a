"""Send dead letters again: each as a new leg, a message of its own under a key of its own.

Invariants, each with a test named after it:

- The same bytes go out again; what was never rendered is rendered now, by the configuration that is here, with the rules
  that it would have had: quiet hours in the recipient's time zone, WhatsApp's window.
- Repeating a replay makes no second leg.
- Nobody who opted out, and no group of which somebody has it, gets a leg.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from producers.ledger import calls
from producers.ledger.calls import Admission, Leg, Loaded
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
    letters: Sequence[DeadLetter],
    *,
    ledger: Ledger,
    config: Config | None,
    valid_for_s: Callable[[DeadLetter], int],
    now_us: int | None = None,
) -> list[Replayed]:
    """Make the next leg of each, in one round trip.

    Args:
        letters: Newest legs.
        config: Renders what never was; None where there is none.
        valid_for_s: How long each may wait, from now.
        now_us: What time it is, where what must be rendered has rules about hours.

    Raises:
        redis.RedisError: the ledger is away; the same call again makes those that are missing.
    """
    now = time.time_ns() // 1_000 if now_us is None else now_us
    zones: dict[str, str] = {}

    def rendered(letter: DeadLetter) -> Admission | None:
        if config is None:
            return None
        record = {"jt": letter.job_type.encode(), "to": letter.to.encode(), "at": str(now).encode()}
        loaded = Loaded(record, letter.request.encode(), None, b"")
        made = plan(loaded, config, facts_for([loaded], config, ledger))
        zones.update(made.zones)
        return made.items[0]

    asked = [_call(letter, rendered, valid_for_s(letter)) for letter in letters]
    wanted: list[Call[Any]] = [calls.zones(zones)] if zones else []  # before those that name them, in the same trip
    wanted += [call for call in asked if isinstance(call, Call)]
    answers = iter(ledger.run_many(wanted) if wanted else [])
    if zones and isinstance(told := next(answers), Exception):
        raise told
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


def _call(
    letter: DeadLetter, rendered: Callable[[DeadLetter], Admission | None], valid_for_s: int
) -> Call[Leg] | Replayed:
    """The call that makes its leg, or why there is none. ``rendered``: what it would be if it were expanded now."""
    valid_us = valid_for_s * US
    if letter.rendered or letter.why_not:
        return calls.leg(letter.entry, letter.leg + 1, "replay", valid_for_us=valid_us)
    try:
        item = rendered(letter)
    except ValueError:  # a request that cannot even be read: it was given up for that
        return _refused(letter, "still_rejected", ": its request cannot be read")
    if item is None:
        return _refused(letter, "not_rendered")
    if item.reject or item.content is None:
        return _refused(letter, "still_rejected", f": {item.title or item.reject}")
    return calls.leg(
        letter.entry, letter.leg + 1, "replay", valid_for_us=valid_us, lane=item.lane, content=item.content, units=item.units,
        zones=item.zones, free_form=item.free_form, template=item.template,
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
