"""Check that a callback is Telnyx's own: Ed25519 over ``timestamp|raw body``.

Only those bytes are signed: neither the URL nor its query. A replay within the tolerance passes, so whoever applies an
event must bear copies. Source: Telnyx OpenAPI ``webhooks.deliveryUpdate``; tolerance as in Telnyx's SDK and pages.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Literal

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

__all__ = ["BadSignature", "Reason", "Verifier", "decode_key"]

Reason = Literal["missing_signature", "missing_timestamp", "malformed", "stale", "mismatch"]

_SECONDS = re.compile(r"[0-9]{1,15}")


class BadSignature(Exception):
    """The callback is not proven to be Telnyx's. ``reason`` is safe to answer and to log."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def decode_key(text: str) -> bytes:
    """The 32 bytes of a public key as the portal shows it. Raises ValueError that says what is wrong."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("TELNYX_PUBLIC_KEY is not base64: copy it from the portal, Keys & Credentials") from None
    if len(key) != 32:
        raise ValueError(f"TELNYX_PUBLIC_KEY has {len(key)} bytes, must have 32: copy the public key from the portal")
    return key


class Verifier:
    """Verify with any of several keys, so that a rotation loses no callback."""

    def __init__(self, keys: Sequence[bytes], tolerance_s: float = 300) -> None:
        if not keys:
            raise ValueError("keys is empty: give at least one public key")
        self._keys = [VerifyKey(key) for key in keys]
        self._tolerance_s = tolerance_s

    def verify(self, raw: bytes, signature_b64: str | None, timestamp: str | None, now_s: float) -> None:
        """Return for a genuine callback.

        Args:
            raw: The body as received, before any parsing.
            signature_b64: Header ``telnyx-signature-ed25519``.
            timestamp: Header ``telnyx-timestamp``, Unix seconds.
            now_s: Our Unix time.

        Raises:
            BadSignature: With the reason. A stale one is checked before the signature: it is cheaper.
        """
        if not signature_b64:
            raise BadSignature("missing_signature")
        if not timestamp:
            raise BadSignature("missing_timestamp")
        signature = _decode_signature(signature_b64)
        if not _SECONDS.fullmatch(timestamp):
            raise BadSignature("malformed")
        if abs(now_s - int(timestamp)) > self._tolerance_s:
            raise BadSignature("stale")
        signed = timestamp.encode("ascii") + b"|" + raw
        if not any(_matches(key, signed, signature) for key in self._keys):
            raise BadSignature("mismatch")


def _decode_signature(signature_b64: str) -> bytes:
    try:
        signature = base64.b64decode(signature_b64, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature("malformed") from None
    if len(signature) != 64:
        raise BadSignature("malformed")
    return signature


def _matches(key: VerifyKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signed, signature)
    except BadSignatureError:
        return False
    return True
