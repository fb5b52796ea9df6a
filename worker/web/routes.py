"""Put the choice of a sender into words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.choosing import Chosen, Step

WORDS: Mapping[str, str] = {
    "country": "not for this country: {}",
    "hours": "not at this hour: {}",
    "only": "the only sender here",
    "share": "this person's place among the route's senders",
    "sticky": "the person knows this sender",
    "all_wait": "no sender can send now ({}); this one can first, and the message waits there",
    "later": "an earlier one is taken",
    "paused": "paused: {}",
    "draining": "drained: {}",
    "drained": "drained: {}",
    "held": "held: {}",
    "gone": "not in the published configuration",
}


def words_of(step: Step) -> str:
    """A step's reason, for people. What refuses a content or a country says so itself."""
    words = WORDS.get(step.why)
    if words is None:
        return step.detail or step.why
    return words.format(step.detail).removesuffix(": ") if "{}" in words else words


def steps_of(chosen: Chosen) -> list[dict[str, Any]]:
    """The way of the decision. ``route`` counts from 0, as the job type's list does; null is its own ``sender``."""
    return [
        {
            "route": step.route,
            "sender": step.sender or None,
            "verdict": step.verdict,
            "why": step.why,
            "words": words_of(step),
        }
        for step in chosen.steps
    ]
