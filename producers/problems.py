"""Collect everything that is wrong with a request, so that its author hears of it in one go."""

from __future__ import annotations

from collections.abc import Iterable

from producers.errors import ERRORS_KEPT, FieldError, InvalidNotification

VALUE_SHOWN = 60


class Problems:
    """The errors found so far: the first hundred are kept, the rest only counted.

    A list of 100,000 numbers can be wrong 100,000 times, and nobody reads that.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.total = 0

    def add(self, field: str, value: str, remedy: str) -> None:
        self.total += 1
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append(FieldError(field, value, remedy))

    def error(self) -> InvalidNotification:
        """What to raise once ``total`` is above 0."""
        return InvalidNotification(self.errors, total=self.total)


def described(value: object) -> str:
    """What ``value`` is, without quoting it: content and numbers must not get into a log this way."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"a string of {len(value):,} characters" if value else "an empty string"
    if isinstance(value, dict | list | tuple):
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value):,}" if value else f"an empty {kind.split()[1]}"
    return f"of type {type(value).__name__}"


def quoted(value: object) -> str:
    """``value`` itself, short and on one line; only for fields that hold nothing private."""
    if not isinstance(value, str | int | float):
        return described(value)
    text = ascii(value)
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def nearest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """``did you mean "x"?`` if something known is near, else ``otherwise``."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else otherwise
