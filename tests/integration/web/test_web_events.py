"""Every event that Telnyx may send, in every spelling that is known, and thousands that nobody would: through the webhook.

What is signed gets 200 and is kept somewhere: as a receipt, as an inbound message, as a click, or aside. Nothing is a 5xx.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_kit import finish, queue, state, take_now

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.reconciliation import reconcile

from .conftest import PERSON, Web

PID = "40385f64-5717-4562-b3fc-2c9600000000"
ERRORS = [{"code": "40008", "title": "Undeliverable", "detail": "x", "source": {"pointer": "/to/0"}}]
ENDS = {
    "delivered": "delivered", "read": "delivered", "delivery_unconfirmed": "unconfirmed", "delivery_failed": "failed",
    "sending_failed": "failed", "expired": "failed", "cancelled": "failed", "unknown": "unconfirmed", "failed": "failed",
    "gw_timeout": "failed", "gw_reject": "failed", "dlr_timeout": "unconfirmed", "dlr_unconfirmed": "unconfirmed",
    "a_status_of_tomorrow": "unconfirmed", "sent": "sent",
}  # fmt: skip
# from, to, cc and cost, as the pages and the samples have them
SPELLINGS: list[dict[str, Any]] = [
    {"from": {"phone_number": "+13125550001", "carrier": "Telnyx", "line_type": "Wireless"}, "cc": []},
    {"from": "+13125550001", "cc": ["+13125550199"]},
    {"from": {"phone_number": "+13125550001"}, "cc": [{"phone_number": "+13125550199", "status": "delivered"}]},
    {"cost": {"amount": 0.0051, "currency": "USD"}, "parts": "1"},
    {"cost": None, "cc": None, "errors": None, "completed_at": None},
    {"cost": "0.0051", "errors": [{"code": 40008, "title": "Undeliverable"}]},
    {"to": {"phone_number": PERSON}, "type": "WHATSAPP", "biz_opaque_callback_data": "x"},
    {"type": "RCS", "new_field": {"deep": [1, {"text": "a secret"}]}},
]


def event(kind: str, payload: dict[str, Any], nth: int = 0) -> dict[str, Any]:
    data = {"record_type": "event", "id": f"event-{kind}-{nth}", "event_type": kind, "payload": payload}
    return {
        "data": {**data, "occurred_at": "2026-11-24T02:10:04.1Z"},
        "meta": {"attempt": 1, "delivered_to": "https://x"},
    }


def outbound(ref: str, status: str, **more: Any) -> dict[str, Any]:
    errors = ERRORS if ENDS.get(status) == "failed" else []
    return {
        "record_type": "message", "direction": "outbound", "id": PID, "type": "SMS", "organization_id": "o",
        "from": {"phone_number": "+13125550001"}, "text": "a secret", "media": [], "parts": 1, "encoding": "GSM-7",
        "to": [{"phone_number": PERSON, "status": status, "carrier": "A Carrier", "line_type": "Wireless"}],
        "cost": {"amount": "0.0051", "currency": "USD"}, "tags": [], "errors": errors, "valid_until": None,
        "webhook_url": f"https://x.example/webhooks/telnyx?ref={ref}", "received_at": "2026-11-24T02:10:00Z",
        "sent_at": "2026-11-24T02:10:01Z", "completed_at": "2026-11-24T02:10:04Z", **more,
    }  # fmt: skip


@pytest.fixture
def kept(web: Web, redis_url: str, namespace: str) -> Iterator[Ledger]:
    ledger = Ledger(connect(redis_url, answer_s=10), namespace)
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.redis.close()


def accepted(ledger: Ledger) -> str:
    mid = queue(ledger)
    found: list[calls.Taken] = []
    while not found:
        ledger.run(calls.beat("p1", "again"))
        found = take_now(ledger, hands=1)
    finish(ledger, found[0], "accepted", provider_id=f"at-{mid}")
    return mid


def apply_all(ledger: Ledger) -> None:
    redis: Any = ledger.redis
    for batch in redis.zrange(ledger.key("rx"), 0, -1):
        reconcile(batch.decode(), ledger=ledger)


@pytest.mark.parametrize("status", sorted(ENDS))
def test_a_finalized_event_of_every_status_does_what_it_should(web: Web, kept: Ledger, status: str) -> None:
    mid = accepted(kept)
    assert web.webhook(json.dumps(event("message.finalized", outbound(mid, status))).encode()).status_code == 200
    apply_all(kept)
    assert state(kept, mid) == ENDS[status]


@pytest.mark.parametrize("nth", range(len(SPELLINGS)))
def test_every_spelling_of_an_event_is_understood(web: Web, kept: Ledger, nth: int) -> None:
    mid = accepted(kept)
    told = SPELLINGS[nth]
    status = {} if "to" not in told else {"status": "delivered"}
    body = event("message.finalized", {**outbound(mid, "delivered"), **status, **told})
    assert web.webhook(json.dumps(body).encode()).status_code == 200
    apply_all(kept)
    assert state(kept, mid) == "delivered"
    redis: Any = kept.redis
    assert redis.xlen(kept.key("odd")) == 0


def test_read_comes_after_delivered_and_alone(web: Web, kept: Ledger) -> None:
    mid = accepted(kept)
    assert web.webhook(json.dumps(event("message.read", outbound(mid, "read"))).encode()).status_code == 200
    apply_all(kept)
    assert state(kept, mid) == "delivered"
    assert kept.redis.hexists(kept.key(f"m:{mid}"), "rd")


def samples(ref: str) -> list[Any]:
    inbound = {
        "direction": "inbound", "id": "in-1", "type": "SMS", "from": {"phone_number": PERSON}, "text": "hello",
        "to": [{"phone_number": "+13125550001", "status": "webhook_delivered"}], "cc": [], "media": [],
    }  # fmt: skip
    body = {"type": "text", "text": {"body": "hi"}, "from": "13125550100", "foreign_id": "wamid.1"}
    return [
        *(event("message.finalized", {**outbound(ref, "delivered"), **told}) for told in SPELLINGS),
        event("message.sent", outbound(ref, "sent", completed_at=None)),
        event("message.read", outbound(ref, "read")),
        event("message.received", inbound),
        event("message.received", {**inbound, "cc": ["+13125550199"], "media": [{"url": "https://x"}]}),
        event("message.received", {**inbound, "type": "WHATSAPP", "to": "+13125550003", "text": None, "body": body}),
        {"data": {"record_type": "link_clicked", "message_id": PID, "url": "https://x", "to": "18445550001"}},
        event("messaging-profile.spend-limit-reached", {"profile_id": "p", "current_cost": "1"}),
        {"event_type": "whatsapp.template.approved", "data": {"id": 1}},
    ]


ODD: list[Any] = [
    None, True, False, 0, -1, 1e308, 2**70, "", "x", "\ud800", "\0", "a|b", "{t}:m:", "x" * 3000, [], {}, [[]], [None],
    {"": None},     {"phone_number": None}, [{"status": []}], "2026-13-45T99:99:99Z", "９９", {"amount": "NaN"},
    {"amount": "1e999", "currency": "USD"},
    [{"phone_number": PERSON, "status": "delivered", "carrier": "|" * 100}], "?ref=../..", {"code": {}, "title": 1},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, name))


def mutated(chance: random.Random, sample: Any) -> bytes:
    made = json.loads(json.dumps(sample))
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(list(places(made)))
        if not path:
            continue
        parent = made
        for step in path[:-1]:
            parent = parent[step]
        if chance.random() < 0.2 and isinstance(parent, dict):
            del parent[path[-1]]
        else:
            parent[path[-1]] = copy.deepcopy(chance.choice(ODD))
    raw = json.dumps(made).encode()
    if chance.random() < 0.05:
        cut = chance.randrange(len(raw))
        raw = raw[:cut] + bytes([chance.randrange(256)]) + raw[cut + chance.randrange(2) :]
    return raw


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_whatever_is_made_of_an_event_there_is_no_5xx_and_its_neighbours_are_applied(
    web: Web, kept: Ledger, count: int
) -> None:
    chance = random.Random(20_261_124)
    ref = accepted(kept)
    healthy = [accepted(kept) for _ in range(5)]
    given = samples(ref)
    wrong = []
    for nth in range(count):
        raw = mutated(chance, chance.choice(given))
        answer = web.webhook(raw)
        if answer.status_code != 200:
            wrong.append((answer.status_code, raw[:300]))
        if nth % (count // 5) == 0:
            mid = healthy[nth // (count // 5)]
            web.webhook(json.dumps(event("message.finalized", outbound(mid, "delivered", id=f"at-{mid}"))).encode())
        if nth % 500 == 499:
            apply_all(kept)
    apply_all(kept)
    assert wrong == []
    assert [state(kept, mid) for mid in healthy] == ["delivered"] * 5
    assert kept.redis.zcard(kept.key("rx")) == 0, "a batch that nobody can apply would hold up what is heard"
