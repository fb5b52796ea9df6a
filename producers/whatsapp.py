"""The WhatsApp object of a request, checked before anything is written.

These models say what Telnyx takes in ``whatsapp_message``, with the limits that its documentation gives. They only
check: what goes out is the caller's own object, in the caller's own order, so nothing is lost or made up on the way.
Unknown fields are errors where the documentation is complete (a typo would be dropped in silence there), and pass where
it is not: inside components of templates and parts of interactive messages.

Source: developers.telnyx.com, "Send WhatsApp Messages"; the OpenAPI schema WhatsappMessageContent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

TYPES = (
    "text", "template", "image", "document", "video", "audio", "sticker", "location", "reaction", "contacts",
    "interactive",
)  # fmt: skip


class _Complete(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


def _at_most_bytes(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        size = len(text.encode("utf-8", "replace"))
        if size > limit:
            raise PydanticCustomError("too_many_bytes", "shorten it to {limit} bytes", {"limit": limit})
        return text

    return AfterValidator(check)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "it is blank: write something")
    return text


def _is_url(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise PydanticCustomError("not_a_url", "write a public http(s) URL")
    return url


Name = Annotated[str, AfterValidator(_not_blank), Field(max_length=512)]
Url = Annotated[str, AfterValidator(_is_url), Field(max_length=2000)]
Caption = Annotated[str, _at_most_bytes(1024)]


class Text(_Complete):
    body: Annotated[str, AfterValidator(_not_blank), _at_most_bytes(4096)]
    preview_url: bool = False


class Media(_Complete):
    """An uploaded file by ``id``, or a public one by ``link``; exactly one of them."""

    link: Url | None = None
    id: Name | None = None
    filename: Annotated[str, Field(max_length=240)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.link is None) == (self.id is None):
            raise PydanticCustomError("one_source", "give exactly one of link and id")
        return self


class CaptionedMedia(Media):
    caption: Caption | None = None


class Audio(Media):
    voice: bool | None = None


class Location(_Complete):
    latitude: Name  # strings, says the schema
    longitude: Name
    name: str | None = None
    address: str | None = None


class Reaction(_Complete):
    message_id: Name
    emoji: str  # empty takes the reaction back


class ContactName(_Open):
    formatted_name: Name


class Contact(_Open):
    name: ContactName
    phones: list[dict[str, Any]] | None = None
    emails: list[dict[str, Any]] | None = None
    urls: list[dict[str, Any]] | None = None
    addresses: list[dict[str, Any]] | None = None


class Language(_Complete):
    code: Name
    policy: str | None = None


class Parameter(_Open):
    type: Name
    text: str | None = None


class Component(_Open):
    type: Literal["header", "body", "button"]
    sub_type: str | None = None
    index: Any = None  # Meta's samples have numbers and strings
    parameters: list[Parameter] | None = None


class Template(_Complete):
    """By ``name`` and ``language``, or by Telnyx's ``template_id``."""

    template_id: Name | None = None
    name: Name | None = None
    language: Language | None = None
    components: list[Component] | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.template_id is None and (self.name is None or self.language is None):
            raise PydanticCustomError("unnamed", "give name and language, or template_id")
        return self


class Reply(_Open):
    id: Annotated[str, Field(min_length=1, max_length=256)]
    title: Annotated[str, Field(min_length=1, max_length=20)]


class Button(_Open):
    type: Literal["reply"]
    reply: Reply


class Row(_Open):
    id: Annotated[str, Field(min_length=1, max_length=200)]
    title: Annotated[str, Field(min_length=1, max_length=24)]
    description: Annotated[str, Field(max_length=72)] | None = None


class Section(_Open):
    title: Annotated[str, Field(max_length=24)] | None = None
    rows: list[Row] | None = None


class Card(_Open):
    card_index: Annotated[int, Field(ge=0, le=9)]


class ActionParameters(_Open):
    display_text: Annotated[str, Field(max_length=20)] | None = None
    flow_cta: Annotated[str, Field(max_length=20)] | None = None
    flow_action: Literal["navigate", "data_exchange"] | None = None


class Action(_Open):
    buttons: Annotated[list[Button], Field(min_length=1, max_length=3)] | None = None
    sections: Annotated[list[Section], Field(min_length=1)] | None = None
    cards: Annotated[list[Card], Field(min_length=1, max_length=10)] | None = None
    parameters: ActionParameters | None = None


class Header(_Open):
    type: Literal["document", "image", "text", "video"]
    text: Annotated[str, Field(max_length=60)] | None = None


class Body(_Open):
    text: Annotated[str, AfterValidator(_not_blank), Field(max_length=1024)]


class Footer(_Open):
    text: Annotated[str, Field(max_length=60)]


class Interactive(_Open):
    type: Literal["cta_url", "list", "carousel", "button", "location_request_message", "flow"]
    header: Header | None = None
    body: Body | None = None
    footer: Footer | None = None
    action: Action


class Context(_Complete):
    """The message that this one answers."""

    message_id: Name


class WhatsAppMessage(_Complete):
    """``type`` and the object of that name."""

    type: Literal[
        "text", "template", "image", "document", "video", "audio", "sticker", "location", "reaction", "contacts",
        "interactive",
    ]  # fmt: skip
    text: Text | None = None
    template: Template | None = None
    image: CaptionedMedia | None = None
    document: CaptionedMedia | None = None
    video: CaptionedMedia | None = None
    audio: Audio | None = None
    sticker: Media | None = None
    location: Location | None = None
    reaction: Reaction | None = None
    contacts: Annotated[list[Contact], Field(min_length=1, max_length=257)] | None = None
    interactive: Interactive | None = None
    context: Context | None = None
    biz_opaque_callback_data: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _what_it_says(self) -> Self:
        if getattr(self, self.type) is None:
            raise PydanticCustomError("no_object", "type {type} needs an object `{type}`: add it", {"type": self.type})
        others = [name for name in TYPES if name != self.type and getattr(self, name) is not None]
        if others:
            text = "type {type} goes without `{other}`: remove it"
            raise PydanticCustomError("two_objects", text, {"type": self.type, "other": others[0]})
        return self
