"""Choose which of a job type's senders a message leaves from.

The routes of a job type stand in an order: the first one that is for the person, at that hour, and has a sender that can
send now, decides; its own ``sender`` comes last. Inside a route a person's place is a hash of their number, so the same
person meets the same sender wherever and however often it is worked out. Invariants, each with a test:

- The same facts give the same sender; a weight of 3 gets three times the people of a weight of 1.
- When a sender is left out, only its own people move; they come back once it can send again, unless ``sticky`` keeps them.
- No route by country or hour is passed over for what is remembered: sticky chooses inside a route.
- Where no sender can send now, the message goes to one that will, and waits: trouble rejects nobody.
- What is explained is what is done: both are this one function.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from producers.ledger.ledger import Ledger
from producers.ledger.sticky import Remembered, remembered
from worker.pacing.lanes import SILENCE, LaneView, read_lanes
from worker.pacing.presets import sender_rate
from worker.routing import Refusal, Route, country_of, refused_destination
from worker.settings import Config, Hours, JobType

US = 1_000_000
PATIENCE_US = 10 * US  # a rest that is over by then changes nobody's sender
PEOPLE_A_CALL = 1_000

Verdict = Literal["taken", "skipped", "not_needed"]
Way = Callable[[str], Route | Refusal]  # of a sender: the lane for this content


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when a sender is chosen. ``lanes`` is None where nobody asked: then every sender can send."""

    now_us: int
    lanes: Mapping[str, LaneView] | None = None
    remembered: Remembered = field(default_factory=dict, repr=False)


class Step(NamedTuple):
    """One step of a decision. ``route``: its place in the job type's routes, None for its own ``sender``; ``sender`` is ""
    where a whole route is passed over. ``why`` is a machine word, ``detail`` what it speaks of."""

    route: int | None
    sender: str
    verdict: Verdict
    why: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sender and its lane, or why there is none."""

    sender: str
    way: Route | Refusal
    steps: Sequence[Step] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    route: int | None
    sender: str
    way: Route
    why: str  # of its place: "sticky", "share", "only"
    trouble: tuple[str, int, str] | None  # machine word, how long it lasts, detail


def choose(
    job: JobType, to: str, *, config: Config, facts: Facts, way: Way, at_us: int | None = None, whole: bool = False
) -> Chosen:
    """The sender of a message to ``to``: a number, or the comma list of a group.

    Args:
        way: The lane for the content from a sender, or why that one cannot carry it.
        at_us: When it is to leave, if not now.
        whole: List those behind the one that is taken too.
    """
    at_us = max(facts.now_us, at_us or 0)
    people = to.split(",")
    steps: list[Step] = []
    waiting: list[_Candidate] = []
    refusal: Refusal | None = None
    for index, shares, why_not in _routes(job, people, config, at_us):
        if why_not is not None:
            steps.append(Step(index, "", "skipped", *why_not))
            continue
        for name, why in _in_order(to, shares, config, facts.remembered.get(to, ()) if job.sticky else ()):
            found = way(name)
            if isinstance(found, Route):
                found = next((no for p in people if (no := refused_destination(config.senders[name], p))), found)
            if isinstance(found, Refusal):
                refusal = refusal or found
                steps.append(Step(index, name, "skipped", found.code, found.title))
                continue
            trouble = _trouble(found.lane, facts, at_us)
            if trouble is None:
                steps.append(Step(index, name, "taken", why))
                if whole:
                    steps += _not_needed(job, steps)
                return Chosen(name, found, steps)
            waiting.append(_Candidate(index, name, found, why, trouble))
            steps.append(Step(index, name, "skipped", trouble[0], trouble[2]))
    if waiting:
        first = min(waiting, key=lambda candidate: candidate.trouble[1] if candidate.trouble else 0)
        steps.append(Step(first.route, first.sender, "taken", "all_wait", first.trouble[0] if first.trouble else ""))
        return Chosen(first.sender, first.way, steps)
    return Chosen("", refusal or _no_route(people), steps)


def _routes(
    job: JobType, people: Sequence[str], config: Config, at_us: int
) -> Iterable[tuple[int | None, Mapping[str, int | None], tuple[str, str] | None]]:
    """Each route in order: its place, its senders and, if it is not for these people now, why."""
    countries: set[str] | None = None
    for index, route in enumerate(job.routes):
        why_not = None
        if route.countries is not None:
            countries = countries if countries is not None else {country_of(person) or "?" for person in people}
            if foreign := countries - set(route.countries):
                why_not = ("country", f"{', '.join(sorted(foreign))} is none of {', '.join(route.countries)}")
        if why_not is None and route.hours is not None:
            zone = route.timezone or config.defaults.timezone
            local = datetime.fromtimestamp(at_us / US, UTC).astimezone(ZoneInfo(zone))
            if not _is_in(route.hours, local.hour * 60 + local.minute):
                why_not = ("hours", f"{local:%H:%M} in {zone} is outside {route.hours}")
        yield index, route.senders, why_not
    if job.given_sender is not None:
        yield None, {job.given_sender: 1}, None


def _is_in(window: Hours, minute: int) -> bool:
    if window.start_min < window.end_min:
        return window.start_min <= minute < window.end_min
    return minute >= window.start_min or minute < window.end_min


def _in_order(to: str, shares: Mapping[str, int | None], config: Config, known: Sequence[str]) -> list[tuple[str, str]]:
    """The senders of a route in the order in which this person tries them, and why each has its place.

    Those that they know come first, the newest of them before all. The others by an exponential race (weighted rendezvous
    hashing): each runs as fast as its weight, and the order of any two is the same whoever else runs.
    """
    if len(shares) == 1:
        return [(name, "sticky" if name in known else "only") for name in shares]
    first = [name for name in known if name in shares]
    rest = [name for name in shares if name not in first and _weight(name, shares, config) > 0]
    rest.sort(key=lambda name: -math.log(_draw(to, name)) / _weight(name, shares, config))
    return [(name, "sticky") for name in first] + [(name, "share") for name in rest]


def _draw(to: str, name: str) -> float:
    """A number in (0, 1) that only the person and the sender decide."""
    digest = hashlib.blake2b(f"{to}\n{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def _weight(name: str, shares: Mapping[str, int | None], config: Config) -> float:
    given = shares[name]
    if given is not None:
        return given
    sender = config.senders[name]
    return sender_rate(sender, config.campaign_of(sender)).rate.per_s


def _trouble(lane: str, facts: Facts, at_us: int) -> tuple[str, int, str] | None:
    """Why nothing leaves from this lane at ``at_us``: a word, until when (for people's levers: never), and detail."""
    if facts.lanes is None:
        return None
    view = facts.lanes.get(lane)
    if view is None or view.state == "gone":
        return "gone", 2**61, "it is not published"
    if view.state in ("paused", "draining", "drained"):
        return view.state, 2**60, view.reason or ""
    if view.held_until_us is None:
        return None
    if view.held_until_us > at_us + PATIENCE_US or view.reason == SILENCE:
        until = datetime.fromtimestamp(view.held_until_us // US, UTC)
        return "held", view.held_until_us, f"{view.reason or 'held'} until {until:%Y-%m-%d %H:%M:%S}Z"
    return None


def _not_needed(job: JobType, steps: Sequence[Step]) -> list[Step]:
    seen = {(step.route, step.sender) for step in steps} | {(step.route, None) for step in steps if not step.sender}
    every: list[tuple[int | None, str]] = [(i, name) for i, route in enumerate(job.routes) for name in route.senders]
    every += [(None, job.given_sender)] if job.given_sender is not None else []
    return [
        Step(index, name, "not_needed", "later")
        for index, name in every
        if (index, name) not in seen and (index, None) not in seen
    ]


def _no_route(people: Sequence[str]) -> Refusal:
    country = country_of(people[0]) if len(people) == 1 else None
    whom = "this group" if len(people) > 1 else country or "a number of no country"
    return Refusal("no_route", f"no route takes {whom} now: give the job type a sender")


def read_facts(ledger: Ledger, config: Config, wanted: Iterable[tuple[JobType, Iterable[str]]]) -> Facts:
    """What ``choose`` needs for these job types and people, in at most four round trips. Reads only; raises RedisError."""
    senders: set[str] = set()
    people: dict[str, None] = {}
    for job, numbers in wanted:
        senders |= {name for name in job.candidates if name in config.senders}
        if job.sticky:
            people |= dict.fromkeys(number for number in numbers if "," not in number)
    names = [lane for name in sorted(senders) for lane in (name, f"{name}.mms")]
    views = {view.name: view for view in read_lanes(ledger, names)}
    redis: Any = ledger.redis
    seconds, micros = redis.time()
    known: dict[str, tuple[str, ...]] = {}
    listed = list(people)
    for start in range(0, len(listed), PEOPLE_A_CALL):
        found: Remembered = ledger.run(remembered(listed[start : start + PEOPLE_A_CALL]))
        known |= found
    return Facts(int(seconds) * US + int(micros), views, known)
