"""What content a job type takes: the rules between fields, and those of its channel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from producers.fields import WHATSAPP_MAX_BYTES, compact_json, json_object_of
from producers.job_types import JobType
from producers.problems import Problems, described, quoted

MEDIA_CHANNELS = frozenset({"short_code", "long_code", "toll_free", "number_pool", "group_mms", "auto"})
WHATSAPP_TEXT_MAX_BYTES = 4096


def known_variables(job: JobType) -> Collection[str] | None:
    """The variables that a job type can use. None: any, for they become the parameters of its WhatsApp template."""
    names = {*job["variables"], *job.get("optional", ())}
    if job["whatsapp"] and not job["template"] and not names:
        return None
    return names


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentRules:
    """The content of one request, to be held against its job type.

    Attributes:
        name: Of the job type.
        read: The fields of content that could be read.
        given: All fields of the request.
        path: Gives a field the name that the caller knows it by.
    """

    name: str
    job: JobType
    read: Mapping[str, Any]
    given: Mapping[Any, object]
    path: Callable[[str], str]
    problems: Problems

    def check(self) -> None:
        """Add what is wrong to ``problems``."""
        if self.templated and "text" in self.given:
            self._complain("text", f'remove it: job type "{self.name}" has a template, and takes variables')
        if self.job["channel"] == "whatsapp":
            self._check_whatsapp()
        else:
            self._check_texting()

    @property
    def templated(self) -> bool:
        return self.job["template"] or (self.job["channel"] == "whatsapp" and self.job["whatsapp"])

    def _check_whatsapp(self) -> None:
        for field in ("media_urls", "subject"):
            if self.given.get(field):
                self._complain(field, 'remove it: WhatsApp takes whatsapp={"type": "image", "image": {"link": ...}}')
        if self.templated and "whatsapp" in self.given:
            self._complain("whatsapp", f'remove it: job type "{self.name}" has a template, and takes variables')
        elif "text" in self.given and "whatsapp" in self.given:
            self._complain("text", "give either text or whatsapp")
        elif not self.templated and "text" not in self.given and "whatsapp" not in self.given:
            self._complain("text", f'give text or whatsapp: job type "{self.name}" has no template')
        if len(self.read.get("text", "").encode()) > WHATSAPP_TEXT_MAX_BYTES:
            self._complain("text", f"shorten it to the {WHATSAPP_TEXT_MAX_BYTES:,} bytes that WhatsApp takes")

    def _check_texting(self) -> None:
        channel = self.job["channel"]
        if "whatsapp" in self.given:
            self._complain("whatsapp", f'remove it: job type "{self.name}" sends by {channel}, not by whatsapp')
        media = bool(self.given.get("media_urls"))
        if media and channel not in MEDIA_CHANNELS:
            self._complain("media_urls", f"remove it: {channel} cannot carry media")
        has_media = media or self.job["media"]
        if "subject" in self.given and not has_media and not self.job["group"]:
            self._complain("subject", "remove it, or add media_urls: only an MMS has a subject")
        if not self.job["template"] and "text" not in self.given and not has_media:
            either = "text or media_urls" if channel in MEDIA_CHANNELS else "text"
            self._complain("text", f'give {either}: job type "{self.name}" has no template')

    def _complain(self, field: str, remedy: str) -> None:
        value = described(self.given[field]) if field in self.given else "missing"
        self.problems.add(self.path(field), value, remedy)


def whatsapp_of(value: object, field: str, problems: Problems) -> dict[str, Any] | None:
    """A WhatsApp object: the caller's own, copied, after it was checked against the models."""
    copied = json_object_of(value, field, problems)
    if copied is None:
        return None
    if len(compact_json(copied)) > WHATSAPP_MAX_BYTES:
        problems.add(field, described(value), f"shorten it to {WHATSAPP_MAX_BYTES:,} bytes of JSON")
        return None
    from pydantic import ValidationError

    from producers.whatsapp import WhatsAppMessage

    try:
        WhatsAppMessage.model_validate(copied)
    except ValidationError as wrong:
        for error in wrong.errors(include_url=False, include_context=False):
            _add(field, dict(error), problems)
        return None
    return copied


def _add(field: str, error: dict[str, Any], problems: Problems) -> None:
    where = field
    for step in error["loc"]:
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
    kind, value = error["type"], error["input"]
    if kind == "missing":
        problems.add(where, "missing", "add it")
    elif kind == "extra_forbidden":
        problems.add(where, described(value), "remove it: there is no such field here")
    else:
        shown = quoted(value) if kind == "literal_error" else described(value)
        problems.add(where, shown, str(error["msg"]).replace("Input should", "it should"))
