"""The end: with healthy processes everything becomes final, and after the retention nothing is left."""

from __future__ import annotations

from collections import Counter

from ledger_kit import publication

from ledger_model.checks import Checks
from ledger_model.legs import Legs
from ledger_model.operating import Operating
from ledger_model.producing import Producing
from ledger_model.site import BUCKETS, FINAL, LANES, MIDNIGHTS
from producers.ledger import calls
from producers.ledger.calls import Admission, Fact, Finish


class LedgerWorld(Producing, Legs, Operating, Checks):
    """All of it, and how it ends."""

    def begin(self) -> None:
        self.run_call(calls.publish(publication(LANES, BUCKETS, digest="full"), {"d:acme": MIDNIGHTS}))
        for process in self.names.values():
            self.beat(process, "first")

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
            self.reconcile(batch)
        self.wake()
        self.reap("p1")
        self.slots = []
        self.grant("p1", 12, 6)
        taken = self.take_slots("p1", self.slots, "b1") if self.slots else []
        for t in taken:
            result = Finish(message=t.message, token=t.token, outcome="accepted", provider_id=f"pid-{t.message}")
            self.finish(self.names["p1"], [result])
        facts = [
            Fact(ref=t.message, provider_id=f"pid-{t.message}", state="D", to=[(n, "D") for n in t.to] if len(t.to) > 1 else ())
            for t in taken
        ]  # fmt: skip
        if facts:
            self.receipt(facts)

    def settle(self) -> None:
        self.publish("full")
        for name in LANES:
            self.resume(name)
            self.set_rate(name, 10_000)
        for _ in range(20):
            self.pass_s(2)
            self.work()
            if self.thorough:
                self.everything_holds()
        stuck = [m for m in self.messages.values() if m.state in "USQ" and m.lane != "c" and m.until_us > self.now]
        assert not stuck, f"no way on for {[(m.id, m.state) for m in stuck]}"
        for hours in (2, 12, 70, 73):
            self.pass_s(hours * 3600)
            self.renew("p1")
            self.work()
            self.live_on(6, each_s=2.5)
            self.work()
            self.everything_holds()
        left = [m for m in self.messages.values() if m.state not in FINAL]
        assert not left, f"never ended: {[(m.id, m.state) for m in left]}"
        self.every_end_was_told()
        self.pass_s(20 * 24 * 3600)
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
            "visits",  # of the test, as are the clock and what is to lapse
            "clock",
            "lapses",
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
