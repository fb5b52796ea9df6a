"""Drive the pacing scripts with random commands in virtual time, and hold what they let go against the rules of pacing.

``ledger_model`` asks whether each message is in the state that the rules say; this one asks *when* messages leave, in which
order, and what a grant costs. The machine has three processes that die and come back, and five lanes that share what lanes
can share: a number's SMS and MMS their own pace, and all kinds a campaign, a profile, an account, a daily cap, gates. It
knows no Lua and reads no pace from the server, so a rule that both sides forgot is the only thing that can hide from it.

``cd tests && python -m pacing_model --examples 1000 --steps 60`` searches for as long as you like; ``--server real`` does so
on a real server of its own, ten times as fast.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_kit import admit, lane, publication, submit
from virtual_time import DAY_US, HOUR_US, SECOND_US, START, VirtualLedger

from producers.ledger import calls
from producers.ledger.calls import GRANT_HI_US, GRANT_LO_US, Finish, Missed, RestScope, Slot, Taken

PHASES = tuple(Phase)
LEAD_US = 10_000  # a process takes this much ahead of the slot
SHARE = 3  # every third pop of a lane is the lowest class's
CAP, RESERVE = 12, 0.25
LANES = {
    "a": lane("a", "s:a", "p:one", "a:sms", profile="one", share=SHARE),
    "a.mms": lane("a", "s:a", "p:one", "a:mms", profile="one", share=SHARE),
    "b": lane("b", "s:b", "c:x", "a:sms", share=SHARE),
    "c": lane("c", "s:c", "d:acme", "a:sms", share=SHARE),
    "d": lane("d", "s:d", "c:x", "d:acme", "p:two", "a:sms", profile="two", share=SHARE),
}
GATES = {"p:one": {"gate": True}, "a:mms": {"gate": True}}
PACES = {"s:a": 10_000, "s:b": 50_000, "s:c": 1_000_000, "s:d": 4_000, "c:x": 25_000, "p:two": 12_000, "a:sms": 20_000}
OWN = {name: row["buckets"][0] for name, row in LANES.items()}
MOST_UNITS = {"c": 4}  # only this lane counts segments
MIDNIGHTS = [int(START.timestamp()) * SECOND_US + 6 * HOUR_US + n * DAY_US for n in range(60)]
PREFIX: dict[RestScope, str] = {"sender": "s:", "campaign": "c:", "brand": "d:", "profile": "p:", "account": "a:"}
ARRIVALS = st.sampled_from(["a", "a", "a.mms", "b", "b", "c", "d", "d"])
STEPS_MS = (1, 3, 9, 9, 20, 20, 45, 45, 80, 120, 300, 1_100)


@dataclass(frozen=True)
class Departure:
    """A message that was taken: when it may leave, and what it draws."""

    slot_us: int
    units: int


class Paces:
    """What each pace was, and when it changed."""

    def __init__(self, now_us: int) -> None:
        self.history = {name: [(now_us, t_us)] for name, t_us in PACES.items()}

    def set(self, bucket: str, now_us: int, t_us: int) -> None:
        self.history[bucket].append((now_us, t_us))

    def now(self, bucket: str) -> int:
        return self.history[bucket][-1][1]

    def changes(self, bucket: str, from_us: int, to_us: int) -> int:
        return sum(from_us <= at <= to_us for at, _ in self.history[bucket])

    def shortest(self, bucket: str, from_us: int, to_us: int) -> int:
        """The shortest interval that held at any instant of a time."""
        rows = self.history[bucket]
        ends = [at for at, _ in rows[1:]] + [math.inf]
        return min(t for (at, t), end in zip(rows, ends, strict=True) if at <= to_us and end >= from_us)

    def units(self, bucket: str, until_us: int) -> float:
        """What this pace lets go from the start until an instant. What was granted ahead stays at the old interval when the
        new one is longer, so such a change lets go what fits into the look-ahead and one interval more."""
        rows = self.history[bucket]
        total = 0.0
        for i, (at, t) in enumerate(rows):
            end = rows[i + 1][0] if i + 1 < len(rows) else math.inf
            total += (min(end, until_us) - at) / t
            if end > until_us:
                break
            total += max(0.0, (GRANT_HI_US + t) * (1 / t - 1 / rows[i + 1][1]))
        return total


class PacingMachine(RuleBasedStateMachine):
    """One ledger, three processes, five lanes."""

    redis: Any = None  # a client of a real server, or None for a fake one

    def __init__(self) -> None:
        super().__init__()
        self.ledger = VirtualLedger(self.redis)
        if self.redis:
            self.ledger.forget()
            self.ledger.at(self.ledger.now_us)
        self.paces = Paces(self.ledger.now_us)
        self.set_by_hand: dict[str, int] = {}
        self.published = dict(PACES)
        self.cap = CAP
        self.digests = itertools.count(1)
        self.tokens = itertools.count(1)
        self.alive = ["p1", "p2", "p3"]
        self.slots: dict[str, list[Slot]] = defaultdict(list)  # granted and not yet taken, by process
        self.granted_at: dict[Slot, int] = {}
        self.own_slots: dict[str, list[tuple[int, int]]] = defaultdict(list)  # bucket -> (slot, when it was granted)
        self.shared_slots: dict[str, list[int]] = defaultdict(list)
        self.departures: dict[str, list[Departure]] = defaultdict(list)
        self.flying: list[tuple[str, str, Taken]] = []  # process, lane, message
        self.last_take: tuple[str, str, list[tuple[Slot, str]], list[Any]] | None = None
        self.messages: dict[str, tuple[str, int, int]] = {}  # id -> lane, class, units
        self.leaves: Counter[str] = Counter()  # takes that found no end yet
        self.done: set[str] = set()
        self.closed: set[str] = set()
        self.holds: dict[str, int] = {}
        self.used_on: Counter[int] = Counter()
        self.probing: set[str] = set()

    @property
    def now(self) -> int:
        return self.ledger.now_us

    # --- the steps

    @initialize(backlog=st.lists(st.tuples(ARRIVALS, st.integers(0, 2), st.integers(1, 12)), min_size=1, max_size=5))
    def begin(self, backlog: list[tuple[str, int, int]]) -> None:
        self.publish()
        for process in self.alive:
            self.ledger.run(calls.beat(process, "first"))
        for where, klass, count in backlog:
            self.arrive(where=where, klass=klass, count=count, units=1 + count % 4)

    def publish(self) -> None:
        buckets: dict[str, Any] = {name: {"t_us": t} for name, t in self.published.items()}
        buckets |= {**GATES, "d:acme": {"cap": self.cap, "reserve": RESERVE, "tz": "UTC"}}
        never = 900 * DAY_US  # no polls, and nobody is taken for dead but who dies
        timing = {"liveness_us": never, "poll_after_us": never, "silent_after_us": never, "max_tries": 1000}
        content = publication(LANES, buckets, digest=f"{next(self.digests)}", **timing)
        assert self.ledger.run(calls.publish(content, {"d:acme": MIDNIGHTS})) == "published"
        for name, t in self.published.items():
            self.set_pace(name, self.set_by_hand.get(name, t))

    def set_pace(self, bucket: str, t_us: int) -> None:
        if self.paces.now(bucket) != t_us:
            self.paces.set(bucket, self.now, t_us)

    @precondition(lambda self: len(self.messages) < 150)
    @rule(
        where=ARRIVALS,
        klass=st.integers(0, 2),
        count=st.integers(1, 12),
        units=st.integers(1, 4),
    )
    def arrive(self, where: str, klass: int, count: int, units: int) -> None:
        units = min(units, MOST_UNITS.get(where, 1))
        id = submit(self.ledger, messages=count, klass=klass, valid_for_us=50 * DAY_US)
        admit(self.ledger, id, lane=where, units=units)
        self.messages |= {f"{id}-{i}": (where, klass, units) for i in range(count)}

    arrive_too = arrive  # as another rule: what is worth finding needs a backlog

    @rule(ms=st.sampled_from(STEPS_MS))
    def wait(self, ms: int) -> None:
        self.ledger.pass_us(ms * 1000)

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        hands=st.sampled_from([1, 2, 5, 20, 50]),
        quota=st.sampled_from([1, 3, 10, 50]),
        tight=st.sampled_from([None, None, "a", "b", "d"]),
    )
    def ask(self, data: st.DataObject, hands: int, quota: int, tight: str | None) -> None:
        """A grant; ``tight`` is a lane that may have none of it, for the process has too many of its messages."""
        self.grant(data.draw(st.sampled_from(self.alive)), hands, quota, {tight: 0} if tight else {})

    ask_too = ask

    @precondition(lambda self: any(self.slots.values()))
    @rule(data=st.data(), late=st.sampled_from([False, False, False, True]))
    def take_due(self, data: st.DataObject, late: bool) -> None:
        """What is due of one process; ``late`` passes time first, as a host that stalls."""
        process = data.draw(st.sampled_from(sorted(p for p, slots in self.slots.items() if slots)))
        first = min(slot.at_us for slot in self.slots[process])
        if first - LEAD_US > self.now:
            self.ledger.at(first - LEAD_US)
        if late:
            self.ledger.pass_us(data.draw(st.sampled_from([9_000, 12_000, 25_000, 60_000])))
        self.take(process)

    take_due_too = take_due

    @precondition(lambda self: self.last_take)
    @rule()
    def take_again(self) -> None:
        """A client, or a paused server, repeats a call: the same answer for what it took, and nothing new."""
        assert self.last_take
        process, token, slots, before = self.last_take
        if process not in self.alive:
            return
        again = self.ledger.run(calls.take(process, token, slots)).answers
        taken_before = {a.message for a in before if isinstance(a, Taken)}
        assert {a.message for a in again if isinstance(a, Taken)} <= taken_before, (
            "a repeated take took another message"
        )

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["accepted", "accepted", "accepted", "retry", "not_sent", "slow_down", "slow_down"]),
        scope=st.sampled_from(sorted(PREFIX)),
        hold_ms=st.sampled_from([40, 300, 3_000]),
    )
    def finish_one(self, data: st.DataObject, outcome: Any, scope: RestScope, hold_ms: int) -> None:
        row = data.draw(st.sampled_from(self.flying))
        self.finish(row, outcome, scope, hold_ms * 1000 if outcome == "slow_down" else 0)

    @rule(data=st.data(), what=st.sampled_from(["lane", "lane", "rate", "release", "death", "death"]))
    def disturb(self, data: st.DataObject, what: str) -> None:
        where = data.draw(st.sampled_from(sorted(LANES)))
        if what == "lane":
            self.control(where, data.draw(st.sampled_from(["pause", "drain", "resume", "resume"])))
        elif what == "rate":
            self.set_rate(where, data.draw(st.sampled_from([2_000, 10_000, 90_000, 700_000, 0])))
        elif what == "release":
            bucket, factor = (
                data.draw(st.sampled_from(sorted(PACES))),
                data.draw(st.sampled_from([0.25, 0.5, 2.0, 1.0])),
            )
            self.release(bucket, factor, data.draw(st.sampled_from([6, 12, 20])))
        elif len(self.alive) == 3 or (len(self.alive) == 2 and data.draw(st.booleans())):
            self.die(data.draw(st.sampled_from(self.alive)))
        else:
            self.come_back()

    def disturb_all(self) -> None:
        """Each disturbance once, for a test that all of them can happen."""
        for where, what in (("a", "pause"), ("b", "drain"), ("a", "resume")):
            self.control(where, what)
        self.set_rate("d", 90_000)
        self.release("a:sms", 0.5, 20)
        self.die("p2")
        self.arrive(where="b", klass=0, count=3, units=1)
        self.work(8)
        self.come_back()

    def control(self, where: str, what: Any) -> None:
        assert self.ledger.run(calls.lane(where, what))
        self.closed.discard(where)
        if what == "pause":
            self.closed.add(where)
        if what == "resume":
            self.holds.pop(OWN[where], None)

    def set_rate(self, where: str, t_us: int) -> None:
        own = OWN[where]
        assert self.ledger.run(calls.lane(where, "rate", t_us or "configured"))
        if t_us:
            self.set_by_hand[own] = t_us
        else:
            self.set_by_hand.pop(own, None)
        self.set_pace(own, t_us or self.published[own])

    def release(self, bucket: str, factor: float, cap: int) -> None:
        """A deploy: other rates, another cap."""
        self.published[bucket] = int(PACES[bucket] * factor)
        self.cap = cap
        self.publish()

    def die(self, process: str) -> None:
        """kill -9: its slots lapse, and what it was sending may be out."""
        self.alive.remove(process)
        self.slots.pop(process, None)
        self.flying = [row for row in self.flying if row[0] != process]
        self.ledger.redis.delete(self.ledger.key(f"alive:{process}"))

    def come_back(self) -> None:
        process = next(p for p in ("p1", "p2", "p3") if p not in self.alive)
        self.alive.append(process)
        self.ledger.run(calls.beat(process, "first"))

    @rule(rounds=st.integers(1, 4))
    def work(self, rounds: int) -> None:
        """Healthy processes do what they do: take what is due, say how it went, ask for more."""
        for _ in range(rounds):
            for process in list(self.alive):
                self.take(process)
                self.grant(process, 20, 10, {})
            self.finish_all()
            soonest = min((s.at_us for slots in self.slots.values() for s in slots), default=self.now + 30_000)
            self.ledger.at(max(self.now + 1_000, soonest - LEAD_US))

    work_too = work

    # --- what a step does, and the rules that it is held against

    def grant(self, process: str, hands: int, quota: int, quotas: dict[str, int]) -> None:
        answer = self.ledger.run(calls.grant(process, hands, lane_quota=quota, quotas=quotas))
        assert not answer.lapsed
        counts = Counter(slot.lane for slot in answer.slots)
        assert len(answer.slots) <= hands, "more slots than hands"
        for name, count in counts.items():
            assert count <= quotas.get(name, quota), f"lane {name} got {count} slots: more than its quota"
            assert name not in self.closed, f"a slot for lane {name}, which is paused"
        for slot in answer.slots:
            self.granted(slot)
        self.slots[process] += answer.slots
        self.no_call_spins(counts)
        if len(answer.slots) < hands:
            self.nothing_is_left_to_do({name for name in LANES if counts[name] >= quotas.get(name, quota)})

    def granted(self, slot: Slot) -> None:
        assert self.now <= slot.at_us <= self.now + GRANT_HI_US, f"{slot} lies outside the look-ahead at {self.now}"
        own, *shared = LANES[slot.lane]["buckets"]
        for at, when in self.own_slots[own][-80:]:
            if self.paces.changes(own, when, self.now) > 1:
                continue  # to and fro within one interval: what was drawn at which pace is not kept, so one may come early
            least = self.paces.shortest(own, when, self.now)
            gap = abs(slot.at_us - at)
            assert gap >= least, f"{own} granted two slots {gap} us apart, its interval is {least}"
        self.own_slots[own].append((slot.at_us, self.now))
        for bucket in shared:
            if bucket in PACES:
                self.shared_slots[bucket].append(slot.at_us)

    def shared_paces_were_held(self) -> None:
        """In any time t, at most rate x (t + look-ahead) + 1; slots lie in the order of time, and there are many times."""
        for bucket, slots in self.shared_slots.items():
            least = math.inf
            for i, at in enumerate(sorted(slots)):
                least = min(least, i - self.paces.units(bucket, at - GRANT_HI_US))
                over = i - self.paces.units(bucket, at) - least
                assert over <= 1e-6, f"{bucket} gave {over:.2f} slots too many until {at}"

    def no_call_spins(self, counts: Counter[str]) -> None:
        for name, visits in self.ledger.visits().items():
            # For each message a lane queues anew at each limit that it shares, so a slot costs a visit at each of its buckets
            # at most; a lap before the first slot and one after the last give none.
            most = (counts[name] + 2) * len(LANES[name]["buckets"])
            assert visits <= most, f"one grant looked {visits} times at lane {name} and gave it {counts[name]} slots"

    def nothing_is_left_to_do(self, sated: set[str]) -> None:
        """No lane or bucket has a score that the same call would take again, unless its quota is used up."""
        for member, score in self.ledger.redis.zrange(self.ledger.key("due"), 0, -1, withscores=True):
            kind, name = member.decode().split(":", 1)
            if kind == "l" and name in sated:
                continue
            assert score > self.now + GRANT_LO_US, f"{member.decode()} would be taken again at once"

    def take(self, process: str) -> None:
        due = [slot for slot in self.slots[process] if slot.at_us <= self.now + LEAD_US]
        if not due:
            return
        self.slots[process] = [slot for slot in self.slots[process] if slot not in due]
        waiting, pops = self.look_at_lanes({slot.lane for slot in due})
        token = f"t{next(self.tokens)}"
        slots = [(slot, "builder") for slot in due]
        answers = self.ledger.run(calls.take(process, token, slots)).answers
        self.last_take = (process, token, slots, answers)
        order = []
        for slot, answer in zip(due, answers, strict=True):
            if isinstance(answer, Missed) and answer.why != "empty":
                continue
            pops[slot.lane] += 1
            if isinstance(answer, Taken):
                where, klass, units = self.messages[answer.message]
                assert where == slot.lane
                self.left(process, slot, answer, klass, units)
                order.append((slot.lane, klass, list(waiting[slot.lane]), pops[slot.lane]))
                waiting[slot.lane][klass] -= 1
        _, pops_now = self.look_at_lanes({slot.lane for slot in due})
        for where, klass, was_waiting, pop in order:
            if (
                pops_now[where] == pops[where]
            ):  # else some were popped and ended instead, and which pop is whose is not known
                self.order_is_kept(where, klass, was_waiting, pop)

    def look_at_lanes(self, names: set[str]) -> tuple[dict[str, list[int]], dict[str, int]]:
        """What may go in each class, of a lane that is drained what was there before; and how often each lane was popped."""
        waiting: dict[str, list[int]] = {}
        pops = {}
        for name in names:
            f = self.ledger.redis.hmget(self.ledger.key(f"lane:{name}"), "pc", "dr", "d0", "d1", "d2")
            pops[name] = int(f[0] or 0)
            ends = [f[2 + klass] if f[1] else "+inf" for klass in range(3)]
            waiting[name] = [
                self.ledger.redis.zcount(self.ledger.key(f"q:{name}:{klass}"), "-inf", ends[klass])
                for klass in range(3)
            ]
        return waiting, pops

    def left(self, process: str, slot: Slot, taken: Taken, klass: int, units: int) -> None:
        self.leaves[taken.message] += 1
        assert self.leaves[taken.message] == 1 or taken.may_be_out, f"{taken.message} was taken twice"
        self.flying = [row for row in self.flying if row[2].message != taken.message]
        self.flying.append((process, slot.lane, taken))
        at = max(slot.at_us, self.now)
        for bucket in LANES[slot.lane]["buckets"]:
            assert at >= self.holds.get(bucket, 0), f"{taken.message} left while {bucket} rests"
        assert slot.lane not in self.closed, "taken from a lane that is paused"
        if "d:acme" in LANES[slot.lane]["buckets"]:
            self.cap_is_held(klass)
        self.departures[OWN[slot.lane]].append(Departure(slot.at_us, units))
        if slot.lane in MOST_UNITS:
            self.own_pace_is_held(OWN[slot.lane])

    def cap_is_held(self, klass: int) -> None:
        day = sum(midnight <= self.now for midnight in MIDNIGHTS)
        most = self.cap * (1 - RESERVE) if klass == 2 else self.cap
        assert self.used_on[day] < most, f"{self.used_on[day] + 1} of class {klass} on a day with a cap of {self.cap}"
        self.used_on[day] += 1

    def own_pace_is_held(self, bucket: str) -> None:
        """Units, where a message draws several: the pace, plus what the messages in flight drew before it was known."""
        rows = sorted(self.departures[bucket], key=lambda d: d.slot_us)[-40:]
        most = max(d.units for d in rows)
        for i, first in enumerate(rows):
            units = 0
            for last in rows[i:]:
                t = last.slot_us - first.slot_us
                if self.paces.changes(bucket, first.slot_us - GRANT_HI_US, last.slot_us) > 1:
                    break  # to and fro, as for single slots
                least = self.paces.shortest(bucket, first.slot_us - GRANT_HI_US, last.slot_us)
                allowed = t / least + (most - 1) * (1 + (GRANT_HI_US + SECOND_US) // least) + 1e-9
                assert units <= allowed, f"{bucket} sent {units} units in {t} us, its interval is {least}"
                units += last.units

    def order_is_kept(self, where: str, klass: int, waiting: list[int], pops: int) -> None:
        if pops % SHARE == 0:
            return
        before = [k for k in range(klass) if waiting[k] > 0]
        assert not before, f"class {klass} of lane {where} was taken while class {before[0]} waited"

    def finish(self, row: tuple[str, str, Taken], outcome: Any, scope: RestScope, hold_us: int) -> None:
        process, where, taken = row
        self.flying.remove(row)
        result = Finish(
            message=taken.message, token=taken.token, outcome=outcome, why="told", hold_us=hold_us, scope=scope,
            feedback=bool(hold_us), provider_id=f"id-{taken.message}" if outcome == "accepted" else None,
            uses_a_try=outcome == "retry", delay_us=40_000 if outcome == "retry" else 0,
        )  # fmt: skip
        (word,) = self.ledger.run(calls.finish(process, [result]))
        assert word in ("ok", "applied", "known", "stale"), word
        if outcome == "accepted":
            self.done.add(taken.message)
        if word == "ok" and outcome != "accepted":
            self.leaves[taken.message] = 0
        if word == "ok" and hold_us:
            names = LANES[where]["buckets"]
            bucket = next((name for name in names if name.startswith(PREFIX[scope])), names[0])
            self.holds[bucket] = max(self.holds.get(bucket, 0), self.now + hold_us)

    def finish_all(self) -> None:
        for row in list(self.flying):
            self.finish(row, "accepted", "sender", 0)

    # --- what must hold at any time, and in the end

    @invariant()
    def every_lane_is_in_one_place_where_it_is_found(self) -> None:
        key = self.ledger.key
        with self.ledger.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(key("due"), 0, -1)
            pipe.xlen(key("odd"))
            for name in LANES:
                pipe.hget(key(f"lane:{name}"), "at")
            for bucket in self.buckets():
                pipe.zrange(key(f"w:{bucket}"), 0, -1)
            due, odd, *rest = pipe.execute()
        assert not odd, f"a script stumbled: {self.ledger.redis.xrange(key('odd'))}"
        places = dict(zip(LANES, rest, strict=False))
        waiters = dict(zip(self.buckets(), rest[len(LANES) :], strict=True))
        for name, at in places.items():
            found = ["due"] * (f"l:{name}".encode() in due) + [
                b for b, w in waiters.items() if f"l:{name}".encode() in w
            ]
            assert found == ([at.decode()] if at else []), f"lane {name} says {at} and is at {found}"
        for bucket, lanes in waiters.items():
            assert not lanes or f"b:{bucket}".encode() in due, f"{lanes} wait at {bucket}, which nobody looks at"

    def buckets(self) -> list[str]:
        return [*PACES, *GATES, "d:acme"]

    def wake(self) -> None:
        again = True
        while again:
            self.ledger.run(calls.ear("web"))
            _, again = self.ledger.run(calls.wake())

    def teardown(self) -> None:
        try:
            if self.messages:
                self.settle()
        finally:
            if self.redis:
                self.ledger.forget()
            else:
                self.ledger.close()

    def settle(self) -> None:
        """Once everything is healthy again, all that ever arrived leaves, without anybody's help."""
        while len(self.alive) < 3:
            self.come_back()
        self.published, self.cap = dict(PACES), CAP
        self.publish()
        for name in LANES:
            self.control(name, "resume")
        for i in range(2_000):
            due, timer = self.ledger.next_us()
            slot = min((s.at_us for slots in self.slots.values() for s in slots), default=math.inf) - LEAD_US
            if i % 50 == 49:
                self.every_lane_is_in_one_place_where_it_is_found()
            if len(self.done) == len(self.messages) or min(due, timer, slot) == math.inf:
                break
            self.ledger.at(max(self.now + 4_000, int(min(due, timer, slot))))
            if timer <= self.now:
                self.wake()
            for process in self.alive:
                self.take(process)
            self.finish_all()
            self.grant("p1", 200, 100, {})
        self.shared_paces_were_held()
        assert not self.left_behind(), f"never left: {self.left_behind()} at {self.now}"

    def left_behind(self) -> list[str]:
        key = self.ledger.key
        with self.ledger.redis.pipeline(transaction=False) as pipe:
            for mid in self.messages:
                pipe.hget(key(f"m:{mid}"), "s")
            states = pipe.execute()
        return [
            f"{mid} {s.decode()}"
            for mid, s in zip(self.messages, states, strict=True)
            if s in (b"N", b"W", b"Q", b"S", b"U")
        ]


def search(examples: int, steps: int, *, redis: Any = None, same_every_time: bool = False) -> None:
    """Look for a counterexample; raises with the steps that lead to it. ``redis``: a client of a real server."""
    machine = type("PacingMachine", (PacingMachine,), {"redis": redis})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same_every_time,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            phases=PHASES,
        ),
    )


if __name__ == "__main__":
    from producers.ledger.connection import connect
    from worker.embedded import EmbeddedServer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--server", choices=["fake", "real"], default="fake")
    options = parser.parse_args()
    if options.server == "fake":
        search(options.examples, options.steps)
    else:
        with EmbeddedServer(appendonly=False) as server:
            search(options.examples, options.steps, redis=connect(server.url, answer_s=10))
