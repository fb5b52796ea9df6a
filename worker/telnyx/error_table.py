"""The table of Telnyx's error codes: one row a code and phase, with its class and plain words.

Data only; the rules that look at more than the code (titles, HTTP status, channel, key) are in ``errors``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

# Whom a setting or limit concerns. "recipient": only messages to such people, so their sender goes on.
Scope = Literal["", "account", "profile", "brand", "campaign", "sender", "recipient"]
Reset = Literal["", "UTC", "America/Los_Angeles"]

CONFIGURATION_HOLD_S = (
    300.0  # a repaired account goes on by itself within five minutes; a broken one is asked 12 times/h
)
SLOW_DOWN_S = 2.0  # 429 without Retry-After: Telnyx counts API requests by the second
QUEUE_FULL_S = 180.0  # 40318: a queue of up to four hours was full, seconds change nothing
CARRIER_MINUTE_S = 60.0  # AT&T counts by the minute
PUMPING_BLOCK_S = 86_400.0  # 40020: Telnyx blocks a sender of suspicious one-time codes for 24 h


class Class(StrEnum):
    """What an error asks of us."""

    PERMANENT = "permanent"  # this message will never go
    RETRY = "retry"  # the same message may go later
    SLOW_DOWN = "slow_down"  # nothing was accepted; the named bucket must rest
    OPT_OUT = "opt_out"  # the person said STOP
    CONFIGURATION = "configuration"  # the account or sender is wrong, not the message: hold the sender, call a person
    INDETERMINATE = "indeterminate"  # it may have gone out
    CONFLICT_RETRY = "conflict_retry"  # the same key is still being processed: ask again with the same bytes


@dataclass(frozen=True, slots=True)
class Rule:
    class_: Class
    words: str
    alert: bool = False
    hold_s: float | None = None
    scope: Scope = ""
    resets: Reset = ""


Row = tuple[str, str, Rule]


def _permanent(phases: str, code: str, words: str, *, alert: bool = False) -> Row:
    return phases, code, Rule(Class.PERMANENT, words, alert)


def _our_bug(code: str, words: str) -> Row:
    return "s", code, Rule(Class.PERMANENT, f"{words}: the request was built wrong, please report it", alert=True)


def _retry(phases: str, code: str, words: str) -> Row:
    return phases, code, Rule(Class.RETRY, words)


def _slow_down(phases: str, code: str, words: str, scope: Scope, *, hold_s: float, resets: Reset = "") -> Row:
    return phases, code, Rule(Class.SLOW_DOWN, words, hold_s=hold_s, scope=scope, resets=resets)


def _configuration(
    phases: str, code: str, words: str, scope: Scope, *, hold_s: float = CONFIGURATION_HOLD_S, resets: Reset = ""
) -> Row:
    return phases, code, Rule(Class.CONFIGURATION, words, alert=True, hold_s=hold_s, scope=scope, resets=resets)


def _unclear(code: str, words: str) -> Row:
    return "s", code, Rule(Class.INDETERMINATE, words)


_ROWS: Final[Iterable[Row]] = (
    # --- the request itself
    _permanent("s", "10001", "The number is not active: correct or remove it"),
    _permanent("s", "10002", "The number is not valid: correct or remove it"),
    _permanent("s", "10016", "The number is not in international form (+ and digits): correct it"),
    _our_bug("10003", "Telnyx found a URL malformed or longer than 2,000 characters"),
    _our_bug("10004", "Telnyx misses a required parameter"),
    _our_bug("10015", "Telnyx could not read the request"),
    _our_bug("10023", "Telnyx could not read the request's JSON"),
    _our_bug("10025", "Telnyx found the request's structure wrong"),
    _our_bug("10026", "Telnyx found a parameter of the wrong type"),
    _our_bug("10032", "Telnyx found a parameter out of its range"),
    _our_bug("10033", "Telnyx found a parameter malformed"),
    _permanent("s", "10005", "Telnyx does not know this resource: a message older than 10 days is gone", alert=True),
    _permanent("s", "10006", "Telnyx does not know this id", alert=True),
    _permanent("s", "40303", "Telnyx does not know this message"),
    _unclear(
        "10007", "Telnyx had an unexpected error: it may have taken the message, so only the same key may ask again"
    ),
    _unclear("10008", "Telnyx timed out: it may have taken the message, so only the same key may ask again"),
    _unclear("10037", "Telnyx is unavailable: it may have taken the message, so only the same key may ask again"),
    _permanent("s", "10027", "Telnyx could not process the request: read its title", alert=True),
    (
        "s",
        "10036",
        Rule(Class.CONFLICT_RETRY, "Telnyx is still working on this very request: ask again with the same key"),
    ),
    _slow_down("s", "10011", "Too many API requests: nothing was accepted, slow down", "account", hold_s=SLOW_DOWN_S),
    # --- the account
    _configuration("s", "10009", "The API key is wrong or missing: set TELNYX_API_KEY", "account"),
    _configuration("s", "20002", "The API key was revoked: make a new one and set TELNYX_API_KEY", "account"),
    _configuration("s", "20006", "The API key has expired: make a new one and set TELNYX_API_KEY", "account"),
    _configuration("s", "20008", "The API key is not active: make a new one and set TELNYX_API_KEY", "account"),
    _configuration("s", "10010", "The API key may not do this: check its permissions in the portal", "account"),
    _configuration("s", "20003", "The API key may not do this: check its permissions in the portal", "account"),
    _configuration("s", "10038", "The account may not use this feature: ask Telnyx to enable it", "account"),
    _configuration("s", "10039", "The account's level does not allow this feature: raise it in the portal", "account"),
    *(
        _configuration(
            "s", str(code), "The account is inactive, blocked or not verified: look at it in the portal", "account"
        )
        for code in range(20012, 20018)
    ),
    _configuration("s", "20100", "The account has no funds left: add credit in the portal", "account"),
    # --- what carriers say
    _permanent("w", "40001", "The number cannot receive texts, such as a landline: remove it"),
    _permanent(
        "w", "40002", "The carrier's spam filter blocked this message for now: slow this sender, try again in hours"
    ),
    _permanent("sw", "40003", "The carrier has blocked this sender as spam: change the sender or appeal", alert=True),
    _permanent("w", "40004", "The carrier refused the message without a reason"),
    _retry("w", "40005", "The message expired on its way: its validity ended, or the carrier was slow"),
    _retry("w", "40014", "The message expired in Telnyx's queue (not billed): lower this sender's rate"),
    _retry("w", "40006", "The person's carrier was not reachable"),
    _permanent("w", "40007", "The message went in a loop between carriers"),
    _retry("sw", "40008", "The carrier could not deliver it and does not say why"),
    _permanent("w", "40009", "The carrier found the body invalid: look for unusual characters"),
    _configuration("sw", "40010", "The sender is not registered for 10DLC: register brand and campaign", "sender"),
    _slow_down(
        "w", "40011", "The carrier's rate was exceeded: lower this sender's rate", "sender", hold_s=CARRIER_MINUTE_S
    ),
    _permanent("w", "40012", "The carrier calls the person's number invalid: correct or remove it"),
    _configuration("w", "40013", "The carrier calls the sender's number invalid: check it in the portal", "sender"),
    _permanent("sw", "40015", "Telnyx's spam filter blocked the message: change its content", alert=True),
    _slow_down(
        "w",
        "40016",
        "T-Mobile's daily cap of this brand is used up: it resets at midnight Pacific time",
        "brand",
        hold_s=3600.0,
        resets="America/Los_Angeles",
    ),
    _permanent("sw", "40017", "AT&T blocked the message as spam: change its content", alert=True),
    _slow_down(
        "w", "40018", "AT&T's limit per minute of this campaign was exceeded", "campaign", hold_s=CARRIER_MINUTE_S
    ),
    _configuration("sw", "40019", "AT&T does not know this sender's tags: check the campaign's registration", "sender"),
    _configuration(
        "w",
        "40020",
        "One-time codes of this sender look like pumping and are blocked for 24 h: check who asks for them",
        "sender",
        hold_s=PUMPING_BLOCK_S,
    ),
    # --- sender, profile and destination
    _configuration("s", "40100", "The sender's number is not enabled for messaging: enable it in the portal", "sender"),
    *(
        _configuration(
            "s", str(code), "The sender's registration is missing or wrong: check it in the portal", "sender"
        )
        for code in range(40150, 40160)
    ),
    _configuration("s", "40300", "Telnyx blocks this message, and not because of a STOP: read its title", "sender"),
    _permanent("s", "40301", "This kind of message cannot go between these two numbers: use another sender"),
    _permanent("s", "40319", "No route for this kind of message between these two numbers: use another sender"),
    _permanent("s", "40302", "The message is too long, at most 10 parts may go: shorten it"),
    _permanent("s", "40304", "The message mixes contents that exclude each other: send text or media as documented"),
    _permanent("s", "40316", "The message is empty: give it a text or media"),
    _permanent("s", "40317", "The media cannot be used: at most 10 public URLs of together less than 1 MB"),
    _permanent("s", "40328", "The message needs too many parts: shorten it"),
    _configuration(
        "s", "40305", "The sender's number is not on its messaging profile: check both in the portal", "sender"
    ),
    _configuration(
        "s",
        "40306",
        "The profile has no alphanumeric sender, which this country needs: set it on the profile",
        "sender",
    ),
    _configuration(
        "s", "40307", "The alphanumeric sender is not the one of its profile: use exactly that one", "sender"
    ),
    _configuration("s", "40308", "This sender cannot send MMS: use another one", "sender"),
    _configuration("s", "40325", "The alphanumeric sender is not valid: 1 to 11 letters, digits or spaces", "sender"),
    _configuration("s", "40326", "The sender cannot send this kind of message: check it in the portal", "sender"),
    _configuration(
        "s", "40309", "The person's country is not allowed on the profile: whitelist it in the portal", "recipient"
    ),
    _configuration(
        "s", "40331", "The person's country is not allowed on the profile: whitelist it in the portal", "recipient"
    ),
    _permanent("s", "40310", "Telnyx calls the person's number invalid: correct or remove it"),
    _configuration("s", "40311", "The messaging profile's secret is wrong: check the profile in the portal", "profile"),
    _configuration("s", "40312", "The messaging profile is disabled: enable it in the portal", "profile"),
    _configuration("s", "40313", "The messaging profile asks for a secret: switch that off in the portal", "profile"),
    _configuration("s", "40314", "Messaging is disabled for this account: ask Telnyx", "account"),
    _configuration("s", "40315", "The sender is unhealthy by its delivery or spam ratio: rest or change it", "sender"),
    _configuration("s", "40321", "No number of the pool is usable: add numbers or check their health", "profile"),
    _slow_down(
        "s",
        "40318",
        "Telnyx's queue for this sender or account is full: nothing was accepted",
        "sender",
        hold_s=QUEUE_FULL_S,
    ),
    (
        "s",
        "40320",
        Rule(
            Class.RETRY, "The sender's number is being changed at Telnyx", hold_s=CONFIGURATION_HOLD_S, scope="sender"
        ),
    ),
    _permanent("sw", "40322", "The content is not allowed: change it", alert=True),
    _configuration("s", "40323", "The sender's activation has failed: look at the number in the portal", "sender"),
    _configuration("s", "40324", "The sender's activation has failed: look at the number in the portal", "sender"),
    _permanent("s", "40327", "A link's domain in the text is not allowed: use your own domain"),
    _configuration("sw", "40329", "The toll-free number is not verified: verify it in the portal", "sender"),
    _configuration("sw", "40330", "The toll-free number is not provisioned: ask Telnyx", "sender"),
    _permanent("s", "40332", "The brand is being deleted: use a sender of another brand"),
    _configuration(
        "s",
        "40333",
        "The profile's daily spend limit is reached: it resets at midnight UTC; raise it to go on sooner",
        "profile",
        resets="UTC",
    ),
    # --- documented on one page only
    _permanent("sw", "42200", "The sender was refused as invalid: check it"),
    _permanent("sw", "42201", "The person's number was refused as invalid: correct or remove it"),
    _permanent("sw", "42202", "The message is too long: shorten it"),
    _permanent("sw", "42203", "A media URL was refused: it must be public and stay valid"),
    _permanent("sw", "42204", "Too many media: at most 10 may go"),
    _permanent("sw", "42205", "The media are too large: together less than 1 MB"),
    _configuration("sw", "47000", "The sender needs 10DLC registration: register brand and campaign", "sender"),
    # --- WhatsApp, by Meta's own codes
    _permanent("sw", "41000", "WhatsApp refused the message: read its title"),
    _permanent("sw", "131047", "More than 24 h since the person last wrote: only an approved template may go"),
    _permanent("sw", "131026", "The person cannot be reached on WhatsApp"),
    _configuration("sw", "132000", "The template needs another number of parameters: correct the job type", "sender"),
    _configuration("sw", "132015", "The template is paused by Meta: improve or replace it", "sender"),
)

_PHASES = {"s": "send", "w": "receipt"}
TABLE: Final[dict[tuple[str, str], Rule]] = {
    (_PHASES[phase], code): rule for phases, code, rule in _ROWS for phase in phases
}
META_CODES: Final = frozenset({"131047", "131026", "132000", "132015"})
# Telnyx's own pages give these other meanings in receipts and detail records, so words never cross the phases.
REUSED_CODES: Final = frozenset({"40001", "40002", "40300", "40301", "40302", "40310", "40311"})
