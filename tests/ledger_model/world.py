"""What both sides know: the ledger that is driven, and by the rules where each message is."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from virtual_time import SECOND_US, VirtualLedger

from ledger_model.messages import Message, Notification
from ledger_model.site import BUCKETS, FLYING, KEY_LIVES_US, LANES, MOST_LOST, SCOPES, WAITING
from producers.ledger.calls import Admission, Fact, Slot, Taken


class World:
    """One ledger, two workers that die and come back, a web process that may be deaf."""

    def __init__(self, ledger: VirtualLedger, *, thorough: bool = True) -> None:
        self.thorough = thorough  # check everything wherever it may be checked
        self.ledger = ledger
        self.redis: Any = ledger.redis
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
        self.draws_on = {n: row["buckets"] for n, row in LANES.items()}  # as was published last
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

    @property
    def now(self) -> int:
        return self.ledger.now_us

    def pass_s(self, seconds: float) -> None:
        self.ledger.pass_us(round(seconds * SECOND_US))

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
        elif m.maybe and m.job_type == "careful":
            m.state = "X"
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

    def real_state(self, m: Message) -> str:
        """As ``read`` saw it. Who is not expanded yet ends with the notification."""
        record = self.records.get(m.id)
        if record:
            return record["s"]
        return {None: "N", "E": "E"}.get(self.heads[m.id[:32]].get("cx"), "C")

    def state_now(self, m: Message) -> str:
        """The same, read anew."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.hget(self.ledger.key(f"m:{m.id}"), "s")
        pipe.hget(self.ledger.key(f"n:{m.id[:32]}"), "cx")
        letter, ended = pipe.execute()
        return letter.decode() if letter else {None: "N", b"E": "E"}.get(ended, "C")

    def exists(self, n: Notification) -> bool:
        return bool(
            self.redis.exists(self.ledger.key(f"n:{n.id}")) or self.redis.exists(self.ledger.key(f"m:{n.id}-0"))
        )

    def in_lane(self, name: str) -> list[Message]:
        """What may be taken from a lane; of one that is drained, what was submitted before."""
        until_us = self.drained.get(name, self.now)
        return [m for m in self.messages.values() if m.state == "Q" and m.lane == name and m.submitted_us <= until_us]

    def unexpanded(self) -> list[Notification]:
        return [n for n in self.notifications if not n.closed and n.cursor < len(n.chunks)]
