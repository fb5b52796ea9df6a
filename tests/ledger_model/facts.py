"""Facts: the API's answers and receipts, in any order, and how long somebody has been listening."""

from __future__ import annotations

from virtual_time import DAY_US, SECOND_US

from ledger_model.draws import Draw
from ledger_model.messages import Message
from ledger_model.site import FLYING, RANK
from ledger_model.world import World
from producers.ledger import calls
from producers.ledger.calls import Fact


class Facts(World):
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
            m.members = m.members or dict.fromkeys(m.to.split(","), "A")  # it ended before anybody looked at them
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

    def facts(self, draw: Draw, most: int) -> list[Fact]:
        """Facts such as may come, true or not, of one to ``most`` messages."""
        likely = [m for m in self.messages.values() if m.attempts] or list(self.messages.values())
        return [self.fact(draw, draw.of(likely)) for _ in range(draw.whole(1, most))]

    @staticmethod
    def fact(draw: Draw, m: Message) -> Fact:
        letter = draw.of("ATDFX")
        pid = draw.of([f"pid-{m.id}", f"pid-{m.id}", f"second-{m.id}", f"third-{m.id}"])
        members = draw.some(m.to.split(","), least=0, most=3, unique=True) if m.group else []
        return Fact(
            ref=m.id if draw.of([True, True, False]) else None, provider_id=pid, state=letter, raw=letter.lower(),
            error=("w", "40008", "Undeliverable") if letter == "F" else None, to=[(n, letter) for n in members],
        )  # fmt: skip

    def apply_facts(self, facts: list[Fact], words: list[str]) -> None:
        for fact, said in zip(facts, words, strict=True):
            known = [m for m in self.messages.values() if fact.provider_id in m.ids]
            m = self.messages.get(fact.ref or "") or (known[0] if known else None)
            if m is not None and not self.redis.exists(self.ledger.key(f"m:{m.id}")):
                m = None
            expected = self.learn(m, fact) if m else "lost"
            assert said == expected or (said == "lost" and self.now - m.handed_us > 9 * DAY_US), (said, expected, fact)  # type: ignore[union-attr]

    def receipt(self, facts: list[Fact]) -> None:
        self.apply_facts(facts, self.run_call(calls.receipt("", facts)))

    def hear(self, facts: list[Fact]) -> None:
        batch = f"batch{next(self.numbers)}"
        self.batches[batch] = (self.now, facts)
        self.run_call(calls.hear(batch, b"[]"))

    def reconcile(self, batch: str) -> None:
        _, facts = self.batches.pop(batch)
        self.apply_facts(facts, self.run_call(calls.receipt(batch, facts)))

    def listen(self) -> None:
        if self.now - self.heard_us > 5 * SECOND_US:
            self.hearing_since_us = self.now
        self.heard_us = self.now
        assert self.run_call(calls.ear("w1")) == (self.hearing_since_us, self.heard_us)
