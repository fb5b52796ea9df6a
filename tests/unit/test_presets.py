"""What ``rate = "auto"`` becomes, and what a rate becomes in a bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pacing.presets import ATT_PER_MINUTE, campaign_rate, preset, sender_rate
from worker.pacing.rates import Rate, interval_us, tolerance_us
from worker.settings import Sender, SettingsError, parse_config
from worker.settings.model import Campaign, CampaignClass

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"


def sender(channel: str, from_: str | None, **more: object) -> Sender:
    fields = {"channel": channel, "rate": "auto", **({"from": from_} if from_ else {}), **more}
    return Sender.model_validate(fields)


def campaign(class_: str) -> Campaign:
    return Campaign.model_validate({"class": class_})


# Copied from the providers' published tables, not from the code.
PUBLISHED = {
    "A": ("4500/min", "2400/min"), "B": ("4500/min", "2400/min"), "C": ("2400/min", "1200/min"),
    "D": ("2400/min", "1200/min"), "E": ("240/min", "150/min"), "F": ("240/min", "150/min"),
    "T": ("75/min", "50/min"), "W": ("15/min", "50/min"), "K": ("4500/min", "2400/min"), "X": ("4500/min", "2400/min"),
    "P": ("2400/min", "1200/min"), "S": ("9000/min", "2400/min"), "G": ("60/min", "50/min"), "N": ("60/min", "50/min"),
}  # fmt: skip


@pytest.mark.parametrize("class_", sorted(ATT_PER_MINUTE))
def test_a_campaign_has_the_limits_of_its_class(class_: CampaignClass) -> None:
    sms, mms = PUBLISHED[class_]
    assert str(campaign_rate(campaign(class_), "sms").rate) == sms
    assert str(campaign_rate(campaign(class_), "mms").rate) == mms
    assert class_ in campaign_rate(campaign(class_), "sms").source


def test_every_published_class_is_known() -> None:
    assert set(PUBLISHED) == set(ATT_PER_MINUTE)


@pytest.mark.parametrize(
    ("channel", "from_", "rate"),
    [
        ("long_code", "+447400123456", "6/min"),
        ("toll_free", "+18885550001", "20/s"),
        ("short_code", "12345", "1000/s"),
        ("alphanumeric", "ACME", "6/min"),
        ("group_mms", "+13125550002", "1/s"),
    ],
)
def test_each_kind_has_its_documented_default_and_says_where_from(channel: str, from_: str, rate: str) -> None:
    found = preset(sender(channel, from_), None)
    assert str(found.rate) == rate
    assert found.source


def test_a_us_long_code_goes_by_its_campaign_and_a_group_by_its_mms_limit() -> None:
    assert str(preset(sender("long_code", "+13125550001", campaign="C"), campaign("E")).rate) == "240/min"
    assert str(preset(sender("group_mms", "+13125550001", campaign="C"), campaign("E")).rate) == "150/min"


def test_an_explicit_rate_wins() -> None:
    explicit = Sender.model_validate({"channel": "short_code", "from": "12345", "rate": "3/s"})
    assert str(sender_rate(explicit, None).rate) == "3/s"


@pytest.mark.parametrize(
    "channel", ["short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "group_mms", "whatsapp"]
)
@pytest.mark.parametrize("has_campaign", [False, True])
@pytest.mark.parametrize("number", ["+13125550001", "+447400123456"])
def test_auto_is_refused_at_start_exactly_where_there_is_no_default(
    channel: str, has_campaign: bool, number: str
) -> None:
    """Settings and presets each know where a default exists: they must never disagree."""
    from_ = {"short_code": "12345", "toll_free": "+18885550001", "alphanumeric": "ACME", "number_pool": ""}.get(
        channel, number
    )
    text = f'[senders.s]\nchannel = "{channel}"\nrate = "auto"\nmessaging_profile_id = "{PROFILE}"\n'
    text += f'from = "{from_}"\n' if from_ else ""
    text += 'campaign = "C"\n' if has_campaign else ""
    text += '[job_types.j]\nsender = "s"\n[campaigns.C]\nclass = "A"\n'
    try:
        config = parse_config(text)
    except SettingsError as exc:
        if has_campaign and any("does not belong" in problem.what for problem in exc.problems):
            return  # no such sender can be written
        with pytest.raises(ValueError, match="explicit rate"):
            preset(sender(channel, from_), campaign("A") if has_campaign else None)
    else:
        made = config.senders["s"]
        assert preset(made, config.campaign_of(made)).rate.units > 0


@given(units=st.integers(1, 10_000), per_us=st.sampled_from([1_000_000, 60_000_000, 3_600_000_000]))
def test_an_interval_never_exceeds_the_rate_and_wastes_less_than_a_microsecond_a_unit(units: int, per_us: int) -> None:
    interval = interval_us(Rate(units, per_us))
    assert interval * units >= per_us
    assert (interval - 1) * units < per_us


def test_a_slot_may_be_late_by_its_interval_within_bounds() -> None:
    assert [tolerance_us(interval) for interval in (1_000, 10_000, 66_667, 5_000_000)] == [
        10_000,
        10_000,
        66_667,
        1_000_000,
    ]
