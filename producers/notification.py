"""A request for a notification: its fields, checked against the published job types, in the form that is written.

The rules are those of ``Notifier.enqueue`` and of ``POST /v1/notifications``; both come here, so they cannot differ.
Invariants, each with a test:

- All that is wrong is named at once, by the caller's own names for it; numbers masked, content not quoted.
- The same call gives the same fingerprint, also later, when its ``send_at`` has passed; another request gives another.
- 100,000 recipients are read within seconds.

Nothing here knows Redis. Checking a WhatsApp object imports pydantic; nothing else here does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from producers import fields
from producers.content_rules import ContentRules, known_variables, whatsapp_of
from producers.job_types import JobType
from producers.phone import EXAMPLE
from producers.problems import Problems, described, nearest, quoted
from producers.recipients import Recipient, Wanted, check_known, read_recipients

FIELDS = (
    "job_type", "to", "text", "variables", "media_urls", "subject", "whatsapp", "send_at", "schedule", "valid_for",
    "priority", "idempotency_key", "metadata", "callback_url",
)  # fmt: skip
CHUNK_RECIPIENTS = 200
JOB_TYPES_SHOWN = 10

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class ValidRequest:
    """A request that can be written as it is.

    Attributes:
        klass: 0 urgent, 1 normal, 2 bulk: the request's own priority, else that of the job type.
        recipients: Each person once, in the order of the request, with variables of their own.
        group: All recipients get one message together.
        content: Of ``text, variables, media_urls, subject, whatsapp`` those that were given.
        send_at_us: Microseconds of the epoch; None is now, also when the time that was asked for has passed.
        schedule: Who holds it until then, ``local`` or ``provider``; None: as its job type says.
        valid_for_us: Counts from the later of enqueue and ``send_at``.
        asked: What the request said of time and priority, before defaults.
    """

    job_type: str
    klass: int
    recipients: list[Recipient] = field(repr=False)
    group: bool = False
    content: dict[str, Any] = field(repr=False)
    send_at_us: int | None = None
    schedule: str | None = None
    valid_for_us: int
    metadata: dict[str, Any] | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)
    idempotency_key: str | None = field(default=None, repr=False)
    asked: dict[str, int | str | None] = field(default_factory=dict, repr=False)

    @property
    def message_count(self) -> int:
        return 1 if self.group else len(self.recipients)

    def chunks(self, size: int = CHUNK_RECIPIENTS) -> list[bytes]:
        """The recipients as JSON lists of ``[number, variables or null]``, ``size`` of them in each."""
        return [fields.compact_json(part) for part in self._parts(size)]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell this request, as it was asked for, from another one; the key is no part of it."""
        rest = {
            "job_type": self.job_type,
            "content": self.content,
            "metadata": self.metadata,
            "callback_url": self.callback_url,
            **self.asked,
        }
        digest = hashlib.sha256(fields.compact_json(rest, sort_keys=True))
        for part in self._parts(CHUNK_RECIPIENTS):
            digest.update(fields.compact_json(part, sort_keys=True))
        return digest.hexdigest()[:16]

    def _parts(self, size: int) -> Iterator[list[Recipient]]:
        for start in range(0, len(self.recipients), size):
            yield self.recipients[start : start + size]


def validate(
    request: Mapping[str, object], job_types: Mapping[str, JobType], *, now_us: int, prefix: str = ""
) -> ValidRequest:
    """``request``, a mapping of enqueue's fields, as a ValidRequest.

    Args:
        job_types: As published.
        now_us: Tells whether ``send_at`` has passed.
        prefix: Goes before the names of fields: ``[3]`` gives ``[3].to``.

    Raises:
        InvalidNotification: Names everything that is wrong.
    """
    problems = Problems()
    valid = _read(request, job_types, problems, now_us=now_us, prefix=prefix)
    if valid is None:
        raise problems.error()
    return valid


def validate_many(
    requests: Iterable[Mapping[str, object]], job_types: Mapping[str, JobType], *, now_us: int
) -> list[ValidRequest]:
    """All of ``requests``, or InvalidNotification with what is wrong in any, named ``[3].to``."""
    problems = Problems()
    valid = []
    for index, request in enumerate(requests):
        if one := _read(request, job_types, problems, now_us=now_us, prefix=f"[{index}]"):
            valid.append(one)
    if problems.total:
        raise problems.error()
    return valid


def _read(
    request: object, job_types: Mapping[str, JobType], problems: Problems, *, now_us: int, prefix: str
) -> ValidRequest | None:
    """The request, or None after everything wrong with it was added to ``problems``."""
    if not isinstance(request, Mapping):
        problems.add(prefix or "notification", described(request), "give an object with the fields of enqueue")
        return None
    before = problems.total
    reader = _Reader(request, problems, prefix)
    reader.refuse_unknown_fields()
    name, job = reader.job_type(job_types)
    content = reader.content()
    recipients = reader.recipients(job, content)
    if job is not None:
        rules = ContentRules(name=name, job=job, read=content, given=reader.given, path=reader.path, problems=problems)
        rules.check()
    send_at_us = reader.read("send_at", partial(fields.send_at_of, now_us=now_us))
    schedule = reader.schedule(job)
    valid_for_us = reader.read("valid_for", fields.valid_for_of)
    priority = reader.read("priority", fields.priority_of)
    key = reader.read("idempotency_key", fields.idempotency_key_of)
    metadata = reader.read("metadata", fields.metadata_of)
    callback_url = reader.read("callback_url", fields.url_of)
    if problems.total > before or job is None:
        return None
    return ValidRequest(
        job_type=name,
        klass=job["class"] if priority is None else priority,
        recipients=recipients,
        group=job["group"],
        content=content,
        send_at_us=send_at_us if send_at_us is not None and send_at_us > now_us else None,
        schedule=schedule,
        valid_for_us=job["valid_for_s"] * 1_000_000 if valid_for_us is None else valid_for_us,
        metadata=metadata,
        callback_url=callback_url,
        idempotency_key=key,
        # what is not given is absent where it came later than the others: a key must outlive a release
        asked={"send_at": send_at_us, "valid_for": valid_for_us, "priority": priority}
        | ({"schedule": schedule} if schedule else {}),
    )


class _Reader:
    """One request, read field by field; None counts as not given."""

    def __init__(self, request: Mapping[Any, object], problems: Problems, prefix: str) -> None:
        self.given = {key: value for key, value in request.items() if value is not None}
        self.problems = problems
        self._prefix = prefix

    def path(self, name: str) -> str:
        return f"{self._prefix}.{name}" if self._prefix else name

    def read(self, name: str, reader: Callable[[object, str, Problems], Value | None]) -> Value | None:
        if name not in self.given:
            return None
        return reader(self.given[name], self.path(name), self.problems)

    def refuse_unknown_fields(self) -> None:
        for key in self.given:
            if key not in FIELDS:
                remedy = nearest(str(key), FIELDS, otherwise="remove it: enqueue has no such field")
                self.problems.add(self.path(quoted(key).strip("'")), "unknown", remedy)

    def job_type(self, job_types: Mapping[str, JobType]) -> tuple[str, JobType | None]:
        name = self.given.get("job_type")
        if isinstance(name, str) and name in job_types:
            return name, job_types[name]
        known = ", ".join(sorted(job_types)[:JOB_TYPES_SHOWN]) or "none"
        otherwise = f"name a job type of notify.toml; they are: {known}"
        remedy = nearest(name, job_types, otherwise=otherwise) if isinstance(name, str) else otherwise
        self.problems.add(self.path("job_type"), "missing" if name is None else quoted(name), remedy)
        return "", None

    def schedule(self, job: JobType | None) -> str | None:
        word = self.read("schedule", fields.schedule_of)
        if word == "provider" and "send_at" not in self.given:
            self.problems.add(self.path("schedule"), quoted(word), "give send_at too: without it nothing is scheduled")
        elif word == "provider" and job is not None and job["channel"] in fields.UNSCHEDULED_CHANNELS:
            remedy = f"remove it: Telnyx schedules no messages of channel {job['channel']}"
            self.problems.add(self.path("schedule"), quoted(word), remedy)
        return word

    def content(self) -> dict[str, Any]:
        read = {
            "text": self.read("text", fields.text_of),
            "variables": self.read("variables", fields.variables_of),
            "media_urls": self.read("media_urls", fields.media_urls_of),
            "subject": self.read("subject", fields.subject_of),
            "whatsapp": self.read("whatsapp", whatsapp_of),
        }
        return {name: value for name, value in read.items() if value}

    def recipients(self, job: JobType | None, content: dict[str, Any]) -> list[Recipient]:
        for_all: dict[str, Any] = content.get("variables", {})
        unread = "variables" in self.given and not for_all and bool(self.given["variables"])
        if job is None or unread:  # a second complaint about what is missing would only mislead
            wanted = Wanted(bsuid=job is None or job["channel"] == "whatsapp", check_variables=False)
        else:
            required = [name for name in job["variables"] if name not in for_all]
            known = known_variables(job)
            check_known(for_all, self.path("variables"), self.problems, known)
            wanted = Wanted(bsuid=job["channel"] == "whatsapp", group=job["group"], required=required, known=known)
        if "to" in self.given:
            recipients = read_recipients(self.given["to"], self.path("to"), self.problems, wanted)
        else:
            recipients = []
            wanted.missing_for_all.update(wanted.required)
            self.problems.add(self.path("to"), "missing", f'write a number like "{EXAMPLE}", or a list of numbers')
        for name in sorted(wanted.missing_for_all):
            self.problems.add(self.path(f"variables.{name}"), "missing", "the template needs it: add it to variables")
        return recipients
