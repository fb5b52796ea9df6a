"""Which lane a message takes, and what cannot leave."""

from __future__ import annotations

import re

import pytest

from worker.publication import publication
from worker.routing import Refusal, Route, refused_destination, route
from worker.settings import Config, parse_config
from worker.telnyx.builder import Content
from worker.titles import short_title

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
TOML = f"""
[senders.short]
channel = "short_code"
from = "12345"
rate = "100/s"
[senders.long]
channel = "long_code"
from = "+13125550001"
campaign = "C1"
rate = "10/s"
[senders.free]
channel = "toll_free"
from = "+18885550001"
rate = "auto"
[senders.pool]
channel = "number_pool"
messaging_profile_id = "{PROFILE}"
rate = "20/s"
[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "{PROFILE}"
rate = "auto"
[senders.family]
channel = "group_mms"
from = "+13125550002"
rate = "1/s"
[senders.chat]
channel = "whatsapp"
from = "+13125550003"
rate = "20/s"
[senders.any_brand]
channel = "auto"
from = "ACME"
messaging_profile_id = "{PROFILE}"
rate = "1/s"
[senders.any_short]
channel = "auto"
from = "12345"
rate = "1/s"
[campaigns.C1]
class = "A"
[job_types.any]
sender = "long"
"""
MEDIA = ("https://example.com/a.jpg",)
WHATSAPP = {"type": "text", "text": {"body": "hello"}}


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TOML)


def contents(channel: str) -> list[Content]:
    if channel == "whatsapp":
        return [Content(whatsapp=WHATSAPP)]
    return [Content(text="hello"), Content(text="hello", media_urls=MEDIA), Content(media_urls=MEDIA)]


def test_a_route_names_a_lane_that_the_configuration_publishes(config: Config) -> None:
    lanes = publication(config, release=1)["lanes"]
    for name, sender in config.senders.items():
        for content in contents(sender.channel):
            way = route(name, sender, content)
            if isinstance(way, Route):
                assert lanes[way.lane]["sender"] == name


@pytest.mark.parametrize("name", ["short", "long", "free", "pool"])
def test_media_takes_the_mms_lane_of_a_sender_of_both_kinds(config: Config, name: str) -> None:
    sender = config.senders[name]
    assert route(name, sender, Content(text="hello", media_urls=MEDIA)) == Route(f"{name}.mms")
    assert route(name, sender, Content(text="hello")) == Route(name)


def test_a_group_has_one_lane_with_media_and_without(config: Config) -> None:
    sender = config.senders["family"]
    assert route("family", sender, Content(text="hello", media_urls=MEDIA)) == Route("family")
    assert route("family", sender, Content(text="hello")) == Route("family")


@pytest.mark.parametrize("name", ["brand", "chat"])
def test_media_on_a_channel_that_carries_none_is_refused(config: Config, name: str) -> None:
    assert isinstance(route(name, config.senders[name], Content(text="hello", media_urls=MEDIA)), Refusal)


@pytest.mark.parametrize(
    ("longest", "name"), [("a" * 1530, "long"), ("ж" * 670, "long"), ("`" * 1530, "short"), ("`" * 670, "long")]
)
def test_ten_segments_go_and_eleven_are_refused(config: Config, longest: str, name: str) -> None:
    sender = config.senders[name]
    assert route(name, sender, Content(text=longest)) == Route(name)
    refused = route(name, sender, Content(text=longest + longest[0]))
    assert isinstance(refused, Refusal)
    assert refused.code == "parts"
    assert "11 segments" in refused.title


def test_a_message_draws_its_segments_where_the_sender_counts_those(config: Config) -> None:
    by_message, by_segment = config.senders["long"], config.senders["long"].model_copy(update={"unit": "segment"})
    text = Content(text="a" * 307)
    assert route("long", by_message, text) == Route("long", units=1)
    assert route("long", by_segment, text) == Route("long", units=3)
    assert route("long", by_segment, Content(text="a" * 307, media_urls=MEDIA)) == Route("long.mms", units=1)


def test_a_job_type_may_allow_fewer_segments(config: Config) -> None:
    sender = config.senders["long"]
    assert route("long", sender, Content(text="a" * 306), max_parts=2) == Route("long")
    refused = route("long", sender, Content(text="a" * 307), max_parts=2)
    assert isinstance(refused, Refusal)
    assert refused.title == "3 segments, at most 2 may go: shorten the text"


@pytest.mark.parametrize("name", ["long", "family"])
def test_the_text_of_an_mms_has_no_segments(config: Config, name: str) -> None:
    assert isinstance(route(name, config.senders[name], Content(text="ж" * 2000, media_urls=MEDIA)), Route)


@pytest.mark.parametrize(
    "number",
    [
        "+13125550100",  # Chicago
        "+14165550100",  # Toronto
        "+17875550100",  # Puerto Rico
        "+12005550100",  # an area code that nobody has yet
        "+18005550100",  # toll-free
    ],
)
def test_an_alphanumeric_sender_reaches_no_number_of_the_us_canada_or_puerto_rico(config: Config, number: str) -> None:
    refused = refused_destination(config.senders["brand"], number)
    assert refused is not None
    assert refused.code == "destination"


@pytest.mark.parametrize("number", ["+447700900123", "+4915112345678", "+18765550100"])  # the last: Jamaica
def test_an_alphanumeric_sender_reaches_others(config: Config, number: str) -> None:
    assert refused_destination(config.senders["brand"], number) is None


@pytest.mark.parametrize("name", ["short", "long", "free", "pool", "family", "chat"])
def test_no_other_channel_is_refused_a_destination(config: Config, name: str) -> None:
    assert refused_destination(config.senders[name], "+13125550100") is None
    assert refused_destination(config.senders[name], "+447700900123") is None


def test_a_refusal_has_a_code_for_the_timeline_and_a_title_that_quotes_nothing(config: Config) -> None:
    secret = "SECRET " * 400
    refusals = [
        route("long", config.senders["long"], Content(text=secret)),
        route("brand", config.senders["brand"], Content(text="SECRET", media_urls=MEDIA)),
        refused_destination(config.senders["brand"], "+13125550100"),
    ]
    for refusal in refusals:
        assert isinstance(refusal, Refusal)
        assert re.fullmatch(r"[a-z0-9_]+", refusal.code)
        assert len(refusal.title.encode()) <= 64
        assert "SECRET" not in refusal.title
        assert "3125550100" not in refusal.title


def test_a_title_is_one_short_line_with_numbers_masked_and_no_broken_character() -> None:
    assert short_title("Blocked for\n +13125550100") == "Blocked for +1312***0100"
    long = short_title("é" * 100)
    assert len(long.encode()) <= 64
    assert long == "é" * 30 + "..."
    assert short_title("x" * 64) == "x" * 64
    assert short_title("") == ""


def test_channel_auto_follows_the_rules_of_what_it_sends_from(config: Config) -> None:
    word, code = config.senders["any_brand"], config.senders["any_short"]
    assert isinstance(route("any_brand", word, Content(text="hi", media_urls=MEDIA)), Refusal)
    assert route("any_short", code, Content(text="hi", media_urls=MEDIA)) == Route("any_short.mms")
    refused = refused_destination(word, "+13122340001")
    assert refused is not None
    assert refused.code == "destination"
    assert refused_destination(word, "+447400123456") is None
    assert refused_destination(code, "+13122340001") is None
