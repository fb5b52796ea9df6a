"""The WhatsApp object of a request."""

from typing import Any

import pytest

from producers.content_rules import whatsapp_of
from producers.problems import Problems

LINK = "https://example.com/a.jpg"
BUTTON = {"type": "reply", "reply": {"id": "1", "title": "Yes"}}


def template(**extra: Any) -> dict[str, Any]:
    return {"type": "template", "template": {"name": "code", "language": {"code": "en_US"}, **extra}}


def interactive(**extra: Any) -> dict[str, Any]:
    return {"type": "interactive", "interactive": {"type": "button", "body": {"text": "Sure?"}, **extra}}


GOOD: list[dict[str, Any]] = [
    {"type": "text", "text": {"body": "Hi", "preview_url": True}},
    {"type": "text", "text": {"body": "Hi"}, "context": {"message_id": "wamid.1"}, "biz_opaque_callback_data": "x"},
    {"type": "image", "image": {"link": LINK, "caption": "c" * 1024}},
    {"type": "document", "document": {"id": "4711", "filename": "a.pdf"}},
    {"type": "video", "video": {"link": LINK}},
    {"type": "audio", "audio": {"link": LINK, "voice": True}},
    {"type": "sticker", "sticker": {"id": "4711"}},
    {"type": "location", "location": {"latitude": "41.8", "longitude": "-87.6", "name": "Chicago"}},
    {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": "👍"}},
    {"type": "contacts", "contacts": [{"name": {"formatted_name": "A"}, "phones": [{"phone": "+13125550100"}]}] * 257},
    template(),
    {"type": "template", "template": {"template_id": "t1"}},
    template(components=[{"type": "body", "parameters": [{"type": "image", "image": {"link": LINK}, "new": 1}]}]),
    template(components=[{"type": "button", "sub_type": "url", "index": "0", "parameters": [], "of_tomorrow": {}}]),
    interactive(action={"buttons": [BUTTON] * 3}, footer={"text": "f" * 60}, header={"type": "text", "text": "h"}),
    {
        "type": "interactive",
        "interactive": {
            "type": "list",
            "body": {"text": "b" * 1024},
            "action": {
                "button": "Open",
                "sections": [{"title": "t" * 24, "rows": [{"id": "i", "title": "t", "description": "d" * 72}]}],
            },
        },
    },
    {
        "type": "interactive",
        "interactive": {
            "type": "cta_url",
            "body": {"text": "b"},
            "action": {"name": "cta_url", "parameters": {"display_text": "See", "url": LINK}},
        },
    },
]

BAD: list[tuple[object, str]] = [
    ("hello", "whatsapp"),
    ({}, "whatsapp.type"),
    ({"type": "fax"}, "whatsapp.type"),
    ({"type": "text"}, "whatsapp"),
    ({"type": "text", "text": {"body": "x"}, "image": {"link": LINK}}, "whatsapp"),
    ({"type": "text", "text": {"body": " "}}, "whatsapp.text.body"),
    ({"type": "text", "text": {"body": "é" * 2049}}, "whatsapp.text.body"),
    ({"type": "text", "text": {"body": "x", "previewUrl": True}}, "whatsapp.text.previewUrl"),
    ({"type": "text", "text": {"body": "x", "preview_url": "yes"}}, "whatsapp.text.preview_url"),
    ({"type": "text", "text": {"body": "x"}, "to": "+13125550100"}, "whatsapp.to"),
    ({"type": "image", "image": {"link": LINK, "id": "1"}}, "whatsapp.image"),
    ({"type": "image", "image": {}}, "whatsapp.image"),
    ({"type": "image", "image": {"link": "ftp://x/y"}}, "whatsapp.image.link"),
    ({"type": "image", "image": {"link": LINK, "caption": "é" * 513}}, "whatsapp.image.caption"),
    ({"type": "audio", "audio": {"link": LINK, "caption": "c"}}, "whatsapp.audio.caption"),
    ({"type": "sticker", "sticker": {"link": LINK, "caption": "c"}}, "whatsapp.sticker.caption"),
    ({"type": "location", "location": {"latitude": 41.8, "longitude": "-87.6"}}, "whatsapp.location.latitude"),
    ({"type": "contacts", "contacts": []}, "whatsapp.contacts"),
    ({"type": "contacts", "contacts": [{"name": {"formatted_name": "A"}}] * 258}, "whatsapp.contacts"),
    ({"type": "contacts", "contacts": [{"name": {}}]}, "whatsapp.contacts[0].name.formatted_name"),
    ({"type": "template", "template": {"language": {"code": "en"}}}, "whatsapp.template"),
    ({"type": "template", "template": {"name": "x"}}, "whatsapp.template"),
    ({"type": "template", "template": {"name": "x", "language": "en"}}, "whatsapp.template.language"),
    (template(components=[{"type": "boddy"}]), "whatsapp.template.components[0].type"),
    (interactive(action={"buttons": [BUTTON] * 4}), "whatsapp.interactive.action.buttons"),
    (interactive(), "whatsapp.interactive.action"),
    (
        interactive(action={"buttons": [{"type": "reply", "reply": {"id": "1", "title": "t" * 21}}]}),
        "whatsapp.interactive.action.buttons[0].reply.title",
    ),
    (interactive(action={"buttons": [BUTTON]}, footer={"text": "f" * 61}), "whatsapp.interactive.footer.text"),
    (interactive(action={"cards": [{"card_index": 10}]}), "whatsapp.interactive.action.cards[0].card_index"),
    ({"type": "text", "text": {"body": b"x"}}, "whatsapp"),
    (template(components=[{"type": "body", "parameters": [{"type": "text", "text": "x" * 40_000}]}]), "whatsapp"),
]


@pytest.mark.parametrize("given", GOOD)
def test_what_telnyx_takes_goes_out_as_it_was_given(given: dict[str, Any]) -> None:
    problems = Problems()
    read = whatsapp_of(given, "whatsapp", problems)
    assert problems.errors == []
    assert read == given
    assert read is not given
    assert list(read) == list(given)


@pytest.mark.parametrize(("given", "field"), BAD)
def test_what_it_does_not_take_is_named_where_it_stands(given: object, field: str) -> None:
    problems = Problems()
    assert whatsapp_of(given, "whatsapp", problems) is None
    assert [error.field for error in problems.errors] == [field]
    assert problems.errors[0].remedy


def test_all_mistakes_are_named_at_once_without_quoting_content() -> None:
    problems = Problems()
    given = {"type": "image", "image": {"link": "secret", "caption": "secret" * 200, "alt": "secret"}}
    whatsapp_of(given, "[3].whatsapp", problems)
    assert [error.field for error in problems.errors] == [
        "[3].whatsapp.image.link",
        "[3].whatsapp.image.caption",
        "[3].whatsapp.image.alt",
    ]
    assert "secret" not in str(problems.errors)
