"""notify.toml: what is right is read, what is wrong is named with its remedy, all at once."""

from pathlib import Path

import pytest

from worker.publication import publication
from worker.settings import NOT_YET, Config, Rate, SettingsError, load_config, parse_config, warnings
from worker.settings.quantities import parse_hours

EXAMPLE = Path(__file__).parents[2] / "notify.example.toml"
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
SENDER = '[senders.alerts]\nchannel = "short_code"\nfrom = "12345"\nrate = "100/s"\n'
JOB = '[job_types.otp]\nsender = "alerts"\n'


def problems_of(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_config(text)
    return str(caught.value).splitlines()


def only_problem_of(text: str) -> str:
    (line,) = problems_of(text)
    return line


def with_job(line: str) -> str:
    return SENDER + JOB + line


def with_sender(**fields: str) -> str:
    lines = {"channel": '"long_code"', "from": '"+13125550001"', "rate": '"1/s"'} | fields
    table = "".join(f"{key} = {value}\n" for key, value in lines.items() if value)
    return f'[senders.s]\n{table}[job_types.j]\nsender = "s"\n'


def test_the_example_is_valid_and_uses_every_channel() -> None:
    config = load_config(EXAMPLE)
    assert {sender.channel for sender in config.senders.values()} == {
        "short_code", "long_code", "toll_free", "number_pool", "alphanumeric", "group_mms", "whatsapp",
    }  # fmt: skip
    bare = parse_config(SENDER + JOB)
    for section in ("timing", "storage", "receipts"):
        shown, default = (publication(each, release=0)[section] for each in (config, bare))
        assert shown == default, f"the example shows the defaults of [{section}]"


def test_defaults_are_those_of_the_contract() -> None:
    config = parse_config(SENDER + JOB)
    timing, storage, job = config.timing, config.storage, config.job_types["otp"]
    assert (timing.grace_s, timing.grace_urgent_s, timing.liveness_s) == (60, 15, 10)
    assert (timing.poll_after_s, timing.silent_after_s, timing.max_tries) == (60, 72 * 3600, 5)
    assert (storage.retention_s, storage.content_kept_s, storage.events) == (7 * 86_400, 0, 100_000)
    assert config.receipts.mode == "webhook"
    assert config.callbacks.allow_private is False
    assert config.defaults.timezone == "America/New_York"
    assert (job.priority, job.on_uncertain, job.valid_for_s) == ("normal", "resend", 86_400)
    assert config.senders["alerts"].bulk_share == 0.1


@pytest.mark.parametrize(("priority", "seconds"), [("urgent", 600), ("normal", 86_400), ("bulk", 259_200)])
def test_validity_defaults_by_priority(priority: str, seconds: int) -> None:
    assert parse_config(with_job(f'priority = "{priority}"')).job_types["otp"].valid_for_s == seconds


def test_a_shorter_grace_shortens_the_urgent_one() -> None:
    assert parse_config(SENDER + JOB + '[timing]\ngrace = "3s"').timing.grace_urgent_s == 3


@pytest.mark.parametrize(
    ("written", "rate"),
    [("20/s", Rate(20, 1_000_000)), ("60/min", Rate(60, 60_000_000)), ("5/h", Rate(5, 3_600_000_000))],
)
def test_rates_are_read(written: str, rate: Rate) -> None:
    assert parse_config(with_sender(rate=f'"{written}"')).senders["s"].rate == rate
    assert str(rate) == written


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ('"100 per second"', 'write "100/s"'),
        ('"0.5/s"', 'write "30/min"'),
        ('"0.01/min"', 'write "20/s"'),
        ("7", 'write "7/s"'),
        ('"fast"', 'write "20/s"'),
        ('"0/s"', 'write "20/s"'),
        ('"20000/s"', 'write "10000/s"'),
    ],
)
def test_a_wrong_rate_is_answered_with_a_right_one(written: str, remedy: str) -> None:
    line = only_problem_of(with_sender(rate=written))
    assert line.startswith("senders.s.rate must be")
    assert f"got {written}" in line
    assert line.endswith(remedy)


@pytest.mark.parametrize(
    ("written", "remedy"),
    [("60", 'write "60s"'), ('"1 minute"', 'write "1m"'), ('"1.5h"', 'write "30s"'), ("true", 'write "30s"')],
)
def test_a_wrong_duration_is_answered_with_a_right_one(written: str, remedy: str) -> None:
    line = only_problem_of(with_job(f"valid_for = {written}"))
    assert line == f"job_types.otp.valid_for must be a duration: 30s, 5m, 2h or 3d, got {written}: {remedy}"


def test_a_duration_out_of_range_names_the_range() -> None:
    line = only_problem_of(with_job('valid_for = "8d"'))
    assert line == 'job_types.otp.valid_for must be from 1s to 7d, got "8d": write "7d" or what lies between'


def test_quiet_hours_run_over_midnight() -> None:
    hours = parse_hours("21:00-08:00")
    assert (hours.start_min, hours.end_min, str(hours)) == (21 * 60, 8 * 60, "21:00-08:00")


@pytest.mark.parametrize("written", ["21-8", "24:00-08:00", "21:00-21:00", "9pm-8am"])
def test_wrong_quiet_hours_are_named(written: str) -> None:
    assert only_problem_of(with_job(f'quiet_hours = "{written}"')).startswith("job_types.otp.quiet_hours must")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sendrs = 1\n" + SENDER + JOB, "sendrs is not a known section: did you mean `senders`?"),
        (with_job('piority = "bulk"'), "job_types.otp.piority is not a known key: did you mean `priority`?"),
        (with_job("from_ = 1"), "job_types.otp.from_ is not a known key: use one of callback_url, fallback, frequency"),
        (with_job('priority = "urgnt"'), "did you mean `urgent`?"),
        (with_sender(channel='"longcode"'), "did you mean `long_code`?"),
        (SENDER + '[job_types.otp]\nsender = "alert"', 'sender names no sender, got "alert": did you mean `alerts`?'),
        (with_sender(campaign='"C2"') + '[campaigns.C1]\nclass = "A"', 'names no campaign, got "C2": use one of C1'),
        (with_sender(campaign='"C1"'), 'senders.s.campaign names no campaign, got "C1": add [campaigns.C1]'),
        (
            SENDER + JOB + '[campaigns.C1]\nclass = "A"\nbrand = "acne"\n[brands.acme]\ndaily_cap = 5',
            "did you mean `acme`?",
        ),
        (SENDER + JOB + '[limits]\nacount = "5/s"', "limits.acount is not a known limit: did you mean `account`?"),
        (with_job('fallback = [{ sender = "alrts", after = "5s" }]'), "did you mean `alerts`?"),
        (with_job('frequency = { group = "m", limt = 3, per = "24h" }'), "frequency.limt is not a known key: did you"),
        (SENDER + JOB + '[campaigns.C1]\nclass = "Q"', 'campaigns.C1.class must be one of "A"'),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(text: str, line: str) -> None:
    assert any(line in problem for problem in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"channel": '"short_code"', "from": '"1234"'}, "from"),
        ({"channel": '"short_code"', "from": '"+13125550001"'}, "from"),
        ({"channel": '"short_code"', "from": "12345"}, "from"),
        ({"from": '"3125550001"'}, "from"),
        ({"from": ""}, "from"),
        ({"from": '"+18885550001"'}, "from"),
        ({"channel": '"toll_free"'}, "from"),
        ({"channel": '"alphanumeric"', "from": '"TWELVELETTER"', "messaging_profile_id": f'"{PROFILE}"'}, "from"),
        ({"channel": '"alphanumeric"', "from": '"12345"', "messaging_profile_id": f'"{PROFILE}"'}, "from"),
        ({"channel": '"alphanumeric"', "from": '"ACME"'}, "messaging_profile_id"),
        ({"channel": '"number_pool"', "from": ""}, "messaging_profile_id"),
        ({"channel": '"number_pool"', "messaging_profile_id": f'"{PROFILE}"'}, "from"),
        ({"channel": '"auto"', "from": ""}, "from"),
        ({"channel": '"auto"', "from": '"TWELVELETTER"', "messaging_profile_id": f'"{PROFILE}"'}, "from"),
        ({"channel": '"auto"', "from": '"ACME"'}, "messaging_profile_id"),
        ({"channel": '"auto"', "rate": '"auto"'}, "rate"),
        ({"messaging_profile_id": '"main"'}, "messaging_profile_id"),
        ({"channel": '"whatsapp"', "unit": '"segment"'}, "unit"),
        ({"channel": '"group_mms"', "unit": '"segment"'}, "unit"),
        ({"unit": '"part"'}, "unit"),
        ({"bulk_share": "0"}, "bulk_share"),
        ({"bulk_share": "0.9"}, "bulk_share"),
        ({"rate": ""}, "rate"),
        ({"rate": '"auto"'}, "campaign"),
        ({"channel": '"whatsapp"', "rate": '"auto"'}, "rate"),
        ({"channel": '"number_pool"', "from": "", "messaging_profile_id": f'"{PROFILE}"', "rate": '"auto"'}, "rate"),
    ],
)
def test_each_channel_gets_the_fields_it_needs(fields: dict[str, str], path: str) -> None:
    assert only_problem_of(with_sender(**fields)).startswith(f"senders.s.{path} ")


@pytest.mark.parametrize(
    "fields",
    [
        {"from": '"+13125550001"'},
        {"from": '"+18885550001"'},
        {"from": '"12345"'},
        {"from": '"ACME"', "messaging_profile_id": f'"{PROFILE}"'},
        {"from": "", "messaging_profile_id": f'"{PROFILE}"'},
    ],
)
def test_channel_auto_takes_any_sender(fields: dict[str, str]) -> None:
    config = parse_config(with_sender(channel='"auto"', **fields))
    sender = config.senders["s"]
    assert sender.is_alphanumeric == ("ACME" in fields["from"])
    assert sender.is_short_code == ("12345" in fields["from"])


def test_only_long_codes_have_campaigns() -> None:
    text = with_sender(channel='"toll_free"', campaign='"C1"', **{"from": '"+18885550001"'})
    line = only_problem_of(text + '[campaigns.C1]\nclass = "A"')
    assert line.startswith("senders.s.campaign does not belong to channel toll_free")


@pytest.mark.parametrize("number", ["+447400123456", "+14165550001"])
def test_a_long_code_outside_the_us_needs_no_campaign_for_auto(number: str) -> None:
    assert parse_config(with_sender(rate='"auto"', **{"from": f'"{number}"'})).senders["s"].rate == "auto"


def test_profiles_compare_without_case() -> None:
    text = with_sender(messaging_profile_id=f'"{PROFILE}"') + f'[limits]\n"profile:{PROFILE.upper()}" = "5/s"'
    config = parse_config(text)
    assert config.limits.profiles == {PROFILE: Rate(5, 1_000_000)}
    assert not any("bounds nothing" in line for line in warnings(config))


@pytest.mark.parametrize("name", ["a.mms", "a:b", "a b", "a" * 41, ""])
def test_names_that_would_break_keys_are_refused(name: str) -> None:
    lines = problems_of(f'{SENDER}[job_types."{name}"]\nsender = "alerts"')
    assert f"job_types.{name} has a name that must be 1 to 40 letters, digits, `_` or `-`" in lines[0]


WHATSAPP = '[senders.wa]\nchannel = "whatsapp"\nfrom = "+13125550003"\nrate = "20/s"\n'


def test_a_whatsapp_fallback_of_a_text_needs_a_template() -> None:
    fallback = 'fallback = [{ sender = "wa", after = "60s" }]\n'
    line = only_problem_of(WHATSAPP + with_job(fallback))
    assert line.startswith("job_types.otp.fallback[0].whatsapp_template is missing: add whatsapp_template = {")
    template = 'whatsapp_template = { name = "code", language = "en_US" }\n'
    assert parse_config(WHATSAPP + with_job(fallback + template)).job_types["otp"].fallback[0].after_s == 60


def test_templates_are_checked_at_start_also_inside_whatsapp_components() -> None:
    line = only_problem_of(with_job('template = "Hello {{ name"'))
    assert line.startswith("job_types.otp.template is no valid template (line 1)")
    job = '[job_types.j]\nsender = "wa"\nwhatsapp_template = { name = "n", language = "en", components = [{ text = "{{ a" }] }'
    assert only_problem_of(WHATSAPP + job).startswith("job_types.j.whatsapp_template.components[0].text is no valid")


def test_a_whatsapp_template_is_given_out_as_plain_values() -> None:
    job = '[job_types.j]\nsender = "wa"\nwhatsapp_template = { name = "n", language = "en" }'
    assert parse_config(WHATSAPP + job).job_types["j"].whatsapp_template == {"name": "n", "language": "en"}


def test_media_cannot_go_where_the_channel_has_none() -> None:
    line = only_problem_of(WHATSAPP + '[job_types.j]\nsender = "wa"\nmedia_urls = ["https://example.com/a.png"]')
    assert line.startswith("job_types.j.media_urls cannot go over channel whatsapp")


@pytest.mark.parametrize("url", ["ftp://example.com/a", "example.com", "https://", "https://x.example/" + "a" * 2_000])
def test_urls_are_checked(url: str) -> None:
    assert only_problem_of(with_job(f'callback_url = "{url}"')).startswith("job_types.otp.callback_url must be an http")


def test_times_that_contradict_each_other_are_named() -> None:
    lines = problems_of(
        SENDER + JOB + '[timing]\ngrace = "10s"\ngrace_urgent = "20s"\n[storage]\nretention = "1d"\ncontent_kept = "2d"'
    )
    assert [line.split()[0] for line in lines] == ["timing.grace_urgent", "storage.content_kept"]


def test_numbers_in_quotes_are_no_numbers() -> None:
    line = only_problem_of(SENDER + JOB + '[timing]\nmax_tries = "5"')
    assert line == 'timing.max_tries must be a valid integer, got "5": write max_tries = 5'


def test_all_problems_are_named_at_once_also_behind_other_mistakes() -> None:
    text = """
        [senders.a]
        channel = "alphanumeric"
        from = "TOOLONGNAME1X"
        rate = "fast"
        [job_types.x]
        sender = "nobody"
        priority = "urgnt"
        template = "{{ a"
        [job_types.y]
        sendr = "a"
        [timing]
        grace = "2d"
        [defaults]
        timezone = "Mars"
    """
    named = {line.split()[0] for line in problems_of(text)}
    assert named == {
        "senders.a.from", "senders.a.rate", "senders.a.messaging_profile_id", "job_types.x.sender",
        "job_types.x.priority", "job_types.x.template", "job_types.y.sendr", "job_types.y.sender", "timing.grace",
        "defaults.timezone",
    }  # fmt: skip


def test_no_problem_is_named_twice() -> None:
    paths = [line.split()[0] for line in problems_of(with_sender(**{"from": "5", "rate": "5", "campaign": "5"}))]
    assert sorted(paths) == sorted(set(paths))


def test_a_file_that_sends_nothing_is_refused() -> None:
    assert [line.split(":")[0] for line in problems_of("")] == ["senders has no entry", "job_types has no entry"]


@pytest.mark.parametrize(
    "text",
    ["senders = 5", "senders = []\njob_types = {}", "[senders]\na = 1", "limits = 1", "timing = 1", "receipts = []"],
)
def test_values_where_tables_belong_are_problems_and_no_crash(text: str) -> None:
    assert problems_of(text)


def test_a_syntax_error_names_its_line() -> None:
    assert "(at line 2, column" in only_problem_of('a = 1\nb = = "x"')
    assert "at line 3" in only_problem_of("a = [\n1,\n")


def test_a_missing_file_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"does not exist: copy notify\.example\.toml"):
        load_config(tmp_path / "notify.toml")


def test_a_file_with_a_byte_order_mark_and_dos_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (SENDER + JOB).replace("\n", "\r\n").encode())
    assert set(load_config(path).senders) == {"alerts"}


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_config(path)


def test_a_config_cannot_be_changed() -> None:
    config = parse_config(SENDER + JOB)
    with pytest.raises(ValueError):
        config.senders["alerts"].rate = Rate(1, 1)  # type: ignore[misc]


def test_nothing_is_checked_and_not_acted_on() -> None:
    assert not NOT_YET  # an entry wants an example here, and a line in README


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ('{ sender = "wa", after = "2m", whatsapp_template = { name = "n", language = "en" } }', None),
        (
            '{ sender = "wa", after = "11m", whatsapp_template = { name = "n", language = "en" } }',
            "silence never leads",
        ),
        ('{ sender = "alerts", after = "60s" }', "is the sender that it follows"),
    ],
)
def test_a_fallback_that_cannot_help_is_said(fallback: str, said: str | None) -> None:
    wa = '[senders.wa]\nchannel = "whatsapp"\nfrom = "+13125550003"\nrate = "1/s"\n'
    config = parse_config(wa + with_job(f"priority = 'urgent'\nfallback = [{fallback}]"))
    lines = [line for line in warnings(config) if "fallback" in line]
    assert (said in lines[0]) if said else not lines


def test_a_group_does_not_fall_back_to_single_messages() -> None:
    group = '[senders.g]\nchannel = "group_mms"\nfrom = "+13125550002"\nrate = "1/s"\n'
    problem = only_problem_of(group + with_job('fallback = [{ sender = "g", after = "60s" }]'))
    assert "cannot take over" in problem


def test_what_bounds_nothing_or_is_unused_is_said() -> None:
    text = SENDER + JOB + WHATSAPP + '[campaigns.C1]\nclass = "A"\n[brands.b]\ndaily_cap = 1\n'
    text += f'[limits]\n"profile:{PROFILE}" = "5/s"'
    lines = "\n".join(warnings(parse_config(text)))
    for start in (
        "limits.account is absent",
        "limits.account_mms is absent",
        f'limits."profile:{PROFILE}" bounds nothing',
        "campaigns.C1 bounds nothing",
        "brands.b bounds nothing",
        "senders.wa is used by no job type",
    ):
        assert start in lines


def test_a_whatsapp_template_that_nothing_uses_is_said() -> None:
    text = with_job('whatsapp_template = { name = "n", language = "en" }')
    assert any("whatsapp_template is never used" in line for line in warnings(parse_config(text)))


def test_a_config_with_account_limits_and_used_senders_has_no_warnings() -> None:
    config: Config = parse_config(SENDER + JOB + '[limits]\naccount = "50/s"\naccount_mms = "15/s"')
    assert warnings(config) == []


@pytest.mark.parametrize("written", ['["12-25", "2026-11-26"]', "[2026-12-25]", '["02-29"]'])
def test_holidays_are_dates(written: str) -> None:
    assert parse_config(with_job(f"holidays = {written}")).job_types["otp"].holidays[0][-5:-3] in ("12", "02")


@pytest.mark.parametrize("written", ['["US"]', '["2026-02-30"]', '["13-01"]', "[1225]", '"US-FL"'])
def test_holidays_that_are_no_dates_are_named(written: str) -> None:
    assert only_problem_of(with_job(f"holidays = {written}")).startswith("job_types.otp.holidays")


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ('quiet_days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]', "quiet_days leaves no day"),
        ('preset = "us-tcpa"\nquiet_hours = "08:00-21:00"', "quiet_hours leaves no minute"),
        ('frequency = { group = "us-fl", limit = 3, per = "24h" }', "frequency.group is the name of a preset's"),
        ('frequency = { group = "a b", limit = 3, per = "24h" }', "frequency.group"),
    ],
)
def test_rules_that_let_nothing_leave_or_cannot_be_told_apart_are_named(written: str, start: str) -> None:
    assert only_problem_of(with_job(written)).startswith(f"job_types.otp.{start}")


def test_a_validity_that_ends_in_the_quiet_hours_is_said() -> None:
    lines = warnings(parse_config(with_job('preset = "us-tcpa"\nvalid_for = "5m"')))
    assert any(line.startswith("job_types.otp.valid_for") and "660 min" in line for line in lines)
    assert not any("valid_for" in line for line in warnings(parse_config(with_job('quiet_hours = "03:00-03:01"'))))


# --- what may pass a STOP

WITH_PROFILE = SENDER + f'messaging_profile_id = "{PROFILE}"\n'
MARK = "job_types.otp.transactional_required"
LISTED = '[compliance]\ntransactional = ["otp"]\n'


def test_a_job_type_passes_a_stop_only_if_marked_and_listed() -> None:
    config = parse_config(WITH_PROFILE + JOB + "transactional_required = true\n" + LISTED)
    assert publication(config, release=0)["transactional"] == ["otp"]
    assert publication(parse_config(WITH_PROFILE + JOB), release=0)["transactional"] == []


@pytest.mark.parametrize(
    ("text", "path", "remedy"),
    [
        (WITH_PROFILE + JOB + LISTED, "compliance.transactional[0]", "write transactional_required = true in"),
        (WITH_PROFILE + JOB + "transactional_required = true\n", MARK, 'transactional = ["otp"]'),
        (WITH_PROFILE + JOB + '[compliance]\ntransactional = ["opt"]\n', "compliance.transactional[0]", "did you mean `otp`?"),
        (SENDER + JOB + "transactional_required = true\n" + LISTED, MARK, "messaging_profile_id"),
        (
            WITH_PROFILE + JOB + 'priority = "bulk"\ntransactional_required = true\n' + LISTED,
            MARK,
            "another priority",
        ),
    ],
)  # fmt: skip
def test_half_a_permission_stops_the_start(text: str, path: str, remedy: str) -> None:
    line = only_problem_of(text)
    assert line.startswith(path) and remedy in line


def test_words_of_the_profiles_are_read() -> None:
    config = parse_config(SENDER + JOB + '[compliance]\nstop_words = ["adios"]\n')
    assert config.compliance.keywords == {"STOP": ("adios",), "START": (), "HELP": ()}
    assert "compliance.stop_words" in only_problem_of(SENDER + JOB + '[compliance]\nstop_words = [""]\n')


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('quiet_hours = "21:00-08:00"', "quiet_hours are looked at when Telnyx is told the time"),
        ('quiet_days = ["sun"]', "quiet_hours are looked at when Telnyx is told the time"),
        ('frequency = { group = "m", limit = 1, per = "24h" }', "frequency counts a message that Telnyx holds"),
        ('preset = "us-fl"', "frequency counts a message that Telnyx holds"),
        ('valid_for = "2d"', "valid_for is looked at when Telnyx is told the time"),
    ],
)
def test_what_nobody_looks_at_when_telnyx_holds_a_message_is_said(lines: str, said: str) -> None:
    assert any(said in line for line in warnings(parse_config(with_job(f'{lines}\nschedule = "provider"'))))
    assert not any(
        "Telnyx is told" in line or "Telnyx holds" in line for line in warnings(parse_config(with_job(lines)))
    )
    assert not any("Telnyx" in line for line in warnings(parse_config(with_job('schedule = "provider"'))))


def test_what_telnyx_cannot_schedule_stops_the_start() -> None:
    whatsapp = '[senders.wa]\nchannel = "whatsapp"\nfrom = "+13125550001"\nrate = "1/s"\n[job_types.j]\nsender = "wa"\n'
    line = only_problem_of(whatsapp + 'schedule = "provider"')
    assert "job_types.j.schedule cannot be provider: Telnyx schedules no messages of channel whatsapp" in line
    assert parse_config(whatsapp).job_types["j"].schedule == "local"
