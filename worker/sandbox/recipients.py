"""Magic recipients: what happens to a message is written in the last two digits of its number.

The numbers are ``+1 AAA 555 01CC``: the block that is reserved for fiction in every area code, so nobody real can be
texted by mistake. ``CC`` from 40 up names a behaviour, ``AAA`` is free, so each behaviour has hundreds of numbers.
Every other number, ``CC`` below 40 included, is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """What the request sees. All but the ``*_before`` and ``*_once`` ones accept the message first."""

    OK = "ok"
    SLOW = "slow"
    HANG = "hang"
    CUT = "cut"
    ERROR = "500"
    GARBLED = "garbled"
    ERROR_BEFORE = "500_before"
    ERROR_ONCE = "500_once"
    LIMITED_ONCE = "429_once"
    CUT_BEFORE = "cut_before"


class Cancel(StrEnum):
    """What a cancel of its scheduled message meets."""

    OK = "ok"
    TOO_LATE = "too_late"  # refused: it leaves at that moment
    REFUSED = "refused"  # refused, and it stays scheduled
    CUT = "cut"  # cancelled, and the answer is lost


class Receipts(StrEnum):
    """Which signed callbacks come."""

    BOTH = "both"
    SENT_ONLY = "sent_only"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Script:
    """How one recipient behaves. ``error`` is the code in the receipt, ``refusal`` the code of the API's answer."""

    meaning: str
    final: str = "delivered"  # the status in the finalized event, and what a poll says then
    error: str | None = None
    refusal: str | None = None
    answer: Answer = Answer.OK
    cancel: Cancel = Cancel.OK
    receipts: Receipts = Receipts.BOTH
    is_late: bool = False
    is_duplicated: bool = False
    is_reordered: bool = False
    is_odd: bool = False  # `from` as a string, numeric cost, `cc` of strings
    never_final: bool = False  # a poll says "sent" for good
    correction: str | None = None  # a second finalized event with this status
    is_read: bool = False  # a message.read event follows (WhatsApp)


DELIVERED = Script(meaning="delivered: sent, then finalized")

SCRIPTS: dict[int, Script] = {
    40: Script(meaning="carrier failure 40008 (undeliverable)", final="delivery_failed", error="40008"),
    41: Script(meaning="carrier calls it spam for good, 40003", final="delivery_failed", error="40003"),
    42: Script(
        meaning="late failure: sent at once, 40001 (landline) much later",
        final="delivery_failed",
        error="40001",
        is_late=True,
    ),
    43: Script(meaning="delivery_unconfirmed: no carrier receipt", final="delivery_unconfirmed"),
    44: Script(meaning="a status nobody documented: `unknown`", final="unknown"),
    45: Script(meaning="never left Telnyx: sending_failed, 40014", final="sending_failed", error="40014"),
    46: Script(meaning="T-Mobile's daily cap is used up, 40016", final="delivery_failed", error="40016"),
    47: Script(meaning="temporary spam block 40002", final="delivery_failed", error="40002"),
    48: Script(meaning="recipient's carrier is down, 40006", final="delivery_failed", error="40006"),
    50: Script(meaning="refused: opted out, 40300 with a STOP title", refusal="40300"),
    51: Script(meaning="refused: invalid `to`, 40310", refusal="40310"),
    52: Script(meaning="refused: type impossible for this route, 40301", refusal="40301"),
    53: Script(meaning="refused: daily spend limit of the profile, 40333 with HTTP 429", refusal="40333"),
    54: Script(meaning="refused: Telnyx's queue is full, 40318", refusal="40318"),
    55: Script(meaning="refused: no 10DLC campaign, 40010", refusal="40010"),
    56: Script(meaning="refused: account out of funds, 20100 with HTTP 402", refusal="20100"),
    57: Script(meaning="refused: `from` is not on the profile, 40305", refusal="40305"),
    58: Script(meaning="refused: content blocked, 40322", refusal="40322"),
    60: Script(meaning="silent: no receipts; a poll says delivered after a while", receipts=Receipts.NONE),
    61: Script(meaning="silent for good: no receipts; a poll says sent", receipts=Receipts.NONE, never_final=True),
    62: Script(
        meaning="stuck: message.sent comes, finalized never; a poll says sent",
        receipts=Receipts.SENT_ONLY,
        never_final=True,
    ),
    64: Script(meaning="scheduled: a cancel comes too late (403), it leaves at that moment", cancel=Cancel.TOO_LATE),
    65: Script(meaning="scheduled: a cancel is refused (403), and it stays scheduled", cancel=Cancel.REFUSED),
    66: Script(meaning="scheduled: cancelled, the answer is lost (connection cut)", cancel=Cancel.CUT),
    70: Script(meaning="slow answer (`slow_s`, 3 s)", answer=Answer.SLOW),
    71: Script(meaning="accepted, the answer is lost (connection cut); receipts come", answer=Answer.CUT),
    72: Script(meaning="accepted, then answered 500; receipts come", answer=Answer.ERROR),
    73: Script(meaning="500 before it is accepted, each time", answer=Answer.ERROR_BEFORE),
    74: Script(meaning="500 before it is accepted, once", answer=Answer.ERROR_ONCE),
    75: Script(meaning="429 once", answer=Answer.LIMITED_ONCE),
    76: Script(meaning="accepted, then hangs (`hang_s`, 20 s); receipts come", answer=Answer.HANG),
    77: Script(meaning="accepted, answered 200 with an unreadable body; receipts come", answer=Answer.GARBLED),
    78: Script(
        meaning="accepted, the answer is lost, no receipts; a poll says delivered after a while",
        answer=Answer.CUT,
        receipts=Receipts.NONE,
    ),
    79: Script(meaning="connection cut before it is accepted, each time", answer=Answer.CUT_BEFORE),
    80: Script(meaning="every receipt twice", is_duplicated=True),
    81: Script(meaning="finalized arrives before sent", is_reordered=True),
    82: Script(meaning="odd shapes: `from` a string, numeric cost, `cc` of strings", is_odd=True),
    83: Script(
        meaning="corrected: delivery_unconfirmed first, delivered later",
        final="delivery_unconfirmed",
        correction="delivered",
    ),
    90: Script(
        meaning="WhatsApp: not on WhatsApp, 41000 with Meta's 131026 in the detail",
        final="delivery_failed",
        error="41000",
    ),
    91: Script(meaning="WhatsApp: delivered, then read (message.read)", is_read=True),
    92: Script(
        meaning="WhatsApp: outside the 24 h window, 41000 with Meta's 131047 in the detail",
        final="delivery_failed",
        error="41000",
    ),
}

META_DETAILS = {
    90: "131026: Message undeliverable. The recipient is not a WhatsApp user.",
    92: "131047: More than 24 hours have passed since the recipient last replied. Send a template.",
}


def code_of(number: str) -> int | None:
    """The behaviour's two digits in a magic number, or None for any other."""
    if len(number) == 12 and number.startswith("+1") and number[5:10] == "55501" and number[10:].isdigit():
        code = int(number[10:])
        return code if code in SCRIPTS else None
    return None


def script_for(number: str) -> Script:
    """How ``number`` behaves; unknown ones are delivered."""
    code = code_of(number)
    return DELIVERED if code is None else SCRIPTS[code]


def magic_number(code: int, nth: int = 0) -> str:
    """The ``nth`` number that behaves as ``code`` says, in area codes from 312 on.

    Raises:
        ValueError: nothing behaves as ``code``, or ``nth`` is above 400.
    """
    if code not in SCRIPTS or not 0 <= nth <= 400:
        raise ValueError(f"no magic number {nth} for code {code}: use one of {sorted(SCRIPTS)} and nth from 0 to 400")
    return f"+1{312 + nth}55501{code:02d}"
