"""The actors on a real server, run by Dramatiq itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import dramatiq
import pytest
import structlog
from dramatiq.brokers.redis import RedisBroker
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producers.fields import compact_json
from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.ledger.reading import read_message, read_notification
from producers.notifier import Notifier
from producers.pointers import Pointers, broker_namespace
from worker import patience, reconciliation
from worker.actors import register
from worker.actors.context import Context
from worker.expansion import LATE_TRIES, expand
from worker.patience import patiently
from worker.publication import publication
from worker.reconciliation import reconcile
from worker.settings import Config, parse_config
from worker.telnyx.facts import fact_from_message
from worker.telnyx.gateway import Facts

TOML = """
[senders.local]
channel = "long_code"
from = "+13125550001"
campaign = "C1"
rate = "10/s"
[senders.family]
channel = "group_mms"
from = "+13125550002"
rate = "1/s"
[campaigns.C1]
class = "A"
[job_types.code]
sender = "local"
priority = "urgent"
template = "Your code is {{ code }}"
[job_types.notice]
sender = "local"
priority = "bulk"
[job_types.family]
sender = "family"
"""
OTHER_PID = "50385f64-5717-4562-b3fc-2c963f66afa6"
PID = "40385f64-5717-4562-b3fc-2c963f66afa6"
Numbers = Callable[[int], list[str]]


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TOML)


@pytest.fixture
def published(ledger: Ledger, config: Config) -> Ledger:
    ledger.run(calls.publish(publication(config, release=1), {}))
    return ledger


@pytest.fixture
def notifier(redis_url: str, namespace: str, published: Ledger) -> Notifier:
    return Notifier(redis_url, namespace=namespace)


class Points:
    """Where expand points at the next chunk."""

    def __init__(self) -> None:
        self.at: list[tuple[str, bool, str | None]] = []

    def __call__(self, notification: str, urgent_and_small: bool, cursor: str | None = None) -> None:
        self.at.append((notification, urgent_and_small, cursor))


def content_of(ledger: Ledger, message: str) -> dict[str, Any]:
    """The content that would go out, as take gives it."""
    process = "0" * 32
    ledger.run(calls.beat(process, "first"))
    lane = ledger.redis.hget(ledger.key(f"m:{message}"), "ln").decode()  # type: ignore[union-attr]
    for _ in range(300):
        granted = ledger.run(calls.grant(process, 1, lane_quota=1, quotas={}))
        for slot in granted.slots:
            taken = ledger.run(calls.take(process, f"{slot.at_us:x}", [(slot, "b")])).answers[0]
            if isinstance(taken, calls.Taken) and taken.message == message:
                return cast(dict[str, Any], json.loads(taken.content))
        threading.Event().wait(0.02)
    raise AssertionError(f"{message} never left lane {lane}")


def receipt_event(ref: str, status: str, **payload: Any) -> str:
    to = [{"phone_number": "+13125550100", "status": status}]
    body = {"direction": "outbound", "id": PID, "to": to, "webhook_url": f"https://x.example/?ref={ref}", **payload}
    return json.dumps({"data": {"id": "e1", "event_type": "message.finalized", "payload": body}})


@contextmanager
def unhurried() -> Iterator[None]:
    """Repeats at once, and whatever the time that they take on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cast(dict[str, Any], patiently.__kwdefaults__), "within_s", 60.0)
        patch.setitem(cast(dict[str, Any], patiently.__kwdefaults__), "sleep", lambda _: None)
        yield


class Unheard(Ledger):
    """Its calls of one script run, and their first replies are lost."""

    def __init__(self, ledger: Ledger, script: str, *, lost: int) -> None:
        super().__init__(ledger.redis, ledger.namespace)
        self._script, self.to_lose = script, lost

    def run(self, call: Any) -> Any:
        reply = super().run(call)
        self._lose([call])
        return reply

    def run_many(self, calls: Any) -> Any:
        replies = super().run_many(calls)
        self._lose(calls)
        return replies

    def _lose(self, calls: Any) -> None:
        if self.to_lose and any(call.script == self._script for call in calls):
            self.to_lose -= 1
            raise RedisTimeoutError("Timeout reading from socket")


@contextmanager
def impatient() -> Iterator[None]:
    """No repeats while Redis is away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cast(dict[str, Any], patiently.__kwdefaults__), "within_s", 0.0)
        yield


def accepted(ledger: Ledger, config: Config, notifier: Notifier, provider_id: str = PID) -> str:
    """A message that Telnyx has taken."""
    ticket = notifier.enqueue("notice", to="+13125550100", text="hello")
    expand(ticket.id, None, ledger=ledger, config=config, point=Points())
    message = f"{ticket.id}-0"
    hand_over(ledger, message, provider_id)
    return message


def hand_over(ledger: Ledger, message: str, provider_id: str) -> None:
    answer = calls.Finish(message=message, token="t", outcome="accepted", provider_id=provider_id)
    ledger.run(calls.finish("0" * 32, [answer]))


def state(ledger: Ledger, message: str) -> str | None:
    view = read_message(ledger, message)
    return view.state if view else None


def test_a_lone_message_gets_its_content_and_its_lane(published: Ledger, config: Config, notifier: Notifier) -> None:
    ticket = notifier.enqueue("code", to=[{"to": "+13125550100", "variables": {"code": "7"}}])
    done = expand(ticket.id, None, ledger=published, config=config, point=Points())
    assert (done.outcome, done.queued, done.next_cursor) == ("admitted", 1, None)
    assert state(published, f"{ticket.id}-0") == "queued"
    assert content_of(published, f"{ticket.id}-0") == {"text": "Your code is 7"}


def test_chunks_are_expanded_one_a_job_and_point_at_their_successor(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    people = numbers(450)
    ticket = notifier.enqueue("notice", to=people, text="hello")
    points = Points()
    cursor: str | None = None
    queued = []
    while True:
        done = expand(ticket.id, cursor, ledger=published, config=config, point=points)
        queued.append(done.queued)
        if done.next_cursor is None:
            break
        cursor = done.next_cursor
    assert queued == [200, 200, 50]
    assert points.at == [(ticket.id, False, "1"), (ticket.id, False, "2")]
    view = read_notification(published, ticket.id, limit=1000)
    assert view is not None
    assert view.state_counts == {"queued": 450}
    assert [message.to for message in view.messages] == people


def test_running_twice_admits_each_recipient_once(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    ticket = notifier.enqueue("notice", to=numbers(300), text="hello")
    first = expand(ticket.id, None, ledger=published, config=config, point=Points())
    again = expand(ticket.id, "0", ledger=published, config=config, point=Points())
    assert (first.queued, again.outcome) == (200, "nothing")
    expand(ticket.id, "1", ledger=published, config=config, point=Points())
    assert expand(ticket.id, None, ledger=published, config=config, point=Points()).outcome == "nothing"
    view = read_notification(published, ticket.id, limit=1)
    assert view is not None
    assert view.state_counts == {"queued": 300}


def test_two_jobs_at_the_same_chunk_admit_it_once(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    ticket = notifier.enqueue("notice", to=numbers(600), text="hello")
    loaded = threading.Barrier(2)
    done: list[Any] = []

    class Meeting(Ledger):
        def run_many(self, asked: Any) -> Any:
            answer = super().run_many(asked)
            if asked[0].script == "load":
                loaded.wait(timeout=20)
            return answer

    def job() -> None:
        ledger = Meeting(published.redis, published.namespace)
        done.append(expand(ticket.id, None, ledger=ledger, config=config, point=Points()))

    threads = [threading.Thread(target=job) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert {(d.queued, d.next_cursor) for d in done} == {(0, None), (200, "1")}
    view = read_notification(published, ticket.id, limit=1)
    assert view is not None
    assert view.state_counts == {"queued": 200, "new": 400}


def test_a_rejected_recipient_says_why_and_the_others_go_on(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    ticket = notifier.enqueue("code", to=numbers(2), variables={"code": "7"})
    first, second = numbers(2)
    chunk = compact_json([[first, {"code": "1"}], [second, {"code": "x" * 2000}]])  # as no valid request has it
    published.redis.lset(published.key(f"r:{ticket.id}"), 0, chunk.decode())
    done = expand(ticket.id, None, ledger=published, config=config, point=Points())
    assert (done.queued, done.ended) == (1, 1)
    assert state(published, f"{ticket.id}-0") == "queued"
    view = read_message(published, f"{ticket.id}-1")
    assert view is not None
    assert (view.state, view.errors[0]["code"]) == ("rejected", "content")
    assert view.errors[0]["title"].startswith("variables.code (over 1,000 characters)")
    assert view.timeline[-1].reason == "content"


def test_the_shared_content_stays_when_a_later_chunk_meets_another_release(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    ticket = notifier.enqueue("code", to=numbers(300), variables={"code": "7"})
    expand(ticket.id, None, ledger=published, config=config, point=Points())
    newer = parse_config(TOML.replace("Your code is", "Code:"))
    expand(ticket.id, "1", ledger=published, config=newer, point=Points())
    assert content_of(published, f"{ticket.id}-0") == {"text": "Your code is 7"}


def test_a_job_type_that_only_a_newer_release_knows_is_left_to_its_workers(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    newer = parse_config(TOML + '\n[job_types.fresh]\nsender = "local"')
    published.run(calls.publish(publication(newer, release=2), {}))
    ticket = notifier.enqueue("fresh", to="+13125550100", text="hello")
    assert expand(ticket.id, None, ledger=published, config=config, point=Points()).outcome == "left"
    assert state(published, f"{ticket.id}-0") == "new"
    assert expand(ticket.id, None, ledger=published, config=newer, point=Points()).outcome == "admitted"
    assert state(published, f"{ticket.id}-0") == "queued"


def test_a_job_type_that_is_gone_rejects_its_messages(published: Ledger, config: Config, notifier: Notifier) -> None:
    newer = parse_config(TOML + '\n[job_types.fresh]\nsender = "local"')
    published.run(calls.publish(publication(newer, release=2), {}))
    ticket = notifier.enqueue("fresh", to="+13125550100", text="hello")
    published.run(calls.publish(publication(config, release=3), {}))
    assert expand(ticket.id, None, ledger=published, config=config, point=Points()).ended == 1
    view = read_message(published, f"{ticket.id}-0")
    assert view is not None
    assert (view.state, view.errors[0]["code"], view.errors[0]["phase"]) == ("rejected", "job_type", "expand")
    assert view.errors[0]["title"] == "job type fresh is not in notify.toml"


def test_a_lost_pointer_to_the_next_chunk_does_not_undo_this_one(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    def broken(*_: Any) -> None:
        raise RedisConnectionError("gone")

    ticket = notifier.enqueue("notice", to=numbers(300), text="hello")
    assert expand(ticket.id, None, ledger=published, config=config, point=broken).queued == 200
    assert published.redis.zscore(published.key("timers"), f"n{ticket.id}") is not None


def make_late(ledger: Ledger, id: str, *, many: bool) -> None:
    """As if it had been submitted long ago and nobody had expanded it."""
    ledger.redis.hset(ledger.key(f"n:{id}" if many else f"m:{id}-0"), "at", "1000000")


def test_a_chunk_that_nobody_can_expand_is_given_up_after_some_tries_and_the_next_goes_on(
    published: Ledger, config: Config, notifier: Notifier, numbers: Numbers
) -> None:
    ticket = notifier.enqueue("notice", to=numbers(450), text="hello")
    published.redis.lset(published.key(f"r:{ticket.id}"), 0, "no list of recipients")
    make_late(published, ticket.id, many=True)
    for _ in range(LATE_TRIES):
        assert expand(ticket.id, None, ledger=published, config=config, point=Points()).outcome == "nothing"
    done = expand(ticket.id, None, ledger=published, config=config, point=Points())
    assert (done.ended, done.next_cursor) == (200, "1")
    for cursor in ("1", "2"):
        assert expand(ticket.id, cursor, ledger=published, config=config, point=Points()).ended == 0
    view = read_notification(published, ticket.id, limit=1)
    assert view is not None
    assert view.state_counts == {"rejected": 200, "queued": 250}
    assert (view.messages[0].errors[0]["code"], view.messages[0].timeline[-1].reason) == ("poison", "poison")


def test_a_notification_that_ends_whoever_expands_it_is_given_up_unseen(
    published: Ledger, config: Config, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """No handler of ours catches it."""

    begun: list[str] = []

    def kill(loaded: calls.Loaded, *_: Any) -> Any:
        begun.append(loaded.record["to"].decode())
        raise Killed

    monkeypatch.setattr("worker.expansion.plan", kill)
    killer, sound = (notifier.enqueue("notice", to="+13125550100", text="hello") for _ in range(2))
    make_late(published, killer.id, many=False)
    for _ in range(LATE_TRIES):
        with pytest.raises(Killed):
            expand(killer.id, None, ledger=published, config=config, point=Points())
    assert expand(killer.id, None, ledger=published, config=config, point=Points()).ended == 1
    assert len(begun) == LATE_TRIES
    assert state(published, f"{killer.id}-0") == "rejected"
    monkeypatch.undo()
    assert expand(sound.id, None, ledger=published, config=config, point=Points()).queued == 1


def test_replies_that_are_lost_use_up_no_try_of_a_late_notification(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    ticket = notifier.enqueue("notice", to="+13125550100", text="hello")
    make_late(published, ticket.id, many=False)
    deaf = Unheard(published, "attempt", lost=LATE_TRIES + 1)
    with unhurried():
        assert expand(ticket.id, None, ledger=deaf, config=config, point=Points()).queued == 1
    assert deaf.to_lose == 0


def test_replies_that_are_lost_use_up_no_try_of_a_late_batch(
    published: Ledger, config: Config, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accepted(published, config, notifier, PID)
    published.run(calls.hear("b1", compact_json([receipt_event(message, "delivered")])))
    published.redis.zadd(published.key("rx"), {"b1": 1_000_000})
    deaf = Unheard(published, "reread", lost=LATE_TRIES + 1)
    monkeypatch.setattr(reconciliation, "_carefully", lambda *_: pytest.fail("nothing ended whoever read it"))
    with unhurried():
        assert reconcile("b1", ledger=deaf) == {"applied": 1}
    assert deaf.to_lose == 0


def test_waiting_for_a_newer_release_is_no_try(published: Ledger, config: Config, notifier: Notifier) -> None:
    newer = parse_config(TOML + '\n[job_types.fresh]\nsender = "local"')
    published.run(calls.publish(publication(newer, release=2), {}))
    ticket = notifier.enqueue("fresh", to="+13125550100", text="hello")
    make_late(published, ticket.id, many=False)
    for _ in range(LATE_TRIES + 2):
        assert expand(ticket.id, None, ledger=published, config=config, point=Points()).outcome == "left"
    assert published.run(calls.attempt(ticket.id, None, "t1")) == 1


def test_a_batch_is_applied_and_forgotten(published: Ledger, config: Config, notifier: Notifier) -> None:
    message = accepted(published, config, notifier)
    published.run(calls.hear("b1", compact_json([receipt_event(message, "delivered")])))
    assert reconcile("b1", ledger=published) == {"applied": 1}
    assert state(published, message) == "delivered"
    assert published.redis.exists(published.key("rx:b1"), published.key("rx")) == 0
    assert published.redis.zscore(published.key("timers"), "rb1") is None
    assert reconcile("b1", ledger=published) == {}


def test_a_second_id_of_one_message_is_counted_and_called_out(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    message = accepted(published, config, notifier)
    other = receipt_event(message, "sent", id="b2345678-1234-4234-8234-123456789012")
    published.run(calls.hear("b1", compact_json([other, other])))
    with structlog.testing.capture_logs() as lines:
        reconcile("b1", ledger=published)
    assert [line["message_id"] for line in lines if line["event"] == "message_doubled"] == [message]
    assert published.redis.hget(published.key("counts"), "doubled") == b"1"


def test_a_failure_keeps_its_code_and_plain_words(published: Ledger, config: Config, notifier: Notifier) -> None:
    message = accepted(published, config, notifier)
    events = [receipt_event(message, "delivery_failed", errors=[{"code": "40006"}])]
    published.run(calls.hear("b1", compact_json(events)))
    reconcile("b1", ledger=published)
    view = read_message(published, message)
    assert view is not None
    assert (view.state, view.errors[0]["code"], view.errors[0]["phase"]) == ("failed", "40006", "receipt")
    assert view.errors[0]["title"]


@pytest.mark.parametrize(
    ("title", "is_out"), [("Blocked due to STOP message", True), ("Blocked as spam", False), (None, False)]
)
def test_a_receipts_40300_opts_out_only_whom_its_title_calls_so(
    published: Ledger, config: Config, notifier: Notifier, title: str | None, is_out: bool
) -> None:
    message = accepted(published, config, notifier)
    errors = [{"code": "40300", "title": title}]
    published.run(calls.hear("b1", compact_json([receipt_event(message, "delivery_failed", errors=errors)])))
    reconcile("b1", ledger=published)
    assert state(published, message) == "failed"
    assert bool(list(published.redis.scan_iter(match=published.key("o:*")))) is is_out


class Refusing(Ledger):
    """A ledger whose script refuses one fact, as it refuses a move that its table lacks."""

    poison = "0" * 32 + "-0"

    def run(self, call: Any) -> Any:
        if call.script == "receipt" and any(self.poison in str(arg) for arg in call.args):
            raise ResponseError("no move from N to D, script: 0123, on @user_script:1.")
        return super().run(call)


def test_one_poisonous_event_is_put_aside_alone_and_the_rest_goes_on(
    published: Ledger, config: Config, notifier: Notifier
) -> None:
    first, second = accepted(published, config, notifier, PID), accepted(published, config, notifier, OTHER_PID)
    refusing = Refusing(published.redis, published.namespace)
    good = [receipt_event(first, "delivered"), receipt_event(second, "delivered", id=OTHER_PID)]
    events = [good[0], receipt_event(Refusing.poison, "delivered"), "not JSON", good[1]]
    published.run(calls.hear("b1", compact_json(events)))
    with structlog.testing.capture_logs() as lines:
        counts = reconcile("b1", ledger=refusing)
    assert counts == {"applied": 2, "poison": 1, "not_a_receipt": 1}
    assert state(published, first) == state(published, second) == "delivered"
    assert published.redis.exists(published.key("rx:b1")) == 0
    odd: Any = published.redis.xrange(published.key("odd"))
    assert [(fields[b"why"], fields[b"event"].decode()) for _, fields in odd] == [
        (b"not_a_receipt", events[2]),
        (b"poison", events[1]),
    ]
    assert "+13125550100" not in str(lines)


@pytest.mark.parametrize("deadly", ["event", "batch"])
def test_what_ends_whoever_reads_it_is_put_aside_alone_after_some_tries(
    published: Ledger, config: Config, notifier: Notifier, monkeypatch: pytest.MonkeyPatch, deadly: str
) -> None:
    class Killed(BaseException):
        """No handler of ours catches it."""

    parse, rows_of = reconciliation.parse_event, reconciliation._rows

    def parse_event(event: bytes) -> Any:
        if b"DEADLY" in event:
            raise Killed
        return parse(event)

    def rows(body: bytes) -> Any:
        if deadly == "batch" and b"DEADLY" in body:
            raise Killed
        return rows_of(body)

    monkeypatch.setattr(reconciliation, "parse_event", parse_event)
    monkeypatch.setattr(reconciliation, "_rows", rows)
    first, second = accepted(published, config, notifier, PID), accepted(published, config, notifier, OTHER_PID)
    events = [receipt_event(first, "delivered"), "DEADLY", receipt_event(second, "delivered", id=OTHER_PID)]
    published.run(calls.hear("b1", compact_json(events)))
    published.redis.zadd(published.key("rx"), {"b1": 1_000_000})
    ended = 0
    while published.redis.exists(published.key("rx:b1")):
        assert ended <= LATE_TRIES + 2
        try:
            reconcile("b1", ledger=published)
        except Killed:
            ended += 1
    odd: Any = published.redis.xrange(published.key("odd"))
    assert [fields[b"why"] for _, fields in odd] == [b"poison"]
    if deadly == "event":
        assert odd[0][1][b"event"] == b"DEADLY"
        assert state(published, first) == state(published, second) == "delivered"
    assert published.redis.exists(published.key("rx"), published.key("rxt")) == 0


def test_a_batch_stays_while_the_server_takes_no_writes(published: Ledger, config: Config, notifier: Notifier) -> None:
    class ReadOnly(Ledger):
        def run(self, call: Any) -> Any:
            if len(call.args) == 1:  # it brings no facts: only forgets the batch, which must come after them
                return super().run(call)
            raise ReadOnlyError("You can't write against a read only replica.")

    message = accepted(published, config, notifier, PID)
    published.run(calls.hear("b1", compact_json([receipt_event(message, "delivered")])))
    with pytest.raises(ReadOnlyError), impatient():
        reconcile("b1", ledger=ReadOnly(published.redis, published.namespace))
    assert published.redis.exists(published.key("rx:b1")) == 1
    assert published.redis.exists(published.key("odd")) == 0
    assert reconcile("b1", ledger=published) == {"applied": 1}


def test_a_group_keeps_a_state_per_member(published: Ledger, config: Config, notifier: Notifier) -> None:
    people = ["+13125550100", "+13125550101"]
    ticket = notifier.enqueue("family", to=people, text="dinner")
    expand(ticket.id, None, ledger=published, config=config, point=Points())
    message = f"{ticket.id}-0"
    hand_over(published, message, PID)
    to = [{"phone_number": people[1], "status": "delivery_failed"}]
    events = [receipt_event(message, "delivered"), receipt_event(message, "", to=to)]
    published.run(calls.hear("b1", compact_json(events)))
    reconcile("b1", ledger=published)
    view = read_message(published, message)
    assert view is not None
    assert view.state == "failed"
    assert view.members == [(people[0], "delivered"), (people[1], "failed")]


def test_patience_outlasts_a_short_absence_and_gives_up_after_its_time() -> None:
    naps: list[float] = []
    failures = [RedisConnectionError("gone")] * 3

    def call() -> str:
        if failures:
            raise failures.pop()
        return "back"

    assert patiently(call, sleep=naps.append) == "back"
    assert len(naps) == 3
    assert max(naps) <= 1.0

    def never() -> str:
        raise RedisConnectionError("gone")

    with pytest.raises(RedisConnectionError):
        patiently(never, within_s=0.0)


def test_the_edge_of_a_job_swallows_everything_and_quotes_no_message_of_ours() -> None:
    with structlog.testing.capture_logs() as lines:
        with patience.edge("expand", notification="n1"):
            raise KeyError("SECRET")
        with patience.edge("expand", notification="n1"):
            raise RedisConnectionError("gone")
    assert [(line["event"], line["error"]) for line in lines] == [
        ("job_failed", "KeyError"),
        ("ledger_away", "ConnectionError"),
    ]
    assert "test_actors.py" in lines[0]["trace"]


class Running:
    """A worker process in this one: Dramatiq's own threads, and an event loop of its own."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.asked: list[str] = []
        broker = RedisBroker(client=ledger.redis, middleware=[], namespace=broker_namespace(ledger.namespace))  # type: ignore[no-untyped-call]
        context = Context(
            ledger=ledger,
            config=config,
            pointers=Pointers(ledger.redis, ledger.namespace),
            settings=cast(Any, SimpleNamespace()),
            run_async=self.run_async,
            gateway=lambda: self,
            caller=cast(Any, None),
        )
        register(broker, context)
        self.broker = broker
        self.worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=20)
        self.worker.start()

    def run_async(self, coroutine: Any, /) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    async def retrieve(self, provider_id: str) -> Any:
        self.asked.append(provider_id)
        to = [{"phone_number": "+13125550100", "status": "delivered"}]
        return Facts(fact_from_message({"id": provider_id, "to": to, "completed_at": "now"}, now_us=1))

    def stop(self) -> None:
        self.worker.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=10)


@pytest.fixture
def running(published: Ledger, config: Config) -> Iterator[Running]:
    worker = Running(published, config)
    yield worker
    worker.stop()


def test_pointers_reach_their_actors(
    running: Running, published: Ledger, notifier: Notifier, numbers: Numbers, wait_until: Any
) -> None:
    code = notifier.enqueue("code", to="+13125550100", variables={"code": "7"})
    many = notifier.enqueue("notice", to=numbers(450), text="hello")
    wait_until(lambda: state(published, f"{code.id}-0") == "queued")

    def counts() -> dict[str, int]:
        view = read_notification(published, many.id, limit=1)
        return view.state_counts if view else {}

    wait_until(lambda: counts() == {"queued": 450})
    pointers = Pointers(published.redis, published.namespace)
    message = f"{many.id}-0"
    hand_over(published, message, PID)
    published.run(calls.hear("b1", compact_json([receipt_event(message, "sent")])))
    pointers.reconcile("b1")
    wait_until(lambda: not published.redis.exists(published.key("rx:b1")))
    pointers.poll([(message, PID)])
    wait_until(lambda: state(published, message) == "delivered")
    assert running.asked == [PID]


def test_each_actor_has_its_queue_and_its_priority(running: Running) -> None:
    declared = {name: (actor.queue_name, actor.priority) for name, actor in running.broker.actors.items()}
    assert declared == {
        "expand_urgent": ("expand.urgent", 10),
        "reconcile": ("receipts", 20),
        "expand": ("expand", 30),
        "poll": ("chores", 40),
        "call_back": ("chores", 40),
        "sync_opt_outs": ("chores", 40),
        "inbound": ("chores", 40),
        "withdraw": ("chores", 40),
    }


def test_actors_never_retry_by_the_engines_means() -> None:
    broker = RedisBroker(url="redis://127.0.0.1:1", middleware=[dramatiq.middleware.Retries()])  # type: ignore[no-untyped-call]
    register(broker, cast(Any, SimpleNamespace(gateway=None, ledger=None, config=SimpleNamespace(senders={}))))
    assert all(actor.options["max_retries"] == 0 for actor in broker.actors.values())
