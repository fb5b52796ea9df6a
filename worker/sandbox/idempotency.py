"""Idempotency-Key as Telnyx documents it.

A record is key + method + path. Query and body must match byte for byte. While the first request runs, others get
409; afterwards only a success is replayed, a failure leaves nothing behind. That is also the trap it reproduces: a
500 that did accept the message is no success, so the same key sends a second one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.sandbox.messages import Message
from worker.sandbox.refusals import Refusal

_SYNTAX = re.compile(r"[A-Za-z0-9_:-]{1,255}")

RecordName = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class KeyRecord:
    """One use of a key. ``message`` is None while the first request runs."""

    name: RecordName
    digest: bytes
    made_s: float
    message: Message | None = None


class Keys:
    """Records by key, method and path; at most ``keep``, each for ``kept_s``."""

    def __init__(self, *, keep: int, kept_s: float) -> None:
        self._keep = keep
        self._kept_s = kept_s
        self._records: dict[RecordName, KeyRecord] = {}

    def begin(self, name: RecordName, digest: bytes, now_s: float) -> KeyRecord:
        """A new record, or the finished one (``message`` set) whose answer is to be replayed.

        Raises:
            Refusal: 10015 for a malformed key, 10027 (422) for another body, 10036 (409) while in progress.
        """
        if not _SYNTAX.fullmatch(name[0]):
            raise Refusal("10015", "Idempotency-Key must be 1 to 255 characters of A-Z a-z 0-9 _ - :")
        found = self._records.get(name)
        if found is not None and now_s - found.made_s > self._kept_s:
            del self._records[name]
            found = None
        if found is None:
            record = self._records[name] = KeyRecord(name, digest, now_s)
            if len(self._records) > self._keep:
                del self._records[next(iter(self._records))]
            return record
        if found.digest != digest:
            raise Refusal("10027", "This Idempotency-Key was used with a different request.")
        if found.message is None:
            raise Refusal("10036", "A request with this Idempotency-Key is still being processed.")
        return found

    def drop(self, record: KeyRecord) -> None:
        """Forget a request that did not end in a success."""
        if self._records.get(record.name) is record:
            del self._records[record.name]

    def clear(self) -> None:
        self._records.clear()
