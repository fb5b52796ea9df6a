"""Block rules: a STOP to one of our numbers blocks the person for the whole messaging profile of that number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

KEYWORDS = {
    "STOP": ("STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"),
    "START": ("START", "UNSTOP"),
    "HELP": ("HELP", "INFO"),
}
_MEANINGS = {word: meaning for meaning, words in KEYWORDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Block:
    """``person`` may not be texted from any number of ``profile``; ``number`` is the one the STOP went to."""

    person: str
    number: str
    profile: str
    keyword: str
    created_us: int

    def row(self, *, is_redacted: bool) -> dict[str, Any]:
        """As ``GET /messaging_optouts`` shows it: ``to`` is the person, ``from`` is us."""
        at = datetime.fromtimestamp(self.created_us / 1e6, UTC).isoformat(sep=" ", timespec="microseconds")
        return {
            "created_at": at,
            "from": self.number,
            "to": self.person[:-4] + "****" if is_redacted else self.person,
            "keyword": self.keyword,
            "messaging_profile_id": self.profile,
        }


def autoresponse_type(text: str) -> str | None:
    """STOP, START or HELP if ``text`` as a whole is such a keyword, in any case; else None."""
    return _MEANINGS.get(text.strip().upper())


class Blocks:
    """The block list, by profile and person."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, str], Block] = {}

    def apply(self, *, person: str, number: str, profile: str, text: str, now_us: int) -> str | None:
        """Let a keyword act, and say which it was."""
        meaning = autoresponse_type(text)
        if meaning == "STOP" and (profile, person) not in self._blocks:
            self._blocks[profile, person] = Block(person, number, profile, text.strip().upper(), now_us)
        elif meaning == "START":
            self._blocks.pop((profile, person), None)
        return meaning

    def holds(self, profile: str, person: str) -> bool:
        return (profile, person) in self._blocks

    def rows(self) -> list[Block]:
        """Newest first."""
        return sorted(self._blocks.values(), key=lambda block: block.created_us, reverse=True)

    def clear(self) -> None:
        self._blocks.clear()
