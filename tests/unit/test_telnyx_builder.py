from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.telnyx import builder
from worker.telnyx.builder import METHODS, Content, SenderSpec, build, builder_version

SENDER = SenderSpec("alerts", "long_code", "+13125550001", "profile-1")
TO = ["+13125550100"]
REF = "0123456789abcdef0123456789abcdef-0"

texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
json_values = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc", min_size=1), inner)),
    max_leaves=10,
)
contents = st.builds(
    Content,
    text=texts,
    media_urls=st.lists(st.text("abc:/.", min_size=1), max_size=3).map(tuple),
    subject=texts,
    whatsapp=st.one_of(st.none(), st.dictionaries(st.text("abc", min_size=1), json_values)),
)


@given(content=contents)
def test_content_survives_its_json_in_the_same_order(content: Content) -> None:
    again = Content.from_json(content.to_json())
    assert again == content
    assert again.to_json() == content.to_json()


@pytest.mark.parametrize("raw", [b"", b"[]", b"nonsense +13125550100", b'"x"'])
def test_what_is_no_content_is_refused_without_quoting_it(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object") as caught:
        Content.from_json(raw)
    assert "3125550100" not in str(caught.value)


@given(content=contents, channel=st.sampled_from(sorted(METHODS)), url=st.one_of(st.none(), st.just("https://a.test")))
def test_an_argument_that_is_not_set_is_absent(content: Content, channel: str, url: str | None) -> None:
    for sender in (replace(SENDER, channel=channel), SenderSpec("bare", channel)):
        request = build(sender, TO, content, ref=REF, public_url=url)
        assert None not in request.kwargs.values()
        assert ("webhook_url" in request.kwargs) == (url is not None)
        assert request == build(sender, TO, Content.from_json(content.to_json()), ref=REF, public_url=url)


@pytest.mark.parametrize("channel", sorted(METHODS))
def test_every_argument_is_one_of_the_sdks_method(channel: str) -> None:
    from telnyx.resources.messages.messages import AsyncMessagesResource

    content = Content(text="hi", media_urls=("https://a.test/a.png",), subject="s", whatsapp={"type": "text"})
    request = build(replace(SENDER, channel=channel), TO, content, ref=REF, public_url="https://a.test")
    method = getattr(AsyncMessagesResource, request.method_name)
    inspect.signature(method).bind(None, **request.kwargs, idempotency_key=request.key)
    assert f'"{request.path}"' in inspect.getsource(method)


def test_the_reference_is_key_and_webhook_query_and_nothing_names_the_attempt() -> None:
    request = build(SENDER, TO, Content(text="hi"), ref=REF, public_url="https://a.test/")
    assert request.key == REF
    assert request.kwargs["webhook_url"] == f"https://a.test/webhooks/telnyx?ref={REF}"


def test_media_make_an_mms_and_a_text_alone_names_no_type() -> None:
    assert "type" not in build(SENDER, TO, Content(text="hi"), ref=REF, public_url=None).kwargs
    kwargs = build(SENDER, TO, Content(media_urls=("https://a.test/a",)), ref=REF, public_url=None).kwargs
    assert (kwargs["type"], kwargs["media_urls"]) == ("MMS", ["https://a.test/a"])


def test_a_group_goes_to_all_in_one_request() -> None:
    sender = SenderSpec("family", "group_mms", "+13125550002")
    numbers = ["+13125550101", "+13125550102"]
    assert build(sender, numbers, Content(text="hi"), ref=REF, public_url=None).kwargs["to"] == numbers


def test_a_pool_names_no_number() -> None:
    sender = SenderSpec("pool", "number_pool", "+13125550002", "profile-1")
    assert "from_" not in build(sender, TO, Content(text="hi"), ref=REF, public_url=None).kwargs


def test_a_channel_of_one_recipient_refuses_several() -> None:
    with pytest.raises(ValueError, match="to has 2 recipients, long_code takes exactly one") as caught:
        build(SENDER, ["+13125550101", "+13125550102"], Content(text="hi"), ref=REF, public_url=None)
    assert "55501" not in str(caught.value)


def test_an_unknown_channel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="channel is 'fax': use one of short_code"):
        build(replace(SENDER, channel="fax"), TO, Content(text="hi"), ref=REF, public_url=None)


def test_whatever_could_change_the_bytes_changes_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://a.test"
    known = builder_version(SENDER, url)
    assert known == builder_version(replace(SENDER), f"{url}/")
    assert len(known) == 8
    changed: list[Any] = [replace(SENDER, **{field.name: "other"}) for field in fields(SENDER)]
    versions = {known, builder_version(SENDER, "https://b.test"), builder_version(SENDER, None)}
    versions |= {builder_version(sender, url) for sender in changed}
    monkeypatch.setattr(builder, "BUILDER_VERSION", builder.BUILDER_VERSION + 1)
    versions.add(builder_version(SENDER, url))
    monkeypatch.undo()
    monkeypatch.setattr(builder, "_sdk_version", lambda: "5.0.0")
    versions.add(builder_version(SENDER, url))
    assert len(versions) == 5 + len(fields(SENDER))


def test_no_body_or_number_shows_in_a_repr() -> None:
    content = Content(text="the code is 1", whatsapp={"type": "text"})
    shown = repr(content) + repr(build(SENDER, TO, content, ref=REF, public_url=None))
    assert "code is" not in shown
    assert TO[0] not in shown


def test_building_and_reading_need_no_sdk() -> None:
    modules = "worker.telnyx.builder, worker.telnyx.errors, worker.telnyx.outcomes, worker.telnyx.receipts"
    check = f"import sys, {modules}, worker.telnyx.gateway; sys.exit('telnyx' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
