"""What scripts and producers get to know of the configuration."""

import json
from pathlib import Path

import pytest

from producers.endpoints import endpoint_of
from producers.errors import InvalidNotification
from producers.notification import validate
from worker.publication import publication
from worker.settings import Config, load_config, parse_config

PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
EXAMPLE = Path(__file__).parents[2] / "notify.example.toml"


@pytest.fixture(scope="module")
def example() -> Config:
    return load_config(EXAMPLE)


def long_codes(class_: str, *, rate: str = "auto") -> Config:
    text = f'[campaigns.C1]\nclass = "{class_}"\nbrand = "acme"\n[brands.acme]\ndaily_cap = 2000\n[job_types.j]\nsender = "a"\n'
    for name, number in (("a", "+13125550001"), ("b", "+13125550002")):
        text += f'[senders.{name}]\nchannel = "long_code"\nfrom = "{number}"\ncampaign = "C1"\nrate = "{rate}"\n'
    return parse_config(text)


def test_it_is_plain_json(example: Config) -> None:
    published = publication(example, release=3)
    assert json.loads(json.dumps(published)) == published
    assert published["release"] == 3


def test_the_digest_says_whether_anything_changed(example: Config) -> None:
    first, again = publication(example, release=1), publication(load_config(EXAMPLE), release=2)
    assert first["digest"] == again["digest"]
    assert len(first["digest"]) == 16
    changed = EXAMPLE.read_text().replace('rate = "100/s"', 'rate = "99/s"')
    assert publication(parse_config(changed), release=1)["digest"] != first["digest"]


def test_no_number_text_or_address_is_published(example: Config) -> None:
    text = json.dumps(publication(example, release=1))
    for private in ("+1312", "Your code", 'order_update", "language', "12345"):
        assert private not in text


def test_a_sender_of_sms_and_mms_has_two_lanes_that_share_its_own_bucket(example: Config) -> None:
    lanes = publication(example, release=1)["lanes"]
    both = {"alerts", "local", "service", "pool"}
    assert set(lanes) == both | {f"{name}.mms" for name in both} | {"brand", "family_number", "whatsapp_main"}
    for name in both:
        assert lanes[name]["buckets"][0] == lanes[f"{name}.mms"]["buckets"][0] == f"s:{name}"
        assert lanes[name]["sender"] == lanes[f"{name}.mms"]["sender"] == name


def test_buckets_stand_own_first_and_most_shared_last(example: Config) -> None:
    lanes = publication(example, release=1)["lanes"]
    assert lanes["local"]["buckets"] == ["s:local", "c:C1", "d:acme", "a:sms"]
    assert lanes["local.mms"]["buckets"] == ["s:local", "c:C1.mms", "d:acme", "a:mms"]
    assert lanes["pool"]["buckets"] == ["s:pool", f"p:{PROFILE}", "a:sms"]
    assert lanes["family_number"]["buckets"] == ["s:family_number", "a:mms"]
    assert lanes["whatsapp_main"]["buckets"] == ["s:whatsapp_main", "a:whatsapp"], "apart from the texts'"
    buckets = publication(example, release=1)["buckets"]
    assert buckets["a:whatsapp"] == {"gate": True}, "no account limit is documented for WhatsApp"


def test_every_bucket_that_a_lane_draws_on_is_published_and_no_other(example: Config) -> None:
    published = publication(example, release=1)
    drawn = {bucket for lane in published["lanes"].values() for bucket in lane["buckets"]}
    assert drawn == set(published["buckets"])


def test_buckets_hold_intervals_and_caps(example: Config) -> None:
    buckets = publication(example, release=1)["buckets"]
    assert buckets["s:alerts"] == {"t_us": 10_000, "tol_us": 10_000}
    assert buckets["a:sms"] == {"t_us": 5_000, "tol_us": 10_000}
    assert buckets["c:C1"] == {"t_us": 13_334, "tol_us": 13_334}  # 4,500 a minute
    assert buckets["c:C1.mms"] == {"t_us": 25_000, "tol_us": 25_000}  # 2,400 a minute
    assert buckets["s:brand"] == {"t_us": 10_000_000, "tol_us": 1_000_000}
    assert buckets["d:acme"] == {"cap": 200_000, "tz": "America/Los_Angeles", "reserve": 0.1}


def test_senders_of_one_campaign_share_its_bucket() -> None:
    lanes = publication(long_codes("T"), release=1)["lanes"]
    assert lanes["a"]["buckets"] == ["s:a", "c:C1", "d:acme", "a:sms"]
    assert lanes["b"]["buckets"] == ["s:b", "c:C1", "d:acme", "a:sms"]


def test_classes_counted_by_number_share_no_bucket_and_bind_explicit_rates_too() -> None:
    published = publication(long_codes("G", rate="50/s"), release=1)
    assert published["lanes"]["a"]["buckets"] == ["s:a", "c:C1:a", "d:acme", "a:sms"]
    assert published["lanes"]["b.mms"]["buckets"] == ["s:b", "c:C1:b.mms", "d:acme", "a:mms"]
    assert published["buckets"]["c:C1:a"]["t_us"] == 1_000_000
    assert published["buckets"]["c:C1:b.mms"]["t_us"] == 1_200_000


def test_lanes_know_scopes_share_and_unit() -> None:
    text = f'[senders.s]\nchannel = "long_code"\nfrom = "+13125550001"\nrate = "1/s"\nunit = "segment"\nbulk_share = 0.25\nmessaging_profile_id = "{PROFILE}"\n[job_types.j]\nsender = "s"\n'  # noqa: E501
    lanes = publication(parse_config(text), release=1)["lanes"]
    assert lanes["s"]["scopes"] == ["global", "sender:s", f"profile:{PROFILE}"]
    assert (lanes["s"]["share"], lanes["s"]["unit"]) == (4, "segment")
    assert lanes["s.mms"]["unit"] == "message", "an MMS has no segments"


def test_a_sender_without_a_profile_has_no_profile_scope(example: Config) -> None:
    assert publication(example, release=1)["lanes"]["alerts"]["scopes"] == ["global", "sender:alerts"]


def test_producers_learn_what_a_job_type_takes(example: Config) -> None:
    job_types = publication(example, release=1)["job_types"]
    assert job_types["otp"] == {
        "sender": "alerts", "channel": "short_code", "class": 0, "template": True, "variables": ["code"],
        "optional": [], "valid_for_s": 300, "callback": False, "endpoint": "", "whatsapp": False, "group": False, "media": False,
    }  # fmt: skip
    assert job_types["family_update"]["group"] is True
    assert job_types["promotion"]["class"] == 2
    assert (job_types["order_update"]["whatsapp"], job_types["order_update"]["variables"]) == (True, ["order"])


def test_variables_come_from_every_template_that_may_be_filled() -> None:
    text = """
        [senders.s]
        channel = "short_code"
        from = "12345"
        rate = "1/s"
        [senders.wa]
        channel = "whatsapp"
        from = "+13125550003"
        rate = "1/s"
        [job_types.j]
        sender = "s"
        template = "{{ code }} {{ name | default('you') }}"
        callback_url = "https://app.example.com/events"
        media_urls = ["https://app.example.com/a.png"]
        [[job_types.j.fallback]]
        sender = "wa"
        after = "60s"
        whatsapp_template = { name = "n", language = "en", components = [{ parameters = [{ text = "{{ shop }}" }] }] }
    """
    job_type = publication(parse_config(text), release=1)["job_types"]["j"]
    assert (job_type["variables"], job_type["optional"]) == (["code", "shop"], ["name"])
    assert (job_type["callback"], job_type["media"]) == (True, True)
    assert job_type["endpoint"] == endpoint_of("HTTPS://app.example.com:443/another/path")


def test_timing_is_in_microseconds_and_names_the_exceptions() -> None:
    text = '[senders.s]\nchannel = "short_code"\nfrom = "12345"\nrate = "1/s"\n[timing]\ngrace = "3s"\n'
    text += '[job_types.j]\nsender = "s"\ngrace = "5s"\n[job_types.k]\nsender = "s"\non_uncertain = "give_up"\n'
    published = publication(parse_config(text), release=1)
    assert published["timing"] == {
        "grace_us": 3_000_000, "grace_urgent_us": 3_000_000, "liveness_us": 10_000_000, "poll_after_us": 60_000_000,
        "silent_after_us": 259_200_000_000, "max_tries": 5, "job_grace_us": {"j": 5_000_000}, "give_up": ["k"],
    }  # fmt: skip
    assert published["storage"] == {
        "retention_s": 604_800,
        "content_kept_s": 0,
        "sticky_s": 2_592_000,
        "events": 100_000,
        "every_event": False,
    }
    assert published["receipts"] == "webhook"


@pytest.mark.parametrize(
    ("job_type", "content"),
    [
        ("otp", {"variables": {"code": "4711"}}),
        ("ticket", {"text": "Your ticket is open"}),
        ("travel_notice", {"text": "Gate 12"}),
        ("family_update", {"text": "Dinner at eight"}),
        ("order_update", {"variables": {"order": "A-17"}}),
        ("promotion", {"text": "Sale"}),
    ],
)
def test_producers_take_what_the_published_job_types_of_the_example_ask_for(
    example: Config, job_type: str, content: dict[str, object]
) -> None:
    job_types = json.loads(json.dumps(publication(example, release=1)))["job_types"]
    request = {"job_type": job_type, "to": "+13125550100", **content}
    assert validate(request, job_types, now_us=1).job_type == job_type
    with pytest.raises(InvalidNotification):
        validate({"job_type": job_type, "to": "+13125550100", "subject": "x"}, job_types, now_us=1)


def test_rules_are_published_of_the_job_types_that_have_them() -> None:
    config = parse_config(
        """
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "1/s"
[job_types.promotion]
sender = "alerts"
preset = "us-fl"
quiet_hours = "12:00-13:00"
quiet_days = ["sun", "wed"]
holidays = ["12-25"]
frequency = { group = "m", limit = 2, per = "1h" }
[job_types.news]
sender = "alerts"
frequency = { group = "m", limit = 5, per = "24h" }
"""
    )
    made = publication(config, release=1)
    assert set(made["rules"]) == {"promotion", "news"}
    assert json.loads(made["rules"]["promotion"]) == {
        "w": [[720, 780], [1200, 480]],
        "d": [0, 3],
        "h": ["12-25"],
        "f": [["m", 2, 3600, 5, 86400], ["us-fl", 3, 86400, 3, 86400]],  # what the group keeps is what any of it needs
    }
    assert json.loads(made["rules"]["news"]) == {"f": [["m", 5, 86400, 5, 86400]]}
    assert made["timezone"] == "America/New_York"
