"""Enqueue notifications, ask for their fate, cancel them, follow events: the public Python API.

``enqueue`` returns once the ledger has the notification; from then on nothing is lost while Redis keeps what it
acknowledged. Calls block for at most the deadline (5 s); call them in a thread from an event loop. One Notifier may be
shared by threads, and used after a fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from producers.errors import EnqueueError, EventsGone, IdempotencyConflict, InvalidNotification, NotFound, NotReady
from producers.events import Event, as_fields, event_of
from producers.fault_points import reach

if TYPE_CHECKING:
    from producers.ledger.calls import Submission
    from producers.ledger.ledger import Ledger
    from producers.ledger.reading import MessageView, NotificationView
    from producers.notification import ValidRequest
    from producers.pointers import Pointers

T = TypeVar("T")

CONFIG_FRESH_S = 5.0
SUBMITS_A_TRIP, RECIPIENTS_A_TRIP = 500, 20_000
CONNECTIONS = 66
_STREAM_ID = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


class Ticket(NamedTuple):
    """``messages`` counts messages; a group is one."""

    id: str
    messages: int


class Enqueued(NamedTuple):
    """A ticket, and whether the idempotency key had been used for this same request before."""

    ticket: Ticket
    repeated: bool


class Stopped(NamedTuple):
    """What a cancel did: ``asked_back`` counts what the provider holds for its time, and is to give back."""

    messages: int
    asked_back: int


class Status(NamedTuple):
    """The state of a notification. ``state_counts`` counts all messages by state; ``messages`` is one page of them."""

    id: str
    job_type: str
    state_counts: dict[str, int]
    messages: list[MessageView]
    is_final: bool


@dataclass
class _Published:
    digest: bytes
    config: dict[str, Any]
    read_at: float


class Notifier:
    """Puts notifications into one namespace of one Redis, in the name of one client.

    Args:
        redis_url: ``redis://``, ``rediss://`` (also with ``?ssl_cert_reqs=none``) or ``unix://``.
        client: Who enqueues; idempotency keys of different clients never meet.
        namespace: As the service's NOTIFY_NAMESPACE.
        deadline_s: The longest that a call repeats itself while Redis is away.
    """

    def __init__(
        self, redis_url: str, *, client: str = "default", namespace: str = "notify", deadline_s: float = 5.0
    ) -> None:
        from producers.ledger.connection import connect
        from producers.ledger.ledger import Ledger
        from producers.pointers import Pointers

        self.client = client
        self._deadline_s = deadline_s
        redis = connect(redis_url, max_connections=CONNECTIONS)
        self._ledger = Ledger(redis, namespace)
        self._pointers: Pointers = Pointers(redis, namespace)
        self._published: _Published | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """A Notifier by REDIS_URL, NOTIFY_NAMESPACE (notify) and NOTIFY_CLIENT (default)."""
        env = os.environ if environ is None else environ
        if not env.get("REDIS_URL"):
            raise NotReady("REDIS_URL is not set: give the service's Redis, such as redis://localhost:6379/0")
        return cls(
            env["REDIS_URL"],
            client=env.get("NOTIFY_CLIENT") or "default",  # empty is not set, as for the service
            namespace=env.get("NOTIFY_NAMESPACE") or "notify",
        )

    @property
    def ledger(self) -> Ledger:
        return self._ledger

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
        """Enqueue one notification of ``job_type`` to one number, or to a list of up to 100,000.

        Args:
            to: E.164 numbers; a list may hold ``{"to": number, "variables": {...}}``. Duplicates count once.
            variables: For the job type's template.
            send_at: An aware datetime or RFC 3339 with offset; not before this instant.
            schedule: Who holds it until then: ``"local"`` or ``"provider"`` (Telnyx, 5 minutes to 5 days ahead); default: the
                job type's.
            valid_for: ``"5m"`` or a timedelta, from the later of now and ``send_at``; after it nothing is sent.
            priority: urgent, normal or bulk, instead of the job type's.
            idempotency_key: The same key with the same request gives the same ticket, for as long as the record lives.

        Raises:
            InvalidNotification: names every field that is wrong; nothing was written.
            IdempotencyConflict: the key belongs to another request; nothing was written.
            EnqueueError: Redis gave no clear answer in time; ``may_exist`` says whether it may be there.
            NotReady: no configuration is published yet.
        """
        given = {
            "job_type": job_type, "to": to, "text": text, "variables": variables, "media_urls": media_urls or None,
            "subject": subject, "whatsapp": whatsapp, "send_at": send_at, "schedule": schedule,
            "valid_for": valid_for, "priority": priority, "idempotency_key": idempotency_key, "metadata": metadata,
            "callback_url": callback_url,
        }  # fmt: skip
        return self.enqueue_as(self.client, {k: v for k, v in given.items() if v is not None}).ticket

    def enqueue_many(self, notifications: Iterable[Mapping[str, Any]]) -> list[Ticket]:
        """Enqueue many in few round trips: mappings of enqueue's fields. Tickets in the order given.

        Raises:
            InvalidNotification: names the fields of every bad row as ``[3].to``; nothing was written.
            IdempotencyConflict, EnqueueError: for the first row that met it; other rows may have been written, and the
                same call again (with idempotency keys) completes it.
        """
        from producers.notification import validate_many

        rows = list(notifications)
        valid = self._checked(lambda job_types: validate_many(rows, job_types, now_us=_now_us()))
        tickets = []
        for result in self._submit_all(self.client, valid):
            if isinstance(result, Exception):
                raise result
            tickets.append(result.ticket)
        return tickets

    def enqueue_as(self, client: str, fields: Mapping[str, Any]) -> Enqueued:
        """Enqueue one for ``client``, from a mapping of enqueue's fields; see :meth:`enqueue` for what it raises."""
        from producers.notification import validate

        valid = self._checked(lambda job_types: validate(fields, job_types, now_us=_now_us()))
        result = self._submit_all(client, [valid])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def enqueue_many_as(
        self, client: str, rows: Sequence[Mapping[str, Any]]
    ) -> list[Enqueued | InvalidNotification | IdempotencyConflict | EnqueueError]:
        """Enqueue what is good of ``rows`` for ``client``; each answer, or what was wrong, in its place."""
        from producers.notification import validate

        job_types = self.job_types()
        outcome: dict[int, Enqueued | InvalidNotification | IdempotencyConflict | EnqueueError] = {}
        good: list[tuple[int, ValidRequest]] = []
        for i, row in enumerate(rows):
            try:
                good.append((i, validate(row, job_types, now_us=_now_us(), prefix=f"[{i}]")))
            except InvalidNotification as error:
                outcome[i] = error
        for (i, _), result in zip(good, self._submit_all(client, [v for _, v in good]), strict=True):
            outcome[i] = result
        return [outcome[i] for i in range(len(rows))]

    def status(self, id: str, *, limit: int = 100, after: int = -1) -> Status:
        """The state of a notification of this client, with ``limit`` messages after index ``after``.

        Raises:
            NotFound: unknown, another client's, or older than the retention.
        """
        view = self._read(id, limit=limit, after=after)
        return Status(view.id, view.job_type, view.state_counts, view.messages, view.is_final)

    def cancel(self, id: str) -> int:
        """Stop what has not left yet; how many messages were stopped. Safe to repeat.

        What the provider holds for its time is asked back, and not counted: its state tells when the provider has answered.

        Raises:
            NotFound: unknown, another client's, or older than the retention.
        """
        self._read(id, limit=0)
        return self.cancel_any(id)

    def cancel_any(self, id: str) -> int:
        """As :meth:`cancel`, whoever's it is: for operators and the API, which have checked."""
        return self.stop_any(id).messages

    def stop_any(self, id: str) -> Stopped:
        """As :meth:`cancel_any`, and how many are asked back from the provider."""
        from producers.ledger import calls

        stopped, asked_back, start = 0, 0, 0
        while True:
            at = start
            answer = self._answered(id, lambda at=at: self._ledger.run(calls.cancel(id, at)))  # type: ignore[misc]
            if answer is None:
                raise NotFound(id)
            stopped += answer[0]
            asked_back += answer.asked_back
            if answer[1] is None:
                return Stopped(stopped, asked_back)
            start = answer[1]

    def events(self, after: str = "0", *, wait_s: float = 0.0) -> Iterator[Event]:
        """Events of all clients after a cursor, oldest first; ends when there is nothing new for ``wait_s``.

        Raises:
            EventsGone: the cursor is older than the oldest event kept, so some were missed.
        """
        redis: Any = self._ledger.redis
        stream = self._ledger.key("ev")
        self._refuse_gap(redis, stream, after)
        cursor = after
        deadline = time.monotonic() + wait_s
        while True:
            rows = redis.xrange(stream, min=f"({cursor}" if cursor != "0" else "-", count=500)
            for cursor_bytes, fields in rows:
                cursor = cursor_bytes.decode()
                yield event_of(cursor, as_fields(fields))
            if rows:
                deadline = time.monotonic() + wait_s
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            redis.xread({stream: cursor}, count=1, block=max(1, int(min(left, 1.0) * 1000)))

    def job_types(self) -> dict[str, Any]:
        """The published job types: class, required variables, channel of each.

        Raises:
            NotReady: no configuration is published yet.
        """
        return dict(self._config()["job_types"])

    @staticmethod
    def _refuse_gap(redis: Any, stream: str, after: str) -> None:
        if after == "0":
            return
        asked = _stream_id(after)
        oldest = redis.xrange(stream, count=1)
        if not oldest:
            return
        first = oldest[0][0].decode()
        if asked < _stream_id(first) and not redis.xrange(stream, min=after, max=after):
            raise EventsGone(after, first)

    def _read(self, id: str, *, limit: int, after: int = -1) -> NotificationView:
        from producers.ledger.reading import read_notification

        if len(id) != 32 or any(c not in "0123456789abcdef" for c in id):
            raise NotFound(id[:40])
        view = self._answered(id, lambda: read_notification(self._ledger, id, limit=limit, after=after))
        if view is None or view.client != self.client:
            raise NotFound(id)
        return view

    def _answered(self, id: str, call: Callable[[], T]) -> T:
        from producers.retrying import until_answered

        return until_answered(call, id=id, deadline_s=self._deadline_s)

    def _config(self, *, anew: bool = False) -> dict[str, Any]:
        known = self._published
        if known and not anew and time.monotonic() - known.read_at < CONFIG_FRESH_S:
            return known.config
        key = self._ledger.key("cfg")
        redis: Any = self._ledger.redis
        digest, body = self._answered("", lambda: redis.hmget(key, "digest", "json"))
        if not body:
            raise NotReady
        if not known or known.digest != digest:
            known = _Published(digest, json.loads(body), 0.0)
        known.read_at = time.monotonic()
        self._published = known
        return known.config

    def _checked(self, check: Callable[[Mapping[str, Any]], Any]) -> Any:
        """Validate against the job types known here; on a refusal once more against what is published now."""
        had = self._published
        try:
            return check(self._config()["job_types"])
        except InvalidNotification:
            if had is None or self._config(anew=True) is had.config:
                raise
            return check(self._config()["job_types"])

    def _submit_all(
        self, client: str, valid: Sequence[ValidRequest]
    ) -> list[Enqueued | IdempotencyConflict | EnqueueError]:
        from producers.ledger import calls
        from producers.ledger.states import URGENT
        from producers.pointers import URGENT_RECIPIENTS

        job_types = self.job_types() if valid else {}
        endpoints = {name: str(job.get("endpoint", "")) for name, job in job_types.items()}
        submissions = [_submission(client, v, endpoints.get(v.job_type, "")) for v in valid]
        results: list[Enqueued | IdempotencyConflict | EnqueueError] = []
        for trip in _trips(submissions):
            reach("submit.before")
            try:
                replies = self._answered(
                    trip[0].id,
                    lambda trip=trip: _raised(self._ledger.run_many([calls.submit(s) for s in trip])),  # type: ignore[misc]
                )
            except EnqueueError as error:
                results += [EnqueueError(s.id, may_exist=error.may_exist, reason=error.reason) for s in trip]
                continue
            reach("submit.after")
            fresh = []
            for s, reply in zip(trip, replies, strict=True):
                if reply.outcome == "conflict":
                    results.append(IdempotencyConflict(s.id))
                    continue
                results.append(Enqueued(Ticket(s.id, reply.messages), reply.outcome == "repeated"))
                if reply.outcome == "created":
                    fresh.append((s.id, s.klass == URGENT and s.messages <= URGENT_RECIPIENTS, s.messages))
            self._point(fresh)
        return results

    def _point(self, fresh: Sequence[tuple[str, bool, int]]) -> None:
        from redis.exceptions import RedisError

        with suppress(RedisError):  # the ledger has them: a timer points again within 10 s
            if fresh:
                reach("pointer.before")
                self._pointers.expand_many(fresh)
                reach("pointer.after")


def notification_id(client: str, key: str | None) -> str:
    """32 hex digits: a hash of client and idempotency key, or a new uuid7."""
    if key is not None:
        return hashlib.sha256(f"{client}\0{key}".encode()).hexdigest()[:32]
    from uuid_utils import uuid7

    return str(uuid7().hex)


def _submission(client: str, v: ValidRequest, endpoint: str) -> Submission:
    from producers.endpoints import endpoint_of
    from producers.fields import compact_json
    from producers.ledger.calls import Submission

    content = {**v.content, "schedule": v.schedule} if v.schedule else v.content
    if v.message_count == 1:
        if not v.group and v.recipients[0][1]:
            content = {**content, "variables": {**content.get("variables", {}), **v.recipients[0][1]}}
        recipients: list[str | bytes] = [",".join(number for number, _ in v.recipients)]
    else:
        recipients = list(v.chunks())
    extras = {k: value for k, value in (("metadata", v.metadata), ("callback_url", v.callback_url)) if value}
    return Submission(
        id=notification_id(client, v.idempotency_key),
        client=client,
        fingerprint=v.fingerprint,
        job_type=v.job_type,
        klass=v.klass,
        valid_for_us=v.valid_for_us,
        send_at_us=v.send_at_us or 0,
        messages=v.message_count,
        group=v.group,
        content=compact_json(content),
        extras=compact_json(extras) if extras else b"",
        recipients=recipients,
        endpoint=endpoint_of(v.callback_url) or endpoint,
    )


def _trips(submissions: Sequence[Submission]) -> Iterator[list[Submission]]:
    trip: list[Submission] = []
    load = 0
    for s in submissions:
        if trip and (len(trip) >= SUBMITS_A_TRIP or load + s.messages > RECIPIENTS_A_TRIP):
            yield trip
            trip, load = [], 0
        trip.append(s)
        load += s.messages
    if trip:
        yield trip


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _stream_id(text: str) -> tuple[int, int]:
    found = _STREAM_ID.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no cursor: pass "0", or the cursor of an event')
    return int(found[1]), int(found[2] or 0)


def _now_us() -> int:
    return time.time_ns() // 1000
