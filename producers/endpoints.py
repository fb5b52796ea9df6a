"""Name the endpoint that a callback goes to: what limits and rests count by, short enough to stand in every record."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def endpoint_of(url: str | None) -> str:
    """8 hex digits of the scheme, host and port of ``url``; "" without one. Two endpoints that share them share limits."""
    if not url:
        return ""
    parts = urlsplit(url)
    where = f"{parts.scheme.lower()}://{(parts.hostname or '').rstrip('.')}:{parts.port or _PORTS.get(parts.scheme.lower())}"
    return hashlib.sha256(where.encode()).hexdigest()[:8]
