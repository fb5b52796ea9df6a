"""The steps that are drawn, each with what it draws; whoever drives says how often which one is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from virtual_time import HOUR_US, SECOND_US

from ledger_model.draws import Draw
from ledger_model.ending import LedgerWorld
from ledger_model.site import GROUP, JUMPS_MS, OUTCOMES, PEOPLE


@dataclass(frozen=True)
class Step:
    name: str
    take: Callable[[LedgerWorld, Draw], None]
    possible: Callable[[LedgerWorld], bool]


STEPS: dict[str, Step] = {}
TWO = ("p1", "p2")


def step(possible: Callable[[LedgerWorld], object] = lambda _w: True) -> Callable[..., Callable[..., None]]:
    """Take what is decorated as a step, where it is ``possible``."""

    def declare(take: Callable[[LedgerWorld, Draw], None]) -> Callable[[LedgerWorld, Draw], None]:
        STEPS[take.__name__] = Step(take.__name__, take, lambda w: bool(possible(w)))
        return take

    return declare


def under_way(w: LedgerWorld) -> bool:
    return any(w.messages[t.message].state == "S" for _, t in w.taken)


# --- what producers and expand do


@step(lambda w: len(w.messages) < 40)
def submit(w: LedgerWorld, d: Draw) -> None:
    to = d.of([*PEOPLE, GROUP]) if d.of([True, False]) else d.some(PEOPLE, least=2, most=6)
    w.submit(
        to=to,
        klass=d.whole(0, 2),
        job_type=d.of(["notice", "careful"]),
        valid_us=d.of([30 * SECOND_US, 600 * SECOND_US, 24 * HOUR_US, 72 * HOUR_US]),
        later_us=d.of([0, 0, 0, 20 * SECOND_US, HOUR_US]),
        size=d.whole(1, 3),
    )


@step(lambda w: len(w.messages) < 40)
def queue(w: LedgerWorld, d: Draw) -> None:
    w.queue(
        to=d.of([*PEOPLE, *PEOPLE, GROUP]),
        klass=d.whole(0, 2),
        job_type=d.of(["notice", "notice", "careful"]),
        where=d.of("aaabbc"),
        count=d.whole(1, 3),
        valid_us=d.of([8 * SECOND_US, 24 * HOUR_US, 24 * HOUR_US]),
    )


@step(lambda w: w.unexpanded())
def expand(w: LedgerWorld, d: Draw) -> None:
    w.expand(
        d.of(w.unexpanded()),
        where=d.of("abc"),
        reject=d.of([0, 0, 0, 2]),
        release_us=d.of([0, 0, 0, 3 * SECOND_US, HOUR_US]),
        long=d.of([True, False]),
    )


@step(lambda w: w.notifications)
def repeat(w: LedgerWorld, d: Draw) -> None:
    """What a client, or a paused server, does twice; and what an app stops."""
    what = d.of(["submit", "expand", "cancel", "take", "take"])
    if what == "submit":
        w.submit_again(d.of(w.notifications))
    elif what == "cancel":
        w.cancel(d.of(w.notifications))
    elif what == "expand" and w.admitted:
        w.expand_again(*d.of(w.admitted))
    elif what == "take" and w.takes:
        w.take_again(*d.of(w.takes[-6:]))


# --- what workers do


@step()
def misbehave(w: LedgerWorld, d: Draw) -> None:
    """Steps out of their order: slots never used, used late, twice, or by somebody else; ends and late beats."""
    name, what = d.of(TWO), d.of(["beat", "leave", "grant", "take", "take"])
    if what == "beat":
        w.live(name)
    elif what == "leave":
        w.leave(name)
    elif what == "grant":
        w.grant(name, 6, d.whole(0, 6))
    elif w.slots:
        chosen = d.some(w.slots[-12:], most=min(6, len(w.slots)))
        w.take_slots(name, chosen, d.of(["b1", "b1", "b1", "b2"]))


@step()
def send_more(w: LedgerWorld, d: Draw) -> None:
    w.pass_s(0.1)
    send(w, d)


@step()
def send(w: LedgerWorld, d: Draw) -> None:
    w.send(d.of(TWO), d.of([0, 0, 5, 40]), d.whole(1, 6))


@step(lambda w: w.taken)
def finish(w: LedgerWorld, d: Draw) -> None:
    mine = [(p, t) for p, t in w.taken if w.messages[t.message].token == t.token][-6:]
    void = [(p, t) for p, t in w.taken if w.messages[t.message].token != t.token][-4:]
    some = d.some(mine + void + w.taken[-3:], most=3)
    how = {
        "outcome": d.of(OUTCOMES),
        "delay_us": d.of([0, 0, 2 * SECOND_US, 40 * SECOND_US]),
        "hold_us": d.of([0, 0, 0, 3 * SECOND_US]),
        "scope": d.of(["sender", "campaign", "brand", "account"]),
        "feedback": d.of([False, True]),
        "other_id": d.of([False, False, False, True]),
        "count": d.of([False, True]),
    }
    w.finish(some[0][0], [w.result(t, **how) for _, t in some])


@step(under_way)
def fall_silent(w: LedgerWorld, d: Draw) -> None:
    w.fall_silent(d.of([4, 8, 9]), d.of(TWO), die=d.of([False, True]))


@step()
def wake(w: LedgerWorld, _d: Draw) -> None:
    w.wake()


@step()
def reap(w: LedgerWorld, d: Draw) -> None:
    w.reap(d.of(TWO))


# --- what the provider, people and operators do


@step(lambda w: w.messages and len(w.messages) < 60)
def leg(w: LedgerWorld, d: Draw) -> None:
    why = d.of(["replay", "replay", "fallback"])
    ended = [e for e in w.legs if w.entry_state(w.messages[e]) in "RFX"]
    entry = d.of(ended if ended and why == "replay" else list(w.legs))
    w.make_leg(entry, why, d.of([1, 1, 1, 1, 0, 2]), d.of([8 * SECOND_US, 24 * HOUR_US]))


@step(lambda w: len(w.messages) < 60 and under_way(w))
def fail_and_replay(w: LedgerWorld, d: Draw) -> None:
    w.fail_and_replay(d.of("RFX"), then=d.of(["send", "", "D", "F"]), name=d.of(TWO))


@step(lambda w: w.messages)
def receipt(w: LedgerWorld, d: Draw) -> None:
    w.receipt(w.facts(d, 3))


@step(lambda w: w.messages)
def hear(w: LedgerWorld, d: Draw) -> None:
    w.hear(w.facts(d, 2))


@step(lambda w: w.batches)
def reconcile(w: LedgerWorld, d: Draw) -> None:
    w.reconcile(d.of(list(w.batches)))


@step()
def listen(w: LedgerWorld, _d: Draw) -> None:
    w.listen()


@step()
def opt(w: LedgerWorld, d: Draw) -> None:
    w.opt(
        d.of(PEOPLE[:3]),
        d.of([True, False, False]),
        scope=d.of(["global", "sender:a", "profile:p1", "profile:elsewhere"]),
        ago_us=d.of([0, 0, 5 * SECOND_US, -HOUR_US]),
        by_operator=d.of([False, False, True]),
    )


@step()
def operate(w: LedgerWorld, d: Draw) -> None:
    what, name = d.of(["pause", "drain", "resume", "resume", "resume", "rate", "publish"]), d.of("abc")
    if what == "publish":
        w.publish(d.of(["full", "full", "without_b", "b_alone"]))
    elif what == "rate":
        w.set_rate(name, d.of([10_000, 30_000, 200_000]))
    elif what == "pause":
        w.pause(name)
    elif what == "drain":
        w.drain(name)
    else:
        w.resume(name)


@step()
def live_on(w: LedgerWorld, d: Draw) -> None:
    times, each_s = d.of([(1, 1), (3, 1), (8, 1), (8, 2.5)])
    w.live_on(times, each_s=each_s)


@step()
def pass_time(w: LedgerWorld, d: Draw) -> None:
    w.pass_s(d.of(JUMPS_MS) / 1000)
