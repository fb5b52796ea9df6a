"""Divide a text into the parts that it travels in, and write them as they go over the air.

What a preview shows of each part, and the proof that counting is right: as many parts as ``count`` says, and reading them
gives the text back. Pure. Invariants, each with a test:

- There are exactly as many parts as are billed.
- No part holds more than fits, and each but the last is full: what follows would not have fitted.
- A pair (an escape and its character, a surrogate pair) never straddles two parts.

Source of the codes: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1, less what Telnyx's alphabet lacks (see ``segments``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from worker.content.segments import GSM7, GSM7_EXTENDED, LIMITS, Encoding, count

_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE: Final = 0x1B
_EXTENDED: Final[Mapping[str, int]] = {
    "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65,
}  # fmt: skip
_SEPTETS: Final[Mapping[str, bytes]] = {
    character: bytes([_ESCAPE, _EXTENDED[character]]) if character in _EXTENDED else bytes([_BASIC.index(character)])
    for character in GSM7
}
_CHARACTERS: Final = {septets: character for character, septets in _SEPTETS.items()}


def split(text: str, *, short_code: bool = False) -> list[str]:
    """The text of each part, in order; [] for an empty text, which is none."""
    counted = count(text, short_code=short_code)
    if counted.parts < 2:
        return [text] if text else []
    each = LIMITS[counted.encoding][1]
    parts, begins, room = [], 0, each
    for at, character in enumerate(text):
        size = _size(character, counted.encoding)
        if size > room:
            parts.append(text[begins:at])
            begins, room = at, each
        room -= size
    return [*parts, text[begins:]]


def _size(character: str, encoding: Encoding) -> int:
    if encoding == "UCS-2":
        return 2 if ord(character) > 0xFFFF else 1
    return 2 if encoding == "GSM-7" and character in GSM7_EXTENDED else 1


def encode(text: str, *, short_code: bool = False) -> tuple[Encoding, list[bytes]]:
    """What each part carries besides its header: a byte for each septet, or UTF-16, the greater byte first.

    Raises:
        UnicodeEncodeError: ``text`` has half of a surrogate pair, which no text has that UTF-8 can carry.
    """
    encoding = count(text, short_code=short_code).encoding
    return encoding, [_encoded(part, encoding) for part in split(text, short_code=short_code)]


def _encoded(part: str, encoding: Encoding) -> bytes:
    if encoding == "UCS-2":
        return part.encode("utf-16-be")
    if encoding == "ASCII-7":
        return part.encode("ascii")
    return b"".join(map(_SEPTETS.__getitem__, part))


def decode(encoding: Encoding, parts: Sequence[bytes]) -> str:
    """The text that ``encode`` was given. Each part is read alone, as a phone reads what arrives.

    Raises:
        ValueError: a part ends within a pair, or holds what is in no alphabet.
    """
    if encoding == "UCS-2":
        return "".join(part.decode("utf-16-be") for part in parts)
    if encoding == "ASCII-7":
        return "".join(part.decode("ascii") for part in parts)
    return "".join(character for part in parts for character in _from_septets(part))


def _from_septets(part: bytes) -> Iterable[str]:
    at = 0
    while at < len(part):
        size = 2 if part[at] == _ESCAPE else 1
        character = _CHARACTERS.get(part[at : at + size])
        if character is None:
            raise ValueError(f"no character of GSM-7: {part[at : at + size].hex()}")
        yield character
        at += size
