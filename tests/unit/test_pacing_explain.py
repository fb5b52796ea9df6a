"""Which bucket rules a lane, and when its backlog is gone."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.pacing.explain import DAY_US, UNPUBLISHED_US, Bucket, explain
from worker.pacing.lanes import LaneView

NOW = 1_700_000_000_000_000
OWN = Bucket(name="s:alerts", interval_us=10_000)


def lane(waiting: int = 100, **other: Any) -> LaneView:
    fields: dict[str, Any] = {
        "name": "alerts", "sender": "alerts", "state": "open", "reason": None, "held_until_us": None,
        "backlog": {"urgent": 0, "normal": waiting, "bulk": 0}, "interval_us": 10_000, "speed": 1.0, "slowest": "s:alerts",
        "overridden": False, "free_at_us": 0, "scopes": (),
    }  # fmt: skip
    return LaneView(**{**fields, **other})


def test_alone_a_lanes_own_rate_rules() -> None:
    found = explain(lane(), [OWN], {"s:alerts": 100}, now_us=NOW)
    assert (found.rules, found.done_us) == (OWN, NOW + 1_000_000)


def test_a_shared_bucket_rules_by_all_that_waits_for_it() -> None:
    account = Bucket(name="a:sms", interval_us=5_000)
    alone = explain(lane(), [OWN, account], {"s:alerts": 100, "a:sms": 100}, now_us=NOW)
    assert alone.rules is OWN
    shared = explain(lane(), [OWN, account], {"s:alerts": 100, "a:sms": 1000}, now_us=NOW)
    assert (shared.rules, shared.done_us) == (account, NOW + 5_000_000)
    assert "the account's limit" in shared.words


def test_a_lane_that_drains_is_done_when_what_was_there_before_has_left() -> None:
    found = explain(lane(100, state="draining", reason="moving", leaving=10), [OWN], {"s:alerts": 100}, now_us=NOW)
    assert found.done_us == NOW + 100_000
    assert found.words.startswith("draining (moving): 10 that were there before leave, 90 later ones wait")


def test_a_cap_counts_its_days() -> None:
    cap = Bucket(name="d:acme", cap=1000, used=990, reset_us=NOW + 7)
    found = explain(lane(2011), [OWN, cap], {"d:acme": 2011}, now_us=NOW)
    assert (found.rules, found.done_us) == (cap, NOW + 7 + 2 * DAY_US)
    assert "990 of 1,000 used" in found.words


def test_a_rest_rules_while_it_lasts_and_says_why() -> None:
    held = Bucket(name="a:sms", interval_us=1, held_until_us=NOW + 60_000_000, why="http_429")
    found = explain(lane(), [OWN, held], {}, now_us=NOW)
    assert found.words == "the account's limit (a:sms) rests: http_429"


def test_what_stands_is_never_done_by_itself() -> None:
    assert explain(lane(state="paused", reason="operator"), [OWN], {}, now_us=NOW).done_us is None
    assert explain(lane(state="gone"), [OWN], {}, now_us=NOW).done_us is None
    assert explain(lane(0, state="paused"), [OWN], {}, now_us=NOW).done_us == NOW, "nothing waits"


@given(
    st.lists(
        st.one_of(
            st.builds(Bucket, name=st.text("abcdps:", min_size=1), interval_us=st.integers(1, 10**9)),
            st.builds(
                Bucket, name=st.text("abcdps:", min_size=1), cap=st.integers(1, 10**6), used=st.integers(0, 10**6)
            ),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda b: b.name,
    ),
    st.integers(1, 10**6),
)
def test_the_bucket_that_rules_is_one_of_the_lanes_and_none_lets_it_be_done_earlier(
    buckets: list[Bucket], waiting: int
) -> None:
    found = explain(lane(waiting), buckets, {}, now_us=NOW)
    assert found.rules in buckets
    assert found.done_us is not None
    assert all(found.done_us >= b.done_us(waiting, NOW) for b in buckets)


def test_a_limit_that_was_never_published_is_unknown_and_slow() -> None:
    unknown = Bucket(name="a:sms", interval_us=UNPUBLISHED_US, published=False)
    found = explain(lane(), [OWN, unknown], {"s:alerts": 100, "a:sms": 100}, now_us=NOW)
    assert (found.rules, found.done_us) == (unknown, NOW + 100_000_000)
    assert "unknown here and counts as one a second" in found.words
