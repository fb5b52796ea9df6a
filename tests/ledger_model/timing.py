"""What time brings: timers, the dead that are noticed, doubts that end."""

from __future__ import annotations

from virtual_time import SECOND_US

from ledger_model.facts import Facts
from ledger_model.lives import Lives
from ledger_model.messages import Message
from ledger_model.site import GRACE_URGENT_US, GRACE_US, KEY_LIVES_US, LIVE_US, SILENT_US, WAITING
from producers.ledger import calls


class Timing(Lives, Facts):
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

    def wake(self) -> None:
        more = True
        pointers: list[calls.Pointer] = []
        rounds = 0
        while more:
            found, more = self.run_call(calls.wake(limit=5))
            pointers += found
            rounds += 1
            assert rounds < 500, "timers that never end"
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
        late_us = self.now - m.until_us
        if m.state in WAITING and late_us >= 0:
            if late_us > 61 * SECOND_US or self.state_now(m) == m.end("E"):
                m.state = m.end("E")
        elif m.state == "W" and self.now >= m.look_us:
            m.state = "Q"
        elif m.state == "S" and self.now >= m.look_us:
            self.lose(m)
        elif (
            m.state == "U" and self.grace_over(m) and self.state_now(m) != "U"
        ):  # how soon it looks again is its own affair
            m.state = self.after_grace(m)
            if m.state == "W":
                m.look_us = int(self.redis.zscore(self.ledger.key("timers"), m.id))
                assert 0 < m.look_us - self.now <= 41 * SECOND_US
        elif m.state in "AT" and self.now >= m.handed_us + SILENT_US:
            m.state = "X"

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

    def live_on(self, times: int, *, each_s: float = 1) -> None:
        """Time passes as it does in a living system."""
        for _ in range(times):
            self.pass_s(each_s)
            self.live("p1")
            self.live("p2")
            self.listen()
            self.wake()
            self.reap("p1")
