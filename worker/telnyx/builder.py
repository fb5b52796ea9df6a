"""Build the one request that a message is: method, path, arguments, key. Pure: no SDK, no clock, no network.

Telnyx answers a repeated Idempotency-Key only for the same path and the same bytes. So nothing here may depend on the
attempt, the time or the process. Invariants, each with a test named after it:

- The same sender, recipients, content and reference give the same request, always.
- Whatever could change the bytes (SDK, public URL, sender, this module) changes ``builder_version``.
- An argument that is not set is absent, never None, which the SDK would send as JSON null.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

__all__ = ["BUILDER_VERSION", "METHODS", "Content", "Request", "SenderSpec", "build", "builder_version"]

BUILDER_VERSION: Final = 2  # raise it with any change below that changes the bytes of a request
WEBHOOK_PATH: Final = "/webhooks/telnyx"

# The SDK's method and the path it posts to. A key is valid for one path only, so a channel never changes its own.
METHODS: Final[dict[str, tuple[str, str]]] = {
    "short_code": ("send_short_code", "/messages/short_code"),
    "long_code": ("send_long_code", "/messages/long_code"),
    "toll_free": ("send", "/messages"),
    "number_pool": ("send_number_pool", "/messages/number_pool"),
    "alphanumeric": ("send_with_alphanumeric_sender", "/messages/alphanumeric_sender_id"),
    "group_mms": ("send_group_mms", "/messages/group_mms"),
    "whatsapp": ("whatsapp", "/messages/whatsapp"),
    "auto": ("send", "/messages"),
}
_API_NAMES = {"from_": "from"}  # where Python has taken a name
_WITH_FROM = frozenset(METHODS) - {"number_pool"}
_WITH_PROFILE = frozenset(
    {"toll_free", "number_pool", "alphanumeric", "whatsapp", "auto"}
)  # the others know no such argument
_WITH_TYPE = frozenset({"short_code", "long_code", "toll_free", "number_pool", "auto"})
_WITH_MEDIA = _WITH_TYPE | {"group_mms"}
UNSCHEDULED: Final = frozenset({"group_mms", "whatsapp"})


@dataclass(frozen=True, slots=True)
class SenderSpec:
    """What a sender is to Telnyx. ``from_`` is None for a pool, which chooses its number itself."""

    name: str
    channel: str
    from_: str | None = None
    messaging_profile_id: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What is said, after templates. ``whatsapp`` is Telnyx's ``whatsapp_message`` object, its order kept."""

    text: str | None = None
    media_urls: tuple[str, ...] = ()
    subject: str | None = None
    whatsapp: dict[str, Any] | None = None

    def __repr__(self) -> str:
        # A body in a traceback or a debug line is a leak.
        return (
            f"Content(text={'…' if self.text else None}, media={len(self.media_urls)}, whatsapp={bool(self.whatsapp)})"
        )

    def to_json(self) -> bytes:
        """Compact JSON without what is not set. Order of keys is kept: it decides the bytes of a request."""
        fields = {"text": self.text, "media_urls": list(self.media_urls), "subject": self.subject}
        given: dict[str, Any] = {name: value for name, value in fields.items() if value}
        if self.whatsapp is not None:
            given["whatsapp"] = self.whatsapp
        return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, raw: bytes | str) -> Content:
        """Read what ``to_json`` wrote. Raises ValueError on anything else, without quoting it."""
        fields = _object(raw)
        return cls(
            text=fields.get("text"),
            media_urls=tuple(fields.get("media_urls") or ()),
            subject=fields.get("subject"),
            whatsapp=fields.get("whatsapp"),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What ``client.messages.<method_name>(**kwargs, idempotency_key=key)`` of the SDK would post to ``path``."""

    method_name: str
    path: str
    kwargs: dict[str, Any]
    key: str
    channel: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON: the arguments by the API's own names."""
        return {_API_NAMES.get(name, name): value for name, value in self.kwargs.items()}

    def __repr__(self) -> str:
        return f"Request({self.path}, key={self.key})"  # kwargs hold the number and the body


def build(
    sender: SenderSpec, to: list[str], content: Content, *, ref: str, public_url: str | None, send_at_s: int = 0
) -> Request:
    """Build the request of one message.

    Args:
        sender: Where it comes from; its channel decides method and path.
        to: One recipient, or for ``group_mms`` all of them, in a fixed order.
        content: The final content, as stored.
        ref: The message id. It is the Idempotency-Key, and comes back in each receipt's signed body.
        public_url: Where Telnyx reaches us; None in poll mode, then no receipt is asked for.
        send_at_s: Telnyx is to hold it until then (Unix time), which only ``POST /messages`` does under a key; 0: it leaves now.

    Raises:
        ValueError: The channel is unknown or cannot be scheduled, or a channel of one recipient got several.
    """
    channel = sender.channel
    if channel not in METHODS:
        raise ValueError(f"channel is {channel!r}: use one of {', '.join(METHODS)}")
    if channel != "group_mms" and len(to) != 1:
        raise ValueError(f"to has {len(to)} recipients, {channel} takes exactly one: only group_mms takes several")
    if send_at_s and channel in UNSCHEDULED:
        raise ValueError(f"channel {channel} cannot be scheduled at Telnyx: its path takes no send_at")
    method_name, path = METHODS["auto"] if send_at_s else METHODS[channel]
    kwargs: dict[str, Any] = {"to": list(to) if channel == "group_mms" else to[0]}
    if channel in _WITH_FROM:
        kwargs["from_"] = sender.from_
    if channel in _WITH_PROFILE:
        kwargs["messaging_profile_id"] = sender.messaging_profile_id
    kwargs.update(_content_arguments(channel, content))
    if send_at_s:
        kwargs["send_at"] = datetime.fromtimestamp(send_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if public_url:
        kwargs["webhook_url"] = f"{_clean(public_url)}{WEBHOOK_PATH}?ref={ref}"
    return Request(
        method_name, path, {name: value for name, value in kwargs.items() if value is not None}, ref, channel
    )


def builder_version(sender: SenderSpec, public_url: str | None) -> str:
    """Eight hex digits that change with anything that could change a request's bytes.

    A resend under another version is not byte-identical: Telnyx would answer 422, or worse, take it as a new message.
    """
    parts = [BUILDER_VERSION, _sdk_version(), _clean(public_url) if public_url else None, asdict(sender)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def _content_arguments(channel: str, content: Content) -> dict[str, Any]:
    if channel == "whatsapp":
        return {"whatsapp_message": content.whatsapp}
    arguments: dict[str, Any] = {"text": content.text}
    if channel in _WITH_MEDIA:
        arguments["subject"] = content.subject
        if content.media_urls:
            arguments["media_urls"] = list(content.media_urls)
            if channel in _WITH_TYPE:
                arguments["type"] = "MMS"
    return arguments


def _object(raw: bytes | str) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("content is not a JSON object: it was not written by Content.to_json") from None
    return fields


def _clean(public_url: str) -> str:
    return public_url.rstrip("/")


@lru_cache(maxsize=1)
def _sdk_version() -> str:
    return version("telnyx")  # from the metadata: importing the SDK takes a second
