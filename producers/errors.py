"""What a caller catches.

One hierarchy: every error that we raise on purpose is a ``NotifyError``, and its ``may_retry`` answers the one question
that a caller has: would the same call be safe and useful later? Only the standard library is imported here, so that
``except NotReady`` costs an app nothing. What must stay true: no message here holds the text of a notification, a whole
phone number, or a secret, for these lines end in logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ERRORS_SHOWN = 10  # by str(); .errors has up to ERRORS_KEPT, .total says how many there were
ERRORS_KEPT = 100


class NotifyError(Exception):
    """Everything we raise on purpose. ``may_retry``: would the same call be safe and useful later?"""

    may_retry = False


class FieldError(NamedTuple):
    """One thing that is wrong with a request.

    Attributes:
        field: Where, as the caller wrote it: ``to[17]``, ``variables.code``, ``[3].to``.
        value: What was found there; a number masked, content described and not quoted.
        remedy: What to do, as a sentence.
    """

    field: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field} ({self.value}): {self.remedy}"


class InvalidNotification(NotifyError, ValueError):
    """The request cannot be taken as it is; nothing was written. Names every field that is wrong, not only the first.

    Attributes:
        errors: The first 100 of them, in the order of the request.
        total: How many there were.
    """

    def __init__(self, errors: Sequence[FieldError], *, total: int | None = None) -> None:
        self.errors = list(errors[:ERRORS_KEPT])
        self.total = max(len(errors), total or 0)
        super().__init__(self._line())

    def __reduce__(self) -> tuple[object, ...]:  # pickling by args alone would hand the line to __init__
        return (_invalid, (self.errors, self.total))

    def _line(self) -> str:
        shown = "; ".join(str(error) for error in self.errors[:ERRORS_SHOWN])
        more = self.total - min(len(self.errors), ERRORS_SHOWN)
        rest = f"; and {more} more" if more > 0 else ""
        return f"invalid notification, nothing was written: {shown}{rest}"


class NotReady(NotifyError):
    """No configuration is published yet, so no job type is known: start web or a worker, and call again."""

    may_retry = True

    def __init__(self, message: str = "no configuration is published: start `notify web` or `notify worker`") -> None:
        super().__init__(message)


class EnqueueError(NotifyError):
    """Redis gave no clear answer in time.

    Attributes:
        id: The id that the notification has, or would have. ``status(id)`` tells, once Redis answers.
        may_exist: True: it may have been written, so call again with the same idempotency key, or look before you do.
            False: nothing was written.
    """

    may_retry = True

    def __init__(self, id: str, *, may_exist: bool, reason: str = "Redis did not answer in time") -> None:
        self.id = id
        self.may_exist = may_exist
        self.reason = reason
        fate = "it may have been written: repeat with the same idempotency_key" if may_exist else "nothing was written"
        what = f"notification {id}" if id else "the notification"
        super().__init__(f"{what} was not confirmed ({reason}); {fate}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_enqueue_error, (self.id, self.may_exist, self.reason))


class IdempotencyConflict(NotifyError):
    """The idempotency key was used before, for a different request. Nothing was written.

    Attributes:
        id: The notification that has the key.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"the idempotency_key belongs to notification {id}, whose request differs: use a new key")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.id,))


class NotFound(NotifyError, LookupError):
    """No such notification: never written, of another client, or older than the retention."""

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"no notification {id}: unknown, of another client, or older than [storage] retention")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.id,))


class EventsGone(NotifyError):
    """The cursor is older than the oldest event kept, so some were missed: read the state anew, then go on from there.

    Attributes:
        cursor: The one that was asked for.
        oldest: The oldest event still kept, or None if the stream is empty.
    """

    def __init__(self, cursor: str, oldest: str | None = None) -> None:
        self.cursor = cursor
        self.oldest = oldest
        super().__init__(f"events after {cursor} are gone, the oldest kept is {oldest}: raise [storage] events")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.cursor, self.oldest))


def _invalid(errors: Sequence[FieldError], total: int) -> InvalidNotification:
    return InvalidNotification(errors, total=total)


def _enqueue_error(id: str, may_exist: bool, reason: str) -> EnqueueError:
    return EnqueueError(id, may_exist=may_exist, reason=reason)
