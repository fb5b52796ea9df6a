"""Write what an app is told: the present state of an entry, a notification's counts, or one event of the stream.

A callback is level-triggered: what is owed names its subject alone, and the letter is written when it is sent. Invariants,
each with a test named after it:

- The id and the version are those of the same event on the stream, on every repeat.
- What has changed again since it was owed is told as it is now; what is on its way again is not told at all.
- Of an opt-out, only what still holds is told: no repeat hours later opts in who has opted out since.
- No text of ours is told; what a person wrote is, as long as it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from producers.events import (
    INBOUND_RECEIVED,
    MESSAGE_CORRECTED,
    MESSAGE_FINAL,
    NOTIFICATION_FINISHED,
    OPT_OUT_CHANGED,
    Event,
    as_fields,
    event_id,
    event_of,
)
from producers.ledger.ledger import Ledger
from producers.ledger.reading import MessageView, read_message, read_notification
from producers.ledger.states import FINAL, LETTERS, STATES
from worker.compliance.opt_outs import read_opt_out
from worker.inbound import read_inbound
from worker.settings import Config
from worker.times import rfc3339

SCHEMA = 1  # of the body; fields may be added under the same number

_FINAL_WORDS = frozenset(STATES[letter] for letter in FINAL)


@dataclass(frozen=True, slots=True)
class Letter:
    """One call to make: ``url`` and ``body`` reach no log."""

    id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the messages of a notification have in common."""

    id: str
    job_type: str
    url: str
    metadata: Any
    finishes: int
    finished_us: int


def write_letter(item: str, *, ledger: Ledger, config: Config) -> Letter | None:
    """The letter about ``item`` as things stand, or None: there is nothing to tell, or nobody who wants it.

    Raises:
        redis.RedisError: the ledger is away.
    """
    kind, subject = item[:1], item[1:]
    event = _event(ledger, subject) if kind == "e" else None
    if kind == "e" and event is None:
        return None  # the stream is bounded, and this one has left it
    if event is not None and event.type == OPT_OUT_CHANGED:
        return _of_opt_out(ledger, config, event)
    answered = (
        (event.details or {}).get("reply_to") if event else None
    )  # of what a person wrote: the message it replies to
    about = answered or event.notification or event.message if event else subject
    head = _head(ledger, config, about[:32])
    if head is None:
        return None
    if event is not None:
        told = _told(head, event.id, event.type, event.version, event.at)
        more: dict[str, Any] = {"message": event.message or None, "state": event.state or None}
        if event.type == INBOUND_RECEIVED:
            more |= _inbound(ledger, event)
        return _letter(head.url, {**told, **(event.details or {}), **more})
    return _of_message(ledger, head, subject) if kind == "m" else _of_notification(ledger, head)


def _inbound(ledger: Ledger, event: Event) -> dict[str, Any]:
    """What a person wrote, as it is kept: with its text, in the very form in which an actor gets it. Null once it is erased."""
    details = event.details or {}
    kept = read_inbound(ledger, entry=details["inbound"])
    return {"message": details.get("reply_to") or None, "inbound": kept[0].payload() if kept else None}


def _of_opt_out(ledger: Ledger, config: Config, event: Event) -> Letter | None:
    """None once the person has changed their mind: that is told by a letter of its own, and may have been told already."""
    url, said, number = config.callbacks.opt_outs, event.details or {}, event.message
    if url is None or read_opt_out(ledger, number, said["scope"]).opted_out != (event.state == "out"):
        return None
    body = {
        "type": event.type, "id": event.id, "schema": SCHEMA, "notification": None, "message": None, "state": event.state,
        "version": event.version, "at": rfc3339(event.at), "number": number, "scope": said["scope"],
        "source": said["source"], "occurred_at": rfc3339(int(said["occurred_us"])),
    }  # fmt: skip
    return _letter(url, body)


def _of_message(ledger: Ledger, head: _Head, entry: str) -> Letter | None:
    mark, view = _marked(ledger, entry)
    if mark is None or view is None or view.state not in _FINAL_WORDS:
        return None
    version = int(mark[1:])
    kind = MESSAGE_FINAL if mark[:1] == b"f" else MESSAGE_CORRECTED
    id = event_id(kind, entry, version, LETTERS[view.state])
    told = _told(head, id, kind, version, view.timeline[-1].at_us)
    return _letter(head.url, {**told, "message": entry, "state": view.state, **_details(view)})


def _marked(ledger: Ledger, entry: str) -> tuple[bytes | None, MessageView | None]:
    """What is owed of an entry, and the entry as it was then: a correction in between would make an event of two."""
    redis: Any = ledger.redis
    mark = redis.hget(ledger.key(f"m:{entry}"), "ck")
    while True:
        before, view = mark, read_message(ledger, entry)
        mark = redis.hget(ledger.key(f"m:{entry}"), "ck")
        if mark == before:
            return mark, view


def _of_notification(ledger: Ledger, head: _Head) -> Letter | None:
    view = read_notification(ledger, head.id, limit=0)
    if view is None or not view.is_final:
        return None
    id = event_id(NOTIFICATION_FINISHED, head.id, head.finishes, "")
    told = _told(head, id, NOTIFICATION_FINISHED, head.finishes, head.finished_us)
    return _letter(head.url, {**told, "message": None, "state": None, "counts": view.state_counts})


def _told(head: _Head, id: str, kind: str, version: int, at_us: int) -> dict[str, Any]:
    return {
        "type": kind, "id": id, "schema": SCHEMA, "notification": head.id, "version": version, "at": rfc3339(at_us),
        "job_type": head.job_type, "metadata": head.metadata,
    }  # fmt: skip


def _details(view: MessageView) -> dict[str, Any]:
    return {
        "to": view.to,
        "from": view.from_number,
        "attempts": view.attempts,
        "leg": view.leg,
        "provider_id": view.provider_id,
        "errors": [
            {"code": row["code"], "title": row["title"], "phase": row["phase"], "at": rfc3339(row["at_us"])}
            for row in view.errors
        ],
        "members": [{"to": to, "state": state} for to, state in view.members],
    }


def _letter(url: str, body: Mapping[str, Any]) -> Letter:
    return Letter(str(body["id"]), url, json.dumps(body, separators=(",", ":")).encode())


def _head(ledger: Ledger, config: Config, nid: str) -> _Head | None:
    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.hmget(ledger.key(f"n:{nid}"), "cb", "jt", "fin", "fna")
        pipe.hmget(ledger.key(f"m:{nid}-0"), "cb", "jt", "nl")
        pipe.get(ledger.key(f"x:{nid}"))
        many, lone, extras = pipe.execute()
    wants, job_type = (many if many[1] else lone)[:2]
    if not wants or not job_type:
        return None
    given = json.loads(extras) if extras else {}
    name = job_type.decode()
    job = config.job_types.get(name)
    url = given.get("callback_url") or (job.callback_url if job is not None else None)
    if not url:
        return None
    if many[1]:
        return _Head(nid, name, url, given.get("metadata"), int(many[2] or 1), int(many[3] or 0))
    view = read_message(ledger, f"{nid}-0")
    ended_us = view.timeline[-1].at_us if view is not None else 0
    return _Head(nid, name, url, given.get("metadata"), int(lone[2] or 1), ended_us)


def _event(ledger: Ledger, place: str) -> Event | None:
    redis: Any = ledger.redis
    rows = redis.xrange(ledger.key("ev"), min=place, max=place)
    return event_of(place, as_fields(rows[0][1])) if rows else None
