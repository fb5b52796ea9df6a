"""Which WhatsApp messages need the 24-hour window, and what may go outside it. Pure.

Meta delivers free-form messages for 24 hours after the person last wrote; outside that only an approved template. Source:
developers.telnyx.com, "Send WhatsApp Messages".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.content.rendering import JobTypeContent, render_content
from worker.content.templates import RenderError, TemplateError


def is_free_form(whatsapp: Mapping[str, Any] | None) -> bool:
    """Whether this ``whatsapp_message`` reaches only who wrote within 24 hours."""
    return whatsapp is not None and whatsapp.get("type") != "template"


def template_instead(
    job_type: JobTypeContent, request: Mapping[str, Any], variables: Mapping[str, Any] | None
) -> str | None:
    """The content, as JSON, that takes the place of a free-form message; None where the job type has no template for it."""
    if not job_type.whatsapp_template:
        return None
    without = {key: value for key, value in request.items() if key != "whatsapp"}
    try:
        made = render_content(job_type, without, channel="whatsapp", variables=variables)
    except (RenderError, TemplateError):  # its parameters are not all there: then it cannot go
        return None
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))
