"""What Telnyx refuses with: codes, titles, HTTP statuses.

Few statuses are published (40310, 40319: 400; 40333, 10011: 429; 10009: 401; 10005: 404; 10036: 409; 10027: 422);
where none is, a 400 stands.
"""

from __future__ import annotations

from dataclasses import dataclass

_TITLES: dict[str, tuple[int, str]] = {
    "10003": (400, "Invalid URL"),
    "10004": (400, "Missing required parameter"),
    "10005": (404, "Resource not found"),
    "10007": (500, "Unexpected error"),
    "10009": (401, "Authentication failed"),
    "10010": (403, "Authorization failed"),
    "10011": (429, "Too many requests"),
    "10015": (400, "Bad Request"),
    "10016": (400, "Phone number must be in +E.164 format"),
    "10027": (422, "Unprocessable entity"),
    "10036": (409, "Conflict: a request with this idempotency key is in progress"),
    "10037": (503, "Service unavailable"),
    "10038": (403, "Feature not permitted"),
    "10039": (403, "Account inactive"),
    "20100": (402, "Insufficient funds"),
    "40010": (400, "Message is not 10DLC registered"),
    "40017": (400, "Blocked by the Telnyx spam filter"),
    "40100": (400, "Number not enabled for messaging"),
    "40300": (400, "Blocked due to STOP message"),
    "40301": (400, "Unsupported message type"),
    "40302": (400, "Message too large"),
    "40304": (400, "Invalid combination of message content"),
    "40305": (400, "Invalid 'from' address"),
    "40306": (400, "Alpha sender not configured"),
    "40307": (400, "Alpha sender mismatch"),
    "40308": (400, "Invalid 'from' address for MMS"),
    "40309": (400, "Invalid destination region"),
    "40310": (400, "Invalid 'to' address"),
    "40312": (400, "Messaging profile is disabled"),
    "40314": (400, "Messaging is disabled on the account"),
    "40315": (400, "Unhealthy 'from' address"),
    "40316": (400, "No content provided"),
    "40317": (400, "Invalid MMS content"),
    "40318": (400, "Message queue full"),
    "40319": (400, "Incompatible message type for destination"),
    "40320": (400, "Temporarily unusable 'from' address"),
    "40321": (400, "No usable numbers on messaging profile"),
    "40322": (400, "Blocked due to content"),
    "40328": (400, "SMS exceeds recommended size"),
    "40329": (400, "Toll-free number not verified"),
    "40333": (429, "Messaging profile daily spend limit reached"),
}

RECEIPT_TITLES: dict[str, str] = {
    "40001": "Not routable",
    "40002": "Blocked as spam - temporary",
    "40003": "Blocked as spam - permanent",
    "40006": "Recipient server unavailable",
    "40008": "Undeliverable",
    "40014": "Message expired in queue",
    "40016": "T-Mobile 10DLC sending limit reached",
    "41000": "WhatsApp error",
}


@dataclass(eq=False)
class Refusal(Exception):  # no "Error": for the sandbox a refusal is an answer like any other
    """An answer that is not a success. ``is_bare`` leaves out the ``errors`` list, as some operations are declared."""

    code: str
    detail: str
    pointer: str | None = None
    status: int | None = None
    is_bare: bool = False
    retry_after_s: int | None = None

    @property
    def http_status(self) -> int:
        return self.status if self.status is not None else _TITLES[self.code][0]

    def body(self) -> dict[str, object]:
        error: dict[str, object] = {"code": self.code, "title": _TITLES[self.code][1], "detail": self.detail}
        if self.pointer is not None:
            error["source"] = {"pointer": self.pointer}
        error["meta"] = {"url": f"https://developers.telnyx.com/docs/overview/errors/{self.code}"}
        return error if self.is_bare else {"errors": [error]}


def knows(code: str) -> bool:
    """Can the sandbox refuse with ``code``?"""
    return code in _TITLES


def missing(name: str) -> Refusal:
    return Refusal("10004", f"The '{name}' parameter is required and cannot be blank.", f"/{name}")
