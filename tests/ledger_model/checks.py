"""What must hold after every step."""

from __future__ import annotations

import itertools
from collections import Counter

from virtual_time import DAY_US, HOUR_US, SECOND_US

from ledger_model.site import FINAL, LANES, WAITING
from ledger_model.world import World
from producers.ledger.reading import timeline
from producers.ledger.states import LETTERS


class Checks(World):
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
