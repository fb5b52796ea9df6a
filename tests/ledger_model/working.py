"""Slots and takes: who may send, what, and when."""

from __future__ import annotations

from typing import Any

from virtual_time import SECOND_US

from ledger_model.lives import Lives
from ledger_model.site import LIVE_US, MIDNIGHTS, STALL_US
from producers.ledger import calls
from producers.ledger.calls import Missed, Slot, Taken


class Working(Lives):
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

    def send(self, name: str, ms: int, hands: int) -> None:
        """What a worker does all day: slots, and at once what may leave on them."""
        if not self.is_alive(self.names[name]):
            self.live(name)
        known = len(self.slots)
        self.grant(name, hands, 6)
        self.pass_s(ms / 1000)
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

    def end_on_the_way(self, name: str, builder: str) -> None:
        """What may not leave ends when its turn comes; whose turn came is not ours to know."""
        for m in self.in_lane(name):
            end = self.refused(m, builder)
            if end and self.state_now(m) == end:
                m.state = end
            elif not end and m.group and self.state_now(m) == "W":
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
        for bucket in self.draws_on[m.lane]:
            assert max(self.now, slot.at_us) >= self.holds.get(bucket, 0), (
                "taken for an instant at which a bucket is held"
            )
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
