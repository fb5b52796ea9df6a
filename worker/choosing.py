"""Choose which of a job type's senders a message leaves from.

The routes of a job type stand in an order: the first one that is for the person, at that hour, and has a sender that can
send now, decides; its own ``sender`` comes last. Inside a route a person's place is a hash of their number, so the same
person meets the same sender wherever and however often it is worked out. Invariants, each with a test:

- The same facts give the same sender; a weight of 3 gets three times the people of a weight of 1.
- When a sender is left out, only its own people move; they come back once it can send again, unless ``sticky`` keeps them.
- No route by country or hour is passed over for what is remembered: sticky chooses inside a route.
- Where no sender can send now, the message goes to one that will, and waits: trouble rejects nobody.
- What is explained is what is done: both are ``Chooser.choose``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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
from worker.settings import Route as RouteOfConfig

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


class _Trouble(NamedTuple):
    """Why nothing leaves from a lane, until when (for a person's lever: longer than any rest), and of what it speaks."""

    why: str
    until_us: int
    detail: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A route, or the job type's own sender, as it stands at the hour in question."""

    index: int | None
    weights: Mapping[str, float]
    countries: Sequence[str] | None = None
    closed: str = ""  # what its hours are, if this is none of them


class Chooser:
    """The choice of a job type's senders at one moment: made for a chunk, asked for each message.

    Args:
        at_us: When the messages are to leave, if not now.
    """

    def __init__(self, job: JobType, *, config: Config, facts: Facts, at_us: int | None = None) -> None:
        self._job, self._config, self._facts = job, config, facts
        self._at_us = max(facts.now_us, at_us or 0)
        self._places = [
            _Place(index, self._weights(route), route.countries, self._closed(route))
            for index, route in enumerate(job.routes)
        ]
        if job.given_sender is not None:
            self._places.append(_Place(None, {job.given_sender: 1.0}))
        self._troubles: dict[str, _Trouble | None] = {}

    def choose(self, to: str, way: Way, *, whole: bool = False) -> Chosen:
        """The sender of a message to ``to``: a number, or the comma list of a group.

        Args:
            way: The lane for the content from a sender, or why that one cannot carry it.
            whole: List those behind the one that is taken too.
        """
        people = to.split(",")
        steps: list[Step] = []
        waiting: list[tuple[_Trouble, int | None, str, Route]] = []
        refusal: Refusal | None = None
        countries: set[str] = set()
        for place in self._places:
            if place.countries is not None:
                countries = countries or {country_of(person) or "?" for person in people}
                if not countries.issubset(place.countries):
                    steps.append(Step(place.index, "", "skipped", "country", _foreign(countries, place.countries)))
                    continue
            if place.closed:
                steps.append(Step(place.index, "", "skipped", "hours", place.closed))
                continue
            for name, why in self._in_order(to, place.weights):
                found = self._reached(name, people, way(name))
                if isinstance(found, Refusal):
                    refusal = refusal or found
                    steps.append(Step(place.index, name, "skipped", found.code, found.title))
                    continue
                trouble = self._trouble(found.lane)
                if trouble is None:
                    steps.append(Step(place.index, name, "taken", why))
                    return Chosen(name, found, steps + self._not_needed(steps) if whole else steps)
                waiting.append((trouble, place.index, name, found))
                steps.append(Step(place.index, name, "skipped", trouble.why, trouble.detail))
        if waiting:
            trouble, index, name, found = min(waiting, key=lambda row: row[0].until_us)
            return Chosen(name, found, [*steps, Step(index, name, "taken", "all_wait", trouble.why)])
        return Chosen("", refusal or _no_route(people), steps)

    def _weights(self, route: RouteOfConfig) -> dict[str, float]:
        """By the rates of the senders where no weight is given."""
        senders = self._config.senders
        return {
            name: sender_rate(senders[name], self._config.campaign_of(senders[name])).rate.per_s
            if weight is None
            else weight
            for name, weight in route.senders.items()
        }

    def _closed(self, route: RouteOfConfig) -> str:
        if route.hours is None:
            return ""
        zone = route.timezone or self._config.defaults.timezone
        local = datetime.fromtimestamp(self._at_us / US, UTC).astimezone(ZoneInfo(zone))
        is_open = _is_in(route.hours, local.hour * 60 + local.minute)
        return "" if is_open else f"{local:%H:%M} in {zone} is outside {route.hours}"

    def _in_order(self, to: str, weights: Mapping[str, float]) -> list[tuple[str, str]]:
        """The senders of a route in the order in which this person tries them, and why each has its place.

        Those that they know come first, the newest of them before all. The others by an exponential race (weighted rendezvous
        hashing): each runs as fast as its weight, and the order of any two is the same whoever else runs.
        """
        known = self._facts.remembered.get(to, ()) if self._job.sticky else ()
        if len(weights) == 1:
            return [(name, "sticky" if name in known else "only") for name in weights]
        first = [name for name in known if name in weights]
        arrivals = [(-math.log(_draw(to, n)) / w, n) for n, w in weights.items() if w > 0 and n not in first]
        return [(name, "sticky") for name in first] + [(name, "share") for _, name in sorted(arrivals)]

    def _reached(self, name: str, people: Sequence[str], found: Route | Refusal) -> Route | Refusal:
        sender = self._config.senders[name]
        if isinstance(found, Refusal) or not sender.is_alphanumeric:
            return found
        return next((no for person in people if (no := refused_destination(sender, person))), found)

    def _trouble(self, lane: str) -> _Trouble | None:
        if lane not in self._troubles:
            self._troubles[lane] = _trouble(lane, self._facts, self._at_us)
        return self._troubles[lane]

    def _not_needed(self, steps: Sequence[Step]) -> list[Step]:
        seen = {(step.route, step.sender) for step in steps}
        return [
            Step(place.index, name, "not_needed", "later")
            for place in self._places
            for name in place.weights
            if (place.index, name) not in seen and (place.index, "") not in seen
        ]


def _is_in(window: Hours, minute: int) -> bool:
    if window.start_min < window.end_min:
        return window.start_min <= minute < window.end_min
    return minute >= window.start_min or minute < window.end_min


def _draw(to: str, name: str) -> float:
    """A number in (0, 1) that only the person and the sender decide."""
    digest = hashlib.blake2b(f"{to}\n{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def _trouble(lane: str, facts: Facts, at_us: int) -> _Trouble | None:
    """Why nothing leaves from this lane at ``at_us``, or None."""
    if facts.lanes is None:
        return None
    view = facts.lanes.get(lane)
    if view is None or view.state == "gone":
        return _Trouble("gone", 2**61, "it is not published")
    if view.state in ("paused", "draining", "drained"):
        return _Trouble(view.state, 2**60, view.reason or "")
    if view.held_until_us is None:
        return None
    if view.held_until_us > at_us + PATIENCE_US or view.reason == SILENCE:
        until = datetime.fromtimestamp(view.held_until_us // US, UTC)
        return _Trouble("held", view.held_until_us, f"{view.reason or 'held'} until {until:%Y-%m-%d %H:%M:%S}Z")
    return None


def _foreign(countries: Set[str], listed: Sequence[str]) -> str:
    foreign = sorted(countries - set(listed))
    return f"{', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} none of {', '.join(listed)}"


def _no_route(people: Sequence[str]) -> Refusal:
    country = country_of(people[0]) if len(people) == 1 else None
    whom = "this group" if len(people) > 1 else country or "a number of no country"
    return Refusal("no_route", f"no route takes {whom} now: give the job type a sender")


def read_facts(ledger: Ledger, config: Config, wanted: Iterable[tuple[JobType, Iterable[str]]]) -> Facts:
    """What a ``Chooser`` needs for these job types and people, in at most four round trips. Reads only; raises RedisError."""
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
