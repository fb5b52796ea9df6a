"""Merge a job type with what a request brought into the content that goes out.

The result has only the keys that count, always in the order text, media_urls, subject, whatsapp: it is stored and
hashed, and a resend must have the same bytes. Invariants, each with a test:

- The same input gives the same bytes.
- Nothing is sent whose text is blank.
- A WhatsApp template that names no components gets its body parameters from the variables, in the order in which the
  job type's template has them; without a template, in the order of the request. (Meta's parameters have no names.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from worker.content.replacements import replace_typographic
from worker.content.templates import (
    RenderError,
    optional_variables,
    ordered_variables,
    render,
    required_variables,
)

WHATSAPP_TEXT_MAX_BYTES = 4096  # developers.telnyx.com, "Send WhatsApp Messages"


class JobTypeContent(Protocol):
    """What a job type has of content."""

    @property
    def template(self) -> str | None: ...
    @property
    def media_urls(self) -> Any: ...
    @property
    def whatsapp_template(self) -> Mapping[str, Any] | None: ...
    @property
    def smart_replacement(self) -> bool: ...


def variables_of(job_type: JobTypeContent) -> tuple[frozenset[str], frozenset[str]]:
    """The variables that a job type needs, and those that it can use but do without. Raises TemplateError.

    Counts the strings inside the components of a WhatsApp template too.
    """
    sources = [job_type.template] if job_type.template is not None else []
    if job_type.whatsapp_template:
        sources += _strings(job_type.whatsapp_template.get("components") or [])
    required = frozenset[str]().union(*(required_variables(source) for source in sources))
    optional = frozenset[str]().union(*(optional_variables(source) for source in sources))
    return required, optional - required


def render_content(
    job_type: JobTypeContent,
    request: Mapping[str, Any],
    *,
    channel: str = "",
    variables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The final content of one message.

    Args:
        job_type: Gives ``template``, ``media_urls`` and ``whatsapp_template``.
        request: The content of the request: ``text``, ``variables``, ``media_urls``, ``subject``, ``whatsapp``, those
            that it has.
        channel: The channel it leaves by; on ``whatsapp`` everything becomes a WhatsApp object.
        variables: The recipient's own, which win over the request's.

    Raises:
        RenderError: These variables make no message that could be sent.
        TemplateError: The job type's template is wrong (its check at start was passed over).
    """
    merged = {**(request.get("variables") or {}), **(variables or {})}
    if channel == "whatsapp":
        return {"whatsapp": _whatsapp(job_type, request, merged)}
    text = _text(job_type, request, merged)
    media = list(request.get("media_urls") or job_type.media_urls or ())
    if job_type.smart_replacement and not media:  # MMS has no segments
        text = replace_typographic(text)
    content: dict[str, Any] = {}
    if text.strip():
        content["text"] = text
    if media:
        content["media_urls"] = media
    if request.get("subject"):
        content["subject"] = request["subject"]
    if not channel and (request.get("whatsapp") or job_type.whatsapp_template):
        content["whatsapp"] = _whatsapp(job_type, request, merged)
    if not content.keys() - {"subject"}:
        raise RenderError("text", "blank", "give a text, or variables from which the template makes one")
    return content


def _text(job_type: JobTypeContent, request: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    if job_type.template is not None:
        return render(job_type.template, variables)
    return str(request.get("text") or "")


def _whatsapp(job_type: JobTypeContent, request: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    if request.get("whatsapp"):
        return dict(request["whatsapp"])
    if job_type.whatsapp_template:
        return {"type": "template", "template": _template_object(job_type, job_type.whatsapp_template, variables)}
    body = _text(job_type, request, variables)
    if not body.strip():
        raise RenderError("text", "blank", "give a text, or variables from which the template makes one")
    size = len(body.encode("utf-8", "replace"))
    if size > WHATSAPP_TEXT_MAX_BYTES:
        raise RenderError("text", f"{size:,} bytes", f"WhatsApp takes {WHATSAPP_TEXT_MAX_BYTES:,}: shorten it")
    return {"type": "text", "text": {"body": body}}


def _template_object(
    job_type: JobTypeContent, template: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any]:
    language = template["language"]
    made: dict[str, Any] = {
        "name": template["name"],
        "language": dict(language) if isinstance(language, Mapping) else {"code": language},
    }
    if template.get("components") is not None:
        components = _filled(template["components"], variables)
    else:
        components = _body_in_order(job_type.template, variables)
    if components:
        made["components"] = components
    return made


def _body_in_order(template: str | None, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = tuple(variables) if template is None else ordered_variables(template)
    if not names:
        return []
    parameters = []
    for name in names:
        if name not in variables:  # a parameter left out would move all after it to the wrong place
            raise RenderError(f"variables.{name}", "missing", "the WhatsApp template's parameters need it: add it")
        parameters.append({"type": "text", "text": _parameter(name, render("{{ value }}", {"value": variables[name]}))})
    return [{"type": "body", "parameters": parameters}]


def _parameter(name: str, text: str) -> str:
    if not text.strip():
        raise RenderError(f"variables.{name}", "blank", "WhatsApp takes no empty parameter: give a value")
    return text


def _filled(part: Any, variables: Mapping[str, Any]) -> Any:
    """A copy of ``part`` whose strings are rendered."""
    if isinstance(part, str):
        return render(part, variables)
    if isinstance(part, Mapping):
        return {key: _filled(value, variables) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_filled(value, variables) for value in part]
    return part


def _strings(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    if isinstance(part, Mapping):
        return [text for value in part.values() for text in _strings(value)]
    if isinstance(part, list | tuple):
        return [text for value in part for text in _strings(value)]
    return []
