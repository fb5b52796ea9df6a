"""What ``notify.toml`` allows and nobody can have meant. Pure, but for files of time zones and callables of schedules."""

from __future__ import annotations

import importlib.metadata
import os
import zoneinfo
from collections.abc import Iterator

from worker.doctor.report import Check
from worker.pacing.presets import preset
from worker.schedules import load_recipients
from worker.settings import Config, JobType, Sender, SettingsError, warnings
from worker.settings.channels import is_us_number


def examine_configuration(config: Config) -> list[Check]:
    """Everything to warn of; none of it stops a start."""
    checks = [Check("configuration", "warning", text) for text in warnings(config)]
    for name, sender in config.senders.items():
        checks += _rate(name, sender, config)
    for name, job_type in config.job_types.items():
        checks += _fallbacks(name, job_type, config)
    try:
        load_recipients(config)
    except SettingsError as error:
        checks += [Check("schedule", "failed", f"{p.path} {p.what}, got {p.got}", p.remedy) for p in error.problems]
    return checks


def _rate(name: str, sender: Sender, config: Config) -> Iterator[Check]:
    """What is sent faster than the kind of sender allows waits at Telnyx, where nothing urgent can overtake it."""
    if sender.channel == "long_code" and sender.campaign is None and is_us_number(sender.from_ or ""):
        found = f"senders.{name} is a US long code without a campaign: carriers block unregistered traffic (40010)"
        remedy = f'register a 10DLC campaign, write campaign = "C1" under [senders.{name}], and its class under [campaigns.C1]'
        yield Check("campaign", "warning", found, remedy)
    if sender.rate == "auto":
        return
    try:
        documented = preset(sender, config.campaign_of(sender))
    except ValueError:
        return  # nothing is documented to compare with
    if sender.channel != "group_mms" and sender.rate.per_s > documented.rate.per_s * 1.001:
        found = f"senders.{name} may send {sender.rate}, {documented.rate} is documented for {documented.source}"
        remedy = f'write rate = "{documented.rate}" or "auto", unless your agreement with Telnyx says more'
        yield Check("rate", "warning", found, remedy)


def _fallbacks(name: str, job_type: JobType, config: Config) -> Iterator[Check]:
    """Legs that can never be of use."""
    used = {job_type.sender}
    for index, leg in enumerate(job_type.fallback):
        path = f"job_types.{name}.fallback[{index}]"
        if leg.sender in used:
            found = f"{path} goes over {leg.sender} again: what failed there will hardly arrive there now"
            yield Check("fallback", "warning", found, "name another sender, or take the leg out")
        used.add(leg.sender)
        if leg.after_s >= config.timing.silent_after_s:
            found = f"{path} waits {leg.after_s} s: by then silence has ended the message (timing.silent_after)"
            yield Check(
                "fallback", "warning", found, f'write after = "{max(1, config.timing.silent_after_s // 2)}s" or less'
            )


def time_zones() -> Check:
    """Which files say when it is night where: the system's win over the package's, and may be old."""
    system = next((path for path in zoneinfo.TZPATH if _has_zones(path)), None)
    if system:
        return Check("time zones", "ok", f"of the system ({system})")
    return Check("time zones", "ok", f"of the package tzdata {importlib.metadata.version('tzdata')}")


def _has_zones(path: str) -> bool:
    return os.path.exists(os.path.join(path, "America", "New_York"))
