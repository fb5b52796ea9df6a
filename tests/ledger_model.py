"""Drive the scripts with random commands, and hold each step against a small model of the rules that knows no Lua.

The model says for each message which states a command may lead to, and the machine compares; after every step it reads
the whole namespace and checks what must always hold: each message in exactly one place, nothing without a way on, counts
and holders exact, no script that stumbled. At the end all processes are healthy again, and everything must become final
and, after the retention, leave nothing behind.

``cd tests && python -m ledger_model --examples 1000 --steps 80`` searches for as long as you like.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import fakeredis
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_kit import HOUR_US, lane, publication

from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Finish, Missed, Slot, Submission, Taken
from producers.ledger.ledger import Ledger
from producers.ledger.reading import timeline
from producers.ledger.states import LETTERS

START = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
SECOND_US, DAY_US = 1_000_000, 24 * HOUR_US
GRACE_US, GRACE_URGENT_US, LIVE_US, STALL_US = 5 * SECOND_US, 2 * SECOND_US, 10 * SECOND_US, 30 * SECOND_US
SILENT_US, KEY_LIVES_US, MOST_TRIES, MOST_LOST = 72 * HOUR_US, 23 * HOUR_US, 3, 3
WAITING, FLYING, FINAL = "NWQ", "SU", "DFXRECO"
RANK = {"A": 1, "T": 2, "X": 3, "F": 4, "D": 5}
SCOPES = {
    "a": ["global", "sender:a", "profile:p1"],
    "b": ["global", "sender:b", "profile:p2"],
    "c": ["global", "sender:c"],  # of unknown profile: any opt-out of the person counts
}
LANES = {
    "a": lane("a", "s:a", "a:sms", profile="p1", share=3),
    "b": lane("b", "s:b", "c:x", "a:sms", profile="p2", share=3),
    "c": lane("c", "s:c", "d:acme", share=3),
}
BUCKETS: dict[str, Any] = {
    "s:a": {"t_us": 10_000}, "s:b": {"t_us": 50_000}, "s:c": {"t_us": 1_000_000}, "c:x": {"t_us": 40_000},
    "a:sms": {"t_us": 20_000}, "d:acme": {"cap": 8, "reserve": 0.25, "tz": "UTC"},
}  # fmt: skip
MIDNIGHTS = [int(START.timestamp()) * SECOND_US + 6 * HOUR_US + n * DAY_US for n in range(40)]
PREFIX = {"sender": "s", "campaign": "c", "brand": "d", "account": "a"}
PEOPLE = [f"+1312555{i:04d}" for i in (100, 101, 199, 200, 300, 301)]
GROUP = ",".join(PEOPLE[:3])
OUTCOMES = ("accepted", "rejected", "opted_out", "retry", "slow_down", "not_sent", "conflict", "uncertain")
JUMPS_MS = (
    1,
    4,
    15,
    15,
    40,
    40,
    90,
    150,
    150,
    400,
    400,
    900,
    2_600,
    6_000,
    11_000,
    31_000,
    65_000,
    900_000,
    50_000_000,
)


@dataclass
class Message:
    """What the rules know of one message."""

    id: str
    many: bool
    klass: int
    job_type: str
    to: str
    until_us: int
    send_at_us: int
    submitted_us: int = 0
    state: str = "N"
    lane: str = ""
    maybe: bool = False
    tries: int = 0
    attempts: int = 0
    first_us: int = 0
    token: str = ""
    process: str = ""
    builder: str = ""
    cancelled: bool = False
    look_us: int = 0
    doubt_us: int = 0
    handed_us: int = 0
    ids: list[str] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    version: int = 0
    steps: int = 0
    expanded: bool = False
    lost: int = 0

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(f"<{self.id} {self.state}>")

    @property
    def group(self) -> bool:
        return "," in self.to

    def end(self, state: str) -> str:
        """What may be out and gets no more tries is unconfirmed."""
        return "X" if self.maybe else state


@dataclass
class Notification:
    id: str
    messages: list[Message]
    chunks: list[list[int]]
    cursor: int = 0
    closed: bool = False
    submission: Any = None
    finishes: int = 1

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(f"<{self.id}>")


class LedgerMachine(RuleBasedStateMachine):
    """One ledger, two workers that die and come back, a web process that may be deaf."""

    def __init__(self) -> None:
        super().__init__()
        self.traveller = time_machine.travel(START, tick=False)
        self.clock: Any = self.traveller.start()
        self.ledger = Ledger(fakeredis.FakeRedis(), "t", real_server=False)
        self.redis: Any = self.ledger.redis
        self.notifications: list[Notification] = []
        self.messages: dict[str, Message] = {}
        self.legs: dict[str, list[Message]] = {}  # of each entry, the first one first
        self.reopened: Counter[str] = Counter()  # entries that had ended when they got a leg
        self.taken: list[tuple[str, Taken]] = []
        self.takes: list[tuple[str, str, list[tuple[Slot, str]], list[Any]]] = []
        self.slots: list[Slot] = []
        self.used_slots: set[Slot] = set()
        self.last_slot: dict[str, int] = {}
        self.alive_until: dict[str, int] = {}
        self.names = {"p1": "p1", "p2": "p2"}
        self.held: dict[str, dict[str, str]] = {}
        self.admitted: list[tuple[str, str | None, list[Admission]]] = []
        self.paused: set[str] = set()
        self.drained: dict[str, int] = {}
        self.gone: set[str] = set()
        self.holds: dict[str, int] = {}
        self.intervals = {n: b["t_us"] for n, b in BUCKETS.items() if "t_us" in b}
        self.said: dict[tuple[str, str, bool], tuple[int, bool]] = {}
        self.batches: dict[str, tuple[int, list[Fact]]] = {}
        self.hearing_since_us = self.heard_us = 0
        self.reaped_us = self.reap_from_us = 0
        self.capped: Counter[int] = Counter()
        self.too_many: list[Message] = []  # groups for which the day had no room
        self.numbers = itertools.count(1)
        self.heads: dict[str, dict[str, str]] = {}
        self.records: dict[str, dict[str, str]] = {}

    # --- the parts of the rules

    @property
    def now(self) -> int:
        return round(time.time() * 1_000_000)  # as the fake server reads it

    def read(self) -> None:
        """Read all records at once: each round trip costs more than the script."""
        pipe = self.redis.pipeline(transaction=False)
        for n in self.notifications:
            pipe.hgetall(self.ledger.key(f"n:{n.id}"))
        for mid in self.messages:
            pipe.hgetall(self.ledger.key(f"m:{mid}"))
        rows = [{k.decode(): v.decode() for k, v in row.items()} for row in pipe.execute()]
        self.heads = {n.id: row for n, row in zip(self.notifications, rows, strict=False)}
        self.records = dict(zip(self.messages, rows[len(self.notifications) :], strict=True))

    def run_call(self, call: Any) -> Any:
        return self.ledger.run(call)

    def is_out(self, scope: str, number: str) -> bool:
        return any(self.said.get((scope, number, by), (0, False))[1] for by in (False, True))

    def blocked(self, lane_name: str, number: str) -> bool:
        if any(self.is_out(scope, number) for scope in SCOPES[lane_name]):
            return True
        known = any(s.startswith("profile:") for s in SCOPES[lane_name])
        return not known and any(out for (_, n, _), (_, out) in self.said.items() if n == number)

    def say(self, number: str, scope: str, out: bool, at_us: int, by_operator: bool) -> None:
        held = self.said.get((scope, number, by_operator))
        if held and (held[0] > at_us or (held[0] == at_us and (held[1] or not out))):
            return
        self.said[scope, number, by_operator] = (at_us, out)

    def open_lane(self, name: str) -> bool:
        return name not in self.paused and name not in self.gone

    def refused(self, m: Message, builder: str) -> str | None:
        """How a waiting message ends when its turn comes, or None: it may leave."""
        if self.now >= m.until_us:
            return m.end("E")
        if m.maybe and (m.builder != builder or self.now - m.first_us > KEY_LIVES_US):
            return "X"
        if not m.group:
            return m.end("O") if self.blocked(m.lane, m.to) else None
        out = {n for n in m.to.split(",") if m.members.get(n) == "O" or self.blocked(m.lane, n)}
        if m.maybe and out != {n for n, letter in m.members.items() if letter == "O"}:
            return "X"
        return m.end("O") if len(out) == len(m.to.split(",")) else None

    def again(self, m: Message, delay_us: int) -> None:
        if m.cancelled:
            m.state = m.end("C")
        elif self.now >= m.until_us:
            m.state = m.end("E")
        elif delay_us:
            m.state, m.look_us = "W", self.now + delay_us
        else:
            m.state = "Q"

    def doubt(self, m: Message) -> None:
        m.state, m.maybe, m.doubt_us = "U", True, self.now

    def lose(self, m: Message) -> None:
        """Whoever held it is dead, or silent for too long."""
        self.doubt(m)
        m.lost += 1
        if m.lost >= MOST_LOST:
            m.state = "X"

    @staticmethod
    def entry_of(m: Message) -> str:
        return "-".join(m.id.split("-")[:2])

    def entry_state(self, first: Message) -> str:
        """Delivered if any leg is, else as far as the newest."""
        states = [leg.state for leg in self.legs[first.id]]
        return "D" if "D" in states else states[-1]

    def stop_other_legs(self, m: Message) -> None:
        for other in self.legs[self.entry_of(m)]:
            if other is not m and other.state in WAITING:
                other.state = other.end("C")
            elif other is not m and other.state in FLYING:
                other.cancelled = True

    def grace_over(self, m: Message) -> bool:
        grace = GRACE_URGENT_US if m.klass == 0 else GRACE_US
        heard = min([self.heard_us, *(at for at, _ in self.batches.values())])
        start = max(m.doubt_us, self.hearing_since_us or self.now)
        return heard - start >= grace or self.now - m.doubt_us >= 600 * SECOND_US + grace

    def after_grace(self, m: Message) -> str:
        if m.cancelled or m.job_type == "careful" or self.now >= m.until_us:
            return "X"
        if self.now - m.first_us > KEY_LIVES_US:
            return "X"
        return "W" if m.lost > 1 else "Q"  # those that lost two holders come back apart

    def learn(self, m: Message, fact: Fact, *, answer: bool = False) -> str:
        """A fact moves a message up only. Returns the word for it."""
        if m.state == "N" or (m.state in "WQ" and not m.maybe and not m.attempts and not answer):
            return "odd"
        word = ""
        if fact.provider_id and fact.provider_id not in m.ids:
            m.ids.append(fact.provider_id)
            if len(m.ids) > 1 and not m.group:
                word = "duplicate"
        letter = fact.state
        if m.group:
            for number, new in fact.to:
                if m.members.get(number) not in (None, "O") and RANK[new] > RANK[m.members[number]]:
                    m.members[number] = new
            letter = self.of_group(m)
        if answer and (m.state in FLYING or not m.handed_us):
            m.handed_us = self.now
        if m.state in "RECO":
            return "odd"
        up = RANK.get(letter or "", 0) > RANK.get(m.state, 0) or (m.group and m.state == "F" and letter == "X")
        if not letter or not up:
            return word or "known"
        m.handed_us = m.handed_us or self.now
        m.state = letter
        if letter == "D":
            self.stop_other_legs(m)
        return word or "applied"

    @staticmethod
    def of_group(m: Message) -> str | None:
        letters = [x for x in m.members.values() if x != "O"]
        still_open = sorted((x for x in letters if x in "AT"), key=RANK.__getitem__)
        if still_open:
            return still_open[0]
        return next((x for x in "FXD" if x in letters), None)

    # --- what producers and expand do

    @initialize()
    def begin(self) -> None:
        self.run_call(calls.publish(publication(LANES, BUCKETS, digest="full"), {"d:acme": MIDNIGHTS}))
        for process in self.names.values():
            self.beat(process, "first")

    def new_messages(self, id: str, to: list[str], **common: Any) -> list[Message]:
        made = [Message(f"{id}-{i}", len(to) > 1, to=number, **common) for i, number in enumerate(to)]
        self.messages.update({m.id: m for m in made})
        self.legs.update({m.id: [m] for m in made})
        return made

    @precondition(lambda self: len(self.messages) < 40)
    @rule(
        to=st.one_of(st.sampled_from([*PEOPLE, GROUP]), st.lists(st.sampled_from(PEOPLE), min_size=2, max_size=6)),
        klass=st.integers(0, 2),
        job_type=st.sampled_from(["notice", "careful"]),
        valid_us=st.sampled_from([30 * SECOND_US, 600 * SECOND_US, 24 * HOUR_US, 72 * HOUR_US]),
        later_us=st.sampled_from([0, 0, 0, 20 * SECOND_US, HOUR_US]),
        size=st.integers(1, 3),
    )
    def submit(self, *, to: Any, klass: int, job_type: str, valid_us: int, later_us: int, size: int) -> None:
        id = f"{next(self.numbers):032x}"
        recipients = [to] if isinstance(to, str) else to
        indexes = list(range(len(recipients)))
        chunks = [indexes[i : i + size] for i in range(0, len(indexes), size)]
        send_at_us = self.now + later_us if later_us else 0
        packed: list[Any] = (
            [to] if isinstance(to, str) else [json.dumps([[recipients[i], None] for i in c]) for c in chunks]
        )
        submission = Submission(
            id=id, client="m", fingerprint="f", job_type=job_type, klass=klass, valid_for_us=valid_us, send_at_us=send_at_us,
            messages=len(recipients), group="," in str(recipients[0]), content=b'{"text":"hello"}', extras=b"{}",
            recipients=packed,
        )  # fmt: skip
        assert self.run_call(calls.submit(submission)).outcome == "created"
        made = self.new_messages(
            id,
            recipients,
            klass=klass,
            job_type=job_type,
            until_us=max(self.now, send_at_us) + valid_us,
            send_at_us=send_at_us,
            submitted_us=self.now,
        )
        self.notifications.append(Notification(id, made, chunks, submission=submission))

    @precondition(lambda self: self.notifications)
    @rule(data=st.data(), what=st.sampled_from(["submit", "expand", "cancel", "take", "take"]))
    def repeat(self, data: st.DataObject, what: str) -> None:
        """What a client, or a paused server, does twice; and what an app stops."""
        if what == "submit":
            self.submit_again(data.draw(st.sampled_from(self.notifications)))
        elif what == "cancel":
            self.cancel(data.draw(st.sampled_from(self.notifications)))
        elif what == "expand" and self.admitted:
            self.expand_again(*data.draw(st.sampled_from(self.admitted)))
        elif what == "take" and self.takes:
            self.take_again(*data.draw(st.sampled_from(self.takes[-6:])))

    def submit_again(self, n: Notification) -> None:
        if any(self.entry_state(m) not in FINAL for m in n.messages):
            assert self.run_call(calls.submit(n.submission)).outcome == "repeated"

    def unexpanded(self) -> list[Notification]:
        return [n for n in self.notifications if not n.closed and n.cursor < len(n.chunks)]

    @precondition(lambda self: self.unexpanded())
    @rule(
        data=st.data(),
        where=st.sampled_from("abc"),
        reject=st.sampled_from([0, 0, 0, 2]),
        release_us=st.sampled_from([0, 0, 0, 3 * SECOND_US, HOUR_US]),
        long=st.booleans(),
    )
    def expand(self, data: st.DataObject, where: str, reject: int, release_us: int, long: bool) -> None:
        n = data.draw(st.sampled_from(self.unexpanded()))
        many = len(n.messages) > 1
        cursor = str(n.cursor) if many else None
        loaded = self.run_call(calls.load(n.id, cursor))
        chunk = [n.messages[i] for i in n.chunks[n.cursor]]
        if chunk[0].state != "N":
            assert loaded is None
            n.closed = True
            return
        assert loaded is not None and loaded.cursor == cursor
        content = '{"text":"' + "hello " * (300 if long else 15) + '"}'
        release = self.now + release_us if release_us else 0
        items = [
            Admission(to=m.to, lane="", reject="no_route", title="x") if reject and i % reject == 0
            else Admission(to=m.to, lane=where, release_us=release, content=None if many and i % 2 else content)
            for i, m in enumerate(chunk)
        ]  # fmt: skip
        self.admit(n, loaded, items)

    def admit(self, n: Notification, loaded: calls.Loaded, items: list[Admission]) -> None:
        chunk = [n.messages[i] for i in n.chunks[n.cursor]]
        shared = '{"text":"shared"}' if loaded.cursor else ""
        answer = self.run_call(calls.admit(n.id, loaded.cursor, shared, items))
        self.admitted.append((n.id, loaded.cursor, items))
        for m, item in zip(chunk, items, strict=True):
            self.place(m, item)
        n.cursor += 1
        assert answer.ended == sum(m.state in FINAL for m in chunk)
        assert answer.queued == len(chunk) - answer.ended
        assert answer.next_cursor == (str(n.cursor) if loaded.cursor and n.cursor < len(n.chunks) else None)

    @precondition(lambda self: len(self.messages) < 40)
    @rule(
        to=st.sampled_from([*PEOPLE, *PEOPLE, GROUP]),
        klass=st.integers(0, 2),
        job_type=st.sampled_from(["notice", "notice", "careful"]),
        where=st.sampled_from("aaabbc"),
        count=st.integers(1, 3),
        valid_us=st.sampled_from([8 * SECOND_US, 24 * HOUR_US, 24 * HOUR_US]),
    )
    def queue(self, *, to: str, klass: int, job_type: str, where: str, count: int, valid_us: int) -> None:
        """Some messages straight into a lane, since most of what can go wrong begins there."""
        for _ in range(count):
            self.submit(to=to, klass=klass, job_type=job_type, valid_us=valid_us, later_us=0, size=1)
            n = self.notifications[-1]
            loaded = self.run_call(calls.load(n.id, None))
            assert loaded is not None
            self.admit(n, loaded, [Admission(to="", lane=where, content="{}")])

    def place(self, m: Message, item: Admission) -> None:
        m.expanded = True
        if item.reject:
            m.state = "R"
        elif self.now >= m.until_us:
            m.state = "E"
        else:
            m.lane = item.lane
            numbers = m.to.split(",")
            out = [number for number in numbers if self.blocked(m.lane, number)]
            if m.group:
                m.members = {number: "O" if number in out else "A" for number in numbers}
            release = item.release_us or m.send_at_us
            if len(out) == len(numbers):
                m.state = "O"
            elif release > self.now:
                m.state, m.look_us = "W", release
            else:
                m.state = "Q"

    def expand_again(self, id: str, cursor: str | None, items: list[Admission]) -> None:
        assert self.run_call(calls.admit(id, cursor, "", items)) == (0, 0, None)

    def cancel(self, n: Notification) -> None:
        if not self.exists(n):
            return
        stopped, at = 0, 0
        while at is not None:
            some, at = self.run_call(calls.cancel(n.id, at, most=2))
            stopped += some
        expected = 0
        for m in [leg for entry in n.messages for leg in self.legs[entry.id]]:
            if m.state in WAITING:
                expected += not m.maybe
                m.state = m.end("C")
            elif m.state in FLYING:
                m.cancelled = True
        n.closed = True
        assert stopped == expected

    def exists(self, n: Notification) -> bool:
        return bool(
            self.redis.exists(self.ledger.key(f"n:{n.id}")) or self.redis.exists(self.ledger.key(f"m:{n.id}-0"))
        )

    # --- what workers do

    def beat(self, process: str, what: Any) -> bool:
        lives: bool = self.run_call(calls.beat(process, what))
        if lives:
            self.alive_until[process] = self.now + LIVE_US
            self.held.setdefault(process, {})
        return lives

    def is_alive(self, process: str) -> bool:
        return self.now <= self.alive_until[process]

    def renew(self, name: str) -> None:
        """A process that was taken for dead goes on under a new id."""
        self.names[name] = f"{name}.{next(self.numbers)}"
        self.beat(self.names[name], "first")

    def live(self, name: str) -> None:
        process = self.names[name]
        alive = self.is_alive(process)
        assert self.beat(process, "again") is alive
        if not alive:
            self.renew(name)

    def leave(self, name: str) -> None:
        """A process ends in good order, perhaps with something left in its hands."""
        process = self.names[name]
        self.run_call(calls.beat(process, "last"))
        self.alive_until[process] = 0
        self.renew(name)

    def grant(self, name: str, hands: int, quota: int) -> None:
        process = self.names[name]
        answer = self.run_call(calls.grant(process, hands, lane_quota=6, quotas={"b": quota}))
        assert answer.lapsed is not self.is_alive(process)
        if answer.lapsed:
            return self.renew(name)
        self.alive_until[process] = self.now + LIVE_US
        assert len(answer.slots) <= hands
        for slot in answer.slots:
            assert self.open_lane(slot.lane), "a slot of a lane that is held"
            assert self.now <= slot.at_us <= self.now + calls.GRANT_HI_US
            own = f"s:{slot.lane}"
            assert slot.at_us >= self.holds.get(own, 0), "a slot inside a hold"
            assert slot.at_us - self.last_slot.get(own, 0) >= self.intervals[own], "closer than one interval"
            self.last_slot[own] = slot.at_us
        self.slots += answer.slots
        return None

    @rule(
        name=st.sampled_from(["p1", "p2"]),
        what=st.sampled_from(["beat", "leave", "grant", "take", "take"]),
        data=st.data(),
        builder=st.sampled_from(["b1", "b1", "b1", "b2"]),
        quota=st.integers(0, 6),
    )
    def misbehave(self, name: str, what: str, data: st.DataObject, builder: str, quota: int) -> None:
        """Steps out of their order: slots never used, used late, twice, or by somebody else; ends and late beats."""
        if what == "beat":
            self.live(name)
        elif what == "leave":
            self.leave(name)
        elif what == "grant":
            self.grant(name, 6, quota)
        elif self.slots:
            self.take(name, data, builder)

    def take(self, name: str, data: st.DataObject, builder: str) -> None:
        most = min(6, len(self.slots))
        recent = self.slots[-12:]
        chosen = data.draw(st.lists(st.sampled_from(recent), min_size=1, max_size=most))
        self.take_slots(name, chosen, builder)

    @rule(name=st.sampled_from(["p1", "p2"]), ms=st.sampled_from([0, 0, 5, 40]), hands=st.integers(1, 6))
    def send_more(self, name: str, ms: int, hands: int) -> None:
        self.clock.shift(0.1)
        self.send(name, ms, hands)

    @rule(name=st.sampled_from(["p1", "p2"]), ms=st.sampled_from([0, 0, 5, 40]), hands=st.integers(1, 6))
    def send(self, name: str, ms: int, hands: int) -> None:
        """What a worker does all day: slots, and at once what may leave on them."""
        if not self.is_alive(self.names[name]):
            self.live(name)
        known = len(self.slots)
        self.grant(name, hands, 6)
        self.clock.shift(ms / 1000)
        if len(self.slots) > known:
            self.take_slots(name, self.slots[known:], "b1")

    def take_slots(self, name: str, chosen: list[Slot], builder: str) -> list[Taken]:
        process, token = self.names[name], f"k{next(self.numbers)}"
        pairs = [(slot, builder) for slot in chosen]
        answer = self.run_call(calls.take(process, token, pairs))
        assert answer.lapsed is not self.is_alive(process)
        if answer.lapsed:
            self.renew(name)
            return []
        self.alive_until[process] = self.now + LIVE_US
        self.takes.append((process, token, pairs, answer.answers))
        taken: list[Taken] = []
        self.read()
        for slot, given in zip(chosen, answer.answers, strict=True):
            if given == Missed("empty") or isinstance(given, Taken):
                self.end_on_the_way(slot.lane, builder)
            if isinstance(given, Taken):
                self.check_taken(process, slot, given, builder)
                taken.append(given)
            elif given == Missed("empty"):
                rest = [m for m in self.in_lane(slot.lane) if m.klass < 2 and not self.refused(m, builder)]
                assert not rest, "a slot served nobody although somebody may go"
        self.there_was_no_room()
        self.taken += [(process, t) for t in taken]
        return taken

    def in_lane(self, name: str) -> list[Message]:
        """What may be taken from a lane; of one that is drained, what was submitted before."""
        until_us = self.drained.get(name, self.now)
        return [m for m in self.messages.values() if m.state == "Q" and m.lane == name and m.submitted_us <= until_us]

    def end_on_the_way(self, name: str, builder: str) -> None:
        """What may not leave ends when its turn comes; whose turn came is not ours to know."""
        for m in self.in_lane(name):
            end = self.refused(m, builder)
            if end and self.real_state(m) == end:
                m.state = end
            elif not end and m.group and self.real_state(m) == "W":
                m.state, m.look_us = "W", int(self.redis.zscore(self.ledger.key("timers"), m.id))
                assert self.now < m.look_us <= self.now + 600 * SECOND_US
                self.too_many.append(m)

    def there_was_no_room(self) -> None:
        """A group waits for the cap of its day only where its people are more than what is left of it."""
        for m in self.too_many:
            day = next(i for i, at in enumerate(MIDNIGHTS) if self.now < at)
            most = 6 if m.klass == 2 else 8
            out = [n for n in m.to.split(",") if m.members.get(n) == "O" or self.blocked(m.lane, n)]
            people = len(m.to.split(",")) - len(out)
            assert m.lane == "c" and self.capped[day] + people > most, "a group waits though there is room"
        self.too_many = []

    def check_taken(self, process: str, slot: Slot, given: Taken, builder: str) -> None:
        m = self.messages[given.message]
        assert slot not in self.used_slots, "a slot served twice"
        self.used_slots.add(slot)
        assert m.state == "Q" and m.lane == slot.lane, f"taken from {m.state}"
        assert m.submitted_us <= self.drained.get(m.lane, self.now), "taken although it came after the drain"
        assert self.open_lane(m.lane), "taken from a lane that is held"
        assert self.now <= slot.at_us + max(10_000, min(self.intervals[f"s:{m.lane}"], SECOND_US))
        for bucket in LANES[m.lane]["buckets"]:
            assert self.now >= self.holds.get(bucket, 0), "taken while a bucket is held"
        assert self.refused(m, builder) is None, "taken although it must not leave"
        assert given.may_be_out is m.maybe
        numbers = m.to.split(",")
        if m.group:
            m.members = {n: "O" if m.members[n] == "O" or self.blocked(m.lane, n) else m.members[n] for n in numbers}
            numbers = [n for n in numbers if m.members[n] != "O"]
        assert given.to == numbers
        if m.lane == "c":
            day = next(i for i, at in enumerate(MIDNIGHTS) if self.now < at)
            self.capped[day] += len(numbers)
            assert self.capped[day] <= (6 if m.klass == 2 else 8), "more than a day's cap"
        m.state, m.token, m.process, m.builder = "S", given.token, process, builder
        m.first_us = m.first_us or self.now
        m.attempts += 1
        assert given.attempt == m.attempts
        m.look_us = self.now + STALL_US
        self.held[process][m.id] = given.token

    def take_again(self, process: str, token: str, pairs: list[tuple[Slot, str]], before: list[Any]) -> None:
        if not self.is_alive(process):
            return
        answer = self.run_call(calls.take(process, token, pairs))
        self.alive_until[process] = self.now + LIVE_US
        for given, first in zip(answer.answers, before, strict=True):
            still_ours = isinstance(first, Taken) and self.messages[first.message].state == "S"
            if still_ours and self.messages[first.message].token == first.token and first.message in self.held[process]:
                assert isinstance(given, Taken)
                assert (
                    given._replace(tolerance_us=first.tolerance_us) == first
                )  # that one is of the rate that holds now
            else:
                assert isinstance(given, Missed)

    @precondition(lambda self: self.taken)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(OUTCOMES),
        delay_us=st.sampled_from([0, 0, 2 * SECOND_US, 40 * SECOND_US]),
        hold_us=st.sampled_from([0, 0, 0, 3 * SECOND_US]),
        scope=st.sampled_from(["sender", "campaign", "brand", "account"]),
        feedback=st.booleans(),
        other_id=st.sampled_from([False, False, False, True]),
        count=st.booleans(),
    )
    def finish(
        self,
        *,
        data: st.DataObject,
        outcome: Any,
        delay_us: int,
        hold_us: int,
        scope: Any,
        feedback: bool,
        other_id: bool,
        count: bool,
    ) -> None:
        under_way = [(p, t) for p, t in self.taken if self.messages[t.message].token == t.token][-6:]
        void = [(p, t) for p, t in self.taken if self.messages[t.message].token != t.token][-4:]
        some = data.draw(st.lists(st.sampled_from(under_way + void + self.taken[-3:]), min_size=1, max_size=3))
        process = some[0][0]
        results = [
            self.result(
                t,
                outcome,
                delay_us=delay_us,
                hold_us=hold_us,
                scope=scope,
                feedback=feedback,
                other_id=other_id,
                count=count,
            )
            for _, t in some
        ]
        words = self.run_call(calls.finish(process, results))
        for result, said in zip(results, words, strict=True):
            assert said == self.finished(process, result), (said, result)

    @precondition(lambda self: any(self.messages[t.message].state == "S" for _, t in self.taken))
    @rule(seconds=st.sampled_from([4, 8, 9]), name=st.sampled_from(["p1", "p2"]), die=st.booleans())
    def fall_silent(self, seconds: int, name: str, die: bool) -> None:
        """Answers are lost, or a worker is; then what is in doubt may leave again, under another token."""
        if die:
            self.clock.shift(11)
        else:
            under_way = [(p, t) for p, t in self.taken if self.messages[t.message].token == t.token]
            for process, t in under_way:
                lost = Finish(message=t.message, token=t.token, outcome="uncertain", why="read_timeout")
                assert self.run_call(calls.finish(process, [lost])) == [self.finished(process, lost)]
        self.live_on(seconds + 12 * die)
        self.send(name, 0, 6)

    def result(
        self,
        t: Taken,
        outcome: Any,
        *,
        delay_us: int,
        hold_us: int,
        scope: Any,
        feedback: bool,
        other_id: bool,
        count: bool,
    ) -> Finish:
        accepted = outcome == "accepted"
        return Finish(
            message=t.message, token=t.token, outcome=outcome, why=outcome, delay_us=0 if accepted else delay_us,
            provider_id=(f"second-{t.message}" if other_id else f"pid-{t.message}") if accepted else None,
            to=[(n, "A") for n in t.to] if accepted and len(t.to) > 1 else (), hold_us=hold_us, scope=scope, feedback=feedback,
            code=None if accepted else "40001", title="x", uses_a_try=count and outcome in ("retry", "not_sent"),
        )  # fmt: skip

    def finished(self, process: str, r: Finish) -> str:
        m = self.messages[r.message]
        before = m.state
        if self.held.get(process, {}).get(m.id) == r.token:
            del self.held[process][m.id]
        if not self.redis.exists(self.ledger.key(f"m:{m.id}")):
            return "gone"
        if r.outcome == "accepted":
            word = self.learn(m, Fact(ref=None, provider_id=r.provider_id, state="A", to=r.to), answer=True)
            self.hold(m.lane, r.scope, r.hold_us)
            return word
        if m.token != r.token or not (before == "S" or (before == "U" and r.outcome != "uncertain")):
            return "stale"
        self.hold(m.lane, r.scope, r.hold_us)
        if m.attempts <= 1 and r.outcome not in ("uncertain", "conflict"):
            m.maybe = False  # the verdict of its only request
        if r.outcome == "rejected":
            m.state = m.end("R")
        elif r.outcome == "opted_out":
            if not m.group:
                self.say(m.to, SCOPES[m.lane][-1], True, self.now, False)
            m.state = m.end("O")
        elif r.outcome == "uncertain":
            self.doubt(m)
        elif r.outcome == "not_sent":
            m.attempts -= 1
            m.tries += r.uses_a_try
            if r.uses_a_try and m.tries >= MOST_TRIES:
                m.state = m.end("R")
            else:
                self.again(m, r.delay_us)
        elif r.outcome == "conflict" and m.job_type == "careful":
            if before == "S":
                self.doubt(m)
        elif r.outcome == "conflict":
            m.maybe = True
            self.again(m, r.delay_us)
        else:
            m.tries += r.uses_a_try
            if r.uses_a_try and m.tries >= MOST_TRIES:
                m.state = m.end("R")
            else:
                self.again(m, r.delay_us)
        return "ok"

    def hold(self, lane_name: str, which: str, hold_us: int) -> None:
        if hold_us:
            draws = LANES[lane_name]["buckets"]
            bucket = next((b for b in draws if b[0] == PREFIX[which]), draws[0])
            self.holds[bucket] = max(self.holds.get(bucket, 0), self.now + hold_us)

    @rule()
    def wake(self) -> None:
        more = True
        pointers: list[calls.Pointer] = []
        rounds = 0
        while more:
            found, more = self.run_call(calls.wake(limit=5))
            pointers += found
            rounds += 1
            assert rounds < 500, "timers that never end"
        self.read()
        for m in self.messages.values():
            self.woken(m)
        for n in self.notifications:
            n.closed = n.closed or any(m.state == "E" and not m.expanded for m in n.messages)
        for p in pointers:
            if p.kind in ("poll", "poll_group"):
                assert self.messages[p.id].state in "AT"
            elif p.kind == "expand":
                assert any(not m.expanded for m in self.messages.values() if m.id.startswith(p.id))
            else:
                assert p.id in self.batches

    def woken(self, m: Message) -> None:
        real = self.real_state(m)
        late_us = self.now - m.until_us
        if m.state in WAITING and late_us >= 0:
            if late_us > 61 * SECOND_US or real == m.end("E"):
                m.state = m.end("E")
        elif m.state == "W" and self.now >= m.look_us:
            m.state = "Q"
        elif m.state == "S" and self.now >= m.look_us:
            self.lose(m)
        elif m.state == "U" and self.grace_over(m) and real != "U":  # how soon it looks again is its own affair
            m.state = self.after_grace(m)
            if m.state == "W":
                m.look_us = int(self.redis.zscore(self.ledger.key("timers"), m.id))
                assert 0 < m.look_us - self.now <= 41 * SECOND_US
        elif m.state in "AT" and self.now >= m.handed_us + SILENT_US:
            m.state = "X"

    @rule(name=st.sampled_from(["p1", "p2"]))
    def reap(self, name: str) -> None:
        gone, made = self.run_call(calls.reap(self.names[name]))
        if self.now - self.reaped_us > 3 * SECOND_US:
            self.reap_from_us = self.now + LIVE_US
        self.reaped_us = self.now
        expected = 0
        if self.now >= self.reap_from_us:
            for process in [p for p in self.held if not self.is_alive(p)]:
                for mid, token in self.held.pop(process).items():
                    m = self.messages[mid]
                    if m.state == "S" and m.token == token:
                        self.lose(m)
                        expected += 1
        assert made == expected
        assert not any(self.is_alive(p) for p in gone), "a living process was robbed"

    # --- what the provider, people and operators do

    @precondition(lambda self: self.messages and len(self.messages) < 60)
    @rule(
        data=st.data(),
        why=st.sampled_from(["replay", "replay", "fallback"]),
        ahead=st.sampled_from([1, 1, 1, 1, 0, 2]),
        valid_us=st.sampled_from([8 * SECOND_US, 24 * HOUR_US]),
    )
    def leg(self, data: st.DataObject, why: Any, ahead: int, valid_us: int) -> None:
        ended = [e for e in self.legs if self.entry_state(self.messages[e]) in "RFX"]
        entry = data.draw(st.sampled_from(ended if ended and why == "replay" else list(self.legs)))
        self.make_leg(entry, why, ahead, valid_us)

    @precondition(
        lambda self: len(self.messages) < 60 and any(self.messages[t.message].state == "S" for _, t in self.taken)
    )
    @rule(
        letter=st.sampled_from("RFX"), then=st.sampled_from(["send", "", "D", "F"]), name=st.sampled_from(["p1", "p2"])
    )
    def fail_and_replay(self, letter: str, then: str, name: str) -> None:
        """The way to a leg, which chance alone walks rarely: one under way ends without arriving, and is sent again."""
        process, t = next((p, t) for p, t in reversed(self.taken) if self.messages[t.message].state == "S")
        verdict: Any = "rejected" if letter == "R" else "accepted"
        result = self.result(
            t, verdict, delay_us=0, hold_us=0, scope="sender", feedback=False, other_id=False, count=False
        )
        assert self.run_call(calls.finish(process, [result])) == [self.finished(process, result)]

        def hear(state: str) -> None:
            to = [(n, state) for n in t.to] if len(t.to) > 1 else ()
            facts = [Fact(ref=t.message, provider_id=f"pid-{t.message}", state=state, to=to)]
            self.apply_facts(facts, self.run_call(calls.receipt("", facts)))

        if letter != "R":
            hear(letter)
        self.make_leg(self.entry_of(self.messages[t.message]), "replay", 1, 24 * HOUR_US)
        if then == "send":
            self.clock.shift(0.1)
            if self.is_alive(self.names[name]):
                self.send(name, 0, 6)
        elif then:  # late, of the leg before
            hear(then)

    def make_leg(self, entry: str, why: Any, ahead: int, valid_us: int) -> calls.Leg:
        """Ask for the leg that is so many ahead of the newest."""
        self.read()
        first, last = self.legs[entry][0], self.legs[entry][-1]
        newest = len(self.legs[entry])
        refusal = self.refused_leg(first, last, why, ahead)
        n = next(n for n in self.notifications if n.id == entry[:32])
        was_finished = all(self.entry_state(m) in FINAL for m in n.messages)
        answer = self.run_call(calls.leg(entry, newest + ahead, why, valid_for_us=valid_us))
        id = entry if newest + ahead == 1 else f"{entry}-{newest + ahead}"
        assert answer[:3] == (("refused", "", refusal) if refusal else ("made" if ahead else "exists", id, ""))
        if refusal or not ahead:
            return answer
        n.finishes += was_finished
        self.reopened[entry] += self.entry_state(first) in FINAL
        if last.state in WAITING:
            last.state = last.end("C")
        elif last.state in FLYING:
            last.cancelled = True
        made = Message(
            id, many=False, klass=first.klass, job_type=first.job_type, to=first.to, until_us=self.now + valid_us, send_at_us=0,
            submitted_us=self.now, state="Q", lane=last.lane, expanded=True,
        )  # fmt: skip
        if made.group:
            made.members = {p: "O" if self.blocked(made.lane, p) else "A" for p in made.to.split(",")}
        self.messages[id] = made
        self.legs[entry].append(made)
        return answer

    def refused_leg(self, first: Message, last: Message, why: str, ahead: int) -> str | None:
        state = self.entry_state(first)
        if not self.records[first.id]:
            return "gone"
        if ahead == 0:
            return None
        if ahead > 1:
            return "passed"
        if state not in "RFX" and (why == "replay" or state in FINAL or state == "N"):
            return "not_dead"
        if "D" in last.members.values():
            return "partly_delivered"
        if not last.lane:
            return "not_rendered"
        if not self.has_content(last):
            return "content_erased"
        if last.lane in self.gone:
            return "no_lane"
        return "opted_out" if all(self.blocked(last.lane, p) for p in last.to.split(",")) else None

    def has_content(self, m: Message) -> bool:
        """How long it is kept is another test's; here only that there is no leg without."""
        pieces = self.records[m.id].get("ct")
        if pieces is None:
            return bool(self.redis.exists(self.ledger.key(f"t:{m.id[:32]}")))
        return bool(self.redis.exists(self.ledger.key(f"c:{m.id}"))) if pieces == "c" else pieces != "0"

    def facts(self, data: st.DataObject, most: int) -> list[Fact]:
        def one() -> Fact:
            likely = [m for m in self.messages.values() if m.attempts]
            m = data.draw(st.sampled_from(likely or list(self.messages.values())))
            letter = data.draw(st.sampled_from("ATDFX"))
            pid = data.draw(st.sampled_from([f"pid-{m.id}", f"pid-{m.id}", f"second-{m.id}", f"third-{m.id}"]))
            by_ref = data.draw(st.sampled_from([True, True, False]))
            error = ("w", "40008", "Undeliverable") if letter == "F" else None
            members = data.draw(st.lists(st.sampled_from(m.to.split(",")), max_size=3, unique=True)) if m.group else []
            return Fact(
                ref=m.id if by_ref else None, provider_id=pid, state=letter, raw=letter.lower(), error=error,
                to=[(n, letter) for n in members],
            )  # fmt: skip

        return [one() for _ in range(data.draw(st.integers(1, most)))]

    def apply_facts(self, facts: list[Fact], words: list[str]) -> None:
        for fact, said in zip(facts, words, strict=True):
            known = [m for m in self.messages.values() if fact.provider_id in m.ids]
            m = self.messages.get(fact.ref or "") or (known[0] if known else None)
            if m is not None and not self.redis.exists(self.ledger.key(f"m:{m.id}")):
                m = None
            expected = self.learn(m, fact) if m else "lost"
            assert said == expected or (said == "lost" and self.now - m.handed_us > 9 * DAY_US), (said, expected, fact)  # type: ignore[union-attr]

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def receipt(self, data: st.DataObject) -> None:
        facts = self.facts(data, 3)
        self.apply_facts(facts, self.run_call(calls.receipt("", facts)))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        batch = f"batch{next(self.numbers)}"
        self.batches[batch] = (self.now, self.facts(data, 2))
        self.run_call(calls.hear(batch, b"[]"))

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def reconcile(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(list(self.batches)))
        _, facts = self.batches.pop(batch)
        self.apply_facts(facts, self.run_call(calls.receipt(batch, facts)))

    @rule()
    def listen(self) -> None:
        if self.now - self.heard_us > 5 * SECOND_US:
            self.hearing_since_us = self.now
        self.heard_us = self.now
        assert self.run_call(calls.ear("w1")) == (self.hearing_since_us, self.heard_us)

    @rule(
        number=st.sampled_from(PEOPLE[:3]),
        out=st.sampled_from([True, False, False]),
        scope=st.sampled_from(["global", "sender:a", "profile:p1", "profile:elsewhere"]),
        ago_us=st.sampled_from([0, 0, 5 * SECOND_US, -HOUR_US]),
        by_operator=st.sampled_from([False, False, True]),
    )
    def opt(self, number: str, out: bool, scope: str, ago_us: int, by_operator: bool) -> None:
        at_us = self.now - ago_us
        self.run_call(
            calls.opt(
                number, "out" if out else "in", scopes=[scope], occurred_us=at_us, source="api", by_operator=by_operator
            )
        )
        self.say(number, scope, out, min(at_us, self.now), by_operator)

    @rule(
        what=st.sampled_from(["pause", "drain", "resume", "resume", "resume", "rate", "publish"]),
        name=st.sampled_from("abc"),
        t_us=st.sampled_from([10_000, 30_000, 200_000]),
        which=st.sampled_from(["full", "full", "without_b", "b_alone"]),
    )
    def operate(self, what: str, name: str, t_us: int, which: str) -> None:
        if what == "publish":
            self.publish(which)
        elif what == "rate":
            self.set_rate(name, t_us)
        elif what == "pause":
            self.pause(name)
        elif what == "drain":
            self.run_call(calls.lane(name, "drain", "test"))
            self.drained.setdefault(name, self.now)
        else:
            self.resume(name)

    def pause(self, name: str) -> None:
        self.run_call(calls.lane(name, "pause", "operator"))
        self.paused.add(name)

    def resume(self, name: str) -> None:
        self.run_call(calls.lane(name, "resume"))
        self.paused.discard(name)
        self.drained.pop(name, None)
        self.holds.pop(f"s:{name}", None)

    def set_rate(self, name: str, t_us: int) -> None:
        self.run_call(calls.lane(name, "rate", t_us))
        self.intervals[f"s:{name}"] = t_us
        self.last_slot.pop(f"s:{name}", None)

    def publish(self, which: str) -> None:
        lanes = {n: row for n, row in LANES.items() if n != "b" or which != "without_b"}
        if which == "b_alone":  # it no longer draws on the campaign and the account
            lanes = {**lanes, "b": {**LANES["b"], "buckets": ["s:b"]}}
        self.run_call(calls.publish(publication(lanes, BUCKETS, digest=which), {"d:acme": MIDNIGHTS}))
        self.gone = {"b"} if which == "without_b" else set()

    @rule(seconds=st.sampled_from([1, 3, 8, 20]))
    def live_on(self, seconds: int) -> None:
        """Time passes as it does in a living system."""
        for _ in range(seconds):
            self.clock.shift(1)
            self.live("p1")
            self.live("p2")
            self.listen()
            self.wake()
            self.reap("p1")

    @rule(ms=st.sampled_from(JUMPS_MS))
    def pass_time(self, ms: int) -> None:
        self.clock.shift(ms / 1000)

    # --- what must hold after every step

    def real_state(self, m: Message) -> str:
        """As `read` saw it. Who is not expanded yet ends with the notification."""
        record = self.records[m.id]
        if record:
            return record["s"]
        return {None: "N", "E": "E"}.get(self.heads[m.id[:32]].get("cx"), "C")

    def every_state_is_the_models(self) -> None:
        for m in self.messages.values():
            if self.records[m.id] or m.state not in FINAL:
                assert self.real_state(m) == m.state, f"{m.id} is {self.real_state(m)}, by the rules {m.state}"

    def versions_grow_and_timelines_read_back(self) -> None:
        for m in self.messages.values():
            record = self.records[m.id]
            if m.expanded and record:
                steps = timeline({"at": "0", **record})
                assert (int(record["v"]) > m.version) is (len(steps) > m.steps or not m.version)
                m.version, m.steps = int(record["v"]), len(steps)
                assert LETTERS[steps[-1].state] == m.state
                assert all(x.at_us <= y.at_us for x, y in itertools.pairwise(steps))

    def each_message_is_in_one_place_and_has_a_way_on(self) -> None:
        key = self.ledger.key
        places = [(name, klass) for name in LANES for klass in range(3)]
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrange(key("timers"), 0, -1)
        for name, klass in places:
            pipe.zrange(key(f"q:{name}:{klass}"), 0, -1)
        timers, *rows = [{member.decode() for member in row} for row in pipe.execute()]
        queued = dict(zip(places, rows, strict=True))
        watched: set[str] = set()
        for k in self.redis.keys(key("vb:*")):
            second = k.decode().rsplit(":", 1)[1]
            assert f"v{second}" in timers, "a validity list without a timer"
            watched |= {m.decode() for m in self.redis.lrange(k, 0, -1)}
        for place, members in queued.items():
            expected = {m.id for m in self.messages.values() if m.state == "Q" and (m.lane, m.klass) == place}
            assert members == expected, place
        for m in self.messages.values():
            assert (m.id in timers) is (m.state in "WSUAT"), f"{m.id} is {m.state}"
            if m.state == "N":
                assert "n" + m.id[:32] in timers, "nothing points at a new notification again"
            if m.state in WAITING:
                assert m.id in watched or "e" + m.id[:32] in timers, "nobody ends it when its validity is over"

    def counts_are_those_of_the_messages(self) -> None:
        for n in self.notifications:
            head = self.heads[n.id]
            if head:
                counts = {k[2:]: int(v) for k, v in head.items() if k.startswith("c.") and int(v)}
                states = [self.entry_state(m) for m in n.messages]
                assert counts == Counter(states)
                assert int(head["op"]) == sum(state not in FINAL for state in states)

    def the_dead_are_listed_by_their_newest_leg(self) -> None:
        listed = {mid.decode() for mid in self.redis.zrange(self.ledger.key("dead"), 0, -1)}
        known = {legs[-1].id for legs in self.legs.values() if self.entry_state(legs[0]) in "RFX"}
        assert listed <= known, listed - known
        for mid in known - listed:  # no longer: their day is over
            record = self.records[mid]
            at = {"at": self.heads[mid[:32]].get("at", "0"), **record}
            assert not record or self.now - timeline(at)[-1].at_us >= DAY_US - SECOND_US, mid

    def holders_hold_what_they_took_and_did_not_finish(self) -> None:
        pipe = self.redis.pipeline(transaction=False)
        for process in self.held:
            pipe.hgetall(self.ledger.key(f"held:{process}"))
        for (process, mine), real in zip(self.held.items(), pipe.execute(), strict=True):
            assert {k.decode(): v.decode() for k, v in real.items()} == mine, process
        for m in self.messages.values():
            if m.state == "S":
                assert self.held[m.process].get(m.id) == m.token

    def every_lane_is_where_it_says_and_none_that_may_give_is_nowhere(self) -> None:
        key = self.ledger.key
        due = {k.decode(): score for k, score in self.redis.zrange(key("due"), 0, -1, withscores=True)}
        waits = {
            k.decode().split("w:", 1)[1]: {m.decode() for m in self.redis.zrange(k, 0, -1)}
            for k in self.redis.keys(key("w:*"))
        }
        for name in LANES:
            at = (self.redis.hget(key(f"lane:{name}"), "at") or b"").decode()
            places = ["due"] * (f"l:{name}" in due) + [b for b, lanes in waits.items() if f"l:{name}" in lanes]
            assert places == ([at] if at else []), f"lane {name} says {at!r}, and is in {places}"
            if at == "due":
                assert due[f"l:{name}"] <= self.now + DAY_US + HOUR_US
            if self.open_lane(name) and self.in_lane(name):
                assert at, f"lane {name} has messages and is nowhere"
        for bucket in waits:
            assert f"b:{bucket}" in due, f"nobody looks after those that wait for {bucket}"

    def no_script_stumbled(self) -> None:
        assert self.redis.hget(self.ledger.key("counts"), "poisoned") is None, self.redis.xrange(self.ledger.key("odd"))

    # --- the end: with healthy processes everything becomes final, and after the retention nothing is left

    @invariant()
    def everything_holds(self) -> None:
        self.read()
        self.every_state_is_the_models()
        self.versions_grow_and_timelines_read_back()
        self.each_message_is_in_one_place_and_has_a_way_on()
        self.counts_are_those_of_the_messages()
        self.the_dead_are_listed_by_their_newest_leg()
        self.holders_hold_what_they_took_and_did_not_finish()
        self.every_lane_is_where_it_says_and_none_that_may_give_is_nowhere()
        self.no_script_stumbled()

    def work(self) -> None:
        """One round of a healthy service: p2 is gone for good, p1 sends what it may and hears of it."""
        self.live("p1")
        self.listen()
        for n in self.unexpanded():
            loaded = self.run_call(calls.load(n.id, str(n.cursor) if len(n.messages) > 1 else None))
            if loaded is None:
                n.closed = True
                continue
            self.admit(n, loaded, [Admission(to=n.messages[i].to, lane="a") for i in n.chunks[n.cursor]])
        for batch in list(self.batches):
            _, facts = self.batches.pop(batch)
            self.apply_facts(facts, self.run_call(calls.receipt(batch, facts)))
        self.wake()
        self.reap("p1")
        self.slots = []
        self.grant("p1", 12, 6)
        taken = self.take_slots("p1", self.slots, "b1") if self.slots else []
        for t in taken:
            result = Finish(message=t.message, token=t.token, outcome="accepted", provider_id=f"pid-{t.message}")
            assert self.run_call(calls.finish(self.names["p1"], [result])) == [self.finished(self.names["p1"], result)]
        facts = [
            Fact(ref=t.message, provider_id=f"pid-{t.message}", state="D", to=[(n, "D") for n in t.to] if len(t.to) > 1 else ())
            for t in taken
        ]  # fmt: skip
        if facts:
            self.apply_facts(facts, self.run_call(calls.receipt("", facts)))

    def teardown(self) -> None:
        try:
            if self.messages:
                self.settle()
        finally:
            self.traveller.stop()

    def settle(self) -> None:
        self.publish("full")
        for name in LANES:
            self.resume(name)
            self.set_rate(name, 10_000)
        for _ in range(20):
            self.clock.shift(2)
            self.work()
            self.everything_holds()
        stuck = [m for m in self.messages.values() if m.state in "USQ" and m.lane != "c" and m.until_us > self.now]
        assert not stuck, f"no way on for {[(m.id, m.state) for m in stuck]}"
        for hours in (2, 12, 70, 73):
            self.clock.shift(hours * 3600)
            self.renew("p1")
            self.work()
            self.live_on(14)
            self.work()
            self.everything_holds()
        left = [m for m in self.messages.values() if m.state not in FINAL]
        assert not left, f"never ended: {[(m.id, m.state) for m in left]}"
        self.every_end_was_told()
        self.clock.shift(20 * 24 * 3600)
        self.wake()
        kept = (
            "cfg",
            "lanes",
            "lane:",
            "b:",
            "o:",
            "trimmed",
            "audit",  # bounded, and outlives whom it speaks of
            "ev",
            "odd",
            "counts",
            "reaper",
            "ears",
            "procs",
            "f:",
            "rates",
            "due",
            "g:",
            "gen",
            "st:",  # figures: bounded, and of nobody
        )
        names = [k.decode().split(":", 1)[1] for k in self.redis.keys("*")]
        left_behind = [n for n in names if not n.startswith(kept)]
        assert not left_behind, f"left behind: {left_behind}"

    def every_end_was_told(self) -> None:
        told: Counter[tuple[str, str]] = Counter()
        for _, f in self.redis.xrange(self.ledger.key("ev")):
            told[f[b"y"].decode(), f[b"m"].decode()] += 1
        for n in self.notifications:
            assert told["notification.finished", n.id] == n.finishes, n.id
            for m in n.messages:
                ends = 1 + self.reopened[m.id] if m.expanded or len(n.messages) == 1 else 0
                assert told["message.final", m.id] == ends, m.id


def search(examples: int, steps: int, *, same_every_time: bool = False) -> None:
    """Look for a counterexample; raises with the steps that lead to it."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same_every_time,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=80)
    options = parser.parse_args()
    search(options.examples, options.steps)
