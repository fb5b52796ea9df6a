"""What a chunk of recipients becomes; no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from producers.ledger.calls import Loaded
from worker import expansion
from worker.content.rendering import render_content
from worker.expansion import is_urgent_and_small, plan
from worker.settings import Config, parse_config

TOML = """
[senders.local]
channel = "long_code"
from = "+13125550001"
campaign = "C1"
rate = "10/s"
[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "auto"
[senders.family]
channel = "group_mms"
from = "+13125550002"
rate = "1/s"
[senders.chat]
channel = "whatsapp"
from = "+13125550003"
rate = "20/s"
[campaigns.C1]
class = "A"
[job_types.code]
sender = "local"
template = "Your code is {{ code }}"
[job_types.notice]
sender = "local"
[job_types.promotion]
sender = "local"
preset = "us-tcpa"
[job_types.travel]
sender = "brand"
[job_types.family]
sender = "family"
[job_types.order]
sender = "chat"
whatsapp_template = { name = "order", language = "en_US" }
"""
NID = "0" * 32
NUMBERS = [f"+1312555010{i}" for i in range(5)]


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TOML)


def many(job_type: str, rows: Sequence[Sequence[Any]], **content: Any) -> Loaded:
    record = {"at": b"1795521600000000", "jt": job_type.encode(), "k": b"1", "tot": str(len(rows)).encode()}
    return Loaded(record, json.dumps(content).encode(), "0", json.dumps(rows).encode())


def one(job_type: str, to: str, **content: Any) -> Loaded:
    record = {"at": b"1795521600000000", "jt": job_type.encode(), "k": b"1", "to": to.encode()}
    return Loaded(record, json.dumps(content).encode(), None, b"")


def test_recipients_without_variables_share_one_content(config: Config) -> None:
    made = plan(many("notice", [[n, None] for n in NUMBERS], text="hello ✓"), config)
    assert made.shared == '{"text":"hello ✓"}'
    assert [(item.to, item.lane, item.content) for item in made.items] == [(n, "local", None) for n in NUMBERS]


def test_recipients_with_variables_have_contents_of_their_own_which_win_over_the_requests(config: Config) -> None:
    rows: list[list[Any]] = [[NUMBERS[0], {"code": "1"}], [NUMBERS[1], None], [NUMBERS[2], {"code": "2"}]]
    made = plan(many("code", rows, variables={"code": "0"}), config)
    assert [item.content for item in made.items] == ['{"text":"Your code is 1"}', None, '{"text":"Your code is 2"}']
    assert made.shared == '{"text":"Your code is 0"}'


def test_nothing_is_shared_when_all_have_contents_of_their_own(config: Config) -> None:
    assert plan(many("code", [[n, {"code": "1"}] for n in NUMBERS]), config).shared == ""


def test_a_lone_message_keeps_its_own_content(config: Config) -> None:
    made = plan(one("code", NUMBERS[0], variables={"code": "7"}), config)
    assert made.shared == ""
    assert [(i.to, i.lane, i.content) for i in made.items] == [(NUMBERS[0], "local", '{"text":"Your code is 7"}')]


def test_a_group_is_one_message_to_all_of_its_members(config: Config) -> None:
    made = plan(one("family", ",".join(NUMBERS), text="dinner"), config)
    assert [(i.to, i.lane) for i in made.items] == [(",".join(NUMBERS), "family")]


def test_media_goes_by_the_mms_lane(config: Config) -> None:
    made = plan(one("notice", NUMBERS[0], text="look", media_urls=["https://example.com/a.jpg"]), config)
    assert made.items[0].lane == "local.mms"
    assert json.loads(made.items[0].content or "") == {"text": "look", "media_urls": ["https://example.com/a.jpg"]}


def test_whatsapp_content_is_telnyx_object(config: Config) -> None:
    made = plan(one("order", NUMBERS[0], variables={"order": "A1"}), config)
    whatsapp = json.loads(made.items[0].content or "")["whatsapp"]
    assert whatsapp["template"]["name"] == "order"
    assert whatsapp["template"]["components"][0]["parameters"] == [{"type": "text", "text": "A1"}]


def test_what_is_wrong_with_one_recipient_ends_that_one_and_the_others_go_on(config: Config) -> None:
    rows = [[NUMBERS[0], {"code": "1"}], [NUMBERS[1], {"other": "x"}], [NUMBERS[2], {"code": "2"}]]
    made = plan(many("code", rows), config)
    assert [item.reject for item in made.items] == ["", "content", ""]
    assert made.items[1].title.startswith("variables.code (missing)")
    assert [item.to for item in made.items] == NUMBERS[:3]


def test_each_recipient_gets_exactly_one_admission_in_the_chunks_order(config: Config) -> None:
    rows = [[f"+1312{5_000_000 + i}", {"code": str(i)} if i % 3 else None] for i in range(200)]
    made = plan(many("code", rows, variables={"code": "0"}), config)
    assert [item.to for item in made.items] == [row[0] for row in rows]


def test_a_text_of_eleven_segments_rejects_all_who_would_get_it(config: Config) -> None:
    made = plan(many("notice", [[n, None] for n in NUMBERS], text="a" * 1531), config)
    assert {item.reject for item in made.items} == {"parts"}
    assert made.shared == ""


def test_a_destination_that_the_sender_cannot_reach_rejects_that_recipient(config: Config) -> None:
    made = plan(many("travel", [["+447700900123", None], [NUMBERS[0], None]], text="hello"), config)
    assert [item.reject for item in made.items] == ["", "destination"]
    assert made.shared == '{"text":"hello"}'


def test_an_unknown_job_type_rejects_and_says_which(config: Config) -> None:
    made = plan(many("gone", [[n, None] for n in NUMBERS], text="hello"), config)
    assert {(item.reject, item.title) for item in made.items} == {("job_type", "job type gone is not in notify.toml")}


def test_an_unexpected_exception_rejects_one_recipient_as_poison_and_logs_no_content(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = render_content

    def sometimes(*args: Any, variables: Any = None, **rest: Any) -> Any:
        if variables and variables["code"] == "SECRET":
            raise KeyError("SECRET")
        return real(*args, variables=variables, **rest)

    monkeypatch.setattr(expansion, "render_content", sometimes)
    rows = [[NUMBERS[0], {"code": "1"}], [NUMBERS[1], {"code": "SECRET"}], [NUMBERS[2], {"code": "2"}]]
    with structlog.testing.capture_logs() as lines:
        made = plan(many("code", rows), config)
    assert [item.reject for item in made.items] == ["", "poison", ""]
    assert [line["event"] for line in lines] == ["recipient_poisoned"]
    assert "KeyError" in made.items[1].title
    assert lines[0]["error"] == "KeyError"
    assert NUMBERS[1] not in str(lines)


def test_content_that_redis_could_not_store_is_poison_for_its_recipient_alone(config: Config) -> None:
    rows = [[NUMBERS[0], {"code": "\ud800"}], [NUMBERS[1], {"code": "2"}]]
    made = plan(many("code", rows), config)
    assert [item.reject for item in made.items] == ["poison", ""]


def test_the_same_input_gives_the_same_bytes(config: Config) -> None:
    rows = [[n, {"code": n[-1]}] for n in NUMBERS]
    assert plan(many("code", rows), config).items == plan(many("code", rows), config).items


@pytest.mark.parametrize(
    ("klass", "total", "urgent"), [(b"0", b"10", True), (b"0", b"11", False), (b"1", b"2", False), (b"0", None, True)]
)
def test_urgent_ones_of_at_most_ten_recipients_have_a_queue_of_their_own(
    klass: bytes, total: bytes | None, urgent: bool
) -> None:
    record = {"k": klass} | ({"tot": total} if total else {})
    assert is_urgent_and_small(Loaded(record, b"", "0", b"")) is urgent


def test_zones_are_told_where_a_job_type_has_rules_and_nowhere_else(config: Config) -> None:
    rows = [["+13125550100", None], ["+18085550100", None], ["+18005550100", None]]
    made = plan(many("promotion", rows, text="hello"), config)
    assert [item.zones for item in made.items] == ["America/Chicago", "Pacific/Honolulu", ""]
    assert set(made.zones) == {"America/Chicago", "Pacific/Honolulu"}
    plain = plan(many("notice", rows, text="hello"), config)
    assert (plain.zones, {item.zones for item in plain.items}) == ({}, {""})


def test_a_free_form_whatsapp_message_brings_the_template_that_takes_its_place(config: Config) -> None:
    free = {"type": "text", "text": {"body": "hello"}}
    alone = plan(one("order", NUMBERS[0], whatsapp=free), config).items[0]
    assert alone.free_form and alone.request is None
    assert json.loads(alone.template or "")["whatsapp"]["template"]["name"] == "order"
    of_many = plan(many("order", [[n, None] for n in NUMBERS], whatsapp=free), config).items[0]
    assert json.loads(of_many.request or "") == {"whatsapp": free}
    assert not plan(one("order", NUMBERS[0]), config).items[0].free_form
