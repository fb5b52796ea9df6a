"""What ``notify.toml`` holds, once it has been read: frozen models with defaults and units.

A key of the file is a field's alias; the field itself says its unit (``grace`` is ``grace_s``). Ranges stand here; what
one table must say about another stands in ``checks``. Unknown keys are errors: a mistyped limit would be no limit.
"""

import datetime
import re
import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from worker.settings.channels import CHANNELS, Channel, ChannelRules
from worker.settings.problems import wrong
from worker.settings.quantities import (
    Hours,
    Rate,
    duration_s,
    parse_hours,
    parse_rate_or_auto,
)

Priority = Literal["urgent", "normal", "bulk"]
CampaignClass = Literal["A", "B", "C", "D", "E", "F", "G", "K", "N", "P", "S", "T", "W", "X"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
PRIORITIES: tuple[Priority, ...] = ("urgent", "normal", "bulk")  # the index is the class that scripts know
MOST_WEIGHT = 1_000
VALID_FOR_S: Mapping[Priority, int] = {"urgent": 600, "normal": 86_400, "bulk": 3 * 86_400}

_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def read_profile(value: str) -> str:
    if re.fullmatch(_UUID, value) is None:
        raise wrong(
            "must be the id of a messaging profile",
            'write it as the portal shows it: "abc85f64-5717-4562-b3fc-2c9600000000"',
        )
    return value.lower()


def _zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise wrong("must be a time zone of the IANA list", 'write "America/New_York"') from None
    return value


def _date(value: object) -> str:
    """``2026-12-25`` as text or as TOML's own date, or ``12-25`` of each year."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    text = value if isinstance(value, str) else ""
    found = re.fullmatch(r"(?:(\d{4})-)?(\d\d)-(\d\d)", text)
    try:
        if found is not None:
            datetime.date(int(found[1] or 2024), int(found[2]), int(found[3]))  # 2024 has a 29 February
            return text
    except ValueError:
        pass
    raise wrong("must be a date", 'write "2026-11-26", or "12-25" for each year')


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(value) > 2_000:
        raise wrong("must be an http or https URL of at most 2,000 characters", 'write "https://app.example.com/path"')
    return value


def _country(value: str) -> str:
    if re.fullmatch(r"[A-Z]{2}", value) is None:
        raise wrong("must be a country's code of ISO 3166, two capitals", 'write "US"')
    import phonenumbers  # only a file with routes by country pays for it

    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise wrong("is no country that has phone numbers of its own", 'write "US" or "GB", as ISO 3166 has it')
    return value


def _shares(value: object) -> object:
    """A list of senders, who share by their rates (None), or a table of senders with weights of their own."""
    if isinstance(value, list):
        for name in value:
            if isinstance(name, str) and value.count(name) > 1:
                raise wrong(f"names {name} twice", f"write weights instead: senders = {{ {name} = 2, other = 1 }}")
        if value and all(isinstance(name, str) for name in value):
            return dict.fromkeys(value)
    elif isinstance(value, dict) and value:
        if all(type(weight) is int and 0 <= weight <= MOST_WEIGHT for weight in value.values()):
            return value
        raise wrong(f"has a weight that is no whole number from 0 to {MOST_WEIGHT}", "write senders = { a = 3, b = 1 }")
    raise wrong("must name senders", 'write senders = ["a", "b"], or with weights: senders = { a = 3, b = 1 }')


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


ProfileId = Annotated[str, AfterValidator(read_profile)]
Zone = Annotated[str, AfterValidator(_zone)]
Url = Annotated[str, AfterValidator(_url)]
Date = Annotated[str, BeforeValidator(_date)]
Country = Annotated[str, AfterValidator(_country)]


class Table(BaseModel):
    """A table of the file. Strict: a TOML string that looks like a number is a mistake worth hearing of."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Sender(Table):
    """What messages come from. ``CHANNELS`` says which of the optional fields a channel needs and allows."""

    channel: Channel = Field(examples=['"long_code"'])
    from_: str | None = Field(None, alias="from", examples=['"+13125550001"'])
    messaging_profile_id: ProfileId | None = Field(None, examples=['"abc85f64-5717-4562-b3fc-2c9600000000"'])
    campaign: str | None = Field(None, examples=['"C1"'])
    rate: Annotated[Rate | Literal["auto"], PlainValidator(parse_rate_or_auto)] = Field(examples=['"20/s" or "auto"'])
    unit: Literal["message", "segment"] = Field("message", examples=['"message"'])
    bulk_share: float = Field(0.1, ge=0.01, le=0.5, examples=["0.1"])

    @property
    def rules(self) -> ChannelRules:
        return CHANNELS[self.channel]

    @property
    def is_alphanumeric(self) -> bool:
        """Its ``from`` is a word: one-way, without media, and not for every country."""
        return self.channel == "alphanumeric" or (self.channel == "auto" and any(map(str.isalpha, self.from_ or "")))

    @property
    def is_short_code(self) -> bool:
        return self.channel == "short_code" or (self.channel == "auto" and (self.from_ or "").isdigit())


class Campaign(Table):
    """A registered 10DLC use case. The class is AT&T's, which sets its limits a minute."""

    class_: CampaignClass = Field(alias="class", examples=['"A"'])
    brand: str | None = Field(None, examples=['"acme"'])

    @property
    def is_per_number(self) -> bool:
        """AT&T counts the classes G and N by number, so senders do not share their limits."""
        return self.class_ in ("G", "N")


class Brand(Table):
    """Who is registered. T-Mobile caps a day's messages by brand, over all its campaigns."""

    daily_cap: int = Field(ge=1, le=1_000_000_000, examples=["200000"])
    cap_timezone: Zone = Field("America/Los_Angeles", examples=['"America/Los_Angeles"'])
    urgent_reserve: float = Field(0.1, ge=0, le=0.9, examples=["0.1"])


class Limits(Table):
    """Limits that several senders share. An absent one is no limit."""

    account: Rate | None = None
    account_mms: Rate | None = None
    profiles: Mapping[ProfileId, Rate] = Field(default_factory=dict)


class WhatsAppTemplate(Table):
    """An approved template. String values in ``components`` may be templates over the request's variables."""

    name: str = Field(min_length=1, max_length=512, examples=['"code"'])
    language: str = Field(min_length=2, max_length=16, examples=['"en_US"'])
    components: list[dict[str, Any]] = Field(default_factory=list)


class Fallback(Table):
    """The next leg, when nothing was delivered ``after`` this time from hand-over, or at once on failure."""

    sender: str = Field(examples=['"whatsapp_main"'])
    after_s: Annotated[int, BeforeValidator(duration_s("1s", "3d"))] = Field(alias="after", examples=['"60s"'])
    whatsapp_template: WhatsAppTemplate | None = None


class Route(Table):
    """Whom some senders of a job type are for. Of ``senders`` a weight of None means: by its rate."""

    senders: Annotated[Mapping[str, int | None], BeforeValidator(_shares)] = Field(examples=['["a", "b"]'])
    countries: Annotated[tuple[Country, ...], BeforeValidator(_tuple)] | None = Field(
        None, min_length=1, examples=['["US", "CA"]']
    )
    hours: Annotated[Hours, PlainValidator(parse_hours)] | None = Field(None, examples=['"08:00-20:00"'])
    timezone: Zone | None = Field(None, examples=['"America/New_York"'])  # of ``hours``


class Frequency(Table):
    """At most ``limit`` messages to one person ``per`` this time, over all job types of the group."""

    group: str = Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_-]+$", examples=['"marketing"'])
    limit: int = Field(ge=1, le=1_000, examples=["3"])
    per_s: Annotated[int, BeforeValidator(duration_s("1m", "31d"))] = Field(alias="per", examples=['"24h"'])


# The hours in which federal rules allow calls, 8 am to 9 pm where the person is (47 CFR 64.1200(c)(1)); and Florida's,
# 8 am to 8 pm, at most three in 24 hours (Florida Statutes 501.616(6)). Texts are treated as calls.
PRESET_HOURS: Mapping[str, Hours] = {"us-tcpa": Hours(21 * 60, 8 * 60), "us-fl": Hours(20 * 60, 8 * 60)}
FLORIDA = Frequency.model_validate({"group": "us-fl", "limit": 3, "per": "24h"})


class JobType(Table):
    """A named kind of notification."""

    given_sender: str | None = Field(None, alias="sender", examples=['"alerts"'])
    routes: Annotated[tuple[Route, ...], BeforeValidator(_tuple)] = ()
    sticky: bool = Field(False, examples=["true"])
    priority: Priority = Field("normal", examples=['"normal"'])
    template: str | None = Field(None, min_length=1, examples=['"Your code is {{ code }}"'])
    given_valid_for_s: Annotated[int, BeforeValidator(duration_s("1s", "7d"))] | None = Field(
        None, alias="valid_for", examples=['"24h"']
    )
    on_uncertain: Literal["resend", "give_up"] = Field("resend", examples=['"resend"'])
    grace_s: Annotated[int, BeforeValidator(duration_s("1s", "1h"))] | None = Field(
        None, alias="grace", examples=['"60s"']
    )
    fallback: Annotated[tuple[Fallback, ...], BeforeValidator(_tuple)] = ()
    given_whatsapp_template: WhatsAppTemplate | None = Field(None, alias="whatsapp_template")
    callback_url: Url | None = Field(None, examples=['"https://app.example.com/events"'])
    media_urls: Annotated[tuple[Url, ...], BeforeValidator(_tuple)] = Field((), max_length=10)
    quiet_hours: Annotated[Hours, PlainValidator(parse_hours)] | None = None
    quiet_days: Annotated[tuple[Weekday, ...], BeforeValidator(_tuple)] = Field((), examples=['["sat", "sun"]'])
    holidays: Annotated[tuple[Date, ...], BeforeValidator(_tuple)] = Field((), examples=['["12-25", "2026-11-26"]'])
    preset: Literal["us-tcpa", "us-fl"] | None = Field(None, examples=['"us-tcpa"'])
    frequency: Frequency | None = None
    max_parts: int | None = Field(None, ge=1, le=10, examples=["2"])
    smart_replacement: bool = Field(False, examples=["true"])
    transactional_required: bool = Field(False, examples=["false"])
    schedule: Literal["local", "provider"] = Field("local", examples=['"local"'])

    @property
    def candidates(self) -> tuple[str, ...]:
        """All senders that its messages may leave from, in the order in which they are named."""
        named = [name for route in self.routes for name in route.senders]
        return tuple(dict.fromkeys([*named, self.given_sender] if self.given_sender else named))

    @property
    def sender(self) -> str:
        """Its sender; of a job type with routes the one that stands for all of them where one must be named."""
        return self.given_sender or next(iter(self.candidates), "")

    @property
    def quiet_windows(self) -> tuple[Hours, ...]:
        """Its own quiet hours and those of its preset: both hold."""
        own = () if self.quiet_hours is None else (self.quiet_hours,)
        return own if self.preset is None else (*own, PRESET_HOURS[self.preset])

    @property
    def frequencies(self) -> tuple[Frequency, ...]:
        """Its own frequency and that of its preset: both hold."""
        own = () if self.frequency is None else (self.frequency,)
        return (*own, FLORIDA) if self.preset == "us-fl" else own

    @property
    def has_rules(self) -> bool:
        """Whether anything but its turn decides when its messages leave."""
        return bool(self.quiet_windows or self.quiet_days or self.holidays or self.frequencies)

    @property
    def valid_for_s(self) -> int:
        """How long its messages may still leave, from the later of enqueue and ``send_at``."""
        return VALID_FOR_S[self.priority] if self.given_valid_for_s is None else self.given_valid_for_s

    @property
    def klass(self) -> int:
        """0 urgent, 1 normal, 2 bulk: lower goes first."""
        return PRIORITIES.index(self.priority)

    @property
    def whatsapp_template(self) -> dict[str, Any] | None:
        """As plain values: ``name``, ``language`` and, where given, ``components``."""
        template = self.given_whatsapp_template
        return None if template is None else template.model_dump(exclude_unset=True)


class Timing(Table):
    """How long the service waits for what, and how often it tries."""

    grace_s: Annotated[int, BeforeValidator(duration_s("1s", "1h"))] = Field(60, alias="grace")
    given_grace_urgent_s: Annotated[int, BeforeValidator(duration_s("1s", "1h"))] | None = Field(
        None, alias="grace_urgent"
    )
    liveness_s: Annotated[int, BeforeValidator(duration_s("2s", "5m"))] = Field(10, alias="liveness")
    poll_after_s: Annotated[int, BeforeValidator(duration_s("1s", "12h"))] = Field(60, alias="poll_after")
    silent_after_s: Annotated[int, BeforeValidator(duration_s("1s", "72h"))] = Field(259_200, alias="silent_after")
    max_tries: int = Field(5, ge=1, le=100, examples=["5"])

    @property
    def grace_urgent_s(self) -> int:
        """15 s unless given; a shorter ``grace`` shortens it too, for nobody waits longer with an urgent message."""
        return min(15, self.grace_s) if self.given_grace_urgent_s is None else self.given_grace_urgent_s


class Storage(Table):
    """How long Redis keeps what."""

    retention_s: Annotated[int, BeforeValidator(duration_s("1m", "90d"))] = Field(7 * 86_400, alias="retention")
    content_kept_s: Annotated[int, BeforeValidator(duration_s("0s", "90d"))] = Field(0, alias="content_kept")
    sticky_s: Annotated[int, BeforeValidator(duration_s("1h", "90d"))] = Field(30 * 86_400, alias="sticky")
    events: int = Field(100_000, ge=100, le=10_000_000, examples=["100000"])


class Receipts(Table):
    """Where fates come from: Telnyx calls us, or we only ask."""

    mode: Literal["webhook", "poll"] = Field("webhook", examples=['"webhook"'])


class Events(Table):
    """What the stream of events tells."""

    all: bool = Field(False, examples=["false"])  # every change of a state, not only ends


class Inbound(Table):
    """What becomes of messages from people, beside the events about them."""

    actor: str | None = Field(None, min_length=1, max_length=200, examples=['"myapp.handle_reply"'])
    queue: str = Field("default", pattern=r"^[a-zA-Z_][a-zA-Z0-9._-]*$", examples=['"default"'])
    namespace: str = Field("dramatiq", min_length=1, max_length=100, examples=['"dramatiq"'])
    replies_s: Annotated[int, BeforeValidator(duration_s("0s", "30d"))] = Field(259_200, alias="replies")


class Callbacks(Table):
    """What apps may ask us to call, and who is called about what belongs to no notification."""

    allow_private: bool = Field(False, examples=["false"])
    opt_outs: Url | None = Field(None, examples=['"https://app.example.com/opt-outs"'])


Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=40)], ...], BeforeValidator(_tuple)]


class Compliance(Table):
    """Words that your messaging profiles know besides the built-in ones, and what may pass a person's STOP: nothing."""

    stop_words: Words = Field((), examples=['["adios"]'])
    start_words: Words = Field((), examples=['["otra vez"]'])
    help_words: Words = Field((), examples=['["que es esto"]'])
    transactional: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = Field((), examples=['["fraud_alert"]'])

    @property
    def keywords(self) -> Mapping[str, tuple[str, ...]]:
        return {"STOP": self.stop_words, "START": self.start_words, "HELP": self.help_words}


class Defaults(Table):
    """What holds where nothing better is known."""

    timezone: Zone = Field("America/New_York", examples=['"America/New_York"'])


def _cron(value: str) -> str:
    from cronsim import CronSim, CronSimError  # only a file with schedules pays for it

    try:
        CronSim(value, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    except CronSimError as exc:
        raise wrong(
            f"must be a cron expression of five fields ({exc})", 'write "0 9 * * MON" for Mondays at 9'
        ) from None
    return value


def _callable(value: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value) is None:
        raise wrong("must name a Python callable", 'write "app.people:subscribers", as package.module:function')
    return value


class Schedule(Table):
    """A notification that the clock makes by itself, at each tick of ``cron`` in ``timezone``.

    ``recipients`` is a Python callable, ``package.module:function``: it takes the tick and yields recipients.
    """

    cron: Annotated[str, AfterValidator(_cron)] = Field(examples=['"0 9 * * MON"'])
    timezone: Zone | None = Field(None, examples=['"America/New_York"'])
    job_type: str = Field(examples=['"weekly_digest"'])
    to: Annotated[str | tuple[str, ...], BeforeValidator(_tuple)] | None = Field(None, examples=['"+13125550100"'])
    recipients: Annotated[str, AfterValidator(_callable)] | None = Field(None, examples=['"app.people:subscribers"'])
    text: str | None = Field(None, min_length=1, examples=['"Your weekly digest is here."'])
    variables: Mapping[str, Any] = Field(default_factory=dict, examples=['{ name = "you" }'])
    missed: Literal["run_once", "skip"] = Field("run_once", examples=['"run_once"'])


class Config(Table):
    """All of ``notify.toml``, checked. Only ``reading`` makes one, so a Config in hand holds together."""

    senders: Mapping[str, Sender]
    job_types: Mapping[str, JobType]
    campaigns: Mapping[str, Campaign] = Field(default_factory=dict)
    brands: Mapping[str, Brand] = Field(default_factory=dict)
    schedules: Mapping[str, Schedule] = Field(default_factory=dict)
    limits: Limits = Limits()
    timing: Timing = Timing()
    storage: Storage = Storage()
    receipts: Receipts = Receipts()
    events: Events = Events()
    inbound: Inbound = Inbound()
    callbacks: Callbacks = Callbacks()
    compliance: Compliance = Compliance()
    defaults: Defaults = Defaults()

    def campaign_of(self, sender: Sender) -> Campaign | None:
        return None if sender.campaign is None else self.campaigns[sender.campaign]
