"""Say what a Telnyx error code means for a message, for its sender, and for the person on call.

The same number means different things in an answer of the API and in a delivery receipt, so everything here is keyed by
``(phase, code)``. Invariants, each with a test named after it:

- Every code that Telnyx documents for messaging has a class and plain words.
- A code we do not know is never retried blindly: refused is final, unclear is unclear.
- An opt-out is believed only where Telnyx says STOP: a wrong one silences a person who never asked for it.
- Nothing that may already have gone out is called retryable.

Sources: Telnyx "Messaging Error Code Reference", "API error codes", support article "Messaging error codes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Literal
from zoneinfo import ZoneInfo

from worker.telnyx.error_table import CONFIGURATION_HOLD_S, META_CODES, REUSED_CODES, TABLE, Class, Reset, Rule, Scope

__all__ = [
    "Class",
    "Phase",
    "Reset",
    "Scope",
    "Verdict",
    "classify",
    "clean_title",
    "describe",
    "effective_code",
    "seconds_until_midnight",
]

TITLE_LIMIT = 120
UNKNOWN_RESET_HOLD_S = 3600.0  # without a clock we cannot know how far midnight is: look again in an hour

# "Blocked due to STOP message", "Blocked by block rule"; not "stopped".
_STOP_TITLE = re.compile(r"\bSTOP\b|\bblock rule\b", re.IGNORECASE)
_NUMBER_IN_TEXT = re.compile(r"\+?\d{8,15}")
_META_IN_DETAIL = re.compile(r"(?<!\d)(" + "|".join(sorted(META_CODES)) + r")(?!\d)")


class Phase(StrEnum):
    """Where an error was seen. A plain ``"send"`` or ``"receipt"`` is as good."""

    SEND = "send"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one error.

    ``hold_s`` is how long the bucket named by ``scope`` should rest, None for not at all; ``resets`` the midnight that
    ends it, empty for none. ``alert``: a person should know. ``note``: a machine word where the class alone hides why.
    """

    class_: Class
    code: str
    title: str
    hold_s: float | None = None
    alert: bool = False
    note: str = ""
    scope: Scope = ""
    resets: Reset = ""


def classify(
    phase: Literal["send", "receipt"] | Phase,
    code: str,
    *,
    title: str = "",
    status: int | None = None,
    keyed: bool = True,
    channel: str = "",
    is_resend: bool = False,
    now_s: float | None = None,
) -> Verdict:
    """Judge one error.

    Args:
        phase: ``send`` for the API's answer, ``receipt`` for what webhooks and polls say about an accepted message.
        code: Telnyx's code, empty if the answer had none.
        title: Telnyx's words; they decide what 40300 means.
        status: HTTP status of the answer; only consulted where the code says nothing.
        keyed: Whether the request carried an Idempotency-Key.
        channel: Ours; 40008 means another thing for WhatsApp.
        is_resend: The same bytes were sent before and no verdict came back.
        now_s: Unix time, for limits that end at midnight; without it they are looked at again in an hour.
    """
    title = clean_title(title)
    special = _special(phase, code, title, status, keyed=keyed, channel=channel, is_resend=is_resend)
    rule, note = special or (TABLE.get((str(phase), code)), "")
    if rule is None:
        return _unknown(phase, code, title, status)
    hold_s = _until_reset_s(rule.resets, now_s) if rule.resets else rule.hold_s
    return Verdict(rule.class_, code, title, hold_s, rule.alert, note, rule.scope, rule.resets)


def says_stop(code: str, title: str) -> bool:
    """Whether a receipt says that the person has sent STOP. Telnyx documents 40300 for its answers alone, and reuses codes in
    receipts, so only the words count; a person too many who is not texted can send START."""
    return code == "40300" and _STOP_TITLE.search(clean_title(title)) is not None


def describe(code: str, phase: Literal["send", "receipt"] | Phase) -> str:
    """Plain words for a person: what happened and what to do. Never empty."""
    rule = TABLE.get((str(phase), code))
    if rule is None and code not in REUSED_CODES:
        rule = TABLE.get(("receipt" if str(phase) == "send" else "send", code))
    if rule is not None:
        return rule.words
    if not code:
        return "Telnyx gave no error code"
    if str(phase) == "send":
        return f"Telnyx refused the request with code {code}, which is not documented: read its title"
    return f"The carrier or Telnyx reported code {code}, which is not documented: read its title"


def effective_code(code: str, *texts: str) -> str:
    """Meta's own code where Telnyx wraps it in 41000, because only that one tells what to do; else ``code``."""
    if code == "41000":
        for text in texts:
            if found := _META_IN_DETAIL.search(text):
                return found.group(1)
    return code


def clean_title(title: str) -> str:
    """Provider's words, short, on one line, with any phone number masked, since titles reach logs and timelines."""
    line = " ".join(title.split())[:TITLE_LIMIT]
    return _NUMBER_IN_TEXT.sub(lambda found: _masked(found.group()), line)


def seconds_until_midnight(now_s: float, zone: tzinfo) -> float:
    """Real seconds until the next midnight of ``zone``; a day with a clock change is 23 or 25 hours long."""
    local = datetime.fromtimestamp(now_s, zone)
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), tzinfo=zone)
    return midnight.astimezone(UTC).timestamp() - now_s


def _special(
    phase: str, code: str, title: str, status: int | None, *, keyed: bool, channel: str, is_resend: bool
) -> tuple[Rule, str] | None:
    """The rules that look at more than the code."""
    if phase == "receipt":
        if code == "40008" and channel == "whatsapp":
            return _WHATSAPP_40008, "whatsapp_template"
        return None
    # 409 alone is no proof that the same request is under way: 40306 comes with it too. So it counts only where no code
    # says otherwise, and an unknown code only on a resend, for before a resend there is nothing to collide with.
    if status == 409 and (not code or (is_resend and ("send", code) not in TABLE)):
        return TABLE["send", "10036"], "http_409"
    # After a first try whose answer was lost, 422 can mean "this key has gone out with other bytes". A new key would
    # text the person twice, so it is never a verdict on the message.
    if is_resend and keyed and (code == "10027" or status == 422):
        return _KEY_MISMATCH, "key_reused"
    if code == "40300":
        return (_OPT_OUT, "stop") if _STOP_TITLE.search(title) else (TABLE["send", "40300"], "blocked_not_by_stop")
    if code == "40008" and channel == "whatsapp":
        return _WHATSAPP_40008, "whatsapp_template"
    if status == 429 and ("send", code) not in TABLE:
        return TABLE["send", "10011"], "http_429"
    return None


def _unknown(phase: str, code: str, title: str, status: int | None) -> Verdict:
    if phase == "receipt":
        return Verdict(Class.PERMANENT, code, title, note="unknown_code")
    if status is None or status >= 500 or status == 408 or status < 300:
        return Verdict(Class.INDETERMINATE, code, title, note="unknown_code")
    # 401, 402 and 407 can only be about the account or a proxy, whatever the body says; 403, 404, 405 and redirects too if
    # nothing in it names the message: a wrong TELNYX_BASE_URL answers so. Called permanent, each would throw away a whole
    # backlog over one wrong setting.
    if status in {401, 402, 407} or (not code and (status in {403, 404, 405} or status < 400)):
        hold_s = CONFIGURATION_HOLD_S
        return Verdict(Class.CONFIGURATION, code, title, hold_s, alert=True, note="unknown_code", scope="account")
    return Verdict(Class.PERMANENT, code, title, alert=True, note="unknown_code")


def _until_reset_s(resets: Reset, now_s: float | None) -> float:
    if now_s is None:
        return UNKNOWN_RESET_HOLD_S
    return seconds_until_midnight(now_s, UTC if resets == "UTC" else ZoneInfo(resets))


def _masked(number: str) -> str:
    return f"{number[:5]}***{number[-4:]}" if len(number) > 9 else "***"


_OPT_OUT = Rule(Class.OPT_OUT, "The person has sent STOP: nothing may be sent until they send START")
_KEY_MISMATCH = Rule(
    Class.INDETERMINATE,
    "Telnyx knows this message's key with another body: it may have gone out, and must not go again under a new key",
    alert=True,
)
_WHATSAPP_40008 = Rule(
    Class.CONFIGURATION,
    "WhatsApp could not use this template or message: check the template's state in the WhatsApp manager",
    alert=True,
    hold_s=CONFIGURATION_HOLD_S,
    scope="sender",
)
