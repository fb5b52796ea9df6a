"""Count the segments that carriers bill for a text, by Telnyx's rules.

A text of GSM-7 characters goes as 160 septets, or as several of 153; one other character moves the whole text to
UTF-16: 70 units, or several of 67. A short code speaks ASCII-7 in place of GSM-7. Invariants, each with a test:

- A pair (a GSM-7 escape and its character, a surrogate pair) never straddles two segments, so packing may waste a unit.
- A longer text never costs fewer segments.

Source: developers.telnyx.com, "Message encoding". Telnyx's GSM-7 alphabet is narrower than that of 3GPP TS 23.038
(no Greek, no ``ç``, no backtick), which is why no library for the standard's table gives Telnyx's number.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["GSM-7", "UCS-2", "ASCII-7"]

GSM7_EXTENDED = frozenset("~^|\\{}[]€")  # an escape and a character: two septets
GSM7_BASIC = frozenset(
    (string.ascii_letters + string.digits + string.punctuation + " \n\r").replace("`", "")
) | frozenset("£¥èéùìòØøÅåÆæßÉ¡ÄÖÑÜ§¿äöñüà")
GSM7_BASIC -= GSM7_EXTENDED
GSM7 = GSM7_BASIC | GSM7_EXTENDED
ASCII7 = frozenset(map(chr, range(128)))

FORCING_SHOWN = 32  # a Chinese text has hundreds, and says nothing with them
LIMITS: dict[Encoding, tuple[int, int]] = {"GSM-7": (160, 153), "ASCII-7": (160, 153), "UCS-2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Segments:
    """What a text costs.

    Attributes:
        encoding: What it travels in.
        parts: Segments billed; 0 for an empty text, which is none.
        units: Septets, or UTF-16 units, without what packing wastes.
        forces_ucs2: The distinct characters that force UCS-2, as ``ç U+00E7``, in order, at most 32.
    """

    encoding: Encoding
    parts: int
    units: int
    forces_ucs2: tuple[str, ...] = ()


def count(text: str, *, short_code: bool = False) -> Segments:
    """Count the segments of ``text``, the final body, as sent from a short code or from any other sender."""
    characters = set(text)
    if short_code and characters <= ASCII7:
        return Segments("ASCII-7", _parts(text, set(), len(text), "ASCII-7"), len(text))
    if not short_code and characters <= GSM7:
        wide = characters & GSM7_EXTENDED
        units = len(text) + sum(text.count(character) for character in wide)
        return Segments("GSM-7", _parts(text, wide, units, "GSM-7"), units)
    wide = {character for character in characters if ord(character) > 0xFFFF}
    units = len(text) + sum(text.count(character) for character in wide)
    return Segments("UCS-2", _parts(text, wide, units, "UCS-2"), units, _forcing(text, ASCII7 if short_code else GSM7))


def _parts(text: str, wide: set[str], units: int, encoding: Encoding) -> int:
    """Segments for ``text``, whose characters in ``wide`` take two units each, ``units`` in all."""
    alone, each = LIMITS[encoding]
    if units <= alone:
        return 1 if units else 0
    if not wide:
        return -(-units // each)
    parts, room = 1, each
    for character in text:
        size = 2 if character in wide else 1
        if size > room:
            parts, room = parts + 1, each
        room -= size
    return parts


def _forcing(text: str, alphabet: frozenset[str]) -> tuple[str, ...]:
    found = [character for character in dict.fromkeys(text) if character not in alphabet]
    return tuple(_named(character) for character in found[:FORCING_SHOWN])


def _named(character: str) -> str:
    code = f"U+{ord(character):04X}"
    return f"{character} {code}" if character.isprintable() and not character.isspace() else code
