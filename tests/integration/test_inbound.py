"""What people write: matched to what it replies to, handed to an actor at least once; clicks counted once."""

from __future__ import annotations

import json
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from ledger_kit import TO, finish, publication, queue, take_now

from producers.ledger import calls
from producers.ledger.calls import Fact
from producers.ledger.figures import read_figures
from producers.ledger.ledger import Ledger
from worker.forgetting import forget
from worker.inbound import hand_over, read_inbound
from worker.settings.model import Inbound

OURS = "+13125550001"
QUEUE = "replies"


@pytest.fixture
def published(ledger: Ledger) -> Ledger:
    content = {**publication(), "inbound": {"replies_s": 3600, "actor": "handle_reply"}}
    ledger.run(calls.publish(content, {}))
    ledger.run(calls.beat("p1", "first"))
    return ledger


@pytest.fixture
def settings(namespace: str) -> Inbound:
    """The user's own broker, under keys of this test."""
    return Inbound(actor="handle_reply", queue=QUEUE, namespace=f"{{{namespace}}}:users", replies="1h")  # type: ignore[call-arg]


def sent(ledger: Ledger, to: str = TO, **fact: Any) -> str:
    """A message that its person has."""
    mid = queue(ledger, to=to)
    found: list[calls.Taken] = []
    while not found:
        ledger.run(calls.beat("p1", "again"))
        found = take_now(ledger, hands=1)
    finish(ledger, found[0], "accepted")
    receive(ledger, mid, "T", **fact)
    return mid


def receive(ledger: Ledger, mid: str, state: str, **fact: Any) -> None:
    fields = {"from_number": OURS, **fact}
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=state, raw="x", **fields)]))


def write(ledger: Ledger, text: str, event: str, *, person: str = TO, to: str = OURS) -> None:
    said = {"event": event, "type": "SMS", "from": person, "to": [to], "cc": [], "text": text, "media_urls": []}
    ledger.run(
        calls.opt(person, "", scopes=["sender:alerts"], source="webhook", evidence=event, inbound=json.dumps(said))
    )


def events(ledger: Ledger, kind: str) -> list[dict[str, str]]:
    redis: Any = ledger.redis
    rows = [{k.decode(): v.decode() for k, v in f.items()} for _, f in redis.xrange(ledger.key("ev"))]
    return [row for row in rows if row["y"] == kind]


def pointed_at(ledger: Ledger) -> list[str]:
    return [pointer.id for pointer in ledger.run(calls.wake())[0] if str(pointer.kind) == "inbound"]


def test_a_reply_is_matched_to_the_last_message_from_that_number_to_that_person(published: Ledger) -> None:
    sent(published)
    last = sent(published)
    sent(published, from_number="+13125550009")
    sent(published, to="+13125550177")
    write(published, "yes", "e1")
    write(published, "who is this", "e2", person="+13125559999")
    newest, reply = read_inbound(published)
    assert (reply.reply_to, reply.payload()["notification"], reply.payload()["text"]) == (last, last[:32], "yes")
    assert newest.reply_to is None
    assert [row["r"] for row in events(published, "inbound.received")] == [last, ""]


def test_a_late_receipt_of_an_older_message_does_not_take_the_reply(published: Ledger) -> None:
    older = sent(published)
    last = sent(published)
    receive(published, older, "D")
    write(published, "yes", "e1")
    assert read_inbound(published)[0].reply_to == last


def test_the_user_s_actor_gets_the_message_and_a_repeat_has_the_same_id(
    published: Ledger, settings: Inbound, wait_until: Any
) -> None:
    mid = sent(published)
    write(published, "yes please", "e1")
    (entry,) = pointed_at(published)
    assert hand_over(entry, ledger=published, settings=settings)
    assert published.redis.zscore(published.key("timers"), f"i{entry}") is None
    assert hand_over(entry, ledger=published, settings=settings)  # as after a lost answer
    got: list[tuple[str, dict[str, Any]]] = []
    broker = RedisBroker(client=published.redis, namespace=settings.namespace)  # type: ignore[no-untyped-call]

    class Note(dramatiq.Middleware):
        def before_process_message(self, _broker: Any, message: Any) -> None:
            got.append((message.message_id, message.args[0]))

    broker.add_middleware(Note())
    seen: list[str] = []
    dramatiq.actor(lambda reply: seen.append(reply["text"]), actor_name="handle_reply", queue_name=QUEUE, broker=broker)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        wait_until(lambda: len(seen) == 2)
    finally:
        worker.stop()
    assert seen == ["yes please"] * 2
    assert len({message_id for message_id, _ in got}) == 1
    assert got[0][1]["reply_to"] == mid


def test_a_message_is_pointed_at_again_until_it_is_handed_over(published: Ledger, settings: Inbound) -> None:
    write(published, "hello", "e1")
    (entry,) = pointed_at(published)
    assert pointed_at(published) == []
    score: Any = published.redis.zscore(published.key("timers"), f"i{entry}")
    assert score > 0, "a pointer that is lost must be made again"
    published.redis.zadd(published.key("timers"), {f"i{entry}": 1})
    assert pointed_at(published) == [entry]
    hand_over(entry, ledger=published, settings=settings)
    published.redis.zadd(published.key("timers"), {"i1-1": 1})  # past its retention
    assert pointed_at(published) == []
    assert published.redis.zscore(published.key("timers"), "i1-1") is None


def test_a_click_is_counted_once_at_its_message_and_told(published: Ledger) -> None:
    mid = sent(published)
    url = "https://short.example/x"
    assert [published.run(calls.click(event, f"pid-{mid}", url)) for event in ("c1", "c1", "c2")] == [
        "counted",
        "known",
        "counted",
    ]
    assert published.redis.hget(published.key(f"m:{mid}"), "kc") == b"2"
    assert [(row["m"], row["u"]) for row in events(published, "link.clicked")] == [(mid, url)] * 2
    assert sum(read_figures(published).of("k").values()) == 2


def test_a_click_that_matches_nothing_is_kept_aside_and_counted(published: Ledger) -> None:
    assert published.run(calls.click("c1", "pid-of-another", "https://short.example/x")) == "lost"
    assert published.redis.hget(published.key("counts"), "clicks_lost") == b"1"


def test_whoever_is_forgotten_leaves_no_word_and_no_expected_reply(published: Ledger) -> None:
    sent(published)
    sent(published, to=f"{TO[:-2]}77")
    write(published, "my secret", "e1")
    forget(published, TO)
    assert read_inbound(published) == []
    fields: Any = published.redis.hkeys(published.key(f"lo:{TO[:-2]}"))
    assert fields == [f"77:{OURS}".encode()]
