"""A stand-in for ``Notifier`` in the tests of apps: full validation, no server.

::

    notifier = FakeNotifier({"otp": {"variables": ["code"], "priority": "urgent"}})
    log_in(notifier, "+13125550100")
    notifier.assert_enqueued("otp", to="+13125550100")

What must stay true, each with a test: its methods have the signatures of ``Notifier``'s, and what the one refuses, the
other refuses with the same error. Nothing is sent, so every message stays ``new`` until ``finish`` or ``cancel``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from producers.errors import EventsGone, IdempotencyConflict, NotFound
from producers.events import Event
from producers.job_types import JobType
from producers.ledger.reading import MessageView
from producers.ledger.states import CLASSES, FINAL, STATES
from producers.notification import ValidRequest, validate, validate_many
from producers.notifier import Status, Ticket, notification_id

__all__ = ["FakeNotifier", "Sent"]

_FINAL_WORDS = frozenset(STATES[letter] for letter in FINAL)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One notification that was enqueued, as validation left it: numbers in E.164, each once.

    ``variables`` are those of the request; ``variables_of`` adds a recipient's own.
    """

    id: str
    job_type: str
    to: list[str]
    text: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    media_urls: list[str] = field(default_factory=list)
    subject: str | None = None
    whatsapp: dict[str, Any] | None = None
    send_at_us: int | None = None
    schedule: str | None = None
    valid_for_us: int
    priority: str
    idempotency_key: str | None = None
    metadata: dict[str, Any] | None = None
    callback_url: str | None = None
    own_variables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def variables_of(self, number: str) -> dict[str, Any]:
        """The variables that the template sees for one recipient."""
        return {**self.variables, **self.own_variables.get(number, {})}


@dataclass
class _Kept:
    sent: Sent
    fingerprint: str
    messages: list[MessageView]


class FakeNotifier:
    """Records what is enqueued.

    Args:
        job_types: By name; of each, what matters to the test. ``variables`` (those its template needs) makes it one with a
            template; without, it takes ``text``. Further: ``optional``, ``priority``, ``channel``, ``template``, ``group``,
            ``whatsapp``, ``media``, ``valid_for_s``, as the published configuration has them.

    Attributes:
        sent: Every notification, oldest first. A repeat under the same idempotency key is not another one.
    """

    def __init__(self, job_types: Mapping[str, Mapping[str, Any]], *, client: str = "test") -> None:
        self.client = client
        self.sent: list[Sent] = []
        self._job_types = {name: _job_type(name, given) for name, given in job_types.items()}
        self._kept: dict[str, _Kept] = {}
        self._events: list[Event] = []

    def enqueue(
        self,
        job_type: str,
        *,
        to: str | Sequence[str | Mapping[str, Any]],
        text: str | None = None,
        variables: Mapping[str, Any] | None = None,
        media_urls: Sequence[str] = (),
        subject: str | None = None,
        whatsapp: Mapping[str, Any] | None = None,
        send_at: datetime | str | None = None,
        schedule: str | None = None,
        valid_for: str | timedelta | None = None,
        priority: str | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
    ) -> Ticket:
        """As ``Notifier.enqueue``; raises InvalidNotification and IdempotencyConflict as it does."""
        given = {
            "job_type": job_type, "to": to, "text": text, "variables": variables, "media_urls": media_urls or None,
            "subject": subject, "whatsapp": whatsapp, "send_at": send_at, "schedule": schedule,
            "valid_for": valid_for, "priority": priority, "idempotency_key": idempotency_key, "metadata": metadata,
            "callback_url": callback_url,
        }  # fmt: skip
        return self._keep(validate(given, self._job_types, now_us=_now_us()))

    def enqueue_many(self, notifications: Iterable[Mapping[str, Any]]) -> list[Ticket]:
        """As ``Notifier.enqueue_many``: nothing is kept if any of them is invalid."""
        return [self._keep(valid) for valid in validate_many(list(notifications), self._job_types, now_us=_now_us())]

    def status(self, id: str, *, limit: int = 100, after: int = -1) -> Status:
        """As ``Notifier.status``; NotFound for an id that this object did not give."""
        kept = self._find(id)
        counts: dict[str, int] = {}
        for message in kept.messages:
            counts[message.state] = counts.get(message.state, 0) + 1
        page = kept.messages[after + 1 : after + 1 + limit]
        return Status(id, kept.sent.job_type, counts, page, all(state in _FINAL_WORDS for state in counts))

    def cancel(self, id: str) -> int:
        """As ``Notifier.cancel``: how many messages were stopped."""
        waiting = sum(message.state not in _FINAL_WORDS for message in self._find(id).messages)
        self.finish(id, "cancelled")
        return waiting

    def events(self, after: str = "0", *, wait_s: float = 0.0) -> Iterator[Event]:
        """As ``Notifier.events``; what ``finish`` and ``cancel`` made. Never waits."""
        if not after.partition("-")[0].isdigit():
            raise EventsGone(after, "0-1")
        seen = int(after.partition("-")[2] or 0)
        yield from self._events[seen:]

    def job_types(self) -> dict[str, Any]:
        """As ``Notifier.job_types``."""
        return dict(self._job_types)

    def finish(self, id: str, state: str = "delivered", *, to: str | None = None) -> None:
        """Let the messages of a notification (or the one to ``to``) end in ``state``, and tell it in ``events``."""
        if state not in _FINAL_WORDS:
            raise ValueError(f"state ({state}): use a final one, which are {', '.join(sorted(_FINAL_WORDS))}")
        kept = self._find(id)
        ended = 0
        for index, message in enumerate(kept.messages):
            is_meant = to is None or to == message.to or (isinstance(message.to, list) and to in message.to)
            if is_meant and message.state not in _FINAL_WORDS:
                kept.messages[index] = _message(message.id, message.to, state, version=message.version + 1)
                self._tell("message.final", id, message.id, state, message.version + 1)
                ended += 1
        if ended and all(message.state in _FINAL_WORDS for message in kept.messages):
            self._tell("notification.finished", id, "", "", 1)

    def assert_enqueued(
        self, job_type: str, *, to: str | Sequence[str] | None = None, variables: Mapping[str, Any] | None = None
    ) -> Sent:
        """Fail unless a notification of ``job_type`` was enqueued; the newest one that fits.

        Args:
            to: A number that is among its recipients, or the list of all of them, in any order.
            variables: Those that every recipient meant must have, with these values; it may have more.
        """
        for sent in reversed(self.sent):
            if sent.job_type == job_type and _fits(sent, to, variables):
                return sent
        wanted = f"{job_type!r}" + (f" to {to}" if to else "") + (f" with {dict(variables)}" if variables else "")
        seen = "\n".join(f"  {sent}" for sent in self.sent) or "  nothing"
        raise AssertionError(f"no notification {wanted} was enqueued; there was\n{seen}")

    def assert_nothing_enqueued(self) -> None:
        """Fail if anything was enqueued."""
        if self.sent:
            seen = "\n".join(f"  {sent}" for sent in self.sent)
            raise AssertionError(f"nothing should have been enqueued; there was\n{seen}")

    def clear(self) -> None:
        """Forget what was enqueued, idempotency keys included."""
        self.sent.clear()
        self._kept.clear()
        self._events.clear()

    def _keep(self, valid: ValidRequest) -> Ticket:
        id = notification_id(self.client, valid.idempotency_key)
        known = self._kept.get(id)
        if known is not None:
            if known.fingerprint != valid.fingerprint:
                raise IdempotencyConflict(id)
            return Ticket(id, len(known.messages))
        sent = _sent(id, valid)
        addresses: list[str | list[str]] = [sent.to] if valid.group else [*sent.to]
        messages = [_message(f"{id}-{index}", address, "new") for index, address in enumerate(addresses)]
        self._kept[id] = _Kept(sent, valid.fingerprint, messages)
        self.sent.append(sent)
        return Ticket(id, len(messages))

    def _find(self, id: str) -> _Kept:
        if id not in self._kept:
            raise NotFound(id)
        return self._kept[id]

    def _tell(self, kind: str, notification: str, message: str, state: str, version: int) -> None:
        number = len(self._events) + 1
        counts = self.status(notification).state_counts if kind == "notification.finished" else None
        self._events.append(
            Event(f"0-{number}", f"{number:032x}", kind, notification, message, state, version, _now_us(), counts)
        )


def _job_type(name: str, given: Mapping[str, Any]) -> JobType:
    known = {*JobType.__annotations__, "priority"}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"job_types.{name}.{unknown[0]} is unknown: use {', '.join(sorted(known))}")
    is_group = bool(given.get("group"))
    filled: dict[str, Any] = {
        "sender": "test", "channel": "group_mms" if is_group else "long_code", "class": CLASSES["normal"],
        "template": "variables" in given or "optional" in given, "variables": [], "valid_for_s": 86_400,
        "callback": False, "whatsapp": False, "group": is_group, "media": False, **given,
    }  # fmt: skip
    if "priority" in filled:
        filled["class"] = CLASSES[filled.pop("priority")]
    return cast(JobType, filled)


def _sent(id: str, valid: ValidRequest) -> Sent:
    content = valid.content
    return Sent(
        id=id,
        job_type=valid.job_type,
        to=[number for number, _ in valid.recipients],
        text=content.get("text"),
        variables=dict(content.get("variables") or {}),
        media_urls=list(content.get("media_urls") or ()),
        subject=content.get("subject"),
        whatsapp=content.get("whatsapp"),
        send_at_us=valid.send_at_us,
        schedule=valid.schedule,
        valid_for_us=valid.valid_for_us,
        priority=next(word for word, klass in CLASSES.items() if klass == valid.klass),
        idempotency_key=valid.idempotency_key,
        metadata=valid.metadata,
        callback_url=valid.callback_url,
        own_variables={number: own for number, own in valid.recipients if own},
    )


def _fits(sent: Sent, to: str | Sequence[str] | None, variables: Mapping[str, Any] | None) -> bool:
    if isinstance(to, str):
        meant = [to]
        if to not in sent.to:
            return False
    else:
        meant = sent.to
        if to is not None and sorted(to) != sorted(sent.to):
            return False
    has = [sent.variables_of(number) for number in meant]
    return all(own.get(name) == value for own in has for name, value in (variables or {}).items())


def _message(id: str, to: str | list[str], state: str, *, version: int = 1) -> MessageView:
    return MessageView(
        id=id,
        to=to,
        lane="test",
        state=state,
        attempts=0,
        provider_id=None,
        from_number=None,
        errors=[],
        timeline=[],
        next_at_us=None,
        members=[(number, state) for number in to] if isinstance(to, list) else [],
        version=version,
        provider_status=None,
        parts=None,
    )


def _now_us() -> int:
    return time.time_ns() // 1000
