"""``/metrics`` and ``notify stats``: what the ledger counted, as programs and people read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_kit import finish, queue, take_now
from prometheus_client.parser import text_string_to_metric_families

from producers.ledger import calls
from producers.ledger.calls import Fact
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.commands import stats
from worker.terminal import Failure

from .conftest import Web


@pytest.fixture
def told(web: Web, redis_url: str, namespace: str) -> Iterator[Ledger]:
    """Three messages of one lane: delivered, failed, and refused by the provider; then one of them corrected."""
    ledger = Ledger(connect(redis_url, answer_s=10), namespace)
    ledger.run(calls.beat("p1", "first"))
    for _ in range(3):
        queue(ledger)
    taken: list[Any] = []
    while len(taken) < 3:
        ledger.run(calls.beat("p1", "again"))
        taken += take_now(ledger, hands=3 - len(taken))
    delivered, failed, refused = taken
    for one in (delivered, failed):
        finish(ledger, one, "accepted", parts=1)
    finish(ledger, refused, "rejected", why="c40310", code="40310", title="Invalid")
    receive(ledger, delivered.message, "X", cost=(5100, "USD"), carrier="A Carrier")
    receive(ledger, delivered.message, "D", carrier="A Carrier")
    receive(ledger, failed.message, "F", error=("w", "40008", "Undeliverable"))
    ledger.redis.hincrby(ledger.key("counts"), "receipts_lost", 2)
    yield ledger
    ledger.redis.close()


def receive(ledger: Ledger, mid: str, state: str, **more: Any) -> None:
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=state, **more)]))


def test_prometheus_reads_counters_histograms_and_lanes(web: Web, told: Ledger) -> None:
    answer = web.call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    ended = {
        (s.labels["state"], s.labels["reason"], s.labels["carrier"]): s.value
        for s in families["notify_messages_ended"].samples
    }
    assert ended["unconfirmed", "", "A Carrier"] == 1
    assert ended["failed", "40008", ""] == 1
    assert {s.labels["channel"] for s in families["notify_messages_ended"].samples} == {"short_code"}
    (corrected,) = families["notify_messages_corrected"].samples
    assert (corrected.labels["from"], corrected.labels["to"], corrected.value) == ("unconfirmed", "delivered", 1)
    assert [s.value for s in families["notify_cost"].samples] == [0.0051]
    buckets = {
        s.labels["le"]: s.value
        for s in families["notify_message_latency_seconds"].samples
        if s.name.endswith("_bucket") and s.labels["stage"] == "provider"
    }
    assert buckets["+Inf"] == 2
    assert list(buckets.values()) == sorted(buckets.values()), "buckets are cumulative"
    assert {s.value for s in families["notify_oddities"].samples if s.labels["kind"] == "receipts_lost"} == {2}
    assert "notify_lane_backlog" in families
    assert "notify_jobs_waiting" in families


def test_metrics_need_a_key_that_may_read_them(web: Web) -> None:
    assert web.call("GET", "/metrics", key=None).status_code == 401


def test_stats_tell_people_and_programs_the_same(
    told: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stats, "open_ledger", lambda: told)
    stats.stats(by="sender", since="all", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["label"] == "alerts"
    assert row["states"] == {"delivered": 1, "failed": 1, "rejected": 1}
    assert row["handed_over"] == 2
    assert row["segments"] == 2
    assert row["cost"] == {"USD": "0.0051"}
    failed = next(failure for failure in row["failures"] if failure["reason"] == "40008")
    assert failed["words"].strip()
    assert failed["count"] == 1
    assert row["requests_not_accepted"] == [{"outcome": "rejected", "reason": "c40310", "count": 1}]
    stats.stats(by="carrier", since="15m", as_json=False)
    shown = capsys.readouterr().out
    assert "A Carrier" in shown
    assert "40008" in shown


@pytest.mark.parametrize(("by", "since", "named"), [("sendr", "1h", "--by"), ("sender", "yesterday", "--since")])
def test_stats_name_the_option_that_is_wrong(by: str, since: str, named: str) -> None:
    with pytest.raises(Failure, match=named):
        stats.stats(by=by, since=since)
