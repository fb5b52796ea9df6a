"""What a job type and a request make together."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from worker.content.rendering import render_content, variables_of
from worker.content.templates import RenderError


@dataclass
class JobType:
    template: str | None = None
    media_urls: tuple[str, ...] = ()
    whatsapp_template: dict[str, Any] | None = None
    smart_replacement: bool = False


OTP = JobType(template="Your code is {{ code }}")
URL, OTHER = "https://example.com/a.jpg", "https://example.com/b.jpg"


def test_a_template_takes_the_request_s_variables_and_the_recipient_s_win() -> None:
    assert render_content(OTP, {"variables": {"code": "1"}}) == {"text": "Your code is 1"}
    both = render_content(OTP, {"variables": {"code": "1"}}, variables={"code": "2"})
    assert both == {"text": "Your code is 2"}


def test_a_job_type_without_template_sends_the_text_as_it_is() -> None:
    assert render_content(JobType(), {"text": "50% {{ off }}"}) == {"text": "50% {{ off }}"}


def test_the_request_s_media_win_over_the_job_type_s() -> None:
    job_type = JobType(media_urls=(URL,))
    assert render_content(job_type, {}) == {"media_urls": [URL]}
    assert render_content(job_type, {"media_urls": [OTHER]}) == {"media_urls": [OTHER]}


def test_keys_come_in_one_order_so_that_a_resend_has_the_same_bytes() -> None:
    request = {"subject": "Hi", "media_urls": [URL], "text": "x"}
    content = render_content(JobType(), request, channel="long_code")
    assert list(content) == ["text", "media_urls", "subject"]
    turned = dict(reversed(request.items()))
    assert json.dumps(content) == json.dumps(render_content(JobType(), turned, channel="long_code"))


@pytest.mark.parametrize("channel", ["long_code", "whatsapp", ""])
@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_blank_text_is_not_sent(channel: str, text: str) -> None:
    with pytest.raises(RenderError):
        render_content(JobType(template="{{ a }}"), {"variables": {"a": text}}, channel=channel)


def test_a_blank_caption_leaves_the_media() -> None:
    assert render_content(JobType(template="{{ a }}", media_urls=(URL,)), {"variables": {"a": ""}}) == {
        "media_urls": [URL]
    }


def test_on_whatsapp_a_text_becomes_a_text_object() -> None:
    content = render_content(OTP, {"variables": {"code": "1"}}, channel="whatsapp")
    assert content == {"whatsapp": {"type": "text", "text": {"body": "Your code is 1"}}}
    with pytest.raises(RenderError, match="bytes"):
        render_content(JobType(), {"text": "é" * 2049}, channel="whatsapp")


def test_on_whatsapp_the_request_s_object_goes_as_it_is() -> None:
    own = {"type": "image", "image": {"link": URL}}
    assert render_content(JobType(), {"whatsapp": own}, channel="whatsapp") == {"whatsapp": own}


def test_the_strings_in_components_are_templates() -> None:
    components = [
        {"type": "body", "parameters": [{"type": "text", "text": "{{ code }}"}]},
        {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "c={{ code }}"}]},
    ]
    job_type = JobType(whatsapp_template={"name": "code", "language": "en_US", "components": components})
    assert variables_of(job_type) == (frozenset({"code"}), frozenset())
    content = render_content(job_type, {"variables": {"code": 42}}, channel="whatsapp")
    assert content["whatsapp"] == {
        "type": "template",
        "template": {
            "name": "code",
            "language": {"code": "en_US"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "42"}]},
                {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "c=42"}]},
            ],
        },
    }


def test_without_components_the_variables_fill_the_body_in_the_order_of_the_template() -> None:
    whatsapp_template = {"name": "code", "language": "en_US"}
    job_type = JobType(template="{{ shop }}: {{ code }}", whatsapp_template=whatsapp_template)
    content = render_content(job_type, {"variables": {"code": 7, "shop": "ACME"}}, channel="whatsapp")
    parameters = [{"type": "text", "text": "ACME"}, {"type": "text", "text": "7"}]
    assert content["whatsapp"]["template"]["components"] == [{"type": "body", "parameters": parameters}]


def test_without_template_they_fill_it_in_the_order_of_the_request() -> None:
    job_type = JobType(whatsapp_template={"name": "hello", "language": {"code": "de", "policy": "deterministic"}})
    content = render_content(job_type, {"variables": {"b": 1, "a": 2}}, channel="whatsapp")
    template = content["whatsapp"]["template"]
    assert [parameter["text"] for parameter in template["components"][0]["parameters"]] == ["1", "2"]
    assert template["language"] == {"code": "de", "policy": "deterministic"}
    assert render_content(job_type, {}, channel="whatsapp")["whatsapp"]["template"].keys() == {"name", "language"}


@pytest.mark.parametrize("variables", [{}, {"name": " "}])
def test_a_parameter_that_is_missing_or_blank_is_an_error(variables: dict[str, str]) -> None:
    job_type = JobType(template="Hi {{ name | default('x') }}", whatsapp_template={"name": "hi", "language": "en"})
    with pytest.raises(RenderError) as caught:
        render_content(job_type, {"variables": variables}, channel="whatsapp")
    assert caught.value.field == "variables.name"


def test_a_text_leg_of_a_job_type_with_a_whatsapp_template_sends_the_text() -> None:
    job_type = JobType(template="Code {{ code }}", whatsapp_template={"name": "code", "language": "en_US"})
    assert render_content(job_type, {"variables": {"code": 1}}, channel="short_code") == {"text": "Code 1"}
    assert list(render_content(job_type, {"variables": {"code": 1}})) == ["text", "whatsapp"]


def test_what_was_given_is_not_changed() -> None:
    components = [{"type": "body", "parameters": [{"type": "text", "text": "{{ a }}"}]}]
    job_type = JobType(whatsapp_template={"name": "n", "language": "en", "components": components})
    request = {"variables": {"a": "1"}}
    render_content(job_type, request, channel="whatsapp", variables={"a": "2"})
    assert components[0]["parameters"] == [{"type": "text", "text": "{{ a }}"}]
    assert request == {"variables": {"a": "1"}}
