"""What the published configuration says of a job type: all that a producer knows of it."""

from __future__ import annotations

from typing import NotRequired, TypedDict

JobType = TypedDict(
    "JobType",
    {
        "sender": str,
        "channel": str,
        "class": int,  # 0 urgent, 1 normal, 2 bulk
        "template": bool,
        "variables": list[str],  # the template, or the WhatsApp template, cannot do without these
        "optional": NotRequired[list[str]],  # it can use these too
        "valid_for_s": int,
        "callback": bool,
        "endpoint": NotRequired[str],  # of its callback_url; see producers.endpoints
        "whatsapp": bool,  # it brings a WhatsApp template
        "group": bool,  # all recipients get one message together
        "media": bool,  # it brings media
    },
)
