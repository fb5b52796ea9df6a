"""Later legs: a message that is sent again, or by another way."""

from __future__ import annotations

from typing import Any

from virtual_time import HOUR_US

from ledger_model.finishing import Finishing
from ledger_model.messages import Message
from ledger_model.site import FINAL, FLYING, WAITING
from producers.ledger import calls
from producers.ledger.calls import Fact


class Legs(Finishing):
    def fail_and_replay(self, letter: str, *, then: str, name: str) -> None:
        """The way to a leg, which chance alone walks rarely: one under way ends without arriving, and is sent again."""
        process, t = next((p, t) for p, t in reversed(self.taken) if self.messages[t.message].state == "S")
        verdict: Any = "rejected" if letter == "R" else "accepted"
        result = self.result(
            t, verdict, delay_us=0, hold_us=0, scope="sender", feedback=False, other_id=False, count=False
        )
        self.finish(process, [result])

        def hear(state: str) -> None:
            to = [(n, state) for n in t.to] if len(t.to) > 1 else ()
            facts = [Fact(ref=t.message, provider_id=f"pid-{t.message}", state=state, to=to)]
            self.receipt(facts)

        if letter != "R":
            hear(letter)
        self.make_leg(self.entry_of(self.messages[t.message]), "replay", 1, 24 * HOUR_US)
        if then == "send":
            self.pass_s(0.1)
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
