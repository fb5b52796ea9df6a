"""Bring a recipient's address into its one form: E.164, or WhatsApp's business-scoped user id.

One person must have one spelling, for opt-outs, duplicates and frequency caps are found by it. Invariants, with tests:

- ``normalise`` of its own result changes nothing.
- The short way for clean North American numbers gives exactly what phonenumbers gives.

Only the international form is taken. A national one would need a guess of its country, and a wrong guess texts a
stranger. ``phonenumbers`` is imported at the first number that needs it (22 ms).
"""

from __future__ import annotations

import re

EXAMPLE = "+13125550100"

# The area code of a clean number starts with 2 to 9, so there is no national prefix that parsing could strip.
_clean_nanp = re.compile(r"\+1[2-9][0-9]{9}").fullmatch
# Without this, parsing finds a number inside any prose, and reads letters as keys of a phone.
_spelled = re.compile(r"\+[0-9 ().\-\u00a0\u2010-\u2015/]{1,40}").fullmatch
_bsuid = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}").fullmatch
_not_digits = re.compile(r"[^+0-9]").sub
_digits_only = re.compile(r"[0-9 ().\-]{1,40}").fullmatch


class NotANumber(ValueError):
    """``remedy`` says what to write instead; no number is quoted."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(remedy)


def normalise(raw: str) -> str:
    """``raw`` as E.164. Raises NotANumber."""
    if _clean_nanp(raw):
        return raw
    return _parsed(raw.strip())


def is_bsuid(raw: str) -> bool:
    """Is it a business-scoped user id of WhatsApp, such as ``US.1349...``?"""
    return _bsuid(raw) is not None


def _parsed(raw: str) -> str:
    if not _spelled(raw):
        raise NotANumber(_how_to_write(raw))
    import phonenumbers

    try:
        number = phonenumbers.parse(raw, None)
    except phonenumbers.NumberParseException:
        raise NotANumber(f"it has no country's code: write it like {EXAMPLE}") from None
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise NotANumber(_why_not(possible))
    written: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if written != _not_digits("", raw) and _parsed(written) != written:
        # One trunk zero was dropped, as from +44 07911..., and there is another: then it is a guess whose number this is.
        raise NotANumber(f"it has too many zeros after its country's code: write it like {EXAMPLE}")
    return written


def _how_to_write(raw: str) -> str:
    digits = sum(character.isdigit() for character in raw)
    if not raw:
        return f"it is empty: write a number like {EXAMPLE}"
    if _digits_only(raw) and 3 <= digits <= 6:
        return f"a short code cannot be a recipient: write a phone number like {EXAMPLE}"
    if _digits_only(raw):
        return f"the plus sign and the country's code are missing: write it like {EXAMPLE}"
    return f"write one phone number, in international form, like {EXAMPLE}"


def _why_not(reason: int) -> str:
    import phonenumbers

    if reason == phonenumbers.ValidationResult.TOO_LONG:
        return f"it has too many digits for its country: write it like {EXAMPLE}"
    if reason in (phonenumbers.ValidationResult.TOO_SHORT, phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY):
        return f"it has too few digits for its country: write it like {EXAMPLE}"
    return f"no number of its country has this length: write it like {EXAMPLE}"
