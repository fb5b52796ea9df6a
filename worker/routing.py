"""Decide by which lane a message leaves, or that it cannot leave at all. Pure.

What is refused here would be refused by Telnyx too, one paid-for slot of its sender later. Invariants, each with a test:

- A route names a lane that the configuration publishes.
- Whatever this module refuses, Telnyx documents as impossible; what is merely unlikely goes out, and Telnyx decides.
- A refusal's code is ``[a-z0-9_]+``, and its title quotes neither the text nor a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from worker.content import segments
from worker.settings import NO_ALPHANUMERIC, Sender
from worker.telnyx.builder import Content
from worker.titles import short_title

MAX_PARTS = 10  # developers.telnyx.com, "Message encoding"; error 40302


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message goes: ``lane`` is ``<sender>``, or ``<sender>.mms`` for media of a sender of both kinds.

    ``units`` is what it draws of the lane: its segments, where the sender's rate counts those.
    """

    lane: str
    units: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message cannot leave: a machine word, and words for a person."""

    code: str
    title: str


def route(name: str, sender: Sender, content: Content, *, max_parts: int | None = None) -> Route | Refusal:
    """The lane for ``content`` from the sender ``name``, whoever the recipient is.

    Args:
        max_parts: The job type's own limit of segments, at most the provider's.
    """
    has_media = bool(content.media_urls)
    units = 1
    if has_media and (not sender.rules.takes_media or sender.is_alphanumeric):
        kind = "an alphanumeric sender" if sender.is_alphanumeric else sender.channel
        return Refusal("content", short_title(f"{kind} carries no media: choose another sender"))
    if content.text and sender.rules.has_segments and not has_media:
        parts = segments.count(content.text, short_code=sender.is_short_code).parts
        most = min(max_parts or MAX_PARTS, MAX_PARTS)
        if parts > most:
            return Refusal("parts", short_title(f"{parts} segments, at most {most} may go: shorten the text"))
        if sender.unit == "segment":
            units = max(1, parts)
    return Route(f"{name}.mms" if has_media and sender.rules.has_mms_lane else name, units)


def refused_destination(sender: Sender, recipient: str) -> Refusal | None:
    """Why the sender cannot reach ``recipient``, or None where it can, or where only Telnyx knows."""
    if not sender.is_alphanumeric or not recipient.startswith("+1"):
        return None
    region = country_of(recipient)
    if region not in NO_ALPHANUMERIC:
        return None
    return Refusal("destination", f"an alphanumeric sender cannot reach {region}: use a number")


def country_of(number: str) -> str | None:
    """The country of a number in E.164 form, as ISO 3166 has it; None where it has none (satellites, WhatsApp's ids).

    A country code that several share, and a number that the metadata does not know, mean the greatest of them.
    """
    if number.startswith("+1") and number[1:].isdigit():
        return _country_of_area(number[2:5])
    import phonenumbers

    shared = _countries_of_code(number[1:4]) if number.startswith("+") else ()
    if len(shared) == 1:
        return shared[0] if shared[0].isalpha() else None
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None
    found = phonenumbers.region_code_for_number(parsed)
    found = found or phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return found if found and found.isalpha() and found != "ZZ" else None


@lru_cache(maxsize=1_000)
def _countries_of_code(digits: str) -> tuple[str, ...]:
    """The countries of the country code that ``digits`` begin with; no code is the beginning of another."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    codes = [int(digits[:n]) for n in (1, 2, 3) if digits[:n].isdigit()]
    return next((COUNTRY_CODE_TO_REGION_CODE[code] for code in codes if code in COUNTRY_CODE_TO_REGION_CODE), ())


@lru_cache(maxsize=1_000)
def _country_of_area(code: str) -> str:
    """The country of an area code of +1. Those that the metadata does not know are new ones of the US, far more likely than
    of the twenty islands that share the country code."""
    import phonenumbers

    parsed = phonenumbers.PhoneNumber(country_code=1, national_number=int(f"{code}2345678"[:10] or "0"))
    found: str | None = phonenumbers.region_code_for_number(parsed)
    return found or "US"
