"""Compare what we counted of a text with what Telnyx says it billed.

A rate in segments, ``max_parts`` and a dry run rest on our count, so a difference (Telnyx's smart encoding is on in the
profile, its alphabet has changed) must not stay unseen. Pure.
"""

from __future__ import annotations

from producers.ledger.calls import Taken
from worker.content.segments import count
from worker.telnyx.builder import Content
from worker.telnyx.outcomes import Outcome

BILLED_BY_SEGMENT = frozenset({"short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "auto"})


def other_count(taken: Taken, channel: str, outcome: Outcome) -> int | None:
    """How many parts we counted, where Telnyx accepted the text and counted another number; else None."""
    if outcome.kind != "accepted" or not outcome.parts or channel not in BILLED_BY_SEGMENT:
        return None
    content = Content.from_json(taken.content)
    if not content.text or content.media_urls:
        return None
    ours = count(content.text, short_code=channel == "short_code").parts
    return ours if ours != outcome.parts else None
