"""Every call to the ledger: arguments in, answers out. Pure; a :class:`~producers.ledger.ledger.Ledger` runs them.

Times are integer microseconds of the server's clock. Message ids are ``<notification>-<index>``, a later leg
``<notification>-<index>-2``. What each script promises stands on top of its ``.lua`` file.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Literal, NamedTuple

from producers.ledger.scripts import Arg, Call

RestScope = Literal["sender", "campaign", "brand", "profile", "account"]  # what a limit counts by, narrowest first
FILE_ROWS_A_CALL = 250  # a call of theirs takes the server one or two milliseconds
_ONE_LINE = re.compile(r"[\r\n]+").sub
GRANT_LO_US, GRANT_HI_US, GRANT_VISITS = 50_000, 100_000, 100


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _table(flat: Sequence[bytes]) -> dict[str, bytes]:
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A validated notification, ready to be written.

    ``recipients``: for one message a single string (a number, or the comma list of a group); for many, packed chunks
    (JSON lists of ``[number, variables | null]``, 200 at most in each). ``content`` and ``extras`` are JSON. ``endpoint``
    names where its app is called, "" for none (see :mod:`producers.endpoints`).
    """

    id: str
    client: str
    fingerprint: str
    job_type: str
    klass: int
    valid_for_us: int
    send_at_us: int
    messages: int
    group: bool
    content: bytes
    extras: bytes
    recipients: Sequence[str | bytes]
    endpoint: str = ""


class Submitted(NamedTuple):
    outcome: Literal["created", "repeated", "conflict"]
    at_us: int
    messages: int


def submit(s: Submission) -> Call[Submitted]:
    """Write a notification. ``conflict``: the id exists with another fingerprint, and nothing was written."""
    args: list[Arg] = [s.id, s.client, s.fingerprint, s.job_type, s.klass, s.valid_for_us, s.send_at_us]
    args += [s.messages, int(s.group), s.content, s.extras, s.endpoint, *s.recipients]
    return Call("submit", args, lambda r: Submitted(_text(r[0]), int(r[1]), int(r[2])))  # type: ignore[arg-type]


class Loaded(NamedTuple):
    """What there is to expand. ``cursor`` is None for a lone message; ``chunk`` is its JSON list of recipients.

    ``late``: it should have been expanded long ago, so an earlier job may have failed over it, or died of it.
    """

    record: dict[str, bytes]
    content: bytes
    cursor: str | None
    chunk: bytes
    late: bool = False


def load(notification: str, cursor: str | None) -> Call[Loaded | None]:
    """The next chunk of a notification, or None when nothing is to be done at this cursor."""

    def decode(r: list[Any]) -> Loaded | None:
        if not r:
            return None
        if r[0] == b"one":
            return Loaded(_table(r[2]), r[3], None, b"", r[1] == b"1")
        return Loaded(_table(r[2]), r[3], _text(r[4]), r[5], r[1] == b"1")

    return Call("load", [notification, cursor or ""], decode)


@dataclass(frozen=True, slots=True)
class Step:
    """One leg that may follow a message: ``after_us`` from the hand-over of the one before, or when that one failed."""

    lane: str
    after_us: int
    content: str = attribute(repr=False)
    units: int = 1
    free_form: bool = False  # as of an Admission
    template: str | None = attribute(default=None, repr=False)

    def packed(self) -> str:
        item: dict[str, object] = {"l": self.lane, "a": str(self.after_us), "c": self.content, "u": self.units}
        if self.free_form:
            item.update({"f": True} if self.template is None else {"f": True, "t": self.template})
        return compact(item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """One recipient after expansion: its lane and own content, or why it is rejected."""

    to: str
    lane: str = ""
    content: str | None = None  # None: shared by the chunk
    release_us: int = 0  # not before; 0: at once
    ahead: bool = False  # the provider may hold it until its time
    free_form: bool = False  # a WhatsApp message that only who wrote within 24 hours may get
    template: str | None = None  # of a free-form one: the content that takes its place outside those
    request: str | None = None  # of a free-form one of many: what is kept of it if it is rejected
    zones: str = ""  # where its job type has rules: the time zones of its people, "" for the default one
    units: int = 1  # what it draws of its lane, where the lane counts segments
    steps: Sequence[Step] = ()  # what may follow it
    shares_steps: bool = False  # they are those that the call gives for all
    sticky: str = ""  # the sender that the person is to hear from again
    reject: str = ""  # a code of [a-z0-9_]
    title: str = ""

    def packed(self) -> str:
        item: dict[str, object] = {"to": self.to}
        if self.lane:
            item["lane"] = self.lane
        if self.content is not None:
            item["c"] = self.content
        if self.release_us:
            item["w"] = str(self.release_us)  # as text: no time may pass through a JSON number
        if self.ahead:
            item["p"] = True
        if self.free_form:
            item["f"] = True
            item.update({k: v for k, v in (("a", self.template), ("q", self.request)) if v is not None})
        if self.zones:
            item["z"] = self.zones
        if self.units > 1:
            item["u"] = self.units
        if self.steps:
            item["fw"] = str(self.steps[0].after_us)
            if not self.shares_steps:
                item["fs"] = [step.packed() for step in self.steps]
        if self.sticky:
            item["y"] = self.sticky
        if self.reject:
            item["r"], item["e"] = self.reject, self.title
        return compact(item)


class Admitted(NamedTuple):
    queued: int
    ended: int
    next_cursor: str | None


def admit(
    notification: str, cursor: str | None, shared: str, items: Sequence[Admission], shared_steps: Sequence[Step] = ()
) -> Call[Admitted]:
    """Put a chunk into lanes and timers. A repeated or overtaken call changes nothing and has no successor."""

    def decode(r: list[Any]) -> Admitted:
        if r[0] == b"passed":
            return Admitted(0, 0, None)
        return Admitted(int(r[1]), int(r[2]), _text(r[3]) if r[0] == b"more" else None)

    steps = compact([step.packed() for step in shared_steps]) if shared_steps else ""
    args = [notification, cursor or "", shared, steps, *(item.packed() for item in items)]
    # A lone message has its record already, so admitting it takes next to nothing; many would still fill a full server.
    return Call("admit", args, decode, when_full=cursor is None)


class Slot(NamedTuple):
    lane: str
    at_us: int


class Granted(NamedTuple):
    """``lapsed``: the process was taken for dead and must go on under a new id. ``next_us``: when to ask again, or None."""

    lapsed: bool
    now_us: int
    next_us: int | None
    slots: list[Slot]


def grant(process: str, hands: int, *, lane_quota: int, quotas: Mapping[str, int]) -> Call[Granted]:
    """Ask for at most ``hands`` slots, ``lane_quota`` of any lane (``quotas`` says otherwise for some)."""

    def decode(r: list[Any]) -> Granted:
        if r[0] == b"lapsed":
            return Granted(True, 0, None, [])
        slots = [Slot(_text(r[i]), int(r[i + 1])) for i in range(3, len(r), 2)]
        return Granted(False, int(r[1]), int(r[2]) if r[2] else None, slots)

    args: list[Arg] = [process, hands, GRANT_LO_US, GRANT_HI_US, GRANT_VISITS, lane_quota]
    for lane, quota in quotas.items():
        args += [lane, quota]
    return Call("grant", args, decode)


class Taken(NamedTuple):
    """Leave to send one message, until the slot's tolerance is over."""

    message: str
    token: str
    to: list[str]  # several for a group, without those who opted out
    content: bytes
    job_type: str
    attempt: int
    may_be_out: bool
    tolerance_us: int = 10_000  # a request that would leave later than its slot by more must not leave
    send_at_us: int = 0  # the provider is to hold it until then; 0: it leaves at once


class Missed(NamedTuple):
    why: str  # late, held, gone, passed; or empty


class Takes(NamedTuple):
    lapsed: bool
    now_us: int
    answers: list[Taken | Missed]  # one for each slot, in order
    gen: int = 0  # the number of this call among all takes and finishes; see Words


def _members(to: str, letters: str) -> list[str]:
    numbers = to.split(",")
    if not letters:
        return numbers
    return [number for number, letter in zip(numbers, letters, strict=True) if letter != "O"]


def take(process: str, token: str, slots: Iterable[tuple[Slot, str]]) -> Call[Takes]:
    """Take a message for each slot; ``slots`` pairs it with the builder version of its lane's sender."""

    def decode(r: list[Any]) -> Takes:
        if r[0] == b"lapsed":
            return Takes(True, 0, [])
        answers: list[Taken | Missed] = []
        for a in r[3:]:
            if a[0] == b"taken":
                to = _members(_text(a[3]), _text(a[6]))
                at_us = int(a[10]) if len(a) > 10 else 0
                answers.append(
                    Taken(_text(a[1]), _text(a[2]), to, a[4], _text(a[5]), int(a[7]), a[8] == b"1", int(a[9]), at_us)
                )
            else:
                answers.append(Missed(_text(a[1]) if a[0] == b"missed" else "empty"))
        return Takes(False, int(r[1]), answers, int(r[2]))

    args: list[Arg] = [process, token]
    for slot, builder in slots:
        args += [slot.lane, slot.at_us, builder]
    return Call("take", args, decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How one request went; see ``finish.lua`` for the outcomes.

    ``why`` is a word of [a-z0-9_] for the timeline; ``to`` of a group pairs each number with a state letter;
    ``scope`` says what ``hold_us`` rests. ``feedback``: the provider says that we are too fast, so a repetition halves the
    rate. ``silence``: nothing clear comes back, so after the rest single requests probe for an answer.
    """

    message: str
    token: str
    outcome: Literal[
        "accepted", "rejected", "opted_out", "retry", "slow_down", "configuration", "not_sent", "conflict", "uncertain"
    ]
    why: str = ""
    provider_id: str | None = None
    state: str = "A"
    raw: str | None = None
    to: Sequence[tuple[str, str]] = ()
    from_number: str | None = None
    parts: int | None = None
    parts_differ: bool = False  # from what we counted
    replayed: bool = False  # it is the answer of an earlier request with the same key
    code: str | None = None
    title: str | None = None
    delay_us: int = 0
    uses_a_try: bool = False
    hold_us: int = 0
    scope: RestScope = "sender"
    feedback: bool = False
    silence: bool = False

    def packed(self) -> str:
        item: dict[str, object] = {"m": self.message, "k": self.token, "o": self.outcome, "why": self.why}
        optional = {
            "pid": self.provider_id, "raw": self.raw, "to": list(self.to), "from": self.from_number, "parts": self.parts,
            "code": self.code, "title": self.title, "delay": self.delay_us, "hold": self.hold_us,
        }  # fmt: skip
        item.update({k: v for k, v in optional.items() if v})
        if self.outcome == "accepted":
            item["st"] = self.state
            item.update({k: True for k, v in (("pd", self.parts_differ), ("rp", self.replayed)) if v})
        if self.uses_a_try:
            item["count"] = True
        if self.hold_us:
            item["scope"] = self.scope
            item.update({k: True for k, v in (("feedback", self.feedback), ("silence", self.silence)) if v})
        return compact(item)


class Words(list[str]):
    """A word for each item of a call, and ``gen``: how many takes and finishes the server knew of when it answered.

    Less than an earlier answer told means that the server has forgotten some: a failover, or a crash without its last second.
    """

    gen = 0


def _words_then_gen(reply: Sequence[Any]) -> Words:
    words = Words(_text(w) for w in reply[:-1])
    words.gen = int(reply[-1])
    return words


def finish(process: str, results: Sequence[Finish]) -> Call[Words]:
    """Record how requests went; a word for each: ok, stale, gone, applied, known, odd, duplicate."""
    return Call("finish", [process, *(r.packed() for r in results)], _words_then_gen)


@dataclass(frozen=True, slots=True)
class Take:
    """A take as its process remembers it. ``may_have_left``: not if a clear answer says that nothing did."""

    message: str
    token: str
    process: str
    attempt: int
    builder: str
    may_have_left: bool = True
    send_at_us: int = 0  # as of what was taken

    def packed(self) -> str:
        item = {"m": self.message, "k": self.token, "h": self.process, "a": self.attempt, "b": self.builder}
        more = {"x": self.may_have_left, "s": str(self.send_at_us) if self.send_at_us else None}
        return compact({**item, **{k: v for k, v in more.items() if v}})


def repost(process: str, takes: Sequence[Take]) -> Call[Words]:
    """Say again what was taken, to a server that may have forgotten it. A word for each: held, doubled, known, early, gone."""

    def decode(r: list[Any]) -> Words:
        return _words_then_gen([*r[1:], r[0]])

    return Call("repost", [process, *(take.packed() for take in takes)], decode)


def hear(batch: str, body: bytes) -> Call[int]:
    """Keep a batch of receipts. Returns the server's time."""
    return Call("hear", [batch, body], int)


class Rest(NamedTuple):
    """What a carrier's limit asks for; ``feedback`` as in :class:`Finish`."""

    hold_us: int
    scope: RestScope
    why: str
    feedback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a receipt or a poll says of a message, found by ``ref`` (its id) or else by the provider's id.

    ``state`` is a letter of A T D F X, or None; ``error`` is (phase, code, title) with phase "w" (webhook) or "p" (poll);
    ``cost`` is (millionths, currency); ``sent_ms`` and ``done_ms`` count from when the provider had it, by its own clock.
    """

    ref: str | None
    provider_id: str | None
    state: str | None = None
    raw: str | None = None
    to: Sequence[tuple[str, str]] = ()
    from_number: str | None = None
    parts: int | None = None
    error: tuple[str, str, str] | None = None
    read: bool = False
    rest: Rest | None = None
    stop: bool = False  # the error says that the person has sent STOP
    carrier: str | None = None
    cost: tuple[int, str] | None = None
    sent_ms: int | None = None
    done_ms: int | None = None

    def packed(self) -> str:
        hold = [self.rest.hold_us, self.rest.scope, self.rest.why, int(self.rest.feedback)] if self.rest else None
        item = {
            "ref": self.ref, "pid": self.provider_id, "st": self.state, "raw": self.raw, "to": [list(p) for p in self.to],
            "from": self.from_number, "parts": self.parts, "er": list(self.error) if self.error else None, "rd": self.read,
            "hold": hold, "stop": self.stop, "ca": self.carrier, "sm": self.sent_ms, "dm": self.done_ms,
        }  # fmt: skip
        if self.cost:
            item["co"], item["cu"] = self.cost
        return compact({k: v for k, v in item.items() if v})


def receipt(batch: str, facts: Sequence[Fact]) -> Call[list[str]]:
    """Apply facts and forget the batch ("" for polls). A word for each: applied, known, odd, duplicate, lost."""
    return Call("receipt", [batch, *(f.packed() for f in facts)], lambda r: [_text(w) for w in r])


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """How asking the provider for a message back went, where it did not say that it cancelled it; see ``withdraw.lua``."""

    message: str
    outcome: Literal["late", "held", "again"]
    after_us: int = 0

    def packed(self) -> str:
        return compact({"m": self.message, "o": self.outcome, "after": self.after_us})


def withdraw(results: Sequence[Withdrawal]) -> Call[list[str]]:
    """Record that it was too late, or when to ask again. A word for each: done, known, poison."""
    return Call("withdraw", [r.packed() for r in results], lambda r: [_text(w) for w in r])


def ear(web: str) -> Call[tuple[int, int]]:
    """A web process can hear; every 2 s. Returns (hearing since, heard until)."""
    return Call("ear", [web], lambda r: (int(r[0]), int(r[1])))


def beat(process: str, what: Literal["first", "again", "last"]) -> Call[bool]:
    """A worker process lives. False: it was taken for dead, and must go on under a new id."""
    return Call("beat", [process, what], lambda r: bool(r == b"ok"))


def reap(process: str, *, limit: int = 200) -> Call[tuple[list[str], int]]:
    """Make uncertain what dead processes were sending. Returns (processes gone for good, messages)."""
    return Call("reap", [process, limit], lambda r: ([_text(p) for p in r[0]], int(r[1])))


class Pointer(NamedTuple):
    """Something to enqueue.

    expand: (notification, "0" urgent and small | "1"); reconcile: (batch, ""); poll, withdraw: (message, provider id);
    call: ("", ""), for what is owed is taken by who has room for it.
    """

    kind: Literal["expand", "reconcile", "poll", "poll_group", "withdraw", "inbound", "call"]
    id: str
    more: str


def wake(*, limit: int = 100) -> Call[tuple[list[Pointer], bool]]:
    """Do what timers are due for. Returns (pointers to enqueue, whether more is due)."""

    def decode(r: list[Any]) -> tuple[list[Pointer], bool]:
        rows = [Pointer(_text(r[i]), _text(r[i + 1]), _text(r[i + 2])) for i in range(0, len(r), 3)]  # type: ignore[arg-type]
        return [p for p in rows if str(p.kind) != "again"], any(str(p.kind) == "again" for p in rows)

    return Call("wake", [limit], decode)


def fetch(queue: str, process: str, count: int) -> Call[list[bytes | None]]:
    """Fetch at most ``count`` pointers from one of Dramatiq's queues: their bodies, None for one that is gone."""
    return Call("fetch", [queue, process, count], list)


Fate = Literal["done", "back", "aside"]


def ack(queue: str, pointers: Iterable[tuple[str, str, Fate]], *, kept: int) -> Call[int]:
    """Say what became of fetched pointers: (who fetched it, id, fate). At most ``kept`` stay put aside, the newest."""
    args: list[Arg] = [queue, kept]
    for row in pointers:
        args += row
    return Call("ack", args, int)


def point(pointers: Iterable[tuple[str, str, bytes]]) -> Call[int]:
    """Enqueue pointers although the server is full: (queue, id, body), some hundreds at most."""
    args: list[Arg] = []
    for row in pointers:
        args += row
    return Call("point", args, int)


class Cancelled(tuple[int, int | None]):
    """How many were stopped, and the next index or None. ``asked_back``: of those looked at, how many the provider holds
    for their time, and is to give back.
    """

    asked_back = 0


def cancel(notification: str, start: int, *, most: int = 500) -> Call[Cancelled | None]:
    """Stop what waits, from index ``start``. Returns what was stopped and the next index, or None: no such notification."""

    def decode(r: list[Any]) -> Cancelled | None:
        if not r:
            return None
        found = Cancelled((int(r[0]), int(r[1]) if int(r[1]) >= 0 else None))
        found.asked_back = int(r[2])
        return found

    return Call("cancel", [notification, start, most], decode)


def opt(
    number: str,
    direction: Literal["out", "in", ""],
    *,
    scopes: Sequence[str],
    occurred_us: int = 0,
    source: str,
    evidence: str = "",
    by_operator: bool = False,
    inbound: str = "",
) -> Call[int]:
    """Record an opt-out or opt-in of ``number`` in ``scopes`` ("global", "profile:<id>", "sender:<name>").

    ``source``: webhook (the provider's own reading of a message), keyword (ours), list, answer, receipt, api, cli,
    import. ``inbound``: the inbound message as JSON (``worker.web.inbound``), kept once by its
    event id (``evidence``). Returns how many scopes it changed.
    """
    args: list[Arg] = [number, direction, occurred_us, source, evidence, int(by_operator), inbound, *scopes]
    return Call("opt", args, int)


class OptRow(NamedTuple):
    """One row of a file or of the provider's list. A scope that starts with ``?`` is only marked as shown by the list."""

    number: str
    out: bool
    scopes: Sequence[str]
    occurred_us: int = 0  # 0: now
    evidence: str = ""


class OptRows(NamedTuple):
    changed: int
    broken: int


def opt_rows(
    rows: Iterable[OptRow], *, source: str, by_operator: bool = False, list_number: int = 0, quiet: bool = False
) -> Call[OptRows]:
    """Record some hundreds of rows. ``list_number``: they are the provider's list (1 and up). ``quiet``: without events."""
    args: list[Arg] = [source, int(by_operator), list_number or "", int(quiet)]
    for row in rows:
        args += [row.number, "out" if row.out else "in", row.occurred_us, row.evidence, " ".join(row.scopes)]
    return Call("opt_rows", args, lambda r: OptRows(int(r[0]), int(r[1])))


def opt_file(rows: Iterable[OptRow], *, source: str, by_operator: bool = False) -> list[Call[OptRows]]:
    """Record the rows of a file, thousands of them, without events: as many calls as it takes, none of them long.

    Those of one bucket go together, so the more rows, the less each costs. A person's rows stay in their order.
    """
    buckets: defaultdict[str, list[str]] = defaultdict(list)
    told: tuple[bool, int, str] | None = None
    tail = ""
    for number, out, scopes, at_us, evidence in rows:
        if (out, at_us, evidence) != told:  # most rows of a file say the same
            told = (out, at_us, evidence)
            tail = f" {'o' if out else 'i'}{at_us or ''} {_ONE_LINE(' ', evidence)}\n"
        for scope in scopes:
            buckets[f"{scope}:{number[-4:]}"].append(number + tail)
    calls: list[Call[OptRows]] = []
    head: list[Arg] = [source, int(by_operator)]
    args, size = list(head), 0

    def close() -> None:
        nonlocal args, size
        if size:
            calls.append(Call("opt_file", args, lambda r: OptRows(int(r[0]), int(r[1]))))
        args, size = list(head), 0

    for bucket, held in buckets.items():
        for i in range(0, len(held), FILE_ROWS_A_CALL):
            some = held[i : i + FILE_ROWS_A_CALL]
            if size + len(some) > FILE_ROWS_A_CALL:
                close()
            args += [bucket, "".join(some)]
            size += len(some)
    close()
    return calls


class Swept(NamedTuple):
    gone: int  # lifted, or to be lifted
    listed: int  # of the provider's list at all


def opt_sweep(
    what: Literal["count", "lift"], buckets: Sequence[str], *, older: int, older_began_us: int, newer_began_us: int
) -> Call[Swept]:
    """Count or lift what list ``older`` and all after it do not show, in buckets ``<scope>:<last four>``."""
    args: list[Arg] = [what, older, older_began_us, newer_began_us, *buckets]
    return Call("opt_sweep", args, lambda r: Swept(int(r[0]), int(r[1])))


class SyncView(NamedTuple):
    now_us: int
    fields: dict[str, str]


def opt_sync(
    token: str,
    what: Literal["take", "keep", "leave", "look"],
    *,
    lease_ms: int = 60_000,
    changes: Mapping[str, str | int] | None = None,
) -> Call[SyncView | None]:
    """Take, keep, give up or look at the reading of the provider's list; None: another holds it, and nothing was written."""

    def decode(r: list[Any]) -> SyncView | None:
        return SyncView(int(r[0]), {k: _text(v) for k, v in _table(r[1]).items()}) if r else None

    args: list[Arg] = [token, what, lease_ms]
    for field, value in (changes or {}).items():
        args += [field, value]
    return Call("opt_sync", args, decode)


def click(event: str, provider_id: str, url: str) -> Call[str]:
    """Count a click on a link of a message. counted, known (a copy) or lost (it matches no message)."""
    return Call("click", [event, provider_id, url], _text)


def aside(why: str, event: str, *, kept: int) -> Call[int]:
    """Keep an event that could not be used, as one of about ``kept``, although the server is full."""
    return Call("aside", [kept, why, event], int)


def reread(batch: str, position: int | None, *, kept_s: int, name: str = "") -> Call[int]:
    """Note that a late batch is read once more (None, and the ``name`` of that try), or the position of the event that is
    about to be. How often it was.
    """
    return Call("reread", [batch, kept_s, "" if position is None else position, name], int)


def lane(name: str, what: Literal["pause", "drain", "resume", "rate"], value: str | int = "") -> Call[bool]:
    """Pause or drain (with a reason), resume, or re-rate a lane (microseconds a unit, or "configured").

    Resumed with "shared", what rests its profile, brand, campaign or account ends too.

    Drained: what was submitted until now leaves, later messages wait until it is resumed. False: no such lane.
    """
    return Call("lane", [name, what, value], lambda r: bool(int(r) == 1))


def publish(
    publication: Mapping[str, Any], midnights: Mapping[str, Sequence[int]], zones: Mapping[str, str] | None = None
) -> Call[str]:
    """Publish the configuration; ``midnights`` gives each daily cap its coming resets, ``zones`` the table of the default
    time zone. "published", "same" or "older".
    """
    args: list[Arg] = [compact(publication)]
    for bucket, times in midnights.items():
        args += [bucket, " ".join(str(t) for t in times)]
    for zone, table in (zones or {}).items():
        args += [f"tz:{zone}", table]
    return Call("publish", args, _text)


def zones(tables: Mapping[str, str]) -> Call[int]:
    """Tell the time zones that messages about to be admitted name; see ``zones.lua``."""
    return Call("zones", [arg for row in tables.items() for arg in row], int)


def forget(number: str, messages: Sequence[str]) -> Call[tuple[int, int, int]]:
    """Take a person out of messages. Returns how many forgot, were stopped, and were left because they may be under way."""
    return Call("forget", [number, *messages], lambda r: (int(r[0]), int(r[1]), int(r[2])))


class Foreseen(NamedTuple):
    """``opens_us``: when its quiet hours are over, None if never; ``free_us``: when a frequency has a place."""

    opens_us: int | None
    free_us: int


def foresee(
    job_type: str, from_us: int, people: Sequence[tuple[str, str]], tables: Mapping[str, str]
) -> Call[list[Foreseen]]:
    """When messages of ``job_type`` to ``people`` (number, zones) could leave, were it not for the backlog."""

    def decode(r: list[Any]) -> list[Foreseen]:
        return [Foreseen(int(r[i]) if r[i] else None, int(r[i + 1])) for i in range(0, len(r), 2)]

    args: list[Arg] = [job_type, from_us, compact(dict(tables))]
    for row in people:
        args += row
    return Call("foresee", args, decode)


def name_of_a_try() -> str:
    """So that a try whose reply was lost, and which is told again, counts once."""
    return secrets.token_hex(3)


def attempt(notification: str, cursor: str | None, name: str) -> Call[int]:
    """Count that a late chunk is begun once more. How often it was, or 0 where nothing is left to expand."""
    return Call("attempt", [notification, cursor or "", name], int)


class Leg(NamedTuple):
    """``message`` is the leg's id; of a refusal, ``why`` is its word (see ``leg.lua``), ``state`` the entry's letter."""

    outcome: Literal["made", "exists", "refused"]
    message: str
    why: str = ""
    state: str = ""


def leg(
    entry: str,
    number: int,
    why: Literal["replay", "fallback"],
    *,
    valid_for_us: int,
    lane: str = "",
    content: str = "",
    units: int = 1,
    zones: str = "",
    free_form: bool = False,
    template: str | None = None,
) -> Call[Leg]:
    """Make leg ``number`` of an entry, unless it is there. Without ``lane`` and ``content``: those of the leg before; with
    them ``zones``, ``free_form`` and ``template`` as of an :class:`Admission`."""

    def decode(r: list[Any]) -> Leg:
        if r[0] == b"refused":
            return Leg("refused", "", _text(r[1]), _text(r[2]))
        return Leg(_text(r[0]), _text(r[1]))  # type: ignore[arg-type]

    rendered: list[Arg] = [lane, content, units, zones, "1" if free_form else "", template or ""]
    return Call("leg", [entry, number, why, valid_for_us, *rendered], decode)
