"""Receipts that have been heard and that nobody has applied, by the thousand."""

from __future__ import annotations

import json
import uuid
from typing import Any

from service_kit import Service

from producers.ledger import calls
from producers.pointers import Pointers


def hear_many(service: Service, message: dict[str, Any], count: int) -> None:
    """Keep so many receipts, as web does; each says once more that the carrier has ``message`` of the sandbox's."""
    pointers = Pointers(service.ledger.redis, service.namespace)
    for _ in range(count // 50):
        batch = uuid.uuid4().hex
        events = [json.dumps(sent_event(service, message)) for _ in range(50)]
        service.ledger.run(calls.hear(batch, json.dumps(events).encode()))
        pointers.reconcile(batch)


def sent_event(service: Service, message: dict[str, Any]) -> dict[str, Any]:
    payload = {
        "record_type": "message",
        "direction": "outbound",
        "id": message["id"],
        "to": [{"phone_number": "+13122000000", "status": "sent"}],
        "webhook_url": f"{service.environ['PUBLIC_URL']}/webhooks/telnyx?ref={message['ref']}",
    }
    return {"data": {"id": str(uuid.uuid4()), "event_type": "message.sent", "payload": payload}, "meta": {"attempt": 1}}
