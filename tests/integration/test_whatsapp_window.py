"""WhatsApp's 24-hour window in the scripts, in virtual time, on a fake server and on a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_kit import HOUR_US, TO, finish, lane, publication, state, submit, take_now, view
from redis import Redis
from virtual_time import DAY_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Admission, Step
from producers.ledger.dead_letters import read_letters
from worker.publishing import publish_call
from worker.replaying import replay
from worker.settings import parse_config

FREE, TEMPLATE, REQUEST = '{"whatsapp":{"type":"text"}}', '{"whatsapp":{"type":"template"}}', '{"text":"hello"}'
LONG = json.dumps({"whatsapp": {"type": "text", "text": {"body": "x" * 300}}})


@pytest.fixture(params=["fake", "real"])
def ledger(request: pytest.FixtureRequest) -> Iterator[VirtualLedger]:
    redis: Any = None
    namespace = "t"
    if request.param == "real":
        redis, namespace = Redis.from_url(request.getfixturevalue("redis_url")), request.getfixturevalue("namespace")
    ledger = VirtualLedger(redis, namespace)
    ledger.run(calls.publish(publication({"wa": lane("wa", "s:wa")}, {"s:wa": {"t_us": 1_000}}), {}))
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.close()


def write(ledger: VirtualLedger, *, person: str = TO, at_us: int = 0, event: str = "e1") -> None:
    """The person writes to our WhatsApp sender."""
    scopes = ["sender:wa", "wa:wa"]
    ledger.run(calls.opt(person, "", scopes=scopes, occurred_us=at_us, source="webhook", evidence=event, inbound="{}"))


def queue(ledger: VirtualLedger, *, template: str | None = None, content: str = FREE) -> str:
    id = submit(ledger, valid_for_us=3 * DAY_US, content=REQUEST.encode())
    item = Admission(to="", lane="wa", content=content, free_form=True, template=template)
    ledger.run(calls.admit(id, None, "", [item]))
    return f"{id}-0"


def sent(ledger: VirtualLedger) -> list[bytes]:
    ledger.run(calls.beat("p1", "first"))
    return [taken.content for taken in take_now(ledger)]


def record(ledger: VirtualLedger, mid: str) -> dict[bytes, bytes]:
    found: Any = ledger.redis.hgetall(ledger.key(f"m:{mid}"))
    return dict(found)


def test_a_free_form_message_leaves_while_the_window_is_open(ledger: VirtualLedger) -> None:
    write(ledger)
    queue(ledger, template=TEMPLATE)
    assert sent(ledger) == [FREE.encode()]


def test_outside_the_window_the_template_takes_its_place(ledger: VirtualLedger) -> None:
    write(ledger, person="+13125550199")
    mid = queue(ledger, template=TEMPLATE, content=LONG)
    assert sent(ledger) == [TEMPLATE.encode()]
    assert b"wf" not in record(ledger, mid)
    assert b"xxxx" not in b"".join(record(ledger, mid).values())


def test_outside_the_window_and_without_a_template_it_is_rejected_saying_so(ledger: VirtualLedger) -> None:
    mid = queue(ledger)
    seen = view(ledger, mid)
    assert (seen.state, seen.errors[0]["code"]) == ("rejected", "whatsapp_window")
    assert "template" in str(seen.errors[0]["title"])
    assert b"hello" in b"".join([ledger.redis.get(ledger.key(f"c:{mid}")) or b""])  # type: ignore[list-item]


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_a_window_that_closes_while_it_waits_is_seen_when_it_would_leave(
    ledger: VirtualLedger, template: str | None
) -> None:
    write(ledger)
    mid = queue(ledger, template=template, content=LONG)
    ledger.redis.delete(ledger.key(f"wa:wa:{TO}"))  # what its time to live does
    assert sent(ledger) == ([TEMPLATE.encode()] if template else [])
    assert state(ledger, mid) == ("sending" if template else "rejected")
    assert b"xxxx" not in b"".join(record(ledger, mid).values())


def test_the_window_lasts_24_hours_from_the_newest_word(ledger: VirtualLedger) -> None:
    now = ledger.now_us
    key = ledger.key(f"wa:wa:{TO}")
    write(ledger, at_us=now - HOUR_US)
    assert 22.9 * 3600 < ledger.redis.ttl(key) <= 23 * 3600  # type: ignore[operator]
    write(ledger, at_us=now - 2 * HOUR_US, event="e2")
    assert ledger.redis.get(key) == str(now - HOUR_US).encode()
    write(ledger, at_us=now, event="e3")
    assert ledger.redis.get(key) == str(now).encode()
    write(ledger, person="+13125550199", at_us=now - DAY_US, event="e4")
    assert not ledger.redis.exists(ledger.key("wa:wa:+13125550199"))


def test_what_may_be_out_keeps_its_bytes_whatever_the_window(ledger: VirtualLedger) -> None:
    write(ledger)
    queue(ledger, template=TEMPLATE)
    (first,) = take_now(ledger)
    finish(ledger, first, "uncertain", why="read_timeout")
    ledger.redis.delete(ledger.key(f"wa:wa:{TO}"))
    for _ in range(20):
        ledger.run(calls.ear("w1"))
        ledger.pass_us(1_000_000)
        ledger.run(calls.beat("p1", "first"))
        ledger.run(calls.wake())
    assert sent(ledger) == [FREE.encode()]


def test_what_would_have_taken_its_place_is_erased_with_the_content(ledger: VirtualLedger) -> None:
    write(ledger)
    mid = queue(ledger, template=TEMPLATE)
    (first,) = take_now(ledger)
    assert ledger.redis.exists(ledger.key(f"wt:{mid}"))
    finish(ledger, first, "accepted")
    ledger.run(calls.receipt("", [calls.Fact(ref=mid, provider_id=None, state="D")]))
    assert not ledger.redis.exists(ledger.key(f"wt:{mid}"))


def test_of_many_each_has_a_window_of_its_own(ledger: VirtualLedger) -> None:
    people = [f"+1312555010{i}" for i in range(3)]
    rows = json.dumps([[to, None] for to in people]).encode()
    id = submit(ledger, messages=3, recipients=[rows], content=REQUEST.encode(), valid_for_us=DAY_US)
    write(ledger, person=people[1])
    items = [
        Admission(to=people[0], lane="wa", free_form=True, template=TEMPLATE, request=REQUEST),
        Admission(to=people[1], lane="wa", free_form=True, template=TEMPLATE, request=REQUEST),
        Admission(to=people[2], lane="wa", free_form=True, request=REQUEST),
    ]
    ledger.run(calls.admit(id, "0", FREE, items))
    assert sent(ledger) == [TEMPLATE.encode(), FREE.encode()]
    assert state(ledger, f"{id}-2") == "rejected"
    assert ledger.redis.get(ledger.key(f"c:{id}-2")) == REQUEST.encode()


def test_outside_the_window_and_without_a_template_the_fallback_follows(ledger: VirtualLedger) -> None:
    id = submit(ledger, valid_for_us=3 * DAY_US, content=REQUEST.encode())
    steps = [Step(lane="wa", after_us=1_000_000, content='{"text":"by text"}')]
    ledger.run(calls.admit(id, None, "", [Admission(to="", lane="wa", content=FREE, free_form=True, steps=steps)]))
    found = sent(ledger) or sent(ledger)
    assert found == [b'{"text":"by text"}']
    assert view(ledger, f"{id}-0").state == "sending"
    assert "whatsapp_window" in [error["code"] for error in view(ledger, f"{id}-0").errors]


CONFIG = """
[senders.wa]
channel = "whatsapp"
from = "+13125550003"
rate = "100/s"
[job_types.notice]
sender = "wa"
"""


@pytest.mark.parametrize("has_template", [True, False])
def test_a_replay_of_what_was_never_rendered_keeps_to_the_window(ledger: VirtualLedger, *, has_template: bool) -> None:
    template = 'whatsapp_template = { name = "order", language = "en_US" }\n' if has_template else ""
    config = parse_config(CONFIG + template)
    ledger.run(publish_call(config, 2, now_us=ledger.now_us))
    request = {"whatsapp": {"type": "text", "text": {"body": "hello"}}}
    id = submit(ledger, content=json.dumps(request).encode())
    ledger.run(calls.admit(id, None, "", [Admission(to="", reject="job_type", title="unknown")]))
    (letter,) = read_letters(ledger, [f"{id}-0"])
    (done,) = replay([letter], ledger=ledger, config=config, valid_for_s=lambda _: 3_600, now_us=ledger.now_us)
    assert done.outcome == "made"
    if has_template:
        (content,) = sent(ledger)
        assert b'"template"' in content and b"hello" not in content
    else:
        assert sent(ledger) == []
        assert state(ledger, done.message) == "rejected"
