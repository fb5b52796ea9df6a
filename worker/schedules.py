"""Make the notifications that recur: at each tick of a schedule one, over any number of clocks.

A tick is an instant of a cron expression in the schedule's own zone. Invariants, each with a test named after it:

- One tick makes one notification, whoever runs it and however often: the tick is its idempotency key.
- A schedule starts with the first tick after it was first seen; a changed expression counts as a new schedule.
- After a time without any clock, ``run_once`` makes up for the last missed tick alone, ``skip`` for none.
- A tick is marked as done only after its notification is in the ledger; what a schedule cannot do holds up no other.

Times come from Redis. What was seen and done last stands in one hash: ``<unix seconds> <digest of the expression>``; beside it,
for people, how the last tick went.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo

import structlog

from producers.errors import EnqueueError, IdempotencyConflict, InvalidNotification, NotReady
from producers.ledger.ledger import Ledger
from producers.notifier import Notifier
from worker.settings import Config, Problem, Schedule, SettingsError

log = structlog.get_logger()

KEY, RAN = "schedules", "schedules:ran"
FRESH_S = 120  # a clock beats every half minute: what is older was missed
LOOK_BACK_S = 24 * 3600  # what was missed longer ago is no news any more
TRY_FOR_S = 900  # how long a tick whose recipients cannot be had is tried again
MOST_RECIPIENTS = 100_000  # of one notification

Outcome = Literal["made", "failed"]
Recipients = Callable[[datetime], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Due:
    """``tick`` is to be run now, or None; ``seen_s`` is what to remember if there is nothing to run."""

    tick: int | None
    seen_s: int | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """How the last tick of a schedule went."""

    tick: int
    outcome: Outcome
    at_s: int


def last_run(ledger: Ledger, name: str) -> Ran | None:
    """What became of the schedule's last tick. Raises RedisError."""
    redis: Any = ledger.redis
    held = redis.hget(ledger.key(RAN), name)
    if held is None:
        return None
    tick, outcome, at_s = held.decode().split()
    return Ran(int(tick), outcome, int(at_s))


def coming_ticks(schedule: Schedule, zone: str, now_s: int, count: int) -> list[int]:
    """The next ticks after ``now_s``; fewer, if there are no more."""
    return list(islice(_ticks(schedule, zone, now_s), count))


def is_tick(schedule: Schedule, zone: str, at_s: int) -> bool:
    return next_s(schedule, zone, at_s - 1) == at_s


def due(schedule: Schedule, zone: str, remembered: str, now_s: int) -> Due:
    """What a schedule wants at ``now_s``, given what is ``remembered`` of it. Pure."""
    last_s, _, digest = remembered.partition(" ")
    if not last_s.isdecimal() or digest != digest_of(schedule, zone):
        return Due(None, now_s)
    last: int | None = None
    for tick in _ticks(schedule, zone, max(int(last_s), now_s - LOOK_BACK_S)):
        if tick > now_s:
            break
        last = tick
    if last is None:
        return Due(None)
    if schedule.missed == "skip" and now_s - last > FRESH_S:
        return Due(None, last)
    return Due(last)


def next_s(schedule: Schedule, zone: str, now_s: int) -> int | None:
    """The first tick after ``now_s``, if there ever is one."""
    return next(_ticks(schedule, zone, now_s), None)


def zone_of(schedule: Schedule, config: Config) -> str:
    return schedule.timezone or config.defaults.timezone


def digest_of(schedule: Schedule, zone: str) -> str:
    return hashlib.sha256(f"{schedule.cron}\n{zone}".encode()).hexdigest()[:12]


def _ticks(schedule: Schedule, zone: str, after_s: int) -> Iterator[int]:
    from cronsim import CronSim

    for tick in CronSim(schedule.cron, datetime.fromtimestamp(after_s, ZoneInfo(zone))):
        at_s = int(tick.timestamp())
        if at_s > after_s:  # asked from the second time that an hour comes in autumn, it answers with the first
            yield at_s


def load_recipients(config: Config) -> dict[str, Recipients]:
    """The callables of all schedules, by schedule.

    Raises:
        SettingsError: one cannot be had; all of them are named.
    """
    if os.getcwd() not in sys.path:  # as `python -m` and dramatiq have it; a console script has not
        sys.path.insert(0, os.getcwd())
    found: dict[str, Recipients] = {}
    problems = []
    for name, schedule in config.schedules.items():
        if schedule.recipients is None:
            continue
        module, _, attribute = schedule.recipients.partition(":")
        try:
            function = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # noqa: BLE001  # what an app's module does when it is imported is its own
            function, why = None, f"cannot be imported ({type(error).__name__}: {error})"
        else:
            why = "is not callable"
        if callable(function):
            found[name] = function
        else:
            remedy = "name a function as package.module:function that this process can import"
            problems.append(Problem(f"schedules.{name}.recipients", why, remedy, f'"{schedule.recipients}"'))
    if problems:
        raise SettingsError(problems)
    return found


class Schedules:
    """All schedules of a configuration, run by one clock of possibly many."""

    def __init__(
        self, config: Config, ledger: Ledger, notifier: Notifier, recipients: Mapping[str, Recipients]
    ) -> None:
        self._config, self._ledger, self._notifier, self._recipients = config, ledger, notifier, recipients

    def run(self, now_s: int | None = None) -> int | None:
        """Run what is due; returns the seconds until the next tick of any schedule. Raises RedisError."""
        if not self._config.schedules:
            return None
        redis: Any = self._ledger.redis
        now_s = int(redis.time()[0]) if now_s is None else now_s
        for name, schedule in self._config.schedules.items():
            self._step(redis, name, schedule, now_s)
        coming = [next_s(schedule, self._zone(schedule), now_s) for schedule in self._config.schedules.values()]
        return min((tick - now_s for tick in coming if tick is not None), default=None)

    def _zone(self, schedule: Schedule) -> str:
        return zone_of(schedule, self._config)

    def _step(self, redis: Any, name: str, schedule: Schedule, now_s: int) -> None:
        zone, key = self._zone(schedule), self._ledger.key(KEY)
        remembered = redis.hget(key, name)
        wanted = due(schedule, zone, remembered.decode() if remembered else "", now_s)
        if wanted.tick is not None:
            outcome = self._make(name, schedule, zone, wanted.tick, now_s)
            if outcome is None:
                return
            redis.hset(self._ledger.key(RAN), name, f"{wanted.tick} {outcome} {now_s}")
        seen_s = wanted.tick if wanted.tick is not None else wanted.seen_s
        if seen_s is not None:
            redis.hset(key, name, f"{seen_s} {digest_of(schedule, zone)}")

    def make(self, name: str, tick: int) -> int:
        """Make the notifications of one tick, as the clock would, and under its key; returns the number of recipients.

        Raises:
            NotifyError: it cannot be enqueued; or whatever the schedule's callable raises.
        """
        schedule = self._config.schedules[name]
        return self._enqueue(name, schedule, self._zone(schedule), tick)

    def _make(self, name: str, schedule: Schedule, zone: str, tick: int, now_s: int) -> Outcome | None:
        """Enqueue for one tick. None: try it again at the next beat."""
        told = {"schedule": name, "tick": _iso(tick)}
        try:
            count = self._enqueue(name, schedule, zone, tick)
        except IdempotencyConflict:  # another clock did, and its callable named other people
            log.info("schedule_ran_elsewhere", **told)
        except InvalidNotification as error:
            log.error("schedule_failed", **told, problems=sorted({problem.field for problem in error.errors}))
            return "failed"
        except (EnqueueError, NotReady) as error:
            log.warning("schedule_waits", **told, error=type(error).__name__)
            return None
        except Exception as error:  # noqa: BLE001  # the callable is the app's: nothing of it may end the clock
            gives_up = now_s - tick > TRY_FOR_S
            log.error("schedule_failed" if gives_up else "schedule_waits", **told, error=type(error).__name__)
            return "failed" if gives_up else None
        else:
            log.info("schedule_ran", **told, recipients=count, late_s=now_s - tick)
        return "made"

    def _enqueue(self, name: str, schedule: Schedule, zone: str, tick: int) -> int:
        fields: dict[str, Any] = {}
        if schedule.text is not None:
            fields["text"] = schedule.text
        if schedule.variables:
            fields["variables"] = dict(schedule.variables)
        key = f"schedule:{name}:{_iso(tick)}"
        if schedule.recipients is None:
            to = schedule.to if isinstance(schedule.to, str) else list(schedule.to or ())
            self._notifier.enqueue(schedule.job_type, to=to, idempotency_key=key, **fields)
            return 1 if isinstance(to, str) else len(to)
        people = iter(self._recipients[name](datetime.fromtimestamp(tick, ZoneInfo(zone))))
        count = 0
        for index, chunk in enumerate(iter(lambda: list(islice(people, MOST_RECIPIENTS)), [])):
            chunk_key = f"{key}:{index}" if index else key
            self._notifier.enqueue(schedule.job_type, to=chunk, idempotency_key=chunk_key, **fields)
            count += len(chunk)
        return count


def _iso(tick: int) -> str:
    return datetime.fromtimestamp(tick, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
