"""What apps are owed, from the transition to the answer: the scripts in virtual time, the rest against a real app and server."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import fakeredis
import pytest
import time_machine
from app_kit import App, running_app
from ledger_kit import HOUR_US, START, TO, admit, finish, publication, queue, submit, take_now

from producers.endpoints import endpoint_of
from producers.events import as_fields, event_of
from producers.ledger import callbacks, calls
from producers.ledger.callbacks import Claimed, Settled
from producers.ledger.calls import Fact
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.callbacks import letters
from worker.callbacks.caller import Caller
from worker.callbacks.letters import Letter, write_letter
from worker.callbacks.post import Post, Posted, is_public
from worker.publication import publication as site_publication
from worker.settings import Config, parse_config
from worker.times import rfc3339

SECRET = "a secret of the tests"
URL = "https://app.example.com/events"
EXTRAS = b'{"callback_url":"https://app.example.com/events","metadata":{"order":7}}'
HERE = {"endpoint": endpoint_of(URL), "extras": EXTRAS}
DAY = timedelta(days=1)
CONFIG_TEXT = """
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "100/s"
[job_types.notice]
sender = "alerts"
[job_types.told]
sender = "alerts"
callback_url = "https://told.example.com/events"
"""
CONFIG = parse_config(CONFIG_TEXT)


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ledger" in metafunc.fixturenames:
        servers = ["fake"] if "clock" in metafunc.fixturenames else ["real"]
        metafunc.parametrize("ledger", servers, indirect=True)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "fake":
        request.getfixturevalue("clock")
        ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
    else:
        url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("namespace")
        ledger = Ledger(connect(url, answer_s=10), namespace)
    ledger.run(calls.publish(publication(), {}))
    ledger.run(calls.beat("p1", "first"))
    yield ledger
    ledger.redis.close()


def claim(ledger: Ledger, room: int = 64, **here: int) -> list[Claimed]:
    return ledger.run(callbacks.claim(room, here))


def settle(ledger: Ledger, claimed: Claimed, outcome: Any, **other: Any) -> str:
    return ledger.run(callbacks.settle([Settled(claimed, outcome, **other)]))[0]


def items(found: list[Claimed]) -> list[str]:
    return sorted(one.item for one in found)


def cancelled(ledger: Ledger, **other: Any) -> str:
    """A lone notification that has ended; what its app is owed: its message and its end."""
    id = submit(ledger, **{**HERE, **other})
    ledger.run(calls.cancel(id, 0))
    return id


def stream(ledger: Ledger) -> list[Any]:
    redis: Any = ledger.redis
    return [event_of(place.decode(), as_fields(fields)) for place, fields in redis.xrange(ledger.key("ev"))]


def keys(ledger: Ledger) -> set[str]:
    redis: Any = ledger.redis
    return {key.decode().split(":", 1)[1] for key in redis.keys(ledger.key("cb*"))}


# --- what is owed, and to whom it is given


def test_what_has_an_app_to_call_is_owed_with_its_end(ledger: Ledger) -> None:
    id = cancelled(ledger)
    assert items(claim(ledger)) == [f"m{id}-0", f"n{id}"]


def test_a_million_without_an_app_to_call_owe_nothing(ledger: Ledger) -> None:
    id = submit(ledger, messages=450)
    admit(ledger, id)
    ledger.run(calls.cancel(id, 0))
    assert keys(ledger) == set()


def test_of_many_each_message_is_owed_and_the_end_once(ledger: Ledger) -> None:
    id = submit(ledger, messages=3, **HERE)
    admit(ledger, id)
    ledger.run(calls.cancel(id, 0))
    assert items(claim(ledger)) == [*(f"m{id}-{i}" for i in range(3)), f"n{id}"][: callbacks.TO_ONE_ENDPOINT]


def test_a_process_has_few_in_flight_to_one_endpoint_and_others_get_theirs(ledger: Ledger) -> None:
    other = endpoint_of("https://other.example.com")
    for _ in range(5):
        cancelled(ledger)
    cancelled(ledger, endpoint=other)
    assert Counter(one.endpoint for one in claim(ledger, **{HERE["endpoint"]: 3})) == {HERE["endpoint"]: 1, other: 2}  # type: ignore[dict-item]
    assert len(claim(ledger, room=2)) == 2


def test_what_was_taken_is_due_again_only_when_its_lease_is_over(ledger: Ledger, clock: Any) -> None:
    cancelled(ledger)
    taken = claim(ledger)
    assert len(taken) == 2
    clock.shift(callbacks.LEASE_US / 1e6 - 0.1)
    assert claim(ledger) == []
    clock.shift(0.2)
    assert items(claim(ledger)) == items(taken), "whoever took it has died"


def test_what_was_told_is_owed_no_more_and_leaves_nothing_behind(ledger: Ledger) -> None:
    cancelled(ledger)
    taken = claim(ledger)
    assert [settle(ledger, one, "told") for one in taken] == ["done", "done"]
    assert [settle(ledger, one, "told") for one in taken] == ["known", "known"]
    ledger.redis.zadd(ledger.key("cb"), {HERE["endpoint"]: 0})  # look at once
    assert claim(ledger) == []
    assert keys(ledger) == set()


def test_what_changes_while_it_is_told_is_told_again(ledger: Ledger) -> None:
    mid = queue(ledger, **HERE)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F")]))
    told = next(one for one in claim(ledger) if one.item == f"m{mid}")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    assert settle(ledger, told, "told") == "again"
    assert items(claim(ledger)) == [f"m{mid}"]


def test_a_failure_is_repeated_within_5_s_then_after_twice_as_long_each_time_for_a_day(
    ledger: Ledger, clock: Any
) -> None:
    id = cancelled(ledger)
    settle(ledger, next(one for one in claim(ledger) if one.item[0] == "n"), "told")
    waits, first = [], datetime.now(UTC)
    ledger.redis.zadd(ledger.key(f"cb:{HERE['endpoint']}"), {f"m{id}-0": 0})
    ledger.redis.zadd(ledger.key("cb"), {HERE["endpoint"]: 0})
    while True:
        (one,) = claim(ledger)
        word = settle(ledger, one, "failed", why="http_500")
        ledger.redis.delete(ledger.key(f"cbb:{HERE['endpoint']}"))  # its endpoint's rest is another test's
        if word == "dead":
            break
        began = datetime.now(UTC)
        due = ledger.redis.zscore(ledger.key(f"cb:{HERE['endpoint']}"), one.item)
        clock.move_to(datetime.fromtimestamp(due / 1e6, UTC) + timedelta(milliseconds=1))
        waits.append((datetime.now(UTC) - began).total_seconds())
    assert waits[0] < 5
    assert all(later == pytest.approx(2 * sooner, rel=0.01) for sooner, later in pairwise(waits[:-1]))
    assert datetime.now(UTC) - first == pytest.approx(DAY, abs=timedelta(seconds=1))
    (dead,) = callbacks.read_dead_callbacks(ledger, limit=10)
    assert (dead.about, dead.why) == (f"{id}-0", "http_500")
    assert claim(ledger) == []
    assert ledger.run(callbacks.call_again([dead.id])) == ["again"]
    assert ledger.run(callbacks.call_again([dead.id])) == ["known"]
    assert items(claim(ledger)) == [f"m{id}-0"]
    assert callbacks.read_dead_callbacks(ledger, limit=10) == []


def test_an_endpoint_that_fails_rests_for_all_then_one_call_asks_whether_it_is_back(ledger: Ledger, clock: Any) -> None:
    for _ in range(6):
        cancelled(ledger)
    failing: list[Claimed] = []
    while len(failing) < 5:
        taken = claim(ledger)
        for one in taken:
            settle(ledger, one, "failed", why="timeout")
        failing += taken
        clock.shift(0.001)
    assert claim(ledger) == [], "it rests, whatever else is due"
    clock.shift(6)
    cancelled(ledger)
    (probe,) = claim(ledger)
    assert claim(ledger) == [], "one at a time"
    settle(ledger, probe, "failed", why="timeout")
    clock.shift(6)
    assert claim(ledger) == [], "the second rest is longer"
    clock.shift(6)
    (probe,) = claim(ledger)
    settle(ledger, probe, "told")
    assert len(claim(ledger)) == callbacks.TO_ONE_ENDPOINT


def test_what_an_endpoint_that_failed_all_day_was_owed_is_given_up_untried(ledger: Ledger, clock: Any) -> None:
    for _ in range(200):
        cancelled(ledger)
    for _ in range(12 * 24 + 10):  # a probe every five minutes
        for one in claim(ledger):
            settle(ledger, one, "failed", why="connect")
        clock.shift(301)
    dead = callbacks.read_dead_callbacks(ledger, limit=1000)
    assert {one.why for one in dead} == {"endpoint_failing"}
    left: Any = ledger.redis.zcard(ledger.key(f"cb:{HERE['endpoint']}"))
    assert len(dead) + left == 400
    assert len(dead) > 100


def test_a_410_ends_the_callbacks_of_its_notification(ledger: Ledger) -> None:
    mid = queue(ledger, **HERE)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="F")]))
    for one in claim(ledger):
        assert settle(ledger, one, "gone") == "done"
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    ledger.redis.zadd(ledger.key("cb"), {HERE["endpoint"]: 0})
    assert claim(ledger) == []
    assert callbacks.read_dead_callbacks(ledger, limit=10) == []


def test_dead_callbacks_are_bounded_by_number_and_age(ledger: Ledger, clock: Any) -> None:
    for _ in range(3):
        cancelled(ledger)
        for one in claim(ledger):
            assert settle(ledger, one, "refused", why="private_address") == "dead"
    assert len(callbacks.read_dead_callbacks(ledger, limit=10)) == 6
    clock.shift(604_801)
    ledger.run(calls.beat("p1", "first"))
    claim(ledger)
    assert callbacks.read_dead_callbacks(ledger, limit=10) == []
    assert not ledger.redis.exists(ledger.key("cbw"))


def test_wake_points_at_what_is_owed_now_and_then(ledger: Ledger, clock: Any) -> None:
    cancelled(ledger)
    kinds = [[str(p.kind) for p in ledger.run(calls.wake())[0]] for _ in range(3)]
    assert [kind.count("call") for kind in kinds] == [1, 0, 0]
    clock.shift(0.5)
    assert "call" in [str(p.kind) for p in ledger.run(calls.wake())[0]], "a pointer may have been lost"
    for one in claim(ledger):
        settle(ledger, one, "told")
    clock.shift(1)
    claim(ledger)
    assert ledger.run(calls.wake())[0] == []


# --- what is told


def letter_of(ledger: Ledger, item: str) -> dict[str, Any] | None:
    letter = write_letter(item, ledger=ledger, config=CONFIG)
    if letter is None:
        return None
    body: dict[str, Any] = json.loads(letter.body)
    assert letter.id == body["id"]
    return {**body, "url": letter.url}


@pytest.mark.parametrize("messages", [1, 2])
def test_clicks_and_replies_are_told_beside_the_end_of_their_message(ledger: Ledger, messages: int) -> None:
    id = submit(ledger, messages=messages, **HERE)
    admit(ledger, id)
    taken = take_now(ledger)[0]
    mid, to = taken.message, taken.to[0]
    finish(ledger, taken, "accepted")
    told = {"occurred_us": 0, "source": "webhook"}
    written = json.dumps({"from": to, "to": ["+13125550001"], "text": "yes"})
    ours = Fact(ref=mid, provider_id=f"pid-{mid}", state="D", from_number="+13125550001")
    ledger.run(calls.receipt("", [ours]))
    assert ledger.run(calls.click("c1", f"pid-{mid}", "https://s.example/x")) == "counted"
    ledger.run(calls.opt(to, "", scopes=[], evidence="e1", inbound=written, **told))  # type: ignore[arg-type]
    letters = [letter_of(ledger, item) for item in items(claim(ledger))]
    ended = {letter["type"]: letter["message"] for letter in letters if letter}
    assert ended["message.final"] == ended["link.clicked"] == mid
    assert "inbound.received" in ended


def test_the_id_and_the_version_are_those_of_the_stream(ledger: Ledger) -> None:
    mid = queue(ledger, **HERE)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    told = []
    for letter in "FD":
        ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state=letter)]))
        told.append(letter_of(ledger, f"m{mid}"))
    told.insert(1, letter_of(ledger, f"n{mid[:32]}"))
    keys = ("type", "id", "notification", "version")
    assert [tuple(one[key] for key in keys) for one in told if one] == [
        (event.type, event.id, event.notification, event.version) for event in stream(ledger)
    ]
    assert [one["type"] for one in told if one] == ["message.final", "notification.finished", "message.corrected"]
    assert [one["state"] for one in told if one] == ["failed", None, "delivered"]
    last = told[-1]
    assert last is not None
    assert last["url"] == URL
    assert (last["metadata"], last["to"], last["attempts"], last["schema"]) == ({"order": 7}, TO, 1, 1)
    assert last["at"].endswith("Z")


def test_a_correction_while_the_letter_is_written_makes_no_event_of_two(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = submit(ledger, **HERE)
    admit(ledger, id)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    fact = Fact(ref=f"{id}-0", provider_id=f"pid-{id}-0", state="X")
    ledger.run(calls.receipt("", [fact]))
    read = letters.read_message

    reads = itertools.count(1)

    def read_late(ledger: Ledger, entry: str) -> Any:
        if next(reads) < 2:  # what its notification is read with
            return read(ledger, entry)
        ledger.run(calls.receipt("", [dataclasses.replace(fact, state="D")]))
        return read(ledger, entry)

    monkeypatch.setattr(letters, "read_message", read_late)
    letter = write_letter(f"m{id}-0", ledger=ledger, config=CONFIG)
    assert letter is not None
    corrected = next(event for event in stream(ledger) if event.type == "message.corrected")
    body = json.loads(letter.body)
    assert (body["id"], body["type"], body["state"]) == (corrected.id, "message.corrected", "delivered")


def test_a_notification_that_finished_tells_its_counts(ledger: Ledger) -> None:
    id = submit(ledger, messages=3, **HERE)
    admit(ledger, id)
    ledger.run(calls.cancel(id, 0))
    (finished,) = [event for event in stream(ledger) if event.type == "notification.finished"]
    assert finished.counts == {"cancelled": 3}
    told = letter_of(ledger, f"n{id}")
    assert told is not None
    assert (told["id"], told["counts"], told["message"]) == (finished.id, {"cancelled": 3}, None)


def test_what_is_under_way_again_is_not_told(ledger: Ledger) -> None:
    mid = queue(ledger, **HERE)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "rejected", code="40310", why="40310")
    assert ledger.run(calls.leg(mid, 2, "replay", valid_for_us=HOUR_US)).outcome == "made"
    assert letter_of(ledger, f"m{mid}") is None
    assert letter_of(ledger, f"n{mid[:32]}") is None
    ledger.run(calls.cancel(mid[:32], 0))
    told = letter_of(ledger, f"n{mid[:32]}")
    assert told is not None
    assert told["version"] == 2, "it has finished twice"
    assert [event.id for event in stream(ledger)][-1] == told["id"]
    assert letter_of(ledger, f"m{mid}-2") is None, "an entry is told by its own id"


def test_a_job_type_names_who_is_called_and_a_request_names_another(ledger: Ledger) -> None:
    mine = cancelled(ledger, job_type="told", extras=b"")
    theirs = cancelled(ledger, job_type="told")
    nobodys = cancelled(ledger, extras=b"")  # its job type has lost its callback_url
    urls = [(letter_of(ledger, f"n{id}") or {}).get("url") for id in (mine, theirs, nobodys)]
    assert urls == ["https://told.example.com/events", URL, None]


def test_every_change_is_told_on_the_stream_if_that_is_asked(ledger: Ledger) -> None:
    wanted = publication(digest="every")
    wanted["storage"]["every_event"] = True
    ledger.run(calls.publish(wanted, {}))
    mid = queue(ledger)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D")]))
    assert [(event.type, event.state) for event in stream(ledger)] == [
        ("message.changed", "queued"), ("message.changed", "sending"), ("message.changed", "accepted"),
        ("message.final", "delivered"), ("notification.finished", ""),
    ]  # fmt: skip
    assert len({event.id for event in stream(ledger)}) == 5


# --- how it gets there


@pytest.fixture
def app() -> Iterator[App]:
    with running_app(SECRET) as app:
        yield app


def run(work: Callable[[Post], Coroutine[Any, Any, Any]], *, allow_private: bool = True) -> Any:
    async def whole() -> Any:
        post = Post(SECRET, allow_private=allow_private)
        try:
            return await work(post)
        finally:
            await post.close()

    return asyncio.run(whole())


def a_letter(url: str) -> Letter:
    return Letter("e1", url, b'{"id":"e1","type":"message.final","message":"m","notification":"n"}')


def test_a_receiver_verifies_what_we_sign(app: App) -> None:
    assert run(lambda post: post.send(a_letter(app.url))) == Posted("told")
    assert [event["id"] for event in app.heard] == ["e1"], "verified by the library"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, Posted("told")),
        (301, Posted("failed", "http_301")),
        (400, Posted("failed", "http_400")),
        (404, Posted("failed", "http_404")),
        (410, Posted("gone", "http_410")),
        (503, Posted("failed", "http_503", 7)),
    ],
)
def test_only_2xx_tells_410_ends_and_everything_else_is_repeated(app: App, status: int, expected: Posted) -> None:
    app.answers = [status]
    app.headers = {"Location": app.url, "Retry-After": "7" if status == 503 else "soon"}
    assert run(lambda post: post.send(a_letter(app.url))) == expected
    assert len(app.heard) == 1, "no redirect is followed"


def test_an_answer_of_any_length_is_not_read(app: App) -> None:
    app.body = b"x" * 50_000_000
    assert run(lambda post: post.send(a_letter(app.url))) == Posted("told")


def test_a_connection_serves_more_than_one_call(app: App) -> None:
    async def thrice(post: Post) -> None:
        for _ in range(3):
            await post.send(a_letter(app.url))

    run(thrice)
    assert len(app.connections) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://0.0.0.0:1/"])
def test_no_private_address_is_called_whatever_it_is_written_as(url: str) -> None:
    assert run(lambda post: post.send(a_letter(url)), allow_private=False) == Posted("refused", "private_address")


def test_a_name_that_leads_to_a_private_address_is_not_called(app: App) -> None:
    url = app.url.replace("127.0.0.1", "localhost")
    assert run(lambda post: post.send(a_letter(url)), allow_private=False) == Posted("refused", "private_address")
    assert app.heard == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "::",
        "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1",
        "255.255.255.255", "ff02::1",
    ],
)  # fmt: skip
def test_an_address_that_not_everybody_reaches_is_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_that_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


def test_nobody_there_is_a_failure_and_no_url_a_refusal() -> None:
    assert run(lambda post: post.send(a_letter("http://127.0.0.1:1/"))) == Posted("failed", "connect")
    assert run(lambda post: post.send(a_letter("http:///nowhere"))).outcome == "refused"


# --- when: the caller


def caller_of(ledger: Ledger, post: Any, **other: Any) -> Caller:
    return Caller(ledger, CONFIG, lambda: post, **other)


async def until(condition: Callable[[], Any], *, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def owed_to(app: App, ledger: Ledger, count: int) -> list[str]:
    extras = f'{{"callback_url":"{app.url}"}}'.encode()
    return [cancelled(ledger, extras=extras, endpoint=endpoint_of(app.url)) for _ in range(count)]


def test_everything_that_is_owed_reaches_its_app_once(ledger: Ledger, app: App) -> None:
    ids = owed_to(app, ledger, 20)

    async def work(post: Post) -> None:
        caller = caller_of(ledger, post)
        await caller.call_what_is_due()

    run(work)
    assert Counter((e["type"], e["notification"]) for e in app.heard) == {
        (kind, id): 1 for id in ids for kind in ("message.final", "notification.finished")
    }
    assert app.most_open <= callbacks.TO_ONE_ENDPOINT


def test_an_app_that_is_answered_gets_what_was_written_and_a_click_its_url_until_they_are_erased(
    ledger: Ledger, app: App
) -> None:
    id = submit(ledger, extras=f'{{"callback_url":"{app.url}"}}'.encode(), endpoint=endpoint_of(app.url))
    admit(ledger, id)
    (taken,) = take_now(ledger)
    finish(ledger, taken, "accepted")
    mid, to, ours = taken.message, taken.to[0], "+13125550001"
    ledger.run(calls.receipt("", [Fact(ref=mid, provider_id=f"pid-{mid}", state="D", from_number=ours)]))
    assert ledger.run(calls.click("c1", f"pid-{mid}", "https://s.example/x")) == "counted"
    written = {"type": "MMS", "from": to, "to": [ours], "text": "yes", "media_urls": ["https://m.example/1"]}
    written_by = {"scopes": [], "occurred_us": 0, "source": "webhook", "evidence": "e1", "inbound": json.dumps(written)}
    ledger.run(calls.opt(to, "", **written_by))  # type: ignore[arg-type]

    async def work(post: Post) -> None:
        await caller_of(ledger, post).call_what_is_due()

    run(work)
    (letter,) = app.of("inbound.received")
    told = letter["inbound"]
    assert {name: told[name] for name in written} == written
    assert (letter["message"], letter["reply_to"], told["reply_to"], letter["notification"]) == (mid, mid, mid, id)
    assert not {"r", "in", "u"} & set(letter) and letter["schema"] == 1
    (clicked,) = app.of("link.clicked")
    assert (clicked["url"], clicked["message"]) == ("https://s.example/x", mid)
    (event,) = (event for event in stream(ledger) if event.type == "inbound.received")
    assert event.id == letter["id"] and event.details == {"inbound": told["id"], "reply_to": mid}
    ledger.redis.delete(ledger.key("in"))
    erased = letter_of(ledger, f"e{event.cursor}")
    assert erased is not None and erased["inbound"] is None and erased["id"] == letter["id"]


def opt_outs_go_to(app: App, ledger: Ledger) -> Config:
    """A configuration that names the app, published."""
    config = parse_config(f'{CONFIG_TEXT}[callbacks]\nopt_outs = "{app.url}"\n')
    ledger.run(calls.publish(site_publication(config, release=2), {}))
    return config


def say(ledger: Ledger, direction: Any, *, scope: str = "sender:alerts", occurred_us: int = 0) -> None:
    said = calls.opt(TO, direction, scopes=[scope], occurred_us=occurred_us, source="webhook", evidence="e1")
    assert ledger.run(said) == 1


def test_an_opt_out_is_called_in_to_the_site_until_it_is_heard_as_the_stream_says_it(ledger: Ledger, app: App) -> None:
    config = opt_outs_go_to(app, ledger)
    app.answers = [503]
    said_us = 1_764_000_000_123_456
    say(ledger, "out", occurred_us=said_us)
    (event,) = stream(ledger)
    endpoint = endpoint_of(app.url)

    async def work(post: Post) -> None:
        await Caller(ledger, config, lambda: post).call_what_is_due()
        for key, member in ((f"cb:{endpoint}", f"e{event.cursor}"), ("cb", endpoint)):
            ledger.redis.zadd(ledger.key(key), {member: 0}, xx=True)  # the time of its repeat has come
        await Caller(ledger, config, lambda: post).call_what_is_due()

    run(work)
    failed, told = app.heard
    assert failed == told, "under the same id"
    assert told == {
        "type": "opt_out.changed", "id": event.id, "schema": 1, "notification": None, "message": None, "state": "out",
        "version": event.version, "at": rfc3339(event.at), "number": TO, "scope": "sender:alerts", "source": "webhook",
        "occurred_at": "2025-11-24T16:00:00.123Z",
    }  # fmt: skip
    assert event.details == {"scope": "sender:alerts", "source": "webhook", "occurred_us": str(said_us)}
    assert (event.type, event.message, event.state) == ("opt_out.changed", TO, "out")
    assert keys(ledger) <= {"cb"}, "and owed no more"


def test_of_an_opt_out_that_was_taken_back_only_what_holds_is_told(ledger: Ledger, app: App) -> None:
    config = opt_outs_go_to(app, ledger)
    say(ledger, "out")
    say(ledger, "in")
    say(ledger, "out", scope="global")
    run(lambda post: Caller(ledger, config, lambda: post).call_what_is_due())
    assert {(told["scope"], told["state"]) for told in app.heard} == {("sender:alerts", "in"), ("global", "out")}
    versions = [event.version for event in stream(ledger)]
    assert versions == sorted(set(versions)), "the later word is the newer one"


def test_an_opt_out_that_could_not_be_told_is_a_dead_letter_and_is_called_in_again(ledger: Ledger, app: App) -> None:
    config = opt_outs_go_to(app, ledger)
    say(ledger, "out")
    run(lambda post: Caller(ledger, config, lambda: post).call_what_is_due(), allow_private=False)
    (dead,) = callbacks.read_dead_callbacks(ledger, limit=10)
    assert dead.why == "private_address" and app.heard == []
    assert ledger.run(callbacks.call_again([dead.id])) == ["again"]
    run(lambda post: Caller(ledger, config, lambda: post).call_what_is_due())
    assert [told["number"] for told in app.heard] == [TO]


def test_where_no_app_wants_opt_outs_they_owe_nothing_and_are_on_the_stream(ledger: Ledger) -> None:
    say(ledger, "out")
    assert keys(ledger) == set()
    assert [event.type for event in stream(ledger)] == ["opt_out.changed"]
    assert letter_of(ledger, f"e{stream(ledger)[0].cursor}") is None


def test_a_silent_endpoint_holds_up_nobody_else(ledger: Ledger, app: App) -> None:
    owed_to(app, ledger, 5)
    with running_app(SECRET) as silent:
        silent.silent.set()
        owed_to(silent, ledger, 10)

        async def work(post: Post) -> None:
            caller = caller_of(ledger, post)
            pump = asyncio.create_task(caller.call_what_is_due())
            await until(lambda: len(app.heard) == 10 and silent.open == callbacks.TO_ONE_ENDPOINT)
            owed_to(app, ledger, 1)
            await caller.call_what_is_due()  # a later job: the first one looks again
            await until(lambda: len(app.heard) == 12)
            silent.silent.clear()
            await pump

        run(work)
        assert (silent.most_open, len(silent.heard)) == (callbacks.TO_ONE_ENDPOINT, 20)


def test_what_fails_stays_owed(ledger: Ledger, app: App) -> None:
    owed_to(app, ledger, 1)
    app.answers = [500, 500]

    async def work(post: Post) -> None:
        await caller_of(ledger, post).call_what_is_due()

    run(work)
    assert len(app.heard) == 2
    assert ledger.redis.zcard(ledger.key(f"cb:{endpoint_of(app.url)}")) == 2


def test_a_process_on_its_way_out_takes_none(ledger: Ledger, app: App) -> None:
    owed_to(app, ledger, 1)
    run(lambda post: caller_of(ledger, post, stopping=lambda: True).call_what_is_due())
    assert app.heard == []
    assert len(claim(ledger)) == 2
