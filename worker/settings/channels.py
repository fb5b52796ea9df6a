"""What each channel asks of its sender, as data.

Telnyx has one operation a channel, and each wants its own fields; what is missing would come back as a refusal of every
single message. So it is asked for at start. Source of each row: the operation's OpenAPI entry and the guide of its
sender type at developers.telnyx.com.
"""

import re
from dataclasses import dataclass
from typing import Literal

Channel = Literal[
    "short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "group_mms", "whatsapp", "auto"
]


@dataclass(frozen=True)
class FromShape:
    """How the ``from`` of a channel is written."""

    pattern: re.Pattern[str]
    what: str
    example: str


@dataclass(frozen=True)
class ChannelRules:
    """The fields that a sender of the channel must and may not have, and what its messages can be."""

    from_shape: FromShape | None  # None: Telnyx chooses the number, so `from` must be absent
    needs_profile: bool = False
    may_lack_from: bool = False  # then the profile is needed, and Telnyx chooses
    may_have_campaign: bool = False  # 10DLC campaigns register US long codes, nothing else
    has_segments: bool = True  # MMS and WhatsApp are billed by message
    has_mms_lane: bool = False  # the same sender also takes MMS, whose shared limits are apart
    takes_media: bool = False
    may_schedule: bool = True  # Telnyx takes a send_at for it, on a path with a key: POST /messages


_E164 = FromShape(re.compile(r"\+[1-9]\d{6,14}"), "must be a number in E.164 form", "+13125550001")
_TOLL_FREE = FromShape(
    re.compile(r"\+18(?:00|33|44|55|66|77|88)\d{7}"), "must be a toll-free number in E.164 form", "+18885550001"
)
_SHORT_CODE = FromShape(re.compile(r"\d{5,6}"), "must be a short code of 5 or 6 digits", "12345")
_ANY = FromShape(
    re.compile(r"\+[1-9]\d{6,14}|\d{5,6}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}"),
    "must be a number in E.164 form, a short code, or a sender ID of letters and digits",
    "+13125550001",
)
_ALPHANUMERIC = FromShape(
    re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}"),
    "must be 1 to 11 letters, digits or spaces, with a letter among them",
    "ACME",
)

CHANNELS: dict[Channel, ChannelRules] = {
    "short_code": ChannelRules(_SHORT_CODE, has_mms_lane=True, takes_media=True),
    "long_code": ChannelRules(_E164, may_have_campaign=True, has_mms_lane=True, takes_media=True),
    "toll_free": ChannelRules(_TOLL_FREE, has_mms_lane=True, takes_media=True),
    "number_pool": ChannelRules(None, needs_profile=True, may_have_campaign=True, has_mms_lane=True, takes_media=True),
    "alphanumeric": ChannelRules(_ALPHANUMERIC, needs_profile=True),
    "group_mms": ChannelRules(_E164, may_have_campaign=True, has_segments=False, takes_media=True, may_schedule=False),
    "whatsapp": ChannelRules(_E164, has_segments=False, may_schedule=False),
    # The generic send: Telnyx tells by `from` and the profile what kind it is.
    "auto": ChannelRules(_ANY, may_lack_from=True, may_have_campaign=True, has_mms_lane=True, takes_media=True),
}


def is_toll_free(number: str) -> bool:
    """A number of the North American toll-free prefixes."""
    return _TOLL_FREE.pattern.fullmatch(number) is not None


def is_us_number(number: str) -> bool:
    """A number to which US 10DLC rules apply.

    ``+1`` is shared by some twenty countries. Area codes that the metadata does not know count as US, since a campaign
    too many is asked for at start, while one too few is refused or throttled later.
    """
    if not number.startswith("+1"):
        return False
    import phonenumbers  # 20 ms, and only the start of a process asks

    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return True
    return region in (None, "US", "PR", "VI", "GU", "AS", "MP")
