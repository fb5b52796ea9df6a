"""What can be wrong with the account at Telnyx: its key, money, numbers, profiles.

Each of these comes back at run time as a refusal of every single message, or, worse, as silence: a profile that calls
nobody lets STOPs be lost. Only reads; a handful of requests whatever the size of the account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.doctor.report import Check
from worker.settings import Config, Sender, Settings
from worker.telnyx.account import Account, AccountError
from worker.telnyx.builder import WEBHOOK_PATH

PORTAL = "in the Telnyx portal"
# developers.telnyx.com, "Number pool": what Telnyx itself calls unhealthy.
LEAST_DELIVERED, MOST_SPAM, ENOUGH_MESSAGES = 0.25, 0.75, 20
AT_ONCE = 50  # numbers in one filter: a URL has at most 2,000 characters
_BY_NUMBER = frozenset({"long_code", "toll_free", "short_code", "group_mms", "whatsapp", "auto"})


@dataclass(slots=True)
class ProfileUse:
    """What we want of a profile. ``public_url``: None where receipts are polled, empty where it is not known.
    ``homes``: the countries of its numbers."""

    public_url: str | None
    countries: tuple[str, ...] = ()
    senders: list[str] = field(default_factory=list)
    homes: set[str] = field(default_factory=set)
    is_pool: bool = False

    def add(self, name: str, sender: Sender, home: str) -> None:
        self.senders.append(name)
        self.homes |= {home} - {""}
        self.is_pool |= sender.channel == "number_pool" or (sender.channel == "auto" and sender.from_ is None)


def examine_account(settings: Settings, countries: Sequence[str]) -> tuple[list[Check], bool]:
    """The checks, and whether Telnyx gave no answer."""
    if not settings.telnyx_api_key:
        return [Check("telnyx", "skipped", "no key to ask with", "set TELNYX_API_KEY")], False
    try:
        with Account(settings.telnyx_api_key, settings.telnyx_base_url) as account:
            return list(_examine(account, settings, countries)), False
    except AccountError as error:
        if error.why == "key":
            return [Check("telnyx key", "failed", str(error), f"copy a valid key from API Keys {PORTAL}")], False
        remedy = "run it again; status.telnyx.com tells of outages"
        return [Check("telnyx", "failed", str(error), remedy)], error.why in ("away", "limited")


def _examine(account: Account, settings: Settings, countries: Sequence[str]) -> Iterator[Check]:
    balance = account.balance()
    yield Check("telnyx key", "ok", f"accepted by {settings.telnyx_base_url}")
    yield from check_balance(balance)
    if settings.loaded_config is None:
        yield Check("senders", "skipped", "the configuration cannot be read", "mend the settings first")
        return
    config = settings.config
    rows = _numbers(account, config)
    uses: dict[str, ProfileUse] = {}
    public_url = None if config.receipts.mode == "poll" else settings.public_url or ""
    for name, sender in config.senders.items():
        row = rows.get(sender.from_ or "")
        yield from check_sender(name, sender, row, has_media=_has_media(name, config))
        home = str((row or {}).get("country_code") or "")
        for profile in {sender.messaging_profile_id, (row or {}).get("messaging_profile_id")} - {None, ""}:
            use = uses.setdefault(str(profile).lower(), ProfileUse(public_url, tuple(countries)))
            use.add(name, sender, home)
    for profile, use in uses.items():
        yield from _profile(account, profile, use)


def _numbers(account: Account, config: Config) -> dict[str, dict[str, Any]]:
    """The settings of every configured number that the account has."""
    wanted = sorted(
        {s.from_ for s in config.senders.values() if s.from_ and s.channel in _BY_NUMBER and not s.is_alphanumeric}
    )
    rows: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), AT_ONCE):
        for page in account.numbers(among=wanted[start : start + AT_ONCE]):
            rows.update({str(row.get("phone_number")): row for row in page.rows})
    if any(number not in rows and not number.startswith("+") for number in wanted):
        for page in account.short_codes():
            for row in page.rows:
                rows.setdefault(str(row.get("short_code")), row)
    if any(number not in rows and number.startswith("+") for number in wanted):
        for page in account.mobile_numbers():
            for row in page.rows:
                rows.setdefault(str(row.get("phone_number")), row)
    return rows


def check_balance(balance: Mapping[str, Any]) -> Iterator[Check]:
    credit = _number(balance.get("available_credit"))
    if credit is None:
        return
    found = f"{credit:,.2f} {balance.get('currency') or ''}".strip() + " available"
    if credit <= 0:
        yield Check(
            "telnyx balance", "failed", found, f"add funds {PORTAL}: without any, every send is refused (20100)"
        )
    else:
        yield Check("telnyx balance", "ok", found)


def check_sender(name: str, sender: Sender, row: Mapping[str, Any] | None, *, has_media: bool) -> Iterator[Check]:
    """One sender against the settings of its number; ``row`` is None where the account has none such."""
    title, number = f"sender {name}", sender.from_
    if number is None or sender.channel not in _BY_NUMBER or sender.is_alphanumeric:
        return  # its profile is looked at instead
    if row is None:
        if sender.channel == "whatsapp":
            found = f"{number} is no number of the account; a WhatsApp number need not be one"
            yield Check(title, "warning", found, "compare it with WhatsApp > Phone numbers " + PORTAL)
            return
        yield Check(title, "failed", f"the account has no number {number}", f"buy it {PORTAL}, or correct `from`")
        return
    problems = list(_of_number(title, sender, row, has_media=has_media))
    yield from problems or [Check(title, "ok", f"{number} is on profile {row.get('messaging_profile_id')}")]


def _of_number(title: str, sender: Sender, row: Mapping[str, Any], *, has_media: bool) -> Iterator[Check]:
    number, profile = sender.from_, row.get("messaging_profile_id")
    wanted = sender.messaging_profile_id
    assign = f"notify numbers assign {number} --profile {wanted or 'ID'}"
    if not profile and sender.channel != "whatsapp":
        yield Check(
            title, "failed", f"{number} is on no messaging profile: sends are refused (40305)", f"run `{assign}`"
        )
    elif profile and wanted and str(profile).lower() != wanted:
        found = f"{number} is on profile {profile}, notify.toml says {wanted}"
        yield Check(title, "failed", found, f"run `{assign}`, or correct messaging_profile_id")
    features = row.get("features")
    if isinstance(features, Mapping) and (sender.channel == "group_mms" or has_media):
        mms = features.get("mms")
        if not (isinstance(mms, Mapping) and any(mms.values())):
            why = "group messages need it" if sender.channel == "group_mms" else "job types with media_urls need it"
            remedy = f"have MMS enabled for the number {PORTAL}, or choose another sender"
            yield Check(title, "failed", f"{number} cannot do MMS, and {why}", remedy)
    yield from _health(title, number, row.get("health"))


def _health(title: str, number: str | None, health: Any) -> Iterator[Check]:
    if not isinstance(health, Mapping):
        return
    count = _number(health.get("message_count"))
    if count is not None and count < ENOUGH_MESSAGES:
        return
    delivered, spam = _number(health.get("success_ratio")), _number(health.get("spam_ratio"))
    bad = []
    if delivered is not None and delivered < LEAST_DELIVERED:
        bad.append(f"only {delivered:.0%} delivered")
    if spam is not None and spam > MOST_SPAM:
        bad.append(f"{spam:.0%} taken for spam")
    if bad:
        remedy = "rest it (`notify lanes pause`), look at what it sends and to whom, or use another number"
        yield Check(title, "warning", f"{number} is unhealthy: {', '.join(bad)}", remedy)


def _profile(account: Account, profile: str, use: ProfileUse) -> Iterator[Check]:
    """A profile, and whether a pool of it has numbers."""
    title, names = f"profile {profile[:8]}", ", ".join(use.senders)
    try:
        found = account.profile(profile)
    except AccountError as error:
        if error.why != "missing":
            raise
        text = f"{profile} of {names} is no messaging profile of the account"
        yield Check(title, "failed", text, f"correct messaging_profile_id; the ids stand under Messaging {PORTAL}")
        return
    problems = list(check_profile(title, found, use))
    if use.is_pool and not any(page.rows for page in account.numbers(profile=profile)):
        text = "a number pool draws on this profile, and no number is on it: sends are refused (40321)"
        problems.append(Check(title, "failed", text, f"run `notify numbers assign NUMBERS... --profile {profile}`"))
    yield from problems or [Check(title, "ok", f"{found.get('name') or profile}: {names}")]


def check_profile(title: str, profile: Mapping[str, Any], use: ProfileUse) -> Iterator[Check]:
    """A profile's own settings against what we want of it."""
    if profile.get("enabled") is False:
        yield Check(title, "failed", "the profile is disabled: sends are refused (40312)", f"enable it {PORTAL}")
    version = str(profile.get("webhook_api_version") or "")
    if version and version != "2":
        found = f"webhook_api_version is {version}: we read callbacks of version 2 only"
        yield Check(title, "failed", found, f'set it to "2" {PORTAL}')
    yield from _webhook(title, profile, use.public_url)
    yield from _countries(title, profile, use)
    if use.is_pool and not profile.get("number_pool_settings"):
        found = "a number pool draws on this profile, and its number pool is off: sends are refused (40321)"
        yield Check(title, "failed", found, f"turn Number Pool on {PORTAL}")
    if profile.get("daily_spend_limit_enabled"):
        found = (
            f"spends at most {profile.get('daily_spend_limit')} USD a day, then sends are refused until midnight UTC"
        )
        yield Check(title, "warning", found, f"compare it with what a busy day costs, and raise it {PORTAL}")


def _webhook(title: str, profile: Mapping[str, Any], public_url: str | None) -> Iterator[Check]:
    if public_url is None:
        return
    ours = (public_url.rstrip("/") or "https://(PUBLIC_URL)") + WEBHOOK_PATH
    theirs = str(profile.get("webhook_url") or "").partition("?")[0]
    remedy = f"set the profile's webhook URL to {ours} {PORTAL}"
    if not theirs:
        yield Check(title, "failed", "the profile has no webhook URL: STOP and other inbound messages are lost", remedy)
    elif public_url and theirs.rstrip("/") != ours:
        found = f"inbound messages go to {theirs}, not to us: a STOP is heard only with the next list"
        yield Check(title, "warning", found, f"{remedy}, or have the other service pass them on")


def _countries(title: str, profile: Mapping[str, Any], use: ProfileUse) -> Iterator[Check]:
    allowed = profile.get("whitelisted_destinations")
    if not isinstance(allowed, list) or "*" in allowed:
        return
    if not allowed:
        yield Check(title, "failed", "no country is allowed: sends are refused (40309)", f"allow yours {PORTAL}")
        return
    lacking = [country for country in use.countries if country not in allowed]
    if lacking:
        found = f"{', '.join(lacking)} not among the allowed countries ({', '.join(map(str, allowed))})"
        yield Check(title, "failed", f"{found}: sends are refused (40309)", f"allow it {PORTAL}")
    foreign = [home for home in sorted(use.homes) if home not in allowed]
    if foreign:
        found = f"the numbers are of {', '.join(foreign)}, which is not among the allowed countries"
        yield Check(
            title, "warning", f"{found}: sends there are refused (40309)", f"allow it {PORTAL}, if you send there"
        )


def _has_media(name: str, config: Config) -> bool:
    return any(name in job_type.candidates and job_type.media_urls for job_type in config.job_types.values())


def _number(value: Any) -> float | None:
    """A figure that is a number, or a text of one: amounts come as either."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None
