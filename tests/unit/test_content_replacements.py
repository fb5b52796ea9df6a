"""Typographic characters that need not cost a text its encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.content.rendering import RenderError, render_content
from worker.content.replacements import REPLACEMENTS, replace_typographic
from worker.content.segments import ASCII7, GSM7, count
from worker.settings import JobType

texts = st.text(st.sampled_from([*REPLACEMENTS, "a", "\u00e9", "\u200d", "\U0001f44d"]), max_size=60)


def test_every_replacement_fits_every_alphabet() -> None:
    assert set("".join(REPLACEMENTS.values())) <= GSM7 & ASCII7
    assert not set(REPLACEMENTS) & GSM7


def test_a_text_from_a_word_processor_costs_no_ucs2() -> None:
    text = "\u201cIt\u2019s here\u201d \u2013 5\u00a0pm\u2026"
    assert count(text).encoding == "UCS-2"
    assert replace_typographic(text) == '"It\'s here" - 5 pm...'


def test_what_means_something_stays() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u00e7\u0142"
    assert replace_typographic(family) == family


@given(texts)
def test_replacing_twice_changes_nothing_more(text: str) -> None:
    once = replace_typographic(text)
    assert replace_typographic(once) == once


def job(**keys: object) -> JobType:
    return JobType.model_validate({"sender": "a", **keys})


def test_it_is_done_where_the_job_type_asks_and_where_segments_are_billed() -> None:
    request = {"text": "5\u00a0pm\u2026"}
    assert render_content(job(smart_replacement=True), request) == {"text": "5 pm..."}
    assert render_content(job(), request) == request
    with_media = {**request, "media_urls": ["https://example.com/a.png"]}
    assert render_content(job(smart_replacement=True), with_media)["text"] == request["text"]


def test_a_text_of_nothing_but_invisible_characters_is_blank() -> None:
    with pytest.raises(RenderError):
        render_content(job(smart_replacement=True), {"text": "\u200b\u00ad"})
