"""Senders that are chosen by recipient: what is remembered of people, and what expansion makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledger_kit import lane, publication, queue
from redis import Redis
from virtual_time import DAY_US, SECOND_US, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import Admission
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_notification
from producers.ledger.sticky import remembered
from producers.notifier import Notifier
from worker import expansion
from worker.choosing import Chooser, read_facts
from worker.expansion import expand
from worker.forgetting import forget
from worker.publication import publication as publication_of
from worker.routing import Route
from worker.settings import Config, parse_config

PERSON, NEIGHBOUR = "+13125550100", "+14155550100"  # in one hash: the last four digits are the same
SPAN_S = 10 * 86_400


@pytest.fixture(params=["fake", "real"])
def virtual(request: pytest.FixtureRequest) -> Iterator[VirtualLedger]:
    redis: Any = None
    namespace = "t"
    if request.param == "real":
        redis = Redis.from_url(request.getfixturevalue("redis_url"))
        namespace = request.getfixturevalue("namespace")
    ledger = VirtualLedger(redis, namespace)
    body = publication({"alerts": lane("alerts", "s:alerts", profile="p1")}, {"s:alerts": {"t_us": 1_000}})
    body["storage"] |= {"sticky_s": SPAN_S}
    ledger.run(calls.publish(body, {}))
    yield ledger
    ledger.close()


def write_to(ledger: Ledger, sender: str, *, person: str = PERSON) -> None:
    """They text one of our numbers."""
    ledger.run(calls.opt(person, "", scopes=[f"sy:{sender}"], source="webhook", evidence="e"))


def known(ledger: Ledger, person: str = PERSON) -> tuple[str, ...]:
    return ledger.run(remembered([person])).get(person, ())


def test_the_newest_sender_stands_first_and_each_stands_once(virtual: VirtualLedger) -> None:
    for sender in ("a", "b", "a", "c"):
        write_to(virtual, sender)
    assert known(virtual) == ("c", "a", "b")
    assert known(virtual, NEIGHBOUR) == ()


def test_a_person_is_remembered_by_few_senders_and_few_bytes(virtual: VirtualLedger) -> None:
    for sender in ("a", "b", "c", "d", "e"):
        write_to(virtual, sender)
    assert known(virtual) == ("e", "d", "c", "b")
    for sender in ("x" * 40, "y" * 40):
        write_to(virtual, sender)
    assert known(virtual) == ("y" * 40, "e", "d", "c")
    assert len(" ".join(known(virtual))) <= 64


def test_what_is_used_lives_on_and_what_is_not_is_gone_after_twice_its_time_at_the_latest(
    virtual: VirtualLedger,
) -> None:
    write_to(virtual, "a")
    write_to(virtual, "b", person=NEIGHBOUR)
    start_us = virtual.now_us
    for days in range(5, 31, 5):
        virtual.at(start_us + days * DAY_US)
        assert known(virtual) == ("a",)
        write_to(virtual, "a")
    assert known(virtual, NEIGHBOUR) == ()
    virtual.at(start_us + 30 * DAY_US + 9 * DAY_US)
    assert known(virtual) == ("a",)


def test_the_keys_of_a_generation_expire_as_a_whole(virtual: VirtualLedger) -> None:
    write_to(virtual, "a")
    (key,) = list(virtual.redis.scan_iter(match=f"{virtual.prefix}sy:*"))  # type: ignore[union-attr]
    left_ms: Any = virtual.redis.pexpiretime(key)
    span_us = SPAN_S * SECOND_US
    assert left_ms == (virtual.now_us // span_us + 2) * span_us // 1000


def test_a_full_hash_forgets_somebody_else(virtual: VirtualLedger) -> None:
    write_to(virtual, "a")
    (key,) = list(virtual.redis.scan_iter(match=f"{virtual.prefix}sy:*"))  # type: ignore[union-attr]
    for i in range(499):
        virtual.redis.hset(key, f"+1{i:06}0100", "b")
    write_to(virtual, "c", person=NEIGHBOUR)
    assert virtual.redis.hlen(key) == 500
    assert known(virtual, NEIGHBOUR) == ("c",)


def test_what_is_admitted_is_remembered_and_what_is_refused_is_not(virtual: VirtualLedger) -> None:
    from ledger_kit import submit

    out, late = "+13125550102", "+13125550103"
    virtual.run(calls.opt(out, "out", scopes=["global"], source="cli", evidence="x"))
    for to, valid_us, sender in ((PERSON, DAY_US, "alerts"), (out, DAY_US, ""), (late, 1, "")):
        id = submit(virtual, to=to, valid_for_us=valid_us)
        virtual.at(virtual.now_us + 10)
        virtual.run(calls.admit(id, None, "", [Admission(to=to, lane="alerts", content="{}", sticky="alerts")]))
        assert known(virtual, to) == ((sender,) if sender else ())
    queue(virtual, to=NEIGHBOUR)
    assert known(virtual, NEIGHBOUR) == ()


def test_a_person_who_is_forgotten_is_remembered_by_no_sender(virtual: VirtualLedger) -> None:
    write_to(virtual, "a")
    write_to(virtual, "b", person=NEIGHBOUR)
    forget(virtual, PERSON)
    assert known(virtual) == ()
    assert known(virtual, NEIGHBOUR) == ("b",)


TOML = """
[senders.one]
channel = "long_code"
from = "+13125550001"
rate = "10/s"
[senders.two]
channel = "long_code"
from = "+13125550002"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "10/s"
[senders.three]
channel = "long_code"
from = "+13125550003"
rate = "10/s"
[senders.abroad]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "10/s"
[senders.families]
channel = "group_mms"
from = "+13125550004"
rate = "10/s"
[senders.families_too]
channel = "group_mms"
from = "+13125550005"
rate = "10/s"
[job_types.news]
routes = [
    { countries = ["US", "CA"], senders = ["one", "two", "three"] },
    { countries = ["GB"], senders = ["abroad"] },
]
[job_types.care]
sticky = true
routes = [{ senders = ["one", "two", "three"] }]
fallback = [{ sender = "two", after = "60s" }, { sender = "three", after = "60s" }]
[job_types.reminder]
sticky = true
routes = [{ senders = ["one", "two"] }]
[job_types.family]
routes = [{ senders = ["families", "families_too"] }]
[job_types.plain]
sender = "one"
"""
LONDON, BERLIN = "+447700900123", "+4915112345678"


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TOML)


@pytest.fixture
def published(ledger: Ledger, config: Config) -> Ledger:
    ledger.run(calls.publish(publication_of(config, release=1), {}))
    return ledger


@pytest.fixture
def notifier(redis_url: str, namespace: str, published: Ledger) -> Notifier:
    return Notifier(redis_url, namespace=namespace)


def lanes_of(
    ledger: Ledger, config: Config, notifier: Notifier, job_type: str, to: Any, **fields: Any
) -> dict[str, str]:
    """Enqueue and expand; the lane of each recipient, or the reason of its end."""
    ticket = notifier.enqueue(job_type, to=to, **{"text": "hello", **fields})
    while True:
        done = expand(ticket.id, None, ledger=ledger, config=config, point=lambda *_: None)
        if done.next_cursor is None:
            break
    return lanes_of_ticket(ledger, ticket.id)


def lanes_of_ticket(ledger: Ledger, id: str) -> dict[str, str]:
    seen = read_notification(ledger, id, limit=1_000)
    assert seen is not None
    return {",".join(m.to) if isinstance(m.to, list) else m.to: m.lane or m.timeline[-1].reason for m in seen.messages}


def test_each_recipient_of_one_notification_has_the_sender_of_their_country(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    found = lanes_of(published, config, notifier, "news", [*numbers(300), LONDON, BERLIN])
    assert (found[LONDON], found[BERLIN]) == ("abroad", "no_route")
    counts = Counter(found[number] for number in numbers(300))
    assert set(counts) == {"one", "two", "three"} and min(counts.values()) > 75


def test_all_of_them_share_one_content_whatever_their_sender(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    ticket = notifier.enqueue("news", to=[*numbers(20), LONDON], text="hello")
    expand(ticket.id, None, ledger=published, config=config, point=lambda *_: None)
    redis: Any = published.redis
    assert redis.get(published.key(f"t:{ticket.id}")) == b'{"text":"hello"}'
    assert not any(redis.hexists(published.key(f"m:{ticket.id}-{i}"), "ct") for i in range(21))


def test_the_mms_of_a_chosen_sender_goes_by_its_mms_lane_and_never_by_one_that_carries_none(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    media = ["https://example.com/a.jpg"]
    found = lanes_of(published, config, notifier, "news", [*numbers(20), LONDON], media_urls=media)
    assert {found[number] for number in numbers(20)} == {"one.mms", "two.mms", "three.mms"}
    assert found[LONDON] == "content"


def test_a_paused_sender_gets_nobody_new_and_keeps_what_it_has(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    before = lanes_of(published, config, notifier, "news", numbers(60))
    published.run(calls.lane("two", "pause", "operator"))
    redis: Any = published.redis
    waiting = redis.zcard(published.key("q:two:1"))
    after = lanes_of(published, config, notifier, "news", numbers(60))
    assert "two" not in after.values()
    assert {n for n in before if before[n] != after[n]} == {n for n in before if before[n] == "two"}
    assert redis.zcard(published.key("q:two:1")) == waiting == Counter(before.values())["two"]
    published.run(calls.lane("two", "resume", ""))
    assert lanes_of(published, config, notifier, "news", numbers(60)) == before


def test_a_paused_mms_lane_says_nothing_of_the_senders_sms(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    before = lanes_of(published, config, notifier, "news", numbers(30))
    published.run(calls.lane("two.mms", "pause", "operator"))
    assert lanes_of(published, config, notifier, "news", numbers(30)) == before


def test_a_paused_mms_lane_gets_no_mms(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    published.run(calls.lane("two.mms", "pause", "operator"))
    media = ["https://example.com/a.jpg"]
    found = lanes_of(published, config, notifier, "news", numbers(30), media_urls=media)
    assert set(found.values()) == {"one.mms", "three.mms"}


def test_a_sticky_person_keeps_the_sender_that_took_over_and_others_go_back(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    care = lanes_of(published, config, notifier, "care", numbers(30))
    published.run(calls.lane("two", "pause", "operator"))
    during = lanes_of(published, config, notifier, "care", numbers(30))
    published.run(calls.lane("two", "resume", ""))
    assert lanes_of(published, config, notifier, "care", numbers(30)) == during != care


def test_job_types_agree_on_a_persons_number_and_who_writes_is_answered_from_there(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    for number in numbers(20):
        write_to(published, "two", person=number)
    for job_type in ("care", "reminder"):
        assert set(lanes_of(published, config, notifier, job_type, numbers(20)).values()) == {"two"}
    for number in numbers(20):
        write_to(published, "three", person=number)
    assert set(lanes_of(published, config, notifier, "care", numbers(20)).values()) == {"three"}
    assert set(lanes_of(published, config, notifier, "reminder", numbers(20)).values()) == {"two"}


def test_what_is_repeated_after_a_death_has_one_sender_though_the_choice_has_changed(
    published: Ledger, config: Config, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers have loaded the same message; between their choices its sender is paused."""
    ticket = notifier.enqueue("news", to=PERSON, text="hello")
    real, chosen = expansion.plan, []

    def overtaken(*args: Any) -> Any:
        made = real(*args)
        chosen.append(made.items[0].lane)
        if len(chosen) == 1:
            published.run(calls.lane(chosen[0], "pause", "operator"))
            expand(ticket.id, None, ledger=published, config=config, point=lambda *_: None)
        return made

    monkeypatch.setattr(expansion, "plan", overtaken)
    expand(ticket.id, None, ledger=published, config=config, point=lambda *_: None)
    first, second = chosen
    assert first != second  # the second one saw the pause, and was admitted first
    assert lanes_of_ticket(published, ticket.id) == {PERSON: second}
    redis: Any = published.redis
    assert [redis.zcard(published.key(f"q:{name}:1")) for name in (first, second)] == [0, 1]


def test_a_person_who_sent_stop_to_the_chosen_sender_is_not_texted_from_another(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    (sender,) = lanes_of(published, config, notifier, "news", PERSON).values()
    published.run(calls.opt(PERSON, "out", scopes=[f"sender:{sender}"], source="webhook", evidence="e1"))
    ticket = notifier.enqueue("news", to=PERSON, text="again")
    expand(ticket.id, None, ledger=published, config=config, point=lambda *_: None)
    seen = read_notification(published, ticket.id, limit=1)
    assert seen is not None and seen.messages[0].state == "opted_out"


def test_a_fallback_over_the_sender_that_was_chosen_is_left_out(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    write_to(published, "two")
    ticket = notifier.enqueue("care", to=PERSON, text="hello")
    expand(ticket.id, None, ledger=published, config=config, point=lambda *_: None)
    redis: Any = published.redis
    steps = [json.loads(step)["l"] for step in redis.lrange(published.key(f"fb:{ticket.id}-0"), 0, -1)]
    assert steps == ["three"]


def test_a_group_has_one_sender_every_time_and_is_not_remembered(
    published: Ledger, config: Config, notifier: Notifier, numbers: Callable[[int], list[str]]
) -> None:
    groups = [numbers(40)[i : i + 2] for i in range(0, 40, 2)]
    first = [lanes_of(published, config, notifier, "family", group) for group in groups]
    assert [lanes_of(published, config, notifier, "family", group) for group in groups] == first
    assert len({lane for found in first for lane in found.values()}) == 2
    assert not list(published.redis.scan_iter(match=f"{published.prefix}sy:*"))


def test_a_job_type_without_routes_asks_redis_nothing_more(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    ticket = notifier.enqueue("plain", to=PERSON, text="hello")
    loaded = published.run(calls.load(ticket.id, None))
    assert loaded is not None and expansion.facts_for([loaded], config, published) is None


def test_facts_know_what_rests_and_why(published: Ledger, config: Config) -> None:
    redis: Any = published.redis
    far_us = int(redis.time()[0] + 3_600) * SECOND_US
    redis.hset(published.key("b:s:one"), mapping={"hold": far_us, "why": "40312"})
    job = config.job_types["care"]
    facts = read_facts(published, config, [(job, [PERSON])])
    chosen = Chooser(job, config=config, facts=facts).choose(PERSON, Route, whole=True)
    assert chosen.sender in ("two", "three")
    held = [step for step in chosen.steps if step.sender == "one"]
    assert all(step.why in ("held", "later") for step in held)
    assert facts.lanes is not None and facts.lanes["one"].reason == "40312"
