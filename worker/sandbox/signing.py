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
    """Read the seed (base64 of 32 bytes), or make one and write it, readable by its owner only.

    Raises:
        OptionError: it can be neither read nor written, or holds something else.
    """
    try:
        text = _read_or_make(Path(path))
    except (OSError, UnicodeDecodeError) as wrong:
        raise OptionError(
            f"key_file {path} cannot be used ({wrong}): give a file that may be read, or written"
        ) from None
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as exc:
        raise OptionError(f"{path} must hold base64 of {SEED_BYTES} bytes: delete it to get a new key") from exc
    if len(seed) != SEED_BYTES:
        raise OptionError(f"{path} must hold base64 of {SEED_BYTES} bytes, got {len(seed)}: delete it to get a new key")
    return seed


def _read_or_make(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        text = base64.b64encode(os.urandom(SEED_BYTES)).decode() + "\n"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        return text
