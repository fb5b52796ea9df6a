"""What producers and ``expand`` do."""

from __future__ import annotations

import json
from typing import Any

from ledger_model.messages import Message, Notification
from ledger_model.site import FINAL, FLYING, WAITING
from ledger_model.world import World
from producers.ledger import calls
from producers.ledger.calls import Admission, Submission


class Producing(World):
    def new_messages(self, id: str, to: list[str], **common: Any) -> list[Message]:
        made = [Message(f"{id}-{i}", len(to) > 1, to=number, **common) for i, number in enumerate(to)]
        self.messages.update({m.id: m for m in made})
        self.legs.update({m.id: [m] for m in made})
        return made

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

    def submit_again(self, n: Notification) -> None:
        if any(self.entry_state(m) not in FINAL for m in n.messages):
            assert self.run_call(calls.submit(n.submission)).outcome == "repeated"

    def expand(self, n: Notification, *, where: str, reject: int, release_us: int, long: bool) -> None:
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
