"""Whether Telnyx's callbacks find us, and whether we would believe them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker.doctor.report import Check
from worker.settings import Settings
from worker.telnyx.builder import WEBHOOK_PATH
from worker.telnyx.signatures import BadSignature, Verifier

ANSWER_S = 5.0
FOREVER_S = 1e12
REAL = "telnyx.com"
_KEY_REMEDY = "set TELNYX_PUBLIC_KEY to the public key under Keys & Credentials in the Telnyx portal"


def examine_webhooks(settings: Settings, recorded: Path | None) -> list[Check]:
    return [*_public_url(settings), *_public_key(settings, recorded)]


def _public_url(settings: Settings) -> Iterator[Check]:
    name, url = "public url", settings.public_url
    if url is None:
        polls = settings.loaded_config is not None and settings.config.receipts.mode == "poll"
        if polls:
            yield Check(name, "skipped", 'not needed: [receipts] mode is "poll"')
        return  # a missing one is a problem of the settings
    is_real = _host(settings.telnyx_base_url).endswith(REAL)
    if is_real and _is_private(_host(url)):
        yield Check(
            name, "failed", f"{url} is an address that Telnyx cannot reach", "use one of the internet, or a tunnel"
        )
        return
    if is_real and not url.startswith("https:"):
        yield Check(name, "warning", f"{url} is not encrypted: texts of people pass in the clear", "use https")
    yield _answer(name, url.rstrip("/") + WEBHOOK_PATH)


def _answer(name: str, url: str) -> Check:
    """An unsigned callback must be turned away, by us: 401 and nothing else."""
    import httpx

    start = "start `notify web` there, or correct PUBLIC_URL"
    try:
        status = httpx.post(url, content=b"{}", timeout=ANSWER_S, trust_env=False).status_code
    except httpx.HTTPError as error:
        return Check(name, "failed", f"nobody answers at {url} ({type(error).__name__})", start)
    if status == 401:
        return Check(name, "ok", f"{url} answers, and takes nothing unsigned")
    if status == 503:
        return Check(name, "warning", f"{url} answers 503: its Redis is away, or nothing is published yet", start)
    found = f"{url} answers {status} where `notify web` answers 401: something else is there"
    return Check(name, "failed", found, start)


def _public_key(settings: Settings, recorded: Path | None) -> Iterator[Check]:
    if not settings.telnyx_public_keys:
        return  # a missing one is a problem of the settings
    if recorded is not None:
        yield check_recorded(settings.telnyx_public_keys, recorded)
    elif _host(settings.telnyx_base_url).endswith(REAL):
        found = "not tried: Telnyx tells it nowhere but in the portal"
        yield Check("public key", "skipped", found, "give a recorded webhook: notify doctor --webhook FILE")
    else:
        yield from _of_sandbox(settings)


def check_recorded(keys: tuple[bytes, ...], file: Path) -> Check:
    """A recorded webhook (headers, an empty line, the body; or JSON with ``headers`` and ``body``) against our keys."""
    name = "public key"
    try:
        headers, body = read_recorded(file.read_bytes())
    except (OSError, ValueError) as error:
        remedy = "record headers, an empty line and the body, or JSON with headers and body"
        return Check(name, "failed", f"cannot read {file} ({error})", remedy)
    try:
        Verifier(keys, FOREVER_S).verify(
            body, headers.get("telnyx-signature-ed25519"), headers.get("telnyx-timestamp"), 0.0
        )
    except BadSignature as error:
        return Check(name, "failed", f"no key of ours verifies {file} ({error.reason})", _KEY_REMEDY)
    return Check(name, "ok", f"verifies {file}")


def read_recorded(raw: bytes) -> tuple[dict[str, str], bytes]:
    """Headers (in small letters) and body. Raises ValueError."""
    if raw.lstrip().startswith(b"{"):
        recorded = json.loads(raw)
        headers, body = recorded.get("headers"), recorded.get("body")
        if not isinstance(headers, Mapping) or not isinstance(body, str):
            raise ValueError("headers or body are missing")
        return {str(k).lower(): str(v) for k, v in headers.items()}, body.encode()
    head, separator, body_bytes = raw.partition(b"\r\n\r\n" if b"\r\n\r\n" in raw else b"\n\n")
    if not separator:
        raise ValueError("no empty line ends its headers")
    lines = [line.split(":", 1) for line in head.decode("latin-1").splitlines() if ":" in line]
    return {key.strip().lower(): value.strip() for key, value in lines}, body_bytes


def _of_sandbox(settings: Settings) -> Iterator[Check]:
    import base64

    import httpx

    url = settings.telnyx_base_url.removesuffix("/v2") + "/sandbox/public_key"
    try:
        answer: Any = httpx.get(url, timeout=ANSWER_S, trust_env=False)
        key = base64.b64decode(answer.text, validate=True) if answer.status_code == 200 else b""
    except (httpx.HTTPError, ValueError):
        key = b""
    if len(key) != 32:
        yield Check("public key", "skipped", "not tried: TELNYX_BASE_URL is neither Telnyx nor a sandbox of ours")
    elif key in settings.telnyx_public_keys:
        yield Check("public key", "ok", "the sandbox's own")
    else:
        yield Check(
            "public key",
            "failed",
            "is not the sandbox's: every callback is refused",
            f"set TELNYX_PUBLIC_KEY to what {url} says",
        )


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".internal", ".localhost")) or "." not in host
