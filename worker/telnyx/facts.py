"""Read what Telnyx says about a message later: receipts and polls, in the same words. Pure.

We parse ourselves, because the SDK turns real events into another event's type without an error. Invariants, each with
a test named after it:

- A receipt finds its message by the reference in the signed body; the query of the callback's own URL is not signed.
- A finalized event is not a delivery: only each recipient's status counts, and a group has several.
- A status that we do not know is kept and shown, and never ends a message as delivered or failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal, TypedDict
from urllib.parse import parse_qs, urlsplit

from worker.telnyx.errors import clean_title, effective_code
from worker.telnyx.shapes import as_dict, as_id, as_int, as_list, as_number, as_text, member_statuses, members, micros

__all__ = [
    "Fact",
    "Letter",
    "fact_from_group",
    "fact_from_message",
    "fact_from_receipt",
    "rank_of",
    "ref_in",
    "to_ledger",
]

Letter = Literal["A", "T", "X", "F", "D"]  # accepted, sent, unconfirmed, failed, delivered: as the ledger abbreviates

# What is learned about one outgoing message; JSON as it stands.
Fact = TypedDict(
    "Fact",
    {
        "ref": str | None,  # our message id, None if the event names none
        "pid": str | None,  # Telnyx's id; a group has one for all
        "status": str,  # raw, over all recipients; empty if the event has none
        "to": list[list[str]],  # [number, raw status] of each recipient
        "final": bool,  # Telnyx itself calls it finished; that is not "delivered"
        "errors": list[list[Any]],  # [code, title, index in `to` or None, number or None]
        "parts": int | None,
        "cost": str | None,  # such as "0.0051 USD"
        "carrier": str | None,  # of a lone recipient
        "sent_ms": int | None,  # by Telnyx's clock, from when it had the message until the carrier had it
        "done_ms": int | None,  # ... until it was done
        "from": str | None,
        "at": int,  # microseconds since 1970, 0 if unknown
        "event": str | None,  # the event's id, to tell copies; None for a poll
        "read": bool,
    },
)

_LETTERS: Final[dict[str, Letter]] = {
    "scheduled": "A",
    "queued": "A",
    "sending": "A",
    "sent": "T",
    "delivered": "D",
    "read": "D",
    "delivery_failed": "F",
    "sending_failed": "F",
    "expired": "F",
    "failed": "F",
    "gw_timeout": "F",
    "gw_reject": "F",
    "cancelled": "F",
    "delivery_unconfirmed": "X",
    "unknown": "X",
    "dlr_timeout": "X",
    "dlr_unconfirmed": "X",
}
# A group is as far as its slowest member; when all are done, one failure is what a person should see.
_GROUP_ORDER: Final = "ATFXD"
CARRIER_MAX_CHARS: Final = 32  # it becomes a label of figures, whose fields are parted by |
COST_MAX: Final = 10**9  # in millionths: nothing costs a thousand; beyond it the amount is no amount
SENDER_MAX_CHARS: Final = 64  # a longer value would quadruple the record
_REF = re.compile(r"[0-9A-Za-z_-]{1,64}")  # becomes part of a key, so nothing else may pass
_POINTER = re.compile(r"/to/(\d{1,3})(?:/|$)")


def rank_of(status: str, *, final: bool) -> Letter:
    """The ledger's letter of a raw status. An unknown one is unconfirmed if finalized, else sent."""
    return _LETTERS.get(status.lower(), "X" if final else "T")


def fact_from_receipt(data: dict[str, Any], meta: dict[str, Any]) -> Fact:
    """The fact in an outbound ``message.*`` event: ``data`` and ``meta`` of its signed body."""
    payload = as_dict(data.get("payload"))
    event_type = as_text(data.get("event_type")) or ""
    fact = _fact(payload, ref=ref_in(payload.get("webhook_url")) or ref_in(meta.get("delivered_to")))
    fact["final"] = event_type == "message.finalized"
    fact["at"] = micros(data.get("occurred_at"))
    fact["event"] = as_text(data.get("id"))
    fact["read"] = fact["read"] or event_type == "message.read"
    if not fact["status"] and event_type in {"message.sent", "message.read"}:
        fact["status"] = event_type.removeprefix("message.")
    return fact


def fact_from_message(data: dict[str, Any], *, now_us: int) -> Fact:
    """The fact in a message as Telnyx returns it when asked."""
    fact = _fact(data, ref=ref_in(data.get("webhook_url")))
    fact["final"] = bool(data.get("completed_at"))
    fact["at"] = now_us
    return fact


def fact_from_group(rows: Iterable[dict[str, Any]], *, provider_id: str, now_us: int) -> Fact:
    """One fact from the messages of a group: a member that several rows name counts as far as any row has it."""
    facts = [fact_from_message(row, now_us=now_us) for row in rows]
    best: dict[str, str] = {}
    for fact in facts:
        for number, status in fact["to"]:
            known = best.get(number)
            if known is None or _progress(status) > _progress(known):
                best[number] = status
    merged = fact_from_message({}, now_us=now_us)
    merged["ref"] = next((fact["ref"] for fact in facts if fact["ref"]), None)
    merged["pid"] = provider_id
    merged["to"] = [[number, status] for number, status in best.items()]
    merged["final"] = bool(facts) and all(fact["final"] for fact in facts)
    merged["status"] = _overall(merged["to"], final=merged["final"])
    merged["from"] = next((fact["from"] for fact in facts if fact["from"]), None)
    # A row's pointer counts within the row; across rows only the number tells whose error it is.
    merged["errors"] = [
        [code, title, None, number or (fact["to"][0][0] if len(fact["to"]) == 1 else None)]
        for fact in facts
        for code, title, _, number in fact["errors"]
    ]
    costs = [_millionths(fact["cost"]) for fact in facts]
    if costs and all(cost is not None for cost in costs) and len({cost[1] for cost in costs if cost}) == 1:
        amount = Decimal(sum(cost[0] for cost in costs if cost)) / 1_000_000
        merged["cost"] = f"{amount} {next(cost[1] for cost in costs if cost)}"
    merged["read"] = any(fact["read"] for fact in facts)
    return merged


def to_ledger(fact: Fact) -> dict[str, Any]:
    """The same fact as the ledger's script takes it; what is unknown is absent."""
    errors = fact["errors"]
    # What Telnyx reports on, it has: without a status it is accepted.
    letter = rank_of(fact["status"], final=fact["final"]) if fact["status"] or fact["final"] else "A"
    given = {
        "ref": fact["ref"],
        "pid": fact["pid"],
        "st": letter,
        "raw": fact["status"],
        "to": [[number, rank_of(status, final=fact["final"])] for number, status in fact["to"]],
        "from": fact["from"],
        "parts": fact["parts"],
        "er": ["w", errors[0][0], errors[0][1]] if errors else None,
        "rd": fact["read"],
        "ca": fact["carrier"],
        "sm": fact["sent_ms"],
        "dm": fact["done_ms"],
        "co": _millionths(fact["cost"]),
    }
    return {name: value for name, value in given.items() if value not in (None, "", [], False)}


def _fact(payload: dict[str, Any], *, ref: str | None) -> Fact:
    to = [list(pair) for pair in member_statuses(payload.get("to"))]
    final = bool(payload.get("completed_at"))
    return {
        "ref": ref,
        "pid": as_id(payload.get("id")),
        "status": _overall(to, final=final) or (as_text(payload.get("status")) or ""),
        "to": to,
        "final": final,
        "errors": _errors(payload),
        "parts": as_int(payload.get("parts")),
        "cost": _cost(payload.get("cost")),
        "carrier": _carrier(payload.get("to")),
        "sent_ms": _elapsed_ms(payload, "sent_at"),
        "done_ms": _elapsed_ms(payload, "completed_at"),
        "from": (as_number(payload.get("from")) or "")[:SENDER_MAX_CHARS] or None,
        "at": 0,
        "event": None,
        "read": any(status == "read" for _, status in to),
    }


def _overall(to: list[list[str]], *, final: bool) -> str:
    if not to:
        return ""
    return min((status for _, status in to), key=lambda status: _GROUP_ORDER.index(rank_of(status, final=final)))


def _progress(status: str) -> int:
    return "ATXFD".index(rank_of(status, final=False))


def _errors(payload: dict[str, Any]) -> list[list[Any]]:
    numbers = members(payload.get("to"))
    rows: list[list[Any]] = []
    for error in as_list(payload.get("errors")):
        if not isinstance(error, dict):
            continue
        title, detail = as_text(error.get("title")) or "", as_text(error.get("detail")) or ""
        code = effective_code(as_text(error.get("code")) or "", detail, title)
        found = _POINTER.match(as_text(as_dict(error.get("source")).get("pointer")) or "")
        index = int(found.group(1)) if found else None
        number = numbers[index] if index is not None and index < len(numbers) else None
        rows.append([code, clean_title(title), index, number])
    return rows


def _cost(value: Any) -> str | None:
    """Amounts come as strings and as numbers, alone and with a currency."""
    if not isinstance(value, dict):
        return as_text(value)
    amount = as_text(value.get("amount"))
    return f"{amount} {as_text(value.get('currency')) or ''}".strip() if amount else None


def _millionths(cost: str | None) -> tuple[int, str] | None:
    """The amount in millionths, and its currency; None for what is no price."""
    amount, _, currency = (cost or "").partition(" ")
    try:
        millionths = int(Decimal(amount) * 1_000_000)
    except (ArithmeticError, ValueError):
        return None
    if not 0 < millionths < COST_MAX or not re.fullmatch(r"[A-Z]{3}|", currency):
        return None
    return millionths, currency or "USD"


def _carrier(to: Any) -> str | None:
    """Whose network a lone recipient is in; of a group there are several."""
    rows = as_list(to)
    name = as_text(rows[0].get("carrier")) if len(rows) == 1 and isinstance(rows[0], dict) else None
    kept = "".join(c for c in name or "" if c.isprintable() and c != "|")
    return " ".join(kept[:CARRIER_MAX_CHARS].split()) or None


def _elapsed_ms(payload: dict[str, Any], until: str) -> int | None:
    start, end = micros(payload.get("received_at")), micros(payload.get(until))
    return (end - start) // 1000 if 0 < start <= end else None


def ref_in(url: Any) -> str | None:
    """Our message id in a ``webhook_url`` of ours, None in any other."""
    text = as_text(url)
    if not text:
        return None
    try:
        found = parse_qs(urlsplit(text).query).get("ref", [""])[0]
    except ValueError:
        return None
    return found if _REF.fullmatch(found) else None
