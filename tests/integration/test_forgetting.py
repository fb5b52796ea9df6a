"""A person is forgotten, but for their opt-outs; and retention leaves nothing of anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_kit import HOUR_US, admit, finish, lane, publication, queue, state, submit, take_now, view
from redis import Redis
from virtual_time import DAY_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Taken
from worker.forgetting import forget

PERSON, OTHER, NEIGHBOUR = "+13125550100", "+13125550199", "+131255501001"
CAP = {"f": [["m", 5, 3_600, 5, 3_600]]}


@pytest.fixture(params=["fake", "real"])
def ledger(request: pytest.FixtureRequest) -> Iterator[VirtualLedger]:
    redis: Any = None
    namespace = "t"
    if request.param == "real":
        redis, namespace = Redis.from_url(request.getfixturevalue("redis_url")), request.getfixturevalue("namespace")
    ledger = VirtualLedger(redis, namespace)
    body = publication({"alerts": lane("alerts", "s:alerts", profile="p1")}, {"s:alerts": {"t_us": 1_000}})
    ledger.run(
        calls.publish({**body, "rules": {"notice": json.dumps(CAP)}, "timezone": "UTC"}, {"x": []}, {"UTC": "0"})
    )
    yield ledger
    ledger.close()


def everything(ledger: VirtualLedger) -> dict[str, str]:
    """Each key of the namespace, and all that it holds, as one text."""
    redis: Any = ledger.redis
    found = {}
    for key in redis.scan_iter(match=ledger.prefix + "*", count=1000):
        kind = redis.type(key).decode()
        held = {
            "string": redis.get,
            "hash": redis.hgetall,
            "list": lambda name: redis.lrange(name, 0, -1),
            "set": redis.smembers,
            "zset": lambda name: redis.zrange(name, 0, -1),
            "stream": redis.xrange,
        }[kind](key)
        found[key.decode()[len(ledger.prefix) :]] = f"{key.decode()} {held!r}"
    return found


def naming(ledger: VirtualLedger, number: str) -> set[str]:
    return {name for name, text in everything(ledger).items() if number in text.replace(NEIGHBOUR, "")}


def take(ledger: VirtualLedger) -> list[Taken]:
    ledger.run(calls.beat("p1", "first"))
    return take_now(ledger)


def deliver(ledger: VirtualLedger) -> list[str]:
    taken = take(ledger)
    for t in taken:
        finish(ledger, t, "accepted")
        to = [(person, "D") for person in t.to] if len(t.to) > 1 else ()
        ledger.run(calls.receipt("", [Fact(ref=t.message, provider_id=None, state="D", to=to)]))
    return [t.message for t in taken]


def a_life(ledger: VirtualLedger) -> dict[str, str]:
    """Messages of every kind to one person and others; returns some of their ids."""
    done = submit(
        ledger, to=PERSON, extras=b'{"metadata":{"customer":"+13125550100"},"callback_url":"https://a.example/x"}'
    )
    admit(ledger, done)
    rows = json.dumps([[PERSON, None], [OTHER, None]]).encode()
    many = submit(ledger, messages=2, recipients=[rows])
    admit(ledger, many)
    deliver(ledger)
    rejected = submit(ledger, to=PERSON)
    ledger.run(calls.admit(rejected, None, "", [Admission(to="", reject="content", title="x")]))
    group = queue(ledger, to=f"{PERSON},{OTHER}")
    deliver(ledger)
    told = {"inbound": json.dumps({"from": PERSON, "text": "hi"}), "source": "webhook"}
    ledger.run(calls.opt(PERSON, "", scopes=["wa:wa"], evidence="e1", **told))  # type: ignore[arg-type]
    ledger.run(calls.opt(PERSON, "out", scopes=["sender:other"], evidence="e2", **told))  # type: ignore[arg-type]
    ledger.redis.xadd(ledger.key("odd"), {"why": "unknown_event", "event": json.dumps({"to": PERSON})})
    queue(ledger, to=OTHER)
    queue(ledger, to=NEIGHBOUR)
    return {"done": f"{done}-0", "many": f"{many}-0", "other": f"{many}-1", "rejected": f"{rejected}-0", "group": group}


def test_a_person_is_forgotten_but_for_their_opt_outs(ledger: VirtualLedger) -> None:
    ids = a_life(ledger)
    waiting = queue(ledger, to=PERSON, send_at_us=ledger.now_us + HOUR_US)
    assert {name.partition(":")[0] for name in naming(ledger, PERSON)} >= {"m", "x", "fq", "wa", "in", "odd", "ev", "o"}
    done = forget(ledger, PERSON)
    assert (done.messages, done.stopped, done.left) == (5, 1, 0)
    assert {name.partition(":")[0] for name in naming(ledger, PERSON)} == {"o"}
    assert state(ledger, waiting) == "cancelled"
    assert view(ledger, ids["group"]).to == ["forgotten", OTHER]
    assert state(ledger, ids["done"]) == "delivered"
    assert not ledger.redis.exists(ledger.key(f"c:{ids['rejected']}"))
    assert ledger.run(calls.leg(ids["rejected"], 2, "replay", valid_for_us=HOUR_US)).outcome == "refused"
    again = forget(ledger, PERSON)
    assert (again.messages, again.others, again.entries) == (0, 0, 0)


def test_nobody_else_is_touched(ledger: VirtualLedger) -> None:
    a_life(ledger)
    before = {
        name for number in (OTHER, NEIGHBOUR) for name in everything(ledger) if number in everything(ledger)[name]
    }
    forget(ledger, PERSON)
    after = {name for number in (OTHER, NEIGHBOUR) for name in everything(ledger) if number in everything(ledger)[name]}
    assert after == before
    assert len(take(ledger)) == 2


def test_what_may_be_under_way_stays_until_its_fate_is_known(ledger: VirtualLedger) -> None:
    mid = queue(ledger, to=PERSON)
    (taken,) = take(ledger)
    assert forget(ledger, PERSON).left == 1
    finish(ledger, taken, "accepted")
    assert forget(ledger, PERSON).left == 1
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=None, state="D")]))
    assert forget(ledger, PERSON).messages == 1
    assert naming(ledger, PERSON) == set()


def test_recipients_that_are_not_expanded_yet_are_counted(ledger: VirtualLedger) -> None:
    submit(ledger, messages=2, recipients=[json.dumps([[PERSON, None], [OTHER, None]]).encode()])
    assert forget(ledger, PERSON).left == 1


def test_a_repeated_key_sends_nothing_new_to_who_was_forgotten(ledger: VirtualLedger) -> None:
    id = submit(ledger, to=PERSON)
    admit(ledger, id)
    deliver(ledger)
    forget(ledger, PERSON)
    again = calls.Submission(
        id=id, client="tests", fingerprint="f1", job_type="notice", klass=1, valid_for_us=1, send_at_us=0, messages=1,
        group=False, content=b"{}", extras=b"", recipients=[PERSON],
    )  # fmt: skip
    assert ledger.run(calls.submit(again)).outcome == "repeated"


def test_after_the_retention_nothing_of_anybody_is_left_but_opt_outs() -> None:
    ledger = VirtualLedger()  # only a fake server lets its keys lapse in virtual time
    try:
        body = publication({"alerts": lane("alerts", "s:alerts", profile="p1")}, {"s:alerts": {"t_us": 1_000}})
        ledger.run(calls.publish({**body, "rules": {"notice": json.dumps(CAP)}, "timezone": "UTC"}, {}, {"UTC": "0"}))
        ids = a_life(ledger)
        deliver(ledger)
        assert state(ledger, ids["done"]) == "delivered"
        ledger.pass_us(8 * DAY_US)
        more = True
        while more:
            _, more = ledger.run(calls.wake())
        streams = {"ev"}  # bounded by its length, and of people it names only who opted out or in
        for number in (PERSON, OTHER):
            left = {name.partition(":")[0] for name in naming(ledger, number)} - streams
            assert left <= {"o"}
    finally:
        ledger.close()
