"""Read opt-outs: who must not be texted, in which scope, since when and on whose word.

Written by the scripts alone (``calls.opt``), which also check each message again right before it leaves. Two sayings are
kept apart for each person and scope: the person's own (STOP, START, the provider's list, a 40300) and that of an
operator or app. Either blocks, and neither lifts the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.ledger.ledger import Ledger

NUMBERS_A_TRIP = 1_000
# As the ledger keeps them: a letter each. webhook is the provider's own reading of a message, keyword is ours.
SOURCES: Mapping[str, str] = {
    "w": "webhook", "k": "keyword", "l": "list", "a": "answer", "r": "receipt", "p": "api", "c": "cli", "i": "import",
}  # fmt: skip
_SCOPE = re.compile(r"global|profile:[0-9a-fA-F-]{36}|sender:[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What one side said last. ``source``: a value of ``SOURCES``. ``list``: the last of the provider's lists to show it."""

    out: bool
    at_us: int
    source: str
    evidence: str
    list: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """A person in one scope; None where that side never said anything."""

    person: Saying | None
    operator: Saying | None

    @property
    def opted_out(self) -> bool:
        return any(saying is not None and saying.out for saying in (self.person, self.operator))

    @property
    def decisive(self) -> Saying | None:
        """The saying that explains the state: one that blocks, else the newer one."""
        said = [saying for saying in (self.person, self.operator) if saying is not None]
        return max(said, key=lambda saying: (saying.out, saying.at_us), default=None)


def is_scope(text: str) -> bool:
    """Is it ``global``, ``profile:<id>`` or ``sender:<name>``?"""
    return _SCOPE.fullmatch(text) is not None


def read_opt_out(ledger: Ledger, number: str, scope: str) -> OptOut:
    """What was said of ``number`` in ``scope``."""
    redis: Any = ledger.redis
    person, operator = redis.hmget(_key(ledger, scope, number), number, f"{number}*")
    return OptOut(person=said_in(person), operator=said_in(operator))


def opted_out_among(ledger: Ledger, numbers: Sequence[str], scopes: Sequence[str]) -> set[str]:
    """Those of ``numbers`` that a lane with these scopes would not text now; as the scripts decide it."""
    profile_known = any(scope.startswith("profile:") for scope in scopes)
    out: set[str] = set()
    for start in range(0, len(numbers), NUMBERS_A_TRIP):
        part = numbers[start : start + NUMBERS_A_TRIP]
        with ledger.redis.pipeline(transaction=False) as pipe:
            for number in part:
                for scope in scopes:
                    pipe.hmget(_key(ledger, scope, number), number, f"{number}*")
                if not profile_known:  # of a sender whose profile is unknown, an opt-out of any scope counts
                    pipe.hget(_key(ledger, "any", number), number)
            replies = iter(pipe.execute())
        for number in part:
            blocked = [_blocks(next(replies)) for _ in scopes]
            anywhere = not profile_known and int(next(replies) or 0) > 0
            if anywhere or any(blocked):
                out.add(number)
    return out


def _key(ledger: Ledger, scope: str, number: str) -> str:
    return ledger.key(f"o:{scope}:{number[-4:]}")


def _blocks(fields: Iterable[bytes | None]) -> bool:
    return any(field is not None and field.startswith(b"o") for field in fields)


def said_in(field: bytes | None) -> Saying | None:
    """What a field of the ledger says."""
    if field is None:
        return None
    letter, at, source, evidence, shown = (*field.decode(errors="replace").split(":", 4), "", "", "", "")[:5]
    return Saying(
        out=letter == "o",
        at_us=int(at or 0),
        source=SOURCES.get(source, source),
        evidence=evidence,
        list=int(shown) if shown.isdecimal() else 0,
    )
