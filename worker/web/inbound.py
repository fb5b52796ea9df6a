"""What an inbound message says about opt-outs, and to which of our senders. Pure.

Telnyx's own word (``autoresponse_type``) is authoritative, for it is what created the block there. Where it is missing, as
always on WhatsApp, our own reading of the text decides, and is kept as such: no list of Telnyx's has it. Whatever cannot be
placed is placed wider: an opt-out too many is mended by START, one too few texts a person who said no.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from producers.ledger import calls
from producers.ledger.calls import compact
from producers.ledger.scripts import Call
from worker.settings.model import Config, Sender
from worker.telnyx.receipts import Inbound

Keyword = Callable[[str], str | None]
Direction = Literal["out", "in", ""]

TEXT_MOST, NUMBERS_MOST = 20_000, 20
AHEAD_MOST_US = 300_000_000  # as far ahead as a signature may be; a later time would outlast every later START
_DIRECTIONS: Mapping[str, Direction] = {"STOP": "out", "START": "in"}
_THEIRS = frozenset({"STOP", "START", "HELP", "INFO"})
EVIDENCE_MOST = 36  # what the ledger keeps of it: an event's id is a uuid


def reading_of(inbound: Inbound, keyword: Keyword) -> tuple[Direction, Literal["webhook", "keyword"]]:
    """out for STOP, in for START, else neither: HELP and INFO are only recorded. And whose reading that is."""
    said = inbound["autoresponse_type"]
    if said in _THEIRS:
        return _DIRECTIONS.get(said, ""), "webhook"
    return _DIRECTIONS.get(keyword(inbound["text"]) or "", ""), "keyword"


def scopes_of(inbound: Inbound, senders: Mapping[str, Sender]) -> list[str]:
    """The messaging profile it came in on, and each configured sender it was sent to; global if there is neither."""
    scopes = [f"profile:{encodable(inbound['profile']).lower()}"] if inbound["profile"] else []
    ours = set(inbound["to"])
    scopes += [
        f"sender:{name}" for name, sender in senders.items() if sender.from_ is not None and sender.from_ in ours
    ]
    return scopes or ["global"]


def windows_of(inbound: Inbound, senders: Mapping[str, Sender]) -> list[str]:
    """The WhatsApp senders whose window with this person it opens, in the form that the script tells from scopes."""
    if inbound["type"].upper() != "WHATSAPP":
        return []
    ours = set(inbound["to"])
    return [f"wa:{name}" for name, sender in senders.items() if sender.channel == "whatsapp" and sender.from_ in ours]


def written_to(inbound: Inbound, config: Config) -> list[str]:
    """The sender that the person wrote to, where it is one of those that they are to hear from again: who has that number,
    else a pool of the profile. In the form that the script tells from scopes."""
    sticky = {name for job_type in config.job_types.values() if job_type.sticky for name in job_type.candidates}
    ours, profile = set(inbound["to"]), (inbound["profile"] or "").lower()
    named = [name for name, sender in config.senders.items() if sender.from_ is not None and sender.from_ in ours]
    pools = [n for n, s in config.senders.items() if s.from_ is None and profile and s.messaging_profile_id == profile]
    return [f"sy:{name}" for name in named or pools if name in sticky]


def opt_call(inbound: Inbound, stripped: bytes, config: Config, keyword: Keyword, *, now_us: int) -> Call[int]:
    """The call that records the opt-out or opt-in, if it is one, and keeps the message once for the apps."""
    senders = config.senders
    person = encodable(inbound["from"] or "")
    direction, source = reading_of(inbound, keyword)
    return calls.opt(
        person,
        direction if person else "",
        scopes=[*scopes_of(inbound, senders), *windows_of(inbound, senders), *written_to(inbound, config)],
        occurred_us=inbound["at"] if inbound["at"] <= now_us + AHEAD_MOST_US else 0,
        source=source,
        evidence=evidence_of(inbound["event"], stripped),
        inbound=compact(normalised(inbound, evidence_of(inbound["event"], stripped))),
    )


def normalised(inbound: Inbound, event: str) -> dict[str, Any]:
    """The message as it is kept, and as apps and actors get it. It has no second source, so its text is kept with it."""
    return {
        "event": event,
        "message": inbound["message"],
        "type": inbound["type"].upper(),
        "from": encodable(inbound["from"] or ""),
        "to": [encodable(number) for number in inbound["to"][:NUMBERS_MOST]],
        "cc": [encodable(number) for number in inbound["cc"][:NUMBERS_MOST]],
        "text": encodable(inbound["text"])[:TEXT_MOST],
        "media_urls": [encodable(url)[:2_000] for url in inbound["media_urls"]],
        "keyword": encodable(inbound["autoresponse_type"] or "") or None,
        "profile": encodable(inbound["profile"] or "") or None,
        "said_us": str(inbound["at"]),  # as text: no time passes through a JSON number
    }


def encodable(text: str) -> str:
    """``text`` without the lone surrogates that JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def evidence_of(event: str | None, stripped: bytes) -> str:
    if event and len(event) <= EVIDENCE_MOST and event.isascii() and event.isprintable() and ":" not in event:
        return event
    return hashlib.sha256(stripped).hexdigest()[:EVIDENCE_MOST]  # the same for every copy of the event
