"""From kept events to facts, and when polls are asked; no I/O."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog

from producers.ledger import calls
from worker import reconciliation
from worker.polling import IN_FLIGHT, PER_SECOND, WAITING_MOST, Poller
from worker.reconciliation import ledger_fact, read_batch
from worker.telnyx.facts import fact_from_group, fact_from_message
from worker.telnyx.gateway import Facts
from worker.telnyx.outcomes import NotFound, Unavailable
from worker.telnyx.receipts import parse_event

REF = "0" * 32 + "-0"
PID = "40385f64-5717-4562-b3fc-2c963f66afa6"


def event(
    *statuses: str, kind: str = "message.finalized", ref: str = REF, numbers: tuple[str, ...] = (), **payload: Any
) -> str:
    numbers = numbers or tuple(f"+1312555010{i}" for i in range(len(statuses)))
    to = [{"phone_number": n, "status": s} for n, s in zip(numbers, statuses, strict=True)]
    body = {"direction": "outbound", "id": PID, "to": to, "webhook_url": f"https://x.example/hook?ref={ref}", **payload}
    return json.dumps(
        {"data": {"id": "e1", "event_type": kind, "occurred_at": "2026-11-24T02:10:04Z", "payload": body}}
    )


def batch(*events: Any) -> bytes:
    return json.dumps(list(events)).encode()


def only_fact(*events: Any) -> calls.Fact:
    receipts, asides = read_batch(batch(*events))
    assert not asides
    return receipts[0].fact


@pytest.mark.parametrize(
    ("status", "letter"),
    [("sent", "T"), ("delivered", "D"), ("delivery_failed", "F"), ("delivery_unconfirmed", "X"), ("brand_new", "X")],
)
def test_a_receipt_becomes_a_fact_of_its_message(status: str, letter: str) -> None:
    fact = only_fact(event(status))
    assert (fact.ref, fact.provider_id, fact.state, fact.raw) == (REF, PID, letter, status)


def test_each_member_of_a_group_keeps_its_own_letter() -> None:
    fact = only_fact(event("delivered", "delivery_failed", "sent"))
    assert [letter for _, letter in fact.to] == ["D", "F", "T"]


def test_an_error_has_its_phase_its_code_and_words() -> None:
    fact = only_fact(event("delivery_failed", errors=[{"code": "40008", "title": "Undeliverable"}]))
    assert fact.error == ("w", "40008", "Undeliverable")


def test_an_error_without_words_gets_ours() -> None:
    fact = only_fact(event("delivery_failed", errors=[{"code": "40006"}]))
    assert fact.error is not None
    assert fact.error[2]
    assert len(fact.error[2].encode()) <= 64


def test_the_words_of_an_error_are_short_and_name_nobody() -> None:
    title = "Blocked +13125550100 " + "é" * 100
    fact = only_fact(event("delivery_failed", errors=[{"code": "40002", "title": title}]))
    assert fact.error is not None
    assert "3125550100" not in fact.error[2]
    assert len(fact.error[2].encode()) <= 64


def test_a_code_cannot_break_the_records_list_of_errors() -> None:
    fact = only_fact(event("delivery_failed", errors=[{"code": "40;0@08-é" + "1" * 90, "title": "odd"}]))
    assert fact.error is not None
    assert fact.error[1].isalnum()
    assert len(fact.error[1]) <= 24


@pytest.mark.parametrize(
    ("code", "title", "stop"),
    [
        ("40300", "Blocked due to STOP message", True),
        ("40300", "Blocked by carrier", False),
        ("40002", "STOP message", False),
    ],
)
def test_a_receipts_40300_is_a_failure_and_an_opt_out_where_its_title_says_stop(
    code: str, title: str, stop: bool
) -> None:
    fact = only_fact(event("delivery_failed", errors=[{"code": code, "title": title}]))
    assert (fact.state, fact.stop) == ("F", stop)


def test_what_is_no_receipt_is_put_aside_and_the_rest_is_read() -> None:
    click = json.dumps({"data": {"record_type": "link_clicked", "url": "https://x.example", "message_id": PID}})
    receipts, asides = read_batch(batch(event("sent"), click, "{broken", 7, None, ["x"], {}, event("delivered")))
    assert [receipt.fact.state for receipt in receipts] == ["T", "D"]
    assert {aside.why for aside in asides} == {"not_a_receipt"}
    assert len(asides) == 6


def test_an_event_kept_as_an_object_is_read_like_one_kept_as_text() -> None:
    assert only_fact(json.loads(event("delivered"))) == only_fact(event("delivered"))


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_an_unreadable_batch_is_put_aside_whole(body: bytes) -> None:
    receipts, asides = read_batch(body)
    assert receipts == []
    assert [aside.why for aside in asides] == ["poison"]


def test_an_event_that_cannot_be_read_is_put_aside_alone_and_logs_no_content(monkeypatch: pytest.MonkeyPatch) -> None:
    real = parse_event

    def sometimes(raw: bytes) -> Any:
        if b"SECRET" in raw:
            raise KeyError("SECRET")
        return real(raw)

    monkeypatch.setattr(reconciliation, "parse_event", sometimes)
    with structlog.testing.capture_logs() as lines:
        receipts, asides = read_batch(batch(event("sent"), event("sent", tags=["SECRET"]), event("delivered")))
    assert [receipt.fact.state for receipt in receipts] == ["T", "D"]
    assert [aside.why for aside in asides] == ["poison"]
    assert [(line["event"], line["error"]) for line in lines] == [("receipt_poisoned", "KeyError")]


def test_a_poll_says_so_in_its_error() -> None:
    data = {
        "id": PID,
        "to": [{"phone_number": "+13125550100", "status": "delivery_failed"}],
        "errors": [{"code": "40001"}],
    }
    fact = ledger_fact(fact_from_message(data, now_us=1), "p")
    assert fact.error is not None
    assert fact.error[:2] == ("p", "40001")


class Telnyx:
    """Answers polls when told to; notes when each was asked, on a clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.asked_at: list[float] = []
        self.open = self.most_open = 0
        self.facts: list[calls.Fact] = []
        self.answer: Any = None  # None: delivered
        self.gate = asyncio.Event()
        self.gate.set()

    async def retrieve(self, provider_id: str) -> Any:
        self.asked_at.append(self.now_s)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await self.gate.wait()
        self.open -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            data = {"id": provider_id, "to": [{"phone_number": "+13125550100", "status": "delivered"}]}
            return Facts(fact_from_message(data, now_us=1))
        return self.answer

    async def record(self, fact: calls.Fact) -> None:
        self.facts.append(fact)

    async def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        for _ in range(3):  # what began before gets its turn before the clock moves
            await asyncio.sleep(0)
        self.now_s = max(self.now_s, until_s)

    def poller(self) -> Poller:
        return Poller(lambda: self, self.record, clock=lambda: self.now_s, sleep=self.sleep)


def pairs(count: int, first: int = 0) -> list[tuple[str, str]]:
    return [(f"m{i}", f"p{i}") for i in range(first, first + count)]


def test_a_poll_becomes_a_fact_of_the_message_that_was_asked_about() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        await telnyx.poller().poll([(REF, PID)])
        return telnyx

    fact = asyncio.run(scenario()).facts[0]
    assert (fact.ref, fact.provider_id, fact.state) == (REF, PID, "D")


@pytest.mark.parametrize("knows_groups", [True, False])
def test_a_group_is_asked_about_by_its_members_and_by_its_message_where_telnyx_knows_no_such_group(
    knows_groups: bool,
) -> None:
    class Groups(Telnyx):
        async def retrieve_group(self, provider_id: str) -> Any:
            if not knows_groups:
                return NotFound("10005")
            rows = [
                {"id": f"of-{number}", "to": [{"phone_number": number, "status": "delivered"}]}
                for number in ("+13125550101", "+13125550102")
            ]
            return Facts(fact_from_group(rows, provider_id=provider_id, now_us=1))

    async def scenario() -> Telnyx:
        telnyx = Groups()
        await telnyx.poller().poll([(REF, PID, True)])
        return telnyx

    telnyx = asyncio.run(scenario())
    (fact,) = telnyx.facts
    assert (fact.ref, fact.provider_id, fact.state) == (REF, PID, "D")
    assert [number for number, _ in fact.to] == (["+13125550101", "+13125550102"] if knows_groups else ["+13125550100"])
    assert len(telnyx.asked_at) == (0 if knows_groups else 1)


@pytest.mark.parametrize("wrong", [{"id": "another"}, {"webhook_url": "https://a.test/webhooks/telnyx?ref=n-9"}])
def test_an_answer_about_another_message_says_nothing_about_the_one_that_was_asked_about(wrong: dict[str, str]) -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        data = {"id": PID, "to": [{"phone_number": "+13125550100", "status": "delivered"}], **wrong}
        telnyx.answer = Facts(fact_from_message(data, now_us=1))
        await telnyx.poller().poll([(REF, PID)])
        return telnyx

    assert asyncio.run(scenario()).facts == []


def test_polls_keep_their_rate_over_all_jobs() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        poller = telnyx.poller()
        await asyncio.gather(poller.poll(pairs(20)), poller.poll(pairs(20, first=20)))
        return telnyx

    asked = sorted(asyncio.run(scenario()).asked_at)
    assert len(asked) == 40
    for first, later in zip(asked, asked[int(PER_SECOND) :], strict=False):
        assert later - first >= 1 - 1e-6


def test_open_polls_are_bounded() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        telnyx.gate.clear()
        job = asyncio.create_task(telnyx.poller().poll(pairs(IN_FLIGHT + 10)))
        while telnyx.open < IN_FLIGHT:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert telnyx.open == IN_FLIGHT
        telnyx.gate.set()
        await job
        return telnyx

    telnyx = asyncio.run(scenario())
    assert telnyx.most_open == IN_FLIGHT
    assert len(telnyx.facts) == IN_FLIGHT + 10


def test_what_waits_is_bounded_and_asked_about_once() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        poller = telnyx.poller()
        await asyncio.gather(poller.poll(pairs(WAITING_MOST + 50)), poller.poll(pairs(10)))
        await poller.poll(pairs(1))  # once it is done it may be asked again
        return telnyx

    assert len(asyncio.run(scenario()).asked_at) == WAITING_MOST + 1


@pytest.mark.parametrize(
    "answer",
    [NotFound("10005"), Unavailable("read_timeout"), Unavailable("http_401", alert=True), RuntimeError("SECRET")],
)
def test_a_question_without_a_clear_answer_says_nothing_about_its_message(answer: Any) -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        telnyx.answer = answer
        await telnyx.poller().poll(pairs(3))
        return telnyx

    with structlog.testing.capture_logs() as lines:
        telnyx = asyncio.run(scenario())
    assert telnyx.facts == []
    assert len(telnyx.asked_at) == 3
    assert "SECRET" not in json.dumps([{k: v for k, v in line.items() if k != "trace"} for line in lines])


def test_telnyx_asking_for_patience_pauses_all_polls() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        telnyx.answer = Unavailable("http_429", retry_after_s=30.0)
        await telnyx.poller().poll(pairs(2))
        return telnyx

    asked = asyncio.run(scenario()).asked_at
    assert asked[1] - asked[0] >= 30 - 1e-6


def test_telnyx_asking_for_a_day_pauses_polls_for_a_minute() -> None:
    async def scenario() -> Telnyx:
        telnyx = Telnyx()
        telnyx.answer = Unavailable("http_429", retry_after_s=86_400.0)
        await telnyx.poller().poll(pairs(2))
        return telnyx

    asked = asyncio.run(scenario()).asked_at
    assert 60 - 1e-6 <= asked[1] - asked[0] <= 61
