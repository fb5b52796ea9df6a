"""How fresh notifications are packed into pointers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.pointers import EXPAND, EXPAND_URGENT, EXPANDS_A_JOB, URGENT_RECIPIENTS, expand_pointers

FRESH = st.lists(
    st.tuples(st.integers(0, 10**6), st.booleans(), st.integers(1, 1000)), unique_by=lambda row: row[0], max_size=300
)


@given(FRESH)
def test_each_is_pointed_at_once_and_no_job_gets_more_than_its_share(rows: list[tuple[int, bool, int]]) -> None:
    fresh = [
        (f"{i:032x}", urgent, min(messages, URGENT_RECIPIENTS) if urgent else messages) for i, urgent, messages in rows
    ]
    size = {id: (urgent, messages) for id, urgent, messages in fresh}
    seen: list[str] = []
    for message in expand_pointers(fresh):
        packed = message.args[0]
        ids = [packed] if isinstance(packed, str) else packed
        seen += ids
        urgent = message.queue_name == EXPAND_URGENT
        assert message.queue_name == (EXPAND_URGENT if urgent else EXPAND)
        assert {size[id][0] for id in ids} == {urgent}
        most = URGENT_RECIPIENTS if urgent else EXPANDS_A_JOB
        assert sum(min(size[id][1], most) for id in ids) <= most
    assert sorted(seen) == sorted(size)


def test_a_batch_of_single_messages_takes_few_jobs() -> None:
    assert len(expand_pointers((f"{i:032x}", False, 1) for i in range(1000))) == 1000 / EXPANDS_A_JOB
