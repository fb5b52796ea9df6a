"""Taking back what Telnyx holds, against the sandbox: what counts as taken back, as too late, and as no answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from producers.ledger.calls import Fact
from worker.sandbox import RunningSandbox, SandboxOptions, running_sandbox
from worker.sandbox.recipients import magic_number
from worker.telnyx.builder import Content, SenderSpec, build
from worker.telnyx.facts import fact_from_message
from worker.telnyx.gateway import Facts, Gateway, Outcome
from worker.telnyx.outcomes import NotFound, Unavailable
from worker.withdrawing import IN_FLIGHT, Withdrawer

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
PERSON = "+13125550100"
REF = "0123456789abcdef0123456789abcdef-0"
HOUR_S = 3600

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxOptions(seed=1, retry_after_s=7)) as running:
        yield running


@pytest.fixture
def telnyx(shared: RunningSandbox) -> Iterator[RunningSandbox]:
    yield shared
    shared.sandbox.restore_faults()


@asynccontextmanager
async def gateway(telnyx: RunningSandbox) -> AsyncIterator[Gateway]:
    opened = Gateway("KEY0", telnyx.base_url, public_url="http://127.0.0.1:9")
    try:
        yield opened
    finally:
        await opened.aclose()


class Book:
    """What a Withdrawer has recorded, as (script, what it says)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.asked_again_us: list[int] = []

    async def record(self, call: Any) -> None:
        import json

        item = json.loads(call.args[-1])
        if call.script == "withdraw":
            self.rows.append(("withdraw", item["o"]))
            self.asked_again_us.append(item["after"])
        else:
            self.rows.append((call.script, item["raw"]))


async def held(client: Gateway, to: str = PERSON, *, ref: str = REF, channel: str = "long_code") -> str:
    """A message that Telnyx holds for an hour; its id there."""
    outcome = await schedule(client, to, ref=ref, channel=channel)
    assert (outcome.kind, outcome.provider_id is not None) == ("accepted", True)
    return str(outcome.provider_id)


async def schedule(
    client: Gateway, to: str = PERSON, *, ref: str = REF, channel: str = "long_code", in_s: int = HOUR_S
) -> Outcome:
    from_ = {"number_pool": None, "short_code": "12345", "alphanumeric": "ACME"}.get(channel, "+13125550001")
    sender = SenderSpec("alerts", channel, from_, PROFILE)
    at_s = int(time.time()) + in_s
    to = "+447700900100" if channel == "alphanumeric" else to
    request = build(sender, [to], Content(text="x"), ref=ref, public_url="http://127.0.0.1:9", send_at_s=at_s)
    return await client.send(request)


async def take_back(telnyx: RunningSandbox, to: str = PERSON, **faults: float) -> Book:
    book = Book()
    async with gateway(telnyx) as client:
        provider_id = await held(client, to, ref=f"{time.time_ns():032x}-0")
        telnyx.sandbox.faults.update(faults)
        await Withdrawer(lambda: client, book.record).take_back([(_ref_of(telnyx, provider_id), provider_id)])
    return book


def _ref_of(telnyx: RunningSandbox, provider_id: str) -> str:
    message = telnyx.sandbox.record.get(provider_id)
    assert message is not None
    return str(message.ref)


@pytest.mark.parametrize("channel", ["short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "auto"])
async def test_every_channel_that_can_be_scheduled_posts_to_messages_with_its_key(
    telnyx: RunningSandbox, channel: str
) -> None:
    async with gateway(telnyx) as client:
        ref = f"{channel.replace('_', '-')}-{time.time_ns()}"
        provider_id = await held(client, ref=ref, channel=channel)
        message = telnyx.sandbox.record.get(provider_id)
        assert message is not None
        assert (message.path, message.key, message.is_scheduled) == ("/messages", ref, True)
        again = await schedule(client, ref=ref, channel=channel, in_s=2 * HOUR_S)
        assert (again.kind, again.code) == ("rejected", "10027"), "other bytes under the same key"


@pytest.mark.parametrize("in_s", [299, 5 * 86_400 + 60, -60])
async def test_a_time_outside_the_window_is_refused_as_such(telnyx: RunningSandbox, in_s: int) -> None:
    async with gateway(telnyx) as client:
        outcome = await schedule(client, ref=f"window-{in_s}", in_s=in_s)
    assert (outcome.kind, outcome.code) == ("rejected", "10015")


async def test_a_message_counts_as_taken_back_only_where_telnyx_says_cancelled_of_that_very_message(
    telnyx: RunningSandbox,
) -> None:
    assert (await take_back(telnyx)).rows == [("receipt", "cancelled")]


async def test_it_counts_as_too_late_where_telnyx_shows_that_it_has_left(telnyx: RunningSandbox) -> None:
    book = Book()
    async with gateway(telnyx) as client:
        provider_id = await held(client, magic_number(64), ref=f"{time.time_ns():032x}-0")
        ref = _ref_of(telnyx, provider_id)
        withdrawer = Withdrawer(lambda: client, book.record)
        deadline = time.monotonic() + 20
        while ("withdraw", "late") not in book.rows and time.monotonic() < deadline:
            await withdrawer.take_back([(ref, provider_id)])
    *held_rows, late, (script, status) = book.rows
    assert set(held_rows) <= {("withdraw", "held")}
    assert late == ("withdraw", "late")
    assert (script, status in {"sent", "delivered"}) == ("receipt", True)


async def test_one_that_telnyx_refuses_and_still_holds_is_asked_for_again(telnyx: RunningSandbox) -> None:
    book = await take_back(telnyx, magic_number(65))
    assert book.rows == [("withdraw", "held")]
    assert book.asked_again_us == [20_000_000]


async def test_a_lost_answer_is_known_at_the_next_time(telnyx: RunningSandbox) -> None:
    """The second cancel is refused, for it is cancelled: only its status says so. (On a connection that was used before, the
    transport itself asks a second time: a cancel may be repeated.)"""
    book = Book()
    async with gateway(telnyx) as client:
        provider_id = await held(client, magic_number(66), ref=f"{time.time_ns():032x}-0")
        ref = _ref_of(telnyx, provider_id)
        withdrawer = Withdrawer(lambda: client, book.record)
        await withdrawer.take_back([(ref, provider_id)])
        if not book.rows:
            await withdrawer.take_back([(ref, provider_id)])
    assert book.rows == [("receipt", "cancelled")]


@pytest.mark.parametrize("fault", ["api_500", "api_cut", "api_cut_after", "down"])
async def test_no_clear_answer_changes_nothing(telnyx: RunningSandbox, fault: str) -> None:
    book = await take_back(telnyx, **{fault: True if fault == "down" else 1.0})
    assert book.rows == []


async def test_after_a_429_it_is_asked_again_when_telnyx_says(telnyx: RunningSandbox) -> None:
    book = await take_back(telnyx, api_429=1.0)
    assert (book.rows, book.asked_again_us) == ([("withdraw", "again")], [7_000_000])


async def test_one_that_telnyx_does_not_know_is_left_to_the_timer(telnyx: RunningSandbox) -> None:
    book = Book()
    async with gateway(telnyx) as client:
        await Withdrawer(lambda: client, book.record).take_back([(REF, "6b1ff1d2-0000-4000-8000-000000000000")])
    assert book.rows == []


class Scripted:
    """A gateway that answers as told, and counts."""

    def __init__(self, cancel: Any, retrieve: Any = None) -> None:
        self.cancel, self.retrieved = cancel, retrieve
        self.asked = self.open = self.most = 0

    async def cancel_scheduled(self, _id: str) -> Any:
        import asyncio

        self.open += 1
        self.most = max(self.most, self.open)
        for _ in range(5):
            await asyncio.sleep(0)
        self.open -= 1
        return self.cancel

    async def retrieve(self, _id: str) -> Any:
        self.asked += 1
        return self.retrieved


def facts(status: str, *, ref: str = REF, pid: str = "p1") -> Facts:
    data = {"id": pid, "to": [{"phone_number": PERSON, "status": status}], "webhook_url": f"https://x/y?ref={ref}"}
    return Facts(fact_from_message(data, now_us=1))


@pytest.mark.parametrize(
    ("cancel", "retrieve", "expected"),
    [
        (facts("cancelled", ref="another-0"), facts("scheduled"), [("withdraw", "held")]),
        (facts("cancelled", ref="another-0"), facts("cancelled", ref="another-0"), []),
        (Unavailable("http_403"), facts("cancelled"), [("receipt", "cancelled")]),
        (Unavailable("http_403"), facts("queued"), [("withdraw", "held")]),
        (Unavailable("http_403"), facts("sending"), [("withdraw", "late"), ("receipt", "sending")]),
        (Unavailable("http_409"), facts("delivered"), [("withdraw", "late"), ("receipt", "delivered")]),
        (Unavailable("http_403"), Unavailable("http_500"), []),
        (Unavailable("http_403"), NotFound("10005"), []),
        (NotFound("10005"), NotFound("10005"), []),
        (NotFound("10005"), facts("cancelled"), [("receipt", "cancelled")]),
        (Unavailable("unreadable"), facts("cancelled"), [("receipt", "cancelled")]),
        (Unavailable("http_401", alert=True), facts("cancelled"), []),
        (Unavailable("read_timeout"), facts("cancelled"), []),
    ],
)
async def test_what_an_answer_comes_to(cancel: Any, retrieve: Any, expected: list[tuple[str, str]]) -> None:
    book, client = Book(), Scripted(cancel, retrieve)
    await Withdrawer(lambda: client, book.record).take_back([(REF, "p1")])
    assert book.rows == expected


async def test_at_most_so_many_are_asked_for_at_once_and_each_once() -> None:
    book, client = Book(), Scripted(Unavailable("http_500"))
    await Withdrawer(lambda: client, book.record).take_back([(f"{n}-0", f"p{n % 90}") for n in range(100)] * 2)
    assert client.most == IN_FLIGHT


async def test_after_a_429_all_wait_as_long_as_telnyx_says() -> None:
    now_s, waits = [0.0], []

    async def sleep(s: float) -> None:
        waits.append(s)
        now_s[0] += s

    client = Scripted(Unavailable("http_429", 5.0))
    withdrawer = Withdrawer(lambda: client, Book().record, clock=lambda: now_s[0], sleep=sleep)
    await withdrawer.take_back([("1-0", "p1")])
    await withdrawer.take_back([("2-0", "p2")])
    assert waits == [5.0]


def test_the_fact_of_a_cancelled_one_says_so() -> None:
    from worker.reconciliation import ledger_fact

    told = ledger_fact(facts("cancelled").fact, "p")
    assert isinstance(told, Fact)
    assert (told.state, told.raw) == ("F", "cancelled")
