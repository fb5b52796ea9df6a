"""Drive the ledger in a test: a small publication, and the steps that producers and workers take."""

from __future__ import annotations

import datetime
import itertools
import json
from typing import Any

from producers.ledger import calls
from producers.ledger.calls import Admission, Finish, Missed, Submission, Taken
from producers.ledger.ledger import Ledger
from producers.ledger.reading import MessageView, read_message

START = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
TO = "+13125550100"
HOUR_US = 3_600_000_000
_ids = itertools.count(1)
_tokens = itertools.count(1)


def lane(
    sender: str, *buckets: str, channel: str = "long_code", profile: str | None = None, share: int = 10
) -> dict[str, Any]:
    scopes = ["global", f"sender:{sender}"] + ([f"profile:{profile}"] if profile else [])
    return {
        "sender": sender, "channel": channel, "buckets": list(buckets), "share": share, "scopes": scopes, "unit": "message",
    }  # fmt: skip


def publication(
    lanes: dict[str, Any] | None = None, buckets: dict[str, Any] | None = None, *, digest: str = "one", **timing: Any
) -> dict[str, Any]:
    """One lane ``alerts`` at 100/s of profile p1 behind nothing, unless told otherwise; grace 5 s, urgent 2 s."""
    times = {
        "grace_us": 5_000_000, "grace_urgent_us": 2_000_000, "liveness_us": 10_000_000, "poll_after_us": 60_000_000,
        "silent_after_us": 72 * HOUR_US, "max_tries": 3, "job_grace_us": {}, "give_up": ["careful"],
    }  # fmt: skip
    return {
        "release": timing.pop("release", 1),
        "digest": digest,
        "lanes": {"alerts": lane("alerts", "s:alerts", profile="p1")} if lanes is None else lanes,
        "buckets": {"s:alerts": {"t_us": 10_000}} if buckets is None else buckets,
        "job_types": {},
        "receipts": timing.pop("receipts", "webhook"),
        "timing": {**times, **timing},
        "storage": {"retention_s": 604_800, "content_kept_s": 0, "events": 1000},
    }


def new_id() -> str:
    return f"{next(_ids):032x}"


def submit(ledger: Ledger, *, to: str = TO, messages: int = 1, **other: Any) -> str:
    """Submit one notification; returns its id."""
    recipients: list[Any] = [to]
    if messages > 1:
        rows = [[f"+1312{i:07d}", None] for i in range(messages)]
        recipients = [json.dumps(rows[i : i + 200]).encode() for i in range(0, messages, 200)]
    fields: dict[str, Any] = {
        "id": new_id(), "client": "tests", "fingerprint": "f1", "job_type": "notice", "klass": 1,
        "valid_for_us": HOUR_US, "send_at_us": 0, "messages": messages, "group": "," in to, "content": b'{"text":"hello"}',
        "extras": b"", "recipients": recipients,
    }  # fmt: skip
    s = Submission(**{**fields, **other})
    assert ledger.run(calls.submit(s)).outcome == "created"
    return s.id


def admit(
    ledger: Ledger, id: str, *, lane: str = "alerts", content: str = '{"text":"hello"}', **other: Any
) -> calls.Admitted:
    """Expand a notification to its end, all into one lane."""
    cursor, queued, ended = None, 0, 0
    while True:
        loaded = ledger.run(calls.load(id, cursor))
        assert loaded is not None
        if loaded.cursor is None:
            return ledger.run(calls.admit(id, None, "", [Admission(to="", lane=lane, content=content, **other)]))
        items = [Admission(to=number, lane=lane, **other) for number, _ in json.loads(loaded.chunk)]
        done = ledger.run(calls.admit(id, loaded.cursor, content, items))
        queued, ended, cursor = queued + done.queued, ended + done.ended, done.next_cursor
        if cursor is None:
            return calls.Admitted(queued, ended, None)


def queue(ledger: Ledger, *, lane: str = "alerts", **other: Any) -> str:
    """Submit and admit one message; returns the message's id."""
    id = submit(ledger, **other)
    admit(ledger, id, lane=lane)
    return f"{id}-0"


def take_now(ledger: Ledger, process: str = "p1", *, hands: int = 10, builder: str = "b1") -> list[Taken]:
    """Grant and take at once what is due within the look-ahead; what was missed is left out."""
    found: list[Taken] = []
    while True:
        granted = ledger.run(calls.grant(process, hands - len(found), lane_quota=hands, quotas={}))
        assert not granted.lapsed
        answer = ledger.run(calls.take(process, f"t{next(_tokens)}", [(slot, builder) for slot in granted.slots]))
        found += [a for a in answer.answers if isinstance(a, Taken)]
        # Only on a real server: a busy machine lets more than a slot's tolerance pass between the two calls.
        if not any(isinstance(a, Missed) and a.why == "late" for a in answer.answers):
            return found


def finish(ledger: Ledger, taken: Taken, outcome: Any, *, process: str = "p1", **other: Any) -> str:
    if outcome == "accepted":
        other.setdefault("provider_id", f"pid-{taken.message}")
    return ledger.run(
        calls.finish(process, [Finish(message=taken.message, token=taken.token, outcome=outcome, **other)])
    )[0]


def view(ledger: Ledger, mid: str) -> MessageView:
    seen = read_message(ledger, mid)
    assert seen is not None
    return seen


def state(ledger: Ledger, mid: str) -> str:
    return view(ledger, mid).state
