"""Messages from people: a keyword acts on the block list first, then the signed ``message.received`` goes out."""

from __future__ import annotations

import uuid
from typing import Any

from worker.sandbox.callbacks import Attempt
from worker.sandbox.messages import ORGANIZATION_ID, iso
from worker.sandbox.options import OptionError
from worker.sandbox.state import Sandbox, now_us


async def receive(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    """Let ``body["from"]`` text ``body["to"]``; answers when the callback was answered, or given up.

    Raises:
        OptionError: a field is missing, or nobody knows where the callback should go.
    """
    for name in ("from", "to"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise OptionError(f'{name} must be a number as a string, got {body.get(name)!r}: "+13125550100"')
    text = str(body.get("text") or "")
    is_whatsapp = body.get("type") == "WHATSAPP"
    at_us = now_us()
    profile = sandbox.numbers.profile_of(body["to"], body.get("messaging_profile_id"), at_us)
    meaning = None
    if not is_whatsapp:  # Telnyx has no opt-outs there: STOP is plain text
        meaning = sandbox.blocks.apply(person=body["from"], number=body["to"], profile=profile, text=text, now_us=at_us)
    payload = _whatsapp(body, text) if is_whatsapp else _sms(body, text, meaning)
    payload |= {
        "record_type": "message",
        "direction": "inbound",
        "id": str(uuid.uuid4()),
        "messaging_profile_id": profile,
        "organization_id": ORGANIZATION_ID,
        "received_at": iso(at_us),
    }
    url = _target(sandbox, body)
    event = {
        "record_type": "event",
        "id": str(uuid.uuid4()),
        "event_type": "message.received",
        "occurred_at": iso(at_us),
        "payload": payload,
    }
    attempts: list[Attempt] = []
    if url is not None:
        attempts = await sandbox.courier.deliver([url], event, [])
    return {
        "id": payload["id"],
        "event_id": event["id"],
        "autoresponse_type": meaning,
        "webhook_url": url,
        "callbacks": [{"status": a.status, "answered_at_us": a.answered_us} for a in attempts],
    }


def _target(sandbox: Sandbox, body: dict[str, Any]) -> str | None:
    """The URL given, else what events of that sender last went to, else the option, else the last one of all."""
    if body.get("webhook_url"):
        return str(body["webhook_url"])
    known = sandbox.last_webhook
    options = sandbox.options
    return (
        known.get(body["to"]) or options.inbound_webhook or known.get("") or options.profile_webhook_url
    )  # without any, only the block list hears of it


def _sms(body: dict[str, Any], text: str, meaning: str | None) -> dict[str, Any]:
    urls = [str(url) for url in body.get("media_urls") or []]
    payload: dict[str, Any] = {
        "type": "MMS" if urls or body.get("cc") else "SMS",
        "from": {"phone_number": body["from"], "carrier": "Sandbox Wireless", "line_type": "Wireless"},
        "to": [
            {
                "phone_number": body["to"],
                "status": "webhook_delivered",
                "carrier": "Telnyx",
                "line_type": "Wireless",
            }
        ],
        "cc": body.get("cc") or [],
        "text": text,
        "media": [{"url": url, "content_type": "image/png", "size": 1000, "hash_sha256": None} for url in urls],
        "encoding": "GSM-7",
        "parts": 1,
        "cost": None,
        "tags": [],
        "errors": [],
    }
    if meaning is not None:
        payload["autoresponse_type"] = meaning
    return payload


def _whatsapp(body: dict[str, Any], text: str) -> dict[str, Any]:
    foreign_id = f"wamid.{uuid.uuid4().hex}"
    return {
        "type": "WHATSAPP",
        "from": {"phone_number": body["from"]},
        "to": body["to"],
        "body": {"type": "text", "text": {"body": text}, "from": body["from"], "foreign_id": foreign_id},
    }
