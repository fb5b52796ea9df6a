"""What Telnyx checks before it accepts a send: from a JSON body to a ``Draft``, or a ``Refusal``. Pure.

Unknown fields are let through, as at Telnyx. Where Telnyx's pages leave a code open the choice is noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.content.segments import count
from worker.sandbox.messages import Draft
from worker.sandbox.refusals import Refusal, missing

MAX_PARTS = 10
MAX_MEDIA = 10
MAX_GROUP = 8
MAX_URL = 2000
MAX_WHATSAPP_TEXT_BYTES = 4096

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_BARE_NUMBER = re.compile(r"\d{7,15}")
_SHORT = re.compile(r"\d{5,6}")
_ALPHA = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_BSUID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{4,}")
_WHATSAPP_MEDIA = ("audio", "document", "image", "sticker", "video")
_WHATSAPP_TYPES = {*_WHATSAPP_MEDIA, "interactive", "location", "template", "reaction", "contacts", "text"}

Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a check needs to know beside the body: the time, the window for ``send_at``, a sender for a pool."""

    now_us: int
    schedule_min_s: float
    schedule_max_s: float
    pool_sender: Callable[[str, str], str]  # (profile, to) → the number Telnyx picks


def check_message(body: Body, context: Context) -> Draft:
    """POST /messages: any sender; ``from`` or a profile."""
    to = _one_recipient(body)
    sender, profile = _optional_text(body, "from"), _optional_text(body, "messaging_profile_id")
    if sender is None and profile is None:
        raise missing("from")
    is_pool = sender is None
    if sender is None:
        sender = context.pool_sender(str(profile), to)
    elif not (_E164.fullmatch(sender) or _SHORT.fullmatch(sender)):
        _require_alpha(sender, profile, to)
        _refuse_media(body)
    return _sms(body, sender=sender, profile=profile, to=to, send_at_us=_send_at(body, context, False), is_pool=is_pool)


def check_schedule(body: Body, context: Context) -> Draft:
    """POST /messages/schedule: as /messages, and ``send_at`` is what makes it one."""
    _one_recipient(body)
    _send_at(body, context, True)
    return check_message(body, context)


def check_long_code(body: Body, _context: Context) -> Draft:
    sender = _required_text(body, "from")
    if not _E164.fullmatch(sender):
        raise Refusal("40305", f"{sender!r} is not a long code in +E.164 format.", "/from")
    return _sms(body, sender=sender, to=_one_recipient(body))


def check_short_code(body: Body, _context: Context) -> Draft:
    sender = _required_text(body, "from")
    if not _SHORT.fullmatch(sender):
        raise Refusal("40305", f"{sender!r} is not a short code of 5 or 6 digits.", "/from")
    to = _one_recipient(body)
    if not to.startswith("+1"):  # a short code stops at its border
        raise Refusal("40301", "A short code reaches its own country only.", "/to")
    return _sms(body, sender=sender, to=to)


def check_number_pool(body: Body, context: Context) -> Draft:
    profile = _required_text(body, "messaging_profile_id")
    to = _one_recipient(body)
    return _sms(body, sender=context.pool_sender(profile, to), profile=profile, to=to, is_pool=True)


def check_alphanumeric(body: Body, _context: Context) -> Draft:
    sender = _required_text(body, "from")
    profile = _required_text(body, "messaging_profile_id")
    if "text" not in body:
        raise missing("text")
    to = _one_recipient(body)
    _require_alpha(sender, profile, to)
    _refuse_media(body)
    return _sms(body, sender=sender, profile=profile, to=to)


def check_group_mms(body: Body, _context: Context) -> Draft:
    sender = _required_text(body, "from")
    if not _E164.fullmatch(sender):
        raise Refusal("40308", f"{sender!r} cannot send group MMS: use a US or Canadian number.", "/from")
    to = body.get("to")
    if not isinstance(to, list) or not to:
        raise missing("to")
    if len(to) > MAX_GROUP:  # the pages name no code for it
        raise Refusal("40310", f"A group has at most {MAX_GROUP} recipients, got {len(to)}.", "/to")
    for index, number in enumerate(to):
        _require_number(number, f"/to/{index}")
        if not number.startswith("+1"):
            raise Refusal("40301", "Group MMS reaches the US and Canada only.", f"/to/{index}")
    media = _media(body)
    text = _text(body)
    if not text and not media:
        raise Refusal("40316", "A group MMS needs text or media.", "/text")
    return Draft(
        kind="MMS",
        sender=sender,
        profile=None,
        to=tuple(to),
        text=text,
        media_urls=media,
        subject=_optional_text(body, "subject"),
        encoding="UTF-8",
        is_group=True,
        **_webhooks(body),
    )


def check_whatsapp(body: Body, _context: Context) -> Draft:
    sender = _required_text(body, "from")
    if not _E164.fullmatch(sender):
        raise Refusal("40305", f"{sender!r} is not a WhatsApp number in +E.164 format.", "/from")
    to = _required_text(body, "to")
    if not _BSUID.fullmatch(to):
        _require_number(to, "/to")
    content = body.get("whatsapp_message")
    if not isinstance(content, dict):
        raise missing("whatsapp_message")
    _check_whatsapp_message(content)
    if body.get("type", "WHATSAPP") != "WHATSAPP":
        raise Refusal("10015", "type must be WHATSAPP here.", "/type")
    return Draft(
        kind="WHATSAPP",
        sender=sender,
        profile=_optional_text(body, "messaging_profile_id"),
        to=(to,),
        text=str((content.get("text") or {}).get("body") or ""),
        encoding="UTF-8",
        whatsapp=content,
        **_webhooks(body),
    )


CHECKS: dict[str, Callable[[Body, Context], Draft]] = {
    "/messages": check_message,
    "/messages/long_code": check_long_code,
    "/messages/short_code": check_short_code,
    "/messages/number_pool": check_number_pool,
    "/messages/group_mms": check_group_mms,
    "/messages/alphanumeric_sender_id": check_alphanumeric,
    "/messages/whatsapp": check_whatsapp,
    "/messages/schedule": check_schedule,
}


def is_number(value: object) -> bool:
    return isinstance(value, str) and bool(_E164.fullmatch(value) or _SHORT.fullmatch(value))


def _sms(
    body: Body,
    *,
    sender: str,
    to: str,
    profile: str | None = None,
    send_at_us: int | None = None,
    is_pool: bool = False,
) -> Draft:
    """The content that SMS and MMS have in common, checked."""
    text, media = _text(body), _media(body)
    asked = body.get("type")
    if asked not in (None, "SMS", "MMS"):
        raise Refusal("10015", f"type must be SMS or MMS, got {asked!r}.", "/type")
    if asked == "SMS" and media:
        raise Refusal("40304", "An SMS carries no media: leave out type or media_urls.", "/media_urls")
    if not text and not media:
        raise Refusal("40316", "A message needs text or media.", "/text")
    subject = _optional_text(body, "subject")
    is_mms = bool(media) or asked == "MMS"
    encoding, parts = ("UTF-8", 1) if is_mms else _segments(body, text, sender)
    return Draft(
        kind="MMS" if is_mms else "SMS",
        sender=sender,
        profile=profile or _optional_text(body, "messaging_profile_id"),
        to=(to,),
        text=text,
        subject=subject,
        media_urls=media,
        encoding=encoding,
        parts=parts,
        send_at_us=send_at_us,
        is_pool=is_pool,
        **_webhooks(body),
    )


def _segments(body: Body, text: str, sender: str) -> tuple[str, int]:
    asked = body.get("encoding", "auto")
    if asked not in ("auto", "gsm7", "ucs2"):
        raise Refusal("10015", f"encoding must be auto, gsm7 or ucs2, got {asked!r}.", "/encoding")
    found = count(text, short_code=bool(_SHORT.fullmatch(sender)))
    encoding, parts = str(found.encoding), found.parts
    if asked == "gsm7" and encoding == "UCS-2":
        raise Refusal("10015", "The text has characters outside GSM-7.", "/encoding")
    if asked == "ucs2":
        units = len(text.encode("utf-16-le")) // 2
        encoding, parts = "UCS-2", 1 if units <= 70 else -(-units // 67)
    if parts > MAX_PARTS:
        code = "40328" if body.get("auto_detect") is True else "40302"
        raise Refusal(code, f"The text needs {parts} parts, more than {MAX_PARTS}.", "/text")
    return encoding, parts


def _one_recipient(body: Body) -> str:
    to = body.get("to")
    if to is None or to in ("", []):
        raise missing("to")
    if isinstance(to, list):
        if len(to) > 1:
            raise Refusal("40310", f"One recipient per message, got {len(to)}.", "/to")
        to = to[0]
    return _require_number(to, "/to")


def _require_number(value: object, pointer: str) -> str:
    if isinstance(value, str) and _BARE_NUMBER.fullmatch(value):
        raise Refusal("10016", "The number must be in +E.164 format, with a leading plus.", pointer)
    if not is_number(value):
        raise Refusal("40310", "The 'to' address is not a valid number.", pointer)
    return str(value)


def _require_alpha(sender: str, profile: str | None, to: str) -> None:
    if not _ALPHA.fullmatch(sender):
        raise Refusal("40306", f"{sender!r}: 1 to 11 letters, digits and spaces, one letter at least.", "/from")
    if profile is None:
        raise missing("messaging_profile_id")
    if to.startswith("+1"):
        raise Refusal("40301", "Alphanumeric senders do not reach the US, Canada and Puerto Rico.", "/to")


def _refuse_media(body: Body) -> None:
    if body.get("media_urls"):
        raise Refusal("40308", "An alphanumeric sender sends SMS only.", "/from")


def _media(body: Body) -> tuple[str, ...]:
    urls = body.get("media_urls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise Refusal("10015", "media_urls must be a list of URLs.", "/media_urls")
    if len(urls) > MAX_MEDIA:
        raise Refusal("40317", f"At most {MAX_MEDIA} media, got {len(urls)}.", "/media_urls")
    for index, url in enumerate(urls):
        if not url.startswith(("http://", "https://")) or len(url) > MAX_URL:
            raise Refusal(
                "40317", "Media must be a public http(s) URL of at most 2,000 characters.", f"/media_urls/{index}"
            )
    return tuple(urls)


def _text(body: Body) -> str:
    text = body.get("text")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Refusal("10015", "text must be a string.", "/text")
    return text


def _required_text(body: Body, name: str) -> str:
    value = _optional_text(body, name)
    if value is None:
        raise missing(name)
    return value


def _optional_text(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Refusal("10015", f"{name} must be a string.", f"/{name}")
    return value


def _webhooks(body: Body) -> dict[str, Any]:
    for name in ("webhook_url", "webhook_failover_url"):
        url = _optional_text(body, name)
        if url is not None and (len(url) > MAX_URL or not url.startswith(("http://", "https://"))):
            raise Refusal("10003", f"{name} must be an http(s) URL of at most 2,000 characters.", f"/{name}")
    return {
        "webhook_url": _optional_text(body, "webhook_url"),
        "failover_url": _optional_text(body, "webhook_failover_url"),
        "use_profile_webhooks": body.get("use_profile_webhooks") is not False,
    }


def _send_at(body: Body, context: Context, is_required: bool) -> int | None:
    value = _optional_text(body, "send_at")
    if value is None:
        if is_required:
            raise missing("send_at")
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError as exc:
        raise Refusal("10015", "send_at must be an ISO 8601 time.", "/send_at") from exc
    if at.tzinfo is None:
        raise Refusal("10015", "send_at needs a time zone: 2026-11-24T09:00:00Z.", "/send_at")
    at_us = int(at.timestamp() * 1e6)
    if not context.schedule_min_s <= (at_us - context.now_us) / 1e6 <= context.schedule_max_s:
        raise Refusal("10015", "send_at must be 5 minutes to 5 days ahead.", "/send_at")
    return at_us


def _check_whatsapp_message(content: dict[str, Any]) -> None:
    kind = content.get("type")
    if kind not in _WHATSAPP_TYPES:
        raise Refusal("10015", f"whatsapp_message.type {kind!r} is not a WhatsApp type.", "/whatsapp_message/type")
    inner: Any = content.get(kind)
    has_right_type = isinstance(inner, list if kind == "contacts" else dict)
    if not inner or not has_right_type:
        raise missing(f"whatsapp_message/{kind}")
    if kind in _WHATSAPP_MEDIA and not (inner.get("link") or inner.get("id")):
        raise missing(f"whatsapp_message/{kind}/link")
    if kind == "text":
        text = inner.get("body")
        if not isinstance(text, str) or not text:
            raise missing("whatsapp_message/text/body")
        if len(text.encode()) > MAX_WHATSAPP_TEXT_BYTES:
            raise Refusal("40302", "A WhatsApp text has at most 4,096 bytes.", "/whatsapp_message/text/body")
    if kind == "template" and not inner.get("template_id"):
        language = inner.get("language")
        if not inner.get("name") or not isinstance(language, dict) or not language.get("code"):
            raise missing("whatsapp_message/template/name")
