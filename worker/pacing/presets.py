"""What ``rate = "auto"`` means: the documented default of a sender's kind, and where it is documented.

They hold for an account without an agreement of its own; an explicit rate wins. Older pages name lower ones for some
accounts (6 a minute for a long code), so limits stay configuration. Sources, as of 2026, at developers.telnyx.com:
"SMS messaging rate limits", "10DLC rate limits", "Toll-free troubleshooting", "Alphanumeric sender ID".
"""

from dataclasses import dataclass
from typing import Literal

from worker.settings.channels import is_us_number
from worker.settings.model import Campaign, CampaignClass, Sender
from worker.settings.quantities import MICROSECONDS, Rate

Kind = Literal["sms", "mms"]


@dataclass(frozen=True)
class Preset:
    """A rate and why it is that, in words for people."""

    rate: Rate
    source: str


# AT&T's limits by class: SMS, MMS a minute, over all numbers of the campaign; of G and N, for each number.
ATT_PER_MINUTE: dict[CampaignClass, tuple[int, int]] = {
    "A": (4_500, 2_400),
    "B": (4_500, 2_400),
    "C": (2_400, 1_200),
    "D": (2_400, 1_200),
    "E": (240, 150),
    "F": (240, 150),
    "G": (60, 50),
    "K": (4_500, 2_400),
    "N": (60, 50),
    "P": (2_400, 1_200),
    "S": (9_000, 2_400),
    "T": (75, 50),
    "W": (15, 50),
    "X": (4_500, 2_400),
}


def campaign_rate(campaign: Campaign, kind: Kind) -> Preset:
    """What AT&T allows the campaign (its classes G and N: each of its numbers)."""
    sms, mms = ATT_PER_MINUTE[campaign.class_]
    whose = "each number of a campaign" if campaign.is_per_number else "a campaign"
    source = f"AT&T's limit for {whose} of class {campaign.class_}, {kind.upper()} (10DLC rate limits)"
    return Preset(Rate(sms if kind == "sms" else mms, MICROSECONDS["min"]), source)


def preset(sender: Sender, campaign: Campaign | None) -> Preset:
    """The rate of a sender with ``rate = "auto"``.

    Raises:
        ValueError: there is no documented default. Settings refuse such a sender, so only a mistake of ours gets here.
    """
    match sender.channel:
        case "long_code" if campaign is not None:
            return campaign_rate(campaign, "sms")
        case "long_code" if not is_us_number(sender.from_ or ""):
            return Preset(Rate(6, MICROSECONDS["min"]), "a long code outside the US (SMS messaging rate limits)")
        case "toll_free":
            return Preset(Rate(20, MICROSECONDS["s"]), "a verified toll-free number (Toll-free troubleshooting)")
        case "short_code":
            return Preset(Rate(1_000, MICROSECONDS["s"]), "a short code (SMS messaging rate limits)")
        case "alphanumeric":
            return Preset(Rate(6, MICROSECONDS["min"]), "an alphanumeric sender of level 1 (Alphanumeric sender ID)")
        case "group_mms" if campaign is not None:
            return campaign_rate(campaign, "mms")
        case "group_mms":
            # Documented is only that a group counts at the MMS rate for each recipient, not what a lone number's MMS
            # rate is: so this stays far below the account's 15/s.
            return Preset(Rate(1, MICROSECONDS["s"]), "no rate is documented for a group sender: a cautious 1/s")
    raise ValueError(f'rate = "auto" has no documented default for channel {sender.channel}: write an explicit rate')


def sender_rate(sender: Sender, campaign: Campaign | None) -> Preset:
    """The rate of a sender's own bucket: what the file says, or the preset."""
    if sender.rate == "auto":
        return preset(sender, campaign)
    return Preset(sender.rate, "notify.toml")
