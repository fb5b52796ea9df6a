"""What Telnyx billed beside what we counted."""

from __future__ import annotations

import pytest

from producers.ledger.calls import Taken
from worker.sending.parts import other_count
from worker.telnyx.outcomes import Outcome


@pytest.mark.parametrize(
    ("content", "channel", "parts", "ours"),
    [
        ('{"text":"hello"}', "long_code", 1, None),
        ('{"text":"gar\u00e7on"}', "long_code", 2, 1),
        ('{"text":"' + "\u00e9" * 150 + '"}', "long_code", 1, None),
        ('{"text":"' + "\u00e9" * 150 + '"}', "short_code", 1, 3),  # it speaks ASCII only
        ('{"text":"hello","media_urls":["https://example.com/a"]}', "long_code", 2, None),
        ('{"text":"hello"}', "group_mms", 2, None),
        ('{"text":"hello"}', "long_code", None, None),
    ],
)
def test_a_difference_is_seen_where_segments_are_billed(
    content: str, channel: str, parts: int | None, ours: int | None
) -> None:
    taken = Taken("m", "t", ["+13125550100"], content.encode(), "notice", 1, False)
    outcome = Outcome(kind="accepted", reason="ok", provider_id="p", parts=parts)
    assert other_count(taken, channel, outcome) == ours
