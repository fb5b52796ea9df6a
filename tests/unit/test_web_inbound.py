"""What an inbound message says about opt-outs, and in which scopes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.compliance.keywords import match
from worker.settings.model import Config, JobType, Sender
from worker.telnyx.receipts import Inbound
from worker.web.inbound import AHEAD_MOST_US, opt_call, reading_of, scopes_of, windows_of, written_to

NOW_US = 1_800_000_000_000_000
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"


def _sender(**fields: Any) -> Sender:
    return Sender.model_validate({"channel": "long_code", "rate": "1/s", **fields})


SENDERS = {
    "local": _sender(**{"from": "+13125550001"}),
    "twin": _sender(**{"from": "+13125550001"}),
    "other": _sender(**{"from": "+13125550002"}),
    "pool": _sender(channel="number_pool", messaging_profile_id=PROFILE),
}


def _inbound(**fields: Any) -> Inbound:
    given: Any = {
        "from": "+13125550100", "to": ["+13125550001"], "cc": [], "text": "", "autoresponse_type": None,
        "profile": None, "event": "e1", "at": NOW_US, "type": "SMS", "media": 0, "media_urls": [], "message": "m1", **fields,
    }  # fmt: skip
    made: Inbound = given
    return made


@pytest.mark.parametrize(
    ("fields", "reading"),
    [
        ({"autoresponse_type": "STOP"}, ("out", "webhook")),
        ({"autoresponse_type": "START"}, ("in", "webhook")),
        ({"autoresponse_type": "HELP"}, ("", "webhook")),
        ({"autoresponse_type": "INFO"}, ("", "webhook")),
        ({"autoresponse_type": "HELP", "text": "stop"}, ("", "webhook")),
        ({"autoresponse_type": "START", "text": "STOP", "type": "WHATSAPP"}, ("in", "webhook")),
        ({"text": "STOP"}, ("out", "keyword")),
        ({"text": "Arrêt !", "type": "MMS"}, ("out", "keyword")),
        ({"text": "unstop"}, ("in", "keyword")),
        ({"text": "stop please", "type": "WHATSAPP"}, ("", "keyword")),
        ({"text": " stop ", "type": "WHATSAPP"}, ("out", "keyword")),
        ({"text": "Start", "type": "WhatsApp"}, ("in", "keyword")),
        ({"text": "STOP", "autoresponse_type": "SOMETHING_NEW"}, ("out", "keyword")),
        ({"text": "hello", "autoresponse_type": "SOMETHING_NEW"}, ("", "keyword")),
    ],
)
def test_telnyx_s_word_decides_and_where_it_has_none_the_text_does(
    fields: dict[str, Any], reading: tuple[str, str]
) -> None:
    assert reading_of(_inbound(**fields), match) == reading


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({}, ["sender:local", "sender:twin"]),
        ({"profile": PROFILE.upper()}, [f"profile:{PROFILE}", "sender:local", "sender:twin"]),
        ({"to": ["+13125550009"], "profile": PROFILE}, [f"profile:{PROFILE}"]),
        ({"to": ["+13125550009"]}, ["global"]),
        ({"to": []}, ["global"]),
        ({"to": ["+13125550001", "+13125550002"]}, ["sender:local", "sender:twin", "sender:other"]),
    ],
)
def test_a_message_is_placed_by_profile_and_sender_and_else_everywhere(
    fields: dict[str, Any], scopes: list[str]
) -> None:
    assert scopes_of(_inbound(**fields), SENDERS) == scopes


def _args(**fields: Any) -> dict[str, Any]:
    call = opt_call(_inbound(**fields), b'{"data":{}}', Config(senders=SENDERS, job_types={}), match, now_us=NOW_US)
    names = ["number", "direction", "at", "source", "evidence", "operator", "inbound"]
    return dict(zip(names, call.args, strict=False))


def test_the_person_s_word_is_never_an_operator_s() -> None:
    args = _args(autoresponse_type="STOP")
    assert (args["number"], args["direction"], args["operator"]) == ("+13125550100", "out", 0)
    assert (args["source"], args["at"], json.loads(args["inbound"])["from"]) == ("webhook", NOW_US, "+13125550100")


def test_a_time_that_lies_ahead_is_not_believed() -> None:
    assert _args(at=NOW_US + AHEAD_MOST_US + 1)["at"] == 0
    assert _args(at=NOW_US + AHEAD_MOST_US)["at"] == NOW_US + AHEAD_MOST_US


@pytest.mark.parametrize("event", [None, "", "x" * 37, "a:b", "\ud800", "a\nb"])
def test_an_event_without_a_usable_id_is_known_by_its_content(event: str | None) -> None:
    evidence = _args(event=event)["evidence"]
    assert evidence == _args(event=event)["evidence"] and len(evidence) == 36 and evidence.isalnum()


def test_nobody_s_stop_changes_nothing_and_is_kept() -> None:
    args = _args(**{"from": None, "autoresponse_type": "STOP"})
    assert (args["number"], args["direction"]) == ("", "")
    assert args["inbound"]


def test_what_utf8_cannot_spell_is_replaced() -> None:
    _args(**{"from": "+1\ud800"})["number"].encode()


def test_who_writes_on_whatsapp_opens_the_window_of_the_senders_written_to() -> None:
    senders = {**SENDERS, "chat": _sender(channel="whatsapp", **{"from": "+13125550003"})}
    assert windows_of(_inbound(type="WHATSAPP", to=["+13125550003"]), senders) == ["wa:chat"]
    assert windows_of(_inbound(type="SMS", to=["+13125550003"]), senders) == []
    assert windows_of(_inbound(type="WHATSAPP", to=["+13125550001"]), senders) == []


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, ["sy:local"]),  # `twin` has the number too, and no job type that remembers
        ({"to": ["+13125550002"]}, []),
        ({"to": ["+13125550009"], "profile": PROFILE.upper()}, ["sy:pool"]),
        ({"to": ["+13125550001"], "profile": PROFILE}, ["sy:local"]),
        ({"to": ["+13125550009"]}, []),
    ],
)
def test_the_sender_that_was_written_to_is_told_where_a_job_type_remembers_it(
    fields: dict[str, Any], found: list[str]
) -> None:
    sticky = JobType.model_validate({"routes": [{"senders": ["local", "pool"]}], "sticky": True})
    other = JobType.model_validate({"routes": [{"senders": ["twin", "other"]}]})
    config = Config(senders=SENDERS, job_types={"sticky": sticky, "other": other})
    assert written_to(_inbound(**fields), config) == found
    assert set(found) <= set(opt_call(_inbound(**fields), b"{}", config, match, now_us=NOW_US).args)
