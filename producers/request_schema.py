"""The fields of a request as a model, for OpenAPI and for editors.

It describes; ``producers.notification`` decides, for it names every mistake with its remedy and reads 100,000
recipients, and a model does neither. A test holds the two to the same fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from producers import fields
from producers.phone import EXAMPLE
from producers.recipients import RECIPIENTS_MAX
from producers.whatsapp import WhatsAppMessage

Variables = Annotated[
    dict[str, str | int | float | bool],
    Field(max_length=fields.VARIABLES_MAX, description="What fills the template.", examples=[{"code": "123456"}]),
]
Url = Annotated[str, Field(pattern="^https?://", max_length=fields.URL_MAX_CHARS)]


class RecipientEntry(BaseModel):
    """A recipient with variables of its own, which win over the request's."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[str, Field(examples=[EXAMPLE])]
    variables: Variables | None = None


class NotificationRequest(BaseModel):
    """One notification: a job type, one or many recipients, content."""

    model_config = ConfigDict(extra="forbid")

    job_type: Annotated[str, Field(description="A job type of notify.toml.", examples=["otp"])]
    to: Annotated[
        str | RecipientEntry | Annotated[list[str | RecipientEntry], Field(min_length=1, max_length=RECIPIENTS_MAX)],
        Field(description="E.164; duplicates count once. A group takes 1 to 8.", examples=[EXAMPLE, [EXAMPLE]]),
    ]
    text: Annotated[
        str | None,
        Field(max_length=fields.TEXT_MAX_CHARS, description="Only for job types without a template."),
    ] = None
    variables: Variables | None = None
    media_urls: Annotated[list[Url] | None, Field(max_length=fields.MEDIA_MAX)] = None
    subject: Annotated[str | None, Field(max_length=fields.SUBJECT_MAX_CHARS, description="Of an MMS.")] = None
    whatsapp: WhatsAppMessage | None = None
    send_at: Annotated[AwareDatetime | None, Field(description="RFC 3339 with an offset; the past is now.")] = None
    schedule: Annotated[
        Literal["local", "provider"] | None,
        Field(description="Who holds it until `send_at`: this service, or Telnyx. Default: the job type's."),
    ] = None
    valid_for: Annotated[
        str | None,
        Field(pattern="^[0-9]+[smhd]$", description="At most 7d; default: the job type's.", examples=["5m"]),
    ] = None
    priority: Annotated[Literal["urgent", "normal", "bulk"] | None, Field(description="Default: the job type's.")] = (
        None
    )
    idempotency_key: Annotated[
        str | None,
        Field(min_length=1, max_length=fields.KEY_MAX_CHARS, pattern="^[ -~]+$", examples=["login-8271"]),
    ] = None
    metadata: Annotated[
        dict[str, Any] | None, Field(description="Yours; at most 4,096 bytes of JSON, kept as long as the record.")
    ] = None
    callback_url: Url | None = None
