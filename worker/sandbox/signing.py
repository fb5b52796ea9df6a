"""Sign callbacks as Telnyx does: Ed25519 over ``<timestamp>|<raw body>``."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from nacl.signing import SigningKey

from worker.sandbox.options import OptionError

SEED_BYTES = 32


class Signer:
    """Holds the key pair of one sandbox."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise OptionError(f"a signing seed has {SEED_BYTES} bytes, got {len(seed)}")
        self._key = SigningKey(seed)
        self.public_key = base64.b64encode(bytes(self._key.verify_key)).decode()

    def headers(self, body: bytes, now_s: int) -> dict[str, str]:
        """The two headers that prove ``body``."""
        signature = self._key.sign(b"%d|%b" % (now_s, body)).signature
        return {
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
            "telnyx-timestamp": str(now_s),
        }


def seed_from_file(path: str) -> bytes:
    """Read the seed (base64 of 32 bytes), or make one and write it, readable by its owner only."""
    try:
        text = Path(path).read_text(encoding="ascii")
    except FileNotFoundError:
        seed = os.urandom(SEED_BYTES)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(base64.b64encode(seed).decode() + "\n")
        return seed
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as exc:
        raise OptionError(f"{path} must hold base64 of {SEED_BYTES} bytes: delete it to get a new key") from exc
    if len(seed) != SEED_BYTES:
        raise OptionError(f"{path} must hold base64 of {SEED_BYTES} bytes, got {len(seed)}: delete it to get a new key")
    return seed
