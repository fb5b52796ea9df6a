"""A carrier's network that repeats, reorders and loses receipts: all messages end as they should, and everybody is told so.

Of the receipts 30 % come twice, 20 % never, and of half of the messages the first comes last. Then the ledger, the stream of
events, the app that is called, and the figures are each compared with what the sandbox knows to be true.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from app_kit import App, running_app
from prometheus_client.parser import text_string_to_metric_families
from service_kit import API_KEY, NOTIFY, Service, running_service, wait_until
from truth_kit import (
    assert_every_transition_is_told,
    assert_never_backward,
    assert_told_once_by_id,
    entries,
    true_figures,
    truth,
    untrue,
)

from producers.errors import EnqueueError
from worker.children import spawn
from worker.sandbox import SandboxOptions, magic_number
from worker.sandbox.messages import RATE_USD

FAULTS = {"duplicate_receipts": 0.3, "reorder_receipts": 0.5, "lose_receipts": 0.2, "seed": 11}
FATES = (40, 42, 43, 44, 45, 80, 81, 82)
CORRECTED = 83
TEXT = "hello"


def people(count: int) -> list[str]:
    """One in eight has a fate of its own."""
    return [
        magic_number(FATES[i // 8 % 8], i // 64) if i % 8 == 7 else f"+1312{2_000_000 + i:07d}" for i in range(count)
    ]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(80, marks=pytest.mark.timeout(300)),
        pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_every_message_ends_as_its_carrier_knows_and_each_end_is_told_and_counted_once(
    tmp_path: Path, count: int
) -> None:
    sandbox = SandboxOptions(seed=3, late_s=0.5)
    large = count > 1000
    options: dict[str, Any] = {"rate": "200/s", "poll_after": "2s" if large else "1s"}
    with (
        running_service(tmp_path, sandbox=sandbox, **options) as service,
        running_app(service.environ["NOTIFY_SECRET"]) as app,
    ):
        with (tmp_path / "notify.toml").open("a") as config:
            config.write("\n[events]\nall = true\n")
        service.start_web()
        service.start_worker()
        service.sandbox("faults", FAULTS)
        numbers = people(count)
        half = count // 2
        ids = [enqueue(service, app, numbers[:half])]
        ids += [ticket.id for ticket in service.notifier.enqueue_many([row(app, to) for to in numbers[half:]])]
        wait_for_all(service, ids, timeout_s=1500 if large else 90)
        service.sandbox("faults", {name: 0.0 for name in FAULTS if name != "seed"})
        corrections = min(half // 8, 300)
        corrected = enqueue(service, app, [magic_number(CORRECTED, i) for i in range(corrections)])
        ids.append(corrected)
        wait_until(
            lambda: service.states(corrected) == {"delivered": corrections}, what="the corrections", timeout_s=60
        )
        audit(service, app, ids, corrections=corrections)


def enqueue(service: Service, app: App, to: list[str]) -> str:
    """One notification to many people."""
    return service.notifier.enqueue("notice", to=to, text=TEXT, callback_url=app.url).id


def row(app: App, to: str) -> dict[str, Any]:
    return {"job_type": "notice", "to": to, "text": TEXT, "callback_url": app.url}


def wait_for_all(service: Service, ids: list[str], *, timeout_s: float) -> None:
    left = list(ids)

    def ended() -> bool:
        with contextlib.suppress(EnqueueError):  # a busy machine's server may take its time: asked again
            while left and service.notifier.status(left[-1], limit=0).is_final:
                left.pop()
        return not left

    wait_until(
        ended,
        timeout_s=timeout_s,
        what="every message to be final",
        seen=lambda: [service.states(i) for i in left[-3:]],
    )


def audit(service: Service, app: App, ids: list[str], *, corrections: int) -> None:
    wait_until(lambda: service.sandbox("summary")["callbacks"]["pending"] == 0, what="the last receipts")
    wait_until(lambda: not service.ledger.redis.exists(service.ledger.key("rx")), what="them to be applied")
    views, told = list(entries(service, ids)), truth(service)
    assert set(told) == {view.id for view in views}
    assert untrue(views, told) == {}
    assert_never_backward(views)
    events = list(service.notifier.events())
    assert_every_transition_is_told(events, views)
    wait_until(
        lambda: not service.ledger.redis.exists(service.ledger.key("cb")),  # no endpoint is owed anything
        what="the app to be told of everything",
        timeout_s=300,
        seen=lambda: Counter(letter["type"] for letter in app.heard),
    )
    assert_told_once_by_id(events, app.heard, views)
    assert sum(event.type == "message.corrected" for event in events) == corrections
    finished = {e.notification: e.counts for e in events if e.type == "notification.finished"}
    assert set(finished) == set(ids)
    assert finished[ids[0]] == {state: n for state, n in service.states(ids[0]).items() if n}
    assert {letter["notification"] for letter in app.heard if letter["type"] == "notification.finished"} == set(ids)
    assert_figures_are_true(service, told, corrections=corrections)


def assert_figures_are_true(service: Service, told: dict[str, dict[str, Any]], *, corrections: int) -> None:
    wanted = true_figures(told.values(), price=RATE_USD)
    (found,) = stats(service)["rows"]
    assert {name: found[name] for name in wanted} == wanted
    failures = Counter(code for row in told.values() for code in row["errors"] if row["status"] != "delivered")
    assert {row["reason"]: row["count"] for row in found["failures"] if row["state"] == "failed"} == failures
    net: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics(service)):
        for sample in family.samples:
            if sample.name == "notify_messages_ended_total":
                net[sample.labels["state"]] += int(sample.value)
            elif sample.name == "notify_messages_corrected_total":
                net[sample.labels["from"]] -= int(sample.value)
                net[sample.labels["to"]] += int(sample.value)
    assert {state: n for state, n in net.items() if n} == wanted["states"]


def metrics(service: Service) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}/metrics")
    request.add_header("Authorization", f"Bearer {API_KEY}")
    with urllib.request.urlopen(request, timeout=20) as response:
        return str(response.read().decode())


def stats(service: Service) -> Any:
    """``notify stats --json`` of all time, in one row."""
    log = service.directory / "stats.json"
    child = spawn(
        "stats",
        [NOTIFY, "stats", "--since", "all", "--by", "all", "--json"],
        environ=service.environ,
        log=log,
        directory=service.directory,
    )
    assert child.wait(timeout_s=60) == 0, child.tail(20)
    return json.loads(log.read_text())
