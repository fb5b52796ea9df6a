"""The words of an error as a record keeps them: short, on one line, with no phone number in full."""

from __future__ import annotations

from producers.masking import mask_all

TITLE_MAX_BYTES = 64  # a longer value would quadruple the record that holds it


def short_title(text: str) -> str:
    """``text`` on one line, numbers masked, cut to 64 bytes of UTF-8 between two characters."""
    line = mask_all(" ".join(text.split()))
    raw = line.encode("utf-8", "replace")
    if len(raw) <= TITLE_MAX_BYTES:
        return raw.decode()
    return raw[: TITLE_MAX_BYTES - 3].decode("utf-8", "ignore").rstrip() + "..."
