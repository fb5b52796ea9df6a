"""What is published of the configuration: all that Redis scripts and producers know of it.

Web, worker and clock publish at start. During a deploy two versions run side by side, and since scripts read rates only
here, both pace alike. The digest says whether anything changed; equal configurations have equal digests. Plain JSON
values only, and nothing secret: templates and numbers stay in the file.
"""

import hashlib
import json
from typing import Any

from producers.endpoints import endpoint_of
from producers.job_types import JobType as PublishedJobType
from producers.ledger.calls import compact
from worker.content.templates import optional_variables, required_variables
from worker.pacing.presets import Kind, campaign_rate, sender_rate
from worker.pacing.rates import Rate, interval_us, tolerance_us
from worker.settings.checks import templates_of
from worker.settings.model import Config, JobType, Sender

US = 1_000_000
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

Publication = dict[str, Any]


def publication(config: Config, *, release: int) -> Publication:
    """The publication of ``config``; of two, the greater ``release`` wins.

    Times end in their unit (``_us``, ``_s``). Lanes are ``<sender>``, and ``<sender>.mms`` for a sender of both kinds;
    each names its buckets, its own first and the most shared last: the order in which a script asks them.
    """
    buckets: dict[str, dict[str, Any]] = {}
    lanes: dict[str, dict[str, Any]] = {}
    for name, sender in config.senders.items():
        if sender.channel == "group_mms":
            lanes[name] = _lane(config, name, sender, "mms", buckets)
        else:
            lanes[name] = _lane(config, name, sender, "sms", buckets)
        if sender.rules.has_mms_lane:
            lanes[f"{name}.mms"] = _lane(config, name, sender, "mms", buckets)
    content = {
        "lanes": lanes,
        "buckets": buckets,
        "rules": {name: compact(rule) for name, rule in rules(config).items()},
        "timezone": config.defaults.timezone,
        "job_types": {name: _job_type(config, job_type) for name, job_type in config.job_types.items()},
        "timing": _timing(config),
        "transactional": sorted(config.compliance.transactional),
        "storage": {
            "retention_s": config.storage.retention_s,
            "content_kept_s": config.storage.content_kept_s,
            "sticky_s": config.storage.sticky_s,
            "events": config.storage.events,
            "every_event": config.events.all,
        },
        "receipts": config.receipts.mode,
        "opt_outs_endpoint": endpoint_of(config.callbacks.opt_outs),
        "inbound": {"replies_s": config.inbound.replies_s}
        | ({"actor": config.inbound.actor} if config.inbound.actor else {}),
    }
    return {"release": release, "digest": digest(content), **content}


def rules(config: Config) -> dict[str, dict[str, Any]]:
    """When the messages of a job type may leave; only of those that have such rules. ``rules.lua`` says what stands where.

    Job types of one frequency group count together, each by its own limit, so the stamps of all last as long as any needs.
    """
    kept: dict[str, tuple[int, int]] = {}
    for job_type in config.job_types.values():
        for frequency in job_type.frequencies:
            most, longest = kept.get(frequency.group, (0, 0))
            kept[frequency.group] = (max(most, frequency.limit), max(longest, frequency.per_s))
    found: dict[str, dict[str, Any]] = {}
    for name, job_type in config.job_types.items():
        rule = {
            "w": [[window.start_min, window.end_min] for window in job_type.quiet_windows],
            "d": sorted({WEEKDAYS.index(day) for day in job_type.quiet_days}),
            "h": sorted(set(job_type.holidays)),
            "f": [[f.group, f.limit, f.per_s, *kept[f.group]] for f in job_type.frequencies],
        }
        if any(rule.values()):
            found[name] = {key: value for key, value in rule.items() if value}
    return found


def digest(content: Publication) -> str:
    """16 hex digits that two publications share exactly if they say the same."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _lane(config: Config, name: str, sender: Sender, kind: Kind, buckets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One lane; the buckets that it draws on are added to ``buckets``."""
    draws = {**_own(config, name, sender, kind), **_shared(config, sender, kind)}
    buckets.update(draws)
    scopes = ["global", f"sender:{name}"]
    if sender.messaging_profile_id is not None:
        scopes.append(f"profile:{sender.messaging_profile_id}")
    return {
        "sender": name,
        "channel": sender.channel,
        "buckets": list(draws),
        "share": round(1 / sender.bulk_share),
        "scopes": scopes,
        "unit": sender.unit if kind == "sms" else "message",  # carriers bill segments of SMS only
    }


def _own(config: Config, name: str, sender: Sender, kind: Kind) -> dict[str, dict[str, Any]]:
    """The sender's own bucket, which its SMS and MMS share, and its campaign's.

    A campaign's SMS and MMS limits are apart. AT&T counts the classes G and N by number, so theirs are buckets of the
    campaign and the sender together.
    """
    campaign = config.campaign_of(sender)
    draws = {f"s:{name}": _pace(sender_rate(sender, campaign).rate)}
    if campaign is not None:
        shared = f"c:{sender.campaign}" + (f":{name}" if campaign.is_per_number else "")
        draws[shared if kind == "sms" else f"{shared}.mms"] = _pace(campaign_rate(campaign, kind).rate)
        if campaign.brand is not None:
            brand = config.brands[campaign.brand]
            draws[f"d:{campaign.brand}"] = {
                "cap": brand.daily_cap,
                "tz": brand.cap_timezone,
                "reserve": brand.urgent_reserve,
            }
    return draws


def _shared(config: Config, sender: Sender, kind: Kind) -> dict[str, dict[str, Any]]:
    """The buckets of the profile and the account; without a limit, a gate: what rests when Telnyx says so.

    Telnyx documents account limits for SMS, MMS and RCS, none for WhatsApp: those lanes have a gate of their own, so
    that a burst of texts never delays what falls back to WhatsApp. A profile's limit is the operator's own, and counts
    whatever goes out under the profile.
    """
    draws: dict[str, dict[str, Any]] = {}
    profile = sender.messaging_profile_id
    if profile is not None:
        draws[f"p:{profile}"] = _pace_or_gate(config.limits.profiles.get(profile))
    if sender.channel == "whatsapp":
        draws["a:whatsapp"] = _pace_or_gate(None)
    else:
        draws[f"a:{kind}"] = _pace_or_gate(config.limits.account if kind == "sms" else config.limits.account_mms)
    return draws


def _pace_or_gate(rate: Rate | None) -> dict[str, Any]:
    return {"gate": True} if rate is None else _pace(rate)


def _pace(rate: Rate) -> dict[str, Any]:
    interval = interval_us(rate)
    return {"t_us": interval, "tol_us": tolerance_us(interval)}


def _job_type(config: Config, job_type: JobType) -> PublishedJobType:
    """What a producer must know to check a request: which content it may and must give."""
    templates = [template for _, template in templates_of(job_type)]
    required = {name for template in templates for name in required_variables(template)}
    optional = {name for template in templates for name in optional_variables(template)} - required
    name = _face(config, job_type)
    channel = config.senders[name].channel
    return {
        "sender": name,
        "channel": channel,
        "class": job_type.klass,
        "template": job_type.template is not None,
        "variables": sorted(required),
        "optional": sorted(optional),
        "valid_for_s": job_type.valid_for_s,
        "callback": job_type.callback_url is not None,
        "endpoint": endpoint_of(job_type.callback_url),
        "whatsapp": job_type.given_whatsapp_template is not None,
        "group": channel == "group_mms",
        "media": bool(job_type.media_urls),
    }


def _face(config: Config, job_type: JobType) -> str:
    """The sender whose channel says what a request may bring: of several, one that takes media if any does."""
    takes_media = (name for name in job_type.candidates if config.senders[name].rules.takes_media)
    return next(takes_media, job_type.sender)


def _timing(config: Config) -> dict[str, Any]:
    timing = config.timing
    return {
        "grace_us": timing.grace_s * US,
        "grace_urgent_us": timing.grace_urgent_s * US,
        "liveness_us": timing.liveness_s * US,
        "poll_after_us": timing.poll_after_s * US,
        "silent_after_us": timing.silent_after_s * US,
        "max_tries": timing.max_tries,
        "job_grace_us": {
            name: job_type.grace_s * US for name, job_type in config.job_types.items() if job_type.grace_s is not None
        },
        "give_up": [name for name, job_type in config.job_types.items() if job_type.on_uncertain == "give_up"],
    }
