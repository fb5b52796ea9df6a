"""What the API answers, for OpenAPI and for tests. The routes write these shapes themselves: a page has 1,000 messages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from worker.web.problems import ProblemBody

State = Literal[
    "new", "scheduled", "queued", "sending", "uncertain", "accepted", "sent", "delivered", "failed", "unconfirmed",
    "rejected", "expired", "cancelled", "opted_out",
]  # fmt: skip


class Answer(BaseModel):
    """All members are always there, and no others."""

    model_config = ConfigDict(extra="forbid")


class TicketAnswer(Answer):
    """A notification that is kept. ``messages`` counts messages; a group is one."""

    id: str
    messages: int


class RowError(Answer):
    """A row of a batch that was not taken."""

    error: ProblemBody


class BatchAnswer(Answer):
    """The answers of a batch, in the order of its rows."""

    notifications: list[TicketAnswer | RowError]


class Filtered(Answer):
    """A recipient who would get nothing."""

    to: str
    reason: str = Field(
        description="opted_out, the code of a rejection, or what keeps it back beyond its validity (quiet_hours, frequency).",
        examples=["opted_out"],
    )


class Delayed(Answer):
    """A recipient whose message would wait for more than its turn."""

    to: str
    reason: Literal["quiet_hours", "frequency"]
    leaves_at: AwareDatetime


class SenderShare(Answer):
    """How many of the messages would leave from a sender."""

    sender: str
    messages: int


class RouteStep(Answer):
    """One step of the choice of a sender."""

    route: int | None = Field(description="Its place in the job type's routes, from 0; null for its own sender.")
    sender: str | None = Field(description="Null where a whole route is passed over.")
    verdict: Literal["taken", "skipped", "not_needed"]
    why: str = Field(examples=["paused"])
    words: str = Field(examples=["paused: operator"])


class DryRunAnswer(Answer):
    """What a notification would become. Nothing was written."""

    encoding: Literal["GSM-7", "UCS-2"] | None = Field(
        description="Of the longest text; 7-bit texts of short codes count as GSM-7. Null for MMS and WhatsApp."
    )
    parts: int = Field(description="Segments billed for the longest text; 1 for MMS and WhatsApp.")
    part_texts: list[str] = Field(description="What each of those parts says; empty for MMS and WhatsApp.")
    forces_ucs2: list[str] = Field(description="The characters that force UCS-2.", examples=[["ç U+00E7"]])
    leaves_at: AwareDatetime | None = Field(
        description="When the first message would leave, by its sender's backlog now; null while its lane is paused."
    )
    senders: list[SenderShare] = Field(
        description="What would leave from which sender, by the present state of things."
    )
    route: list[RouteStep] | None = Field(
        description="How the sender of a lone message was chosen; null for many, and for a job type without routes."
    )
    filtered: list[Filtered]
    delayed: list[Delayed] = Field(
        description="Who must wait for the end of quiet hours, or for a place of a frequency."
    )


class ErrorEntry(Answer):
    """What went wrong with a message, once."""

    code: str
    title: str | None
    phase: Literal["send", "receipt", "poll", "expand", "cancel"]
    at: AwareDatetime


class TimelineEntry(Answer):
    """One step of a message's way."""

    at: AwareDatetime
    state: State
    leg: int
    attempt: int
    reason: str | None


class Member(Answer):
    """One recipient of a group."""

    to: str
    state: State
    errors: list[ErrorEntry]


class Message(Answer):
    """One recipient of a notification, or one group."""

    id: str
    to: str | list[str]
    channel: str | None
    from_: str | None = Field(alias="from", description="Of a pool: the number that Telnyx chose.")
    state: State
    attempts: int = Field(description="Requests that left.")
    provider_id: str | None
    provider_status: str | None = Field(description="Telnyx's own word, as it was heard last.", examples=["scheduled"])
    provider_send_at: AwareDatetime | None = Field(description="Until when Telnyx was told to hold it.")
    errors: list[ErrorEntry]
    timeline: list[TimelineEntry] = Field(description="Oldest first.")
    next_at: AwareDatetime | None = Field(description="When it will be looked at next.")
    members: list[Member] = Field(description="Of a group; empty otherwise.")


class NotificationAnswer(Answer):
    """A notification and one page of its messages."""

    id: str
    job_type: str
    state_counts: dict[State, int]
    messages: list[Message]
    next: str | None = Field(description="What to pass as `after` for the next page; null at the end.")


class CancelAnswer(Answer):
    """How many messages were stopped; 0 where nothing waited any more."""

    id: str
    cancelled: int
    asked_back: int = Field(
        0, description="Of those that Telnyx holds for later, how many are asked back: their state tells the answer."
    )


class OptOutAnswer(Answer):
    """Whether a person may be texted, and on whose word."""

    number: str
    scope: str
    opted_out: bool
    at: AwareDatetime | None
    source: str | None = Field(description="webhook, list, answer, api or cli.")
    by_operator: bool | None = Field(description="Set by an app or operator, not by the person.")


class Lane(Answer):
    """The paced backlog of one sender."""

    name: str
    sender: str
    channel: str | None
    state: Literal["open", "held", "slowed", "paused", "draining", "drained", "gone"]
    reason: str | None
    held_until: AwareDatetime | None
    rate_per_s: float | None
    speed: float = Field(
        description="Below 1 after Telnyx found us too fast: the share of a limit that may be used; `reason` says which."
    )
    overridden: bool = Field(description="The rate was set at run time and outlives deploys.")
    backlog: dict[Literal["urgent", "normal", "bulk"], int]


class LanesAnswer(Answer):
    """Lanes, in the order of their names."""

    lanes: list[Lane]


class PauseRequest(BaseModel):
    """Why a lane is paused or drained: people see it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("operator", max_length=60)


class RateRequest(BaseModel):
    """The rate that a sender may send at from now on."""

    model_config = ConfigDict(extra="forbid")

    rate: str = Field(examples=["20/s", "60/min", "configured"])


class Health(Answer):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Answer):
    """The process can do its work. An old list is no reason to take it out: what it receives counts all the same."""

    status: Literal["ready"]
    opt_out_list_age_s: Annotated[
        int | None,
        Field(
            description="Seconds since Telnyx's list of opt-outs was begun that was last read whole; null for never."
        ),
    ]
