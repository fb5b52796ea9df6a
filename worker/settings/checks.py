"""What the tables of ``notify.toml`` must say about each other, and what is allowed but probably not meant.

Pure: a configuration goes in, problems or warnings come out.
"""

from collections.abc import Iterable, Iterator, Mapping, Set

from worker.settings.channels import CHANNELS, is_toll_free, is_us_number
from worker.settings.model import FLORIDA, Config, Fallback, JobType, Schedule, Sender, WhatsAppTemplate
from worker.settings.problems import Problem, choose, show
from worker.settings.quantities import Hours
from worker.settings.routes import check_routes, warn_of_routes

DAY_MIN = 1440

# Checked at start, and not acted on yet by this version: a key of a job type and what is missing. The list shrinks.
NOT_YET: Mapping[str, str] = {}


def cross_check(config: Config, declared: Mapping[str, Set[str]]) -> list[Problem]:
    """Everything that does not fit together. ``declared``: the names that the file gives, by section."""
    problems: list[Problem] = []
    for name, sender in config.senders.items():
        problems += _sender_fields(f"senders.{name}", sender)
        problems += _sender_rate(f"senders.{name}", sender)
        if sender.campaign is not None and sender.campaign not in declared["campaigns"]:
            remedy = choose(sender.campaign, declared["campaigns"], otherwise=f"add [campaigns.{sender.campaign}]")
            problems.append(Problem(f"senders.{name}.campaign", "names no campaign", remedy, show(sender.campaign)))
    for name, campaign in config.campaigns.items():
        if campaign.brand is not None and campaign.brand not in declared["brands"]:
            remedy = choose(campaign.brand, declared["brands"], otherwise=f"add [brands.{campaign.brand}]")
            problems.append(Problem(f"campaigns.{name}.brand", "names no brand", remedy, show(campaign.brand)))
    for name, job_type in config.job_types.items():
        problems += _job_type(f"job_types.{name}", job_type, config, declared["senders"])
    for name, schedule in config.schedules.items():
        problems += _schedule(f"schedules.{name}", schedule, declared.get("job_types", set()))
    problems += _times(config)
    problems += _transactional(config)
    return problems


def warnings(config: Config) -> list[str]:
    """What is allowed, and worth a line when a process starts."""
    lines = []
    if config.limits.account is None:
        lines.append(
            'limits.account is absent, so nothing bounds all senders together: write account = "50/s", or yours'
        )
    if config.limits.account_mms is None and any(sender.rules.takes_media for sender in config.senders.values()):
        lines.append(
            'limits.account_mms is absent, so nothing bounds all MMS together: write account_mms = "15/s", or yours'
        )
    used_profiles = {sender.messaging_profile_id for sender in config.senders.values()}
    for profile in config.limits.profiles:
        if profile not in used_profiles:
            lines.append(f'limits."profile:{profile}" bounds nothing: no sender has this messaging_profile_id')
    for name in sorted(set(config.campaigns) - {sender.campaign for sender in config.senders.values()}):
        lines.append(f"campaigns.{name} bounds nothing: no sender names it")
    for name in sorted(set(config.brands) - {campaign.brand for campaign in config.campaigns.values()}):
        lines.append(f"brands.{name} bounds nothing: no campaign names it")
    used = {name for job_type in config.job_types.values() for name in job_type.candidates}
    used |= {leg.sender for job_type in config.job_types.values() for leg in job_type.fallback}
    for name in sorted(set(config.senders) - used):
        lines.append(f"senders.{name} is used by no job type")
    for name, job_type in config.job_types.items():
        lines += _job_type_warnings(f"job_types.{name}", job_type, config)
    return lines


def templates_of(job_type: JobType) -> Iterator[tuple[str, str]]:
    """Every template of a job type with the path of its key: its text, and the values of WhatsApp components."""
    if job_type.template is not None:
        yield "template", job_type.template
    yield from _component_templates("whatsapp_template", job_type.given_whatsapp_template)
    for index, leg in enumerate(job_type.fallback):
        yield from _component_templates(f"fallback[{index}].whatsapp_template", leg.whatsapp_template)


def _component_templates(path: str, template: WhatsAppTemplate | None) -> Iterator[tuple[str, str]]:
    if template is not None:
        yield from _strings(f"{path}.components", template.components)


def _strings(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(f"{path}[{index}]", inner)


def _sender_fields(path: str, sender: Sender) -> Iterator[Problem]:
    rules, channel = sender.rules, sender.channel
    shape = rules.from_shape
    if shape is None:
        if sender.from_ is not None:
            yield Problem(
                f"{path}.from",
                f"does not belong to channel {channel}",
                "take it out: Telnyx chooses the number",
                show(sender.from_),
            )
    elif sender.from_ is None and rules.may_lack_from:
        if sender.messaging_profile_id is None:
            remedy = (
                f'write from = "{shape.example}", or the messaging_profile_id whose numbers Telnyx is to choose from'
            )
            yield Problem(f"{path}.from", "is missing, and so is messaging_profile_id", remedy)
    elif sender.from_ is None:
        yield Problem(f"{path}.from", "is missing", f'write from = "{shape.example}"')
    elif shape.pattern.fullmatch(sender.from_) is None:
        yield Problem(f"{path}.from", shape.what, f'write from = "{shape.example}"', show(sender.from_))
    elif channel == "long_code" and is_toll_free(sender.from_):
        yield Problem(f"{path}.from", "is a toll-free number", 'write channel = "toll_free"', show(sender.from_))
    if (rules.needs_profile or sender.is_alphanumeric) and sender.messaging_profile_id is None:
        remedy = 'write messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000", the id of your profile'
        yield Problem(f"{path}.messaging_profile_id", "is missing", remedy)
    if sender.campaign is not None and not rules.may_have_campaign:
        having = ", ".join(name for name, other in CHANNELS.items() if other.may_have_campaign)
        yield Problem(
            f"{path}.campaign",
            f"does not belong to channel {channel}",
            f"take it out: only {having} have one",
            show(sender.campaign),
        )
    if sender.unit == "segment" and not rules.has_segments:
        yield Problem(
            f"{path}.unit",
            f'must be "message" for channel {channel}',
            'write unit = "message": it has no segments',
            '"segment"',
        )


def _sender_rate(path: str, sender: Sender) -> Iterator[Problem]:
    """``auto`` stands only where a documented default exists."""
    if sender.rate != "auto":
        return
    if sender.channel == "number_pool":
        remedy = 'write rate = "20/s", the sum of what its numbers may send'
        yield Problem(f"{path}.rate", "must be explicit for channel number_pool", remedy, '"auto"')
    elif sender.channel == "auto":
        remedy = 'write rate = "20/s", or what its kind of number may send'
        yield Problem(f"{path}.rate", "must be explicit for channel auto", remedy, '"auto"')
    elif sender.channel == "whatsapp":
        remedy = 'write rate = "20/s", or what your WhatsApp account is allowed'
        yield Problem(
            f"{path}.rate", "must be explicit for channel whatsapp, which has no documented default", remedy, '"auto"'
        )
    elif sender.channel == "long_code" and sender.campaign is None and is_us_number(sender.from_ or ""):
        remedy = 'write campaign = "C1" and a section [campaigns.C1] with its class, or an explicit rate = "1/s"'
        yield Problem(f"{path}.campaign", 'is missing: rate = "auto" of a US long code comes from its campaign', remedy)


def _job_type(path: str, job_type: JobType, config: Config, senders: Set[str]) -> Iterator[Problem]:
    yield from check_routes(path, job_type, config, senders)
    known = [config.senders[name] for name in job_type.candidates if name in config.senders]
    if known and job_type.media_urls and not any(sender.rules.takes_media for sender in known):
        yield Problem(
            f"{path}.media_urls",
            f"cannot go over channel {known[0].channel}",
            "take them out, or use another sender",
            show(list(job_type.media_urls)),
        )
    unscheduled = [sender.channel for sender in known if not sender.rules.may_schedule]
    if job_type.schedule == "provider" and unscheduled:
        yield Problem(
            f"{path}.schedule",
            f"cannot be provider: Telnyx schedules no messages of channel {unscheduled[0]}",
            'write schedule = "local", or use another sender',
            '"provider"',
        )
    yield from _rules(path, job_type)
    for index, leg in enumerate(job_type.fallback):
        yield from _fallback(f"{path}.fallback[{index}]", leg, job_type, config, senders)
    from worker.content.templates import TemplateError, check  # Jinja costs 40 ms; roles without a file do not pay

    for key, template in templates_of(job_type):
        try:
            check(template)
        except TemplateError as exc:
            yield Problem(f"{path}.{key}", f"is no valid template (line {exc.line})", exc.remedy, show(template))


def _rules(path: str, job_type: JobType) -> Iterator[Problem]:
    """Rules must leave an hour of some day, else everything expires."""
    if len(set(job_type.quiet_days)) == 7:
        yield Problem(f"{path}.quiet_days", "leaves no day on which a message may go", "take one out")
    if longest_quiet_min(job_type.quiet_windows) >= DAY_MIN:
        both = " and ".join(str(window) for window in job_type.quiet_windows)
        remedy = "shorten quiet_hours" if job_type.preset is None else "take out quiet_hours, or the preset"
        yield Problem(f"{path}.quiet_hours", f"leaves no minute in which a message may go: {both}", remedy)
    if job_type.frequency is not None and job_type.frequency.group == FLORIDA.group:
        yield Problem(
            f"{path}.frequency.group", "is the name of a preset's own group", "choose another", show(FLORIDA.group)
        )


def longest_quiet_min(windows: Iterable[Hours]) -> int:
    """The longest stretch of a day's minutes, on and on, in which one of the windows is quiet."""
    quiet = [any(_in_window(window, minute) for window in windows) for minute in range(DAY_MIN)]
    longest = run = 0
    for is_quiet in quiet * 2:  # over midnight too
        run = run + 1 if is_quiet else 0
        longest = max(longest, run)
    return min(longest, DAY_MIN)


def _in_window(window: Hours, minute: int) -> bool:
    if window.start_min < window.end_min:
        return window.start_min <= minute < window.end_min
    return minute >= window.start_min or minute < window.end_min


def _fallback(path: str, leg: Fallback, job_type: JobType, config: Config, senders: Set[str]) -> Iterator[Problem]:
    if leg.sender not in senders:
        remedy = choose(leg.sender, senders, otherwise=f"add [senders.{leg.sender}]")
        yield Problem(f"{path}.sender", "names no sender", remedy, show(leg.sender))
    sender, first = config.senders.get(leg.sender), config.senders.get(job_type.sender)
    if sender is not None and first is not None and (sender.channel == "group_mms") != (first.channel == "group_mms"):
        remedy = (
            "a group_mms sender texts all recipients in one message, others each by itself: name one of the same kind"
        )
        yield Problem(f"{path}.sender", "cannot take over what its job type sends", remedy, show(leg.sender))
    if sender is None or sender.channel != "whatsapp":
        return
    is_text = first is not None and first.channel != "whatsapp"
    if is_text and leg.whatsapp_template is None and job_type.given_whatsapp_template is None:
        remedy = (
            'add whatsapp_template = { name = "code", language = "en_US" }, as free text reaches only who just wrote'
        )
        yield Problem(f"{path}.whatsapp_template", "is missing", remedy)


def _schedule(path: str, schedule: Schedule, job_types: Set[str]) -> Iterator[Problem]:
    if schedule.job_type and schedule.job_type not in job_types:
        remedy = choose(schedule.job_type, job_types, otherwise=f"add [job_types.{schedule.job_type}]")
        yield Problem(f"{path}.job_type", "names no job type", remedy, show(schedule.job_type))
    if (schedule.to is None) == (schedule.recipients is None):
        what = "is missing" if schedule.to is None else "stands beside recipients"
        remedy = 'write either to = "+13125550100" (or a list), or recipients = "app.people:subscribers"'
        yield Problem(f"{path}.to", what, remedy)


def _times(config: Config) -> Iterator[Problem]:
    timing, storage = config.timing, config.storage
    if timing.grace_urgent_s > timing.grace_s:
        yield Problem(
            "timing.grace_urgent",
            f"must be at most timing.grace, {timing.grace_s}s",
            f'write grace_urgent = "{timing.grace_s}s"',
            f'"{timing.grace_urgent_s}s"',
        )
    if storage.content_kept_s > storage.retention_s:
        yield Problem(
            "storage.content_kept",
            f"must be at most storage.retention, {storage.retention_s}s",
            f'write content_kept = "{storage.retention_s}s"',
            f'"{storage.content_kept_s}s"',
        )


def _transactional(config: Config) -> Iterator[Problem]:
    """What may pass a person's STOP is said twice, so that no copied table does it by itself; and only where we know whose STOP
    it is that would be passed."""
    listed = set(config.compliance.transactional)
    for index, name in enumerate(config.compliance.transactional):
        path = f"compliance.transactional[{index}]"
        if name not in config.job_types:
            remedy = choose(name, config.job_types, otherwise=f"add [job_types.{name}]")
            yield Problem(path, "names no job type", remedy, show(name))
        elif not config.job_types[name].transactional_required:
            remedy = f"write transactional_required = true in [job_types.{name}] too, or take the name out"
            yield Problem(path, "names a job type that is not marked", remedy, show(name))
    for name, job_type in config.job_types.items():
        path = f"job_types.{name}.transactional_required"
        if not job_type.transactional_required:
            continue
        if name not in listed:
            remedy = f'write transactional = ["{name}"] under [compliance] too: nothing passes a STOP by default'
            yield Problem(path, "is not listed in compliance.transactional", remedy, "true")
        if job_type.priority == "bulk":
            remedy = "take it out, or give the job type another priority: what is promoted is not required"
            yield Problem(path, "does not go with priority bulk", remedy, "true")
        for sender in (*job_type.candidates, *(leg.sender for leg in job_type.fallback)):
            if sender in config.senders and config.senders[sender].messaging_profile_id is None:
                remedy = (
                    f"give [senders.{sender}] its messaging_profile_id: without it any STOP of the person blocks it"
                )
                yield Problem(path, f"needs the profile of sender {sender}", remedy, "true")


def _unreachable_fallbacks(path: str, job_type: JobType, config: Config) -> Iterator[str]:
    """Fallbacks that silence never leads to, or that cannot do better than what they follow."""
    before, after_s = job_type.sender, 0
    for index, leg in enumerate(job_type.fallback):
        after_s += leg.after_s
        if after_s >= job_type.valid_for_s:
            yield (
                f"{path}.fallback[{index}] comes {after_s}s after the hand-over, when valid_for "
                f"({job_type.valid_for_s}s) is over: silence never leads to it, only a failure; "
                "shorten after, or write a longer valid_for"
            )
        if leg.sender == before and not job_type.routes:
            yield f"{path}.fallback[{index}] is the sender that it follows: name another one"
        sender, first = config.senders[leg.sender], config.senders[job_type.sender]
        if first.channel == "whatsapp" and sender.channel != "whatsapp" and job_type.template is None:
            yield f"{path}.fallback[{index}] has a text only if the request brings one: give the job type a template"
        before = leg.sender


def _not_looked_at(path: str, job_type: JobType) -> Iterator[str]:
    """What nobody looks at when a message leaves that Telnyx holds; here it would be."""
    instead = 'write schedule = "local" where that matters'
    if job_type.quiet_windows or job_type.quiet_days or job_type.holidays:
        yield (
            f"{path}.quiet_hours are looked at when Telnyx is told the time, up to five days ahead, and not when the message "
            f"leaves: a change of them does not reach what Telnyx holds; {instead}"
        )
    if job_type.frequencies:
        yield (
            f"{path}.frequency counts a message that Telnyx holds from its hand-over, up to five days ahead, and not from "
            f"when it leaves: more may reach a person at once; {instead}"
        )
    if job_type.given_valid_for_s is not None:
        yield (
            f"{path}.valid_for is looked at when Telnyx is told the time, and not when the message leaves: Telnyx takes no "
            f"validity, so one that is late there is sent all the same; {instead}"
        )


def _job_type_warnings(path: str, job_type: JobType, config: Config) -> Iterator[str]:
    yield from _unreachable_fallbacks(path, job_type, config)
    yield from warn_of_routes(path, job_type, config)
    for key, effect in NOT_YET.items():
        if getattr(job_type, key) not in (None, ()):
            yield f"{path}.{key} is checked, but this version does not act on it yet: {effect}"
    if job_type.schedule == "provider":
        yield from _not_looked_at(path, job_type)
    quiet_min = longest_quiet_min(job_type.quiet_windows)
    if job_type.valid_for_s <= quiet_min * 60:
        yield (
            f"{path}.valid_for ({job_type.valid_for_s}s) is over before its longest quiet hours are ({quiet_min} min): what is "
            'submitted early in them expires; write a longer one, as valid_for = "24h"'
        )
    channels = {
        config.senders[name].channel for name in (*job_type.candidates, *(leg.sender for leg in job_type.fallback))
    }
    if job_type.given_whatsapp_template is not None and "whatsapp" not in channels:
        yield f"{path}.whatsapp_template is never used: neither its sender nor a fallback is a WhatsApp one"
