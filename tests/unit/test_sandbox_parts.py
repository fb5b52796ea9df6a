"""The sandbox's pure parts: magic numbers, options, the record, queues, keys, keywords."""

from __future__ import annotations

import uuid
from pathlib import Path

import phonenumbers
import pytest

from worker.sandbox.idempotency import Keys
from worker.sandbox.messages import Draft, Message, ref_of
from worker.sandbox.opt_outs import Blocks, autoresponse_type
from worker.sandbox.options import Faults, OptionError, SandboxOptions
from worker.sandbox.queues import AccountLimit, SenderQueues
from worker.sandbox.recipients import DELIVERED, SCRIPTS, magic_number, script_for
from worker.sandbox.record import Record
from worker.sandbox.refusals import RECEIPT_TITLES, Refusal, knows
from worker.sandbox.signing import seed_from_file

DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"


def message(
    *, ref: str | None = None, key: str | None = None, text: str = "hello", to: str = "+13125550100", at_us: int = 0
) -> Message:
    return Message(
        id=str(uuid.uuid4()),
        draft=Draft(kind="SMS", sender="+13125550001", profile=None, to=(to,), text=text),
        path="/messages/long_code",
        ref=ref,
        key=key,
        profile="p",
        arrived_us=at_us,
        wait_s=0.0,
        body_sha256="",
        statuses=["queued"],
        errors=[[]],
    )


@pytest.mark.parametrize("code", SCRIPTS)
def test_a_magic_number_is_possible_fictional_and_behaves_as_its_code_says(code: int) -> None:
    for nth in (0, 1, 400):
        number = magic_number(code, nth)
        assert phonenumbers.is_possible_number(phonenumbers.parse(number))
        assert number[5:10] == "55501"  # reserved for fiction in every area code
        assert script_for(number) is SCRIPTS[code]


def test_ordinary_numbers_are_delivered() -> None:
    for number in ("+13125550100", "+13125550139", "+13125551140", "+447700900140", "12345", "US.13491208655302741918"):
        assert script_for(number) is DELIVERED


@pytest.mark.parametrize("code", SCRIPTS)
def test_every_code_a_script_names_has_a_title(code: int) -> None:
    script = SCRIPTS[code]
    assert script.error is None or script.error in RECEIPT_TITLES
    assert script.refusal is None or knows(script.refusal)


@pytest.mark.parametrize("code", SCRIPTS)
def test_the_page_lists_every_magic_recipient(code: int) -> None:
    assert f"| {code} | {SCRIPTS[code].meaning} |" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*Faults().as_dict(), *SandboxOptions.__dataclass_fields__])
def test_the_page_names_every_fault_and_option(name: str) -> None:
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"cut": 0.1},
        {"cut_after_accept": 1.5},
        {"cut_after_accept": True},
        {"429": "often"},
        {"latency_ms": -1},
        {"down": 1},
    ],
)
def test_a_wrong_fault_changes_nothing(changes: dict[str, object]) -> None:
    faults = Faults()
    with pytest.raises(OptionError):
        faults.update({"lose_receipts": 1.0, "honour_keys": False, **changes})
    assert faults == Faults()


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0},
        {"default_rate": 0},
        {"sender_rates": {"+13125550001": -1}},
        {"group_receipts": "some"},
        {"sender_errors": {"+13125550001": "99999"}},
        {"faults": {"down": "yes"}},
    ],
)
def test_a_wrong_option_stops_the_start(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        SandboxOptions(**options)  # type: ignore[arg-type]


def test_two_messages_with_one_ref_are_texted_twice() -> None:
    record = Record(keep=100)
    for ref in ("a", "b", "a"):
        record.add(message(ref=ref))
    twice = record.summary()["texted_twice"]
    assert [(entry["ref"], entry["count"], len(entry["ids"])) for entry in twice] == [("a", 2, 2)]


def test_without_a_ref_the_key_then_the_content_tells_messages_apart() -> None:
    record = Record(keep=100)
    for key, text in [("k1", "x"), ("k2", "x"), (None, "y"), (None, "z")]:
        record.add(message(key=key, text=text))
    assert record.summary()["texted_twice"] == []
    record.add(message(text="z"))
    record.add(message(key="k1"))
    assert len(record.summary()["texted_twice"]) == 2


def test_memory_is_bounded_and_a_double_is_remembered_beyond_it() -> None:
    record = Record(keep=10)
    first, second = message(ref="twice"), message(ref="twice")
    record.add(first)
    record.add(second)
    for n in range(50):
        record.add(message(ref=f"r{n}", text=f"t{n}"))
    summary = record.summary()
    assert summary["kept"] == 10
    assert summary["accepted"] == 52
    assert record.get(first.id) is None
    assert [entry["ref"] for entry in summary["texted_twice"]] == ["twice"]
    assert record.find(ref="twice") == []
    assert len(record.find()) == 10


def test_the_same_text_under_two_refs_is_shown_apart_from_doubles() -> None:
    record = Record(keep=10)
    record.add(message(ref="a"))
    record.add(message(ref="b"))
    record.add(message(ref="c", text="other"))
    assert record.summary()["texted_twice"] == []
    assert record.summary()["same_text_again"] == [{"to": "+13125550100", "count": 2}]


def test_messages_are_found_by_ref_recipient_and_time() -> None:
    record = Record(keep=10)
    rows = [message(ref=f"r{n}", to=f"+1312555010{n}", at_us=n * 100) for n in range(5)]
    for row in rows:
        record.add(row)
    assert record.find(ref="r2") == [rows[2]]
    assert record.find(to="+13125550103") == [rows[3]]
    assert record.find(since_us=300) == rows[3:]
    assert record.find(limit=2) == rows[3:]
    assert record.find(ref="none") == []


def test_a_queue_lets_messages_leave_in_order_at_the_rate_of_the_sender() -> None:
    queues = SenderQueues(default_rate=None, rates={"a": 2.0}, longest_s=100)
    assert [queues.admit("a", 1, now_s=10.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert queues.admit("a", 4, now_s=11.0) == 0.5
    assert queues.admit("a", 1, now_s=11.5) == 2.0
    assert queues.admit("b", 1, now_s=11.5) == 0.0
    assert queues.admit("a", 1, now_s=60.0) == 0.0


def test_a_full_queue_refuses_and_takes_nothing() -> None:
    queues = SenderQueues(default_rate=1.0, rates={}, longest_s=2)
    assert [queues.admit("a", 1, now_s=0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            queues.admit("a", 1, now_s=0.0)
        assert caught.value.code == "40318"
    assert queues.admit("a", 1, now_s=1.0) == 2.0


@pytest.mark.parametrize(("rate", "at_once"), [(5.0, 5), (0.5, 1)])
def test_the_account_limit_lets_one_second_pass_then_says_when_to_come_again(rate: float, at_once: int) -> None:
    limit = AccountLimit(rate, retry_after_s=3)
    for _ in range(at_once):
        limit.draw(100.0)
    with pytest.raises(Refusal) as caught:
        limit.draw(100.0)
    assert (caught.value.code, caught.value.http_status, caught.value.retry_after_s) == ("10011", 429, 3)
    limit.draw(100.0 + 1 / rate)


def test_a_key_is_replayed_only_with_the_same_bytes_and_only_for_its_time() -> None:
    keys = Keys(keep=10, kept_s=60)
    name = ("k", "POST", "/messages")
    record = keys.begin(name, b"1", 0.0)
    with pytest.raises(Refusal) as running:
        keys.begin(name, b"1", 1.0)
    assert (running.value.code, running.value.http_status) == ("10036", 409)
    record.message = message()
    assert keys.begin(name, b"1", 2.0) is record
    with pytest.raises(Refusal) as caught:
        keys.begin(name, b"2", 3.0)
    assert (caught.value.code, caught.value.http_status) == ("10027", 422)
    assert keys.begin(("k", "POST", "/messages/long_code"), b"1", 3.0).message is None
    assert keys.begin(name, b"2", 61.0).message is None


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä"])
def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(Refusal):
        Keys(keep=10, kept_s=60).begin((key, "POST", "/messages"), b"", 0.0)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("STOP", "STOP"),
        (" stop all ", "STOP"),
        ("Unstop", "START"),
        ("help", "HELP"),
        ("please stop", None),
        ("", None),
    ],
)
def test_a_keyword_counts_only_as_the_whole_message_in_any_case(text: str, meaning: str | None) -> None:
    assert autoresponse_type(text) == meaning


def test_stop_blocks_a_person_for_the_profile_until_start() -> None:
    blocks = Blocks()
    for text, is_blocked in [("STOP", True), ("hello", True), ("HELP", True), ("START", False)]:
        blocks.apply(person="+13125550100", number="+13125550001", profile="p", text=text, now_us=1)
        assert blocks.holds("p", "+13125550100") is is_blocked
        assert not blocks.holds("q", "+13125550100")


@pytest.mark.parametrize(
    ("url", "ref"),
    [
        ("https://x/hook?ref=abc-0", "abc-0"),
        ("https://x/hook?a=1&ref=b%2Dc", "b-c"),
        ("https://x/hook", None),
        (None, None),
    ],
)
def test_the_ref_is_read_from_the_webhook_url(url: str | None, ref: str | None) -> None:
    assert ref_of(url) == ref


def test_a_key_file_is_made_once_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    seed = seed_from_file(str(path))
    assert seed_from_file(str(path)) == seed
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("nonsense")
    with pytest.raises(OptionError, match="delete it"):
        seed_from_file(str(path))
