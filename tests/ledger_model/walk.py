"""A random walk through the steps: no shrinking on the way, so millions of them.

A walk is cut into episodes, each of a fresh ledger, and ends well or with a disagreement. An episode is a list of steps with
a seed each: what one step draws does not depend on how many were drawn before it. So the same list walks the same way, any
shorter list is a walk too, and what fails is made short by leaving steps out. The checks that read everything run each so
many steps; a walk that fails is walked again with all of them after every step.

``cd tests && python -m ledger_model.walk --steps 1000000 --seed 7 [--fake]``; what fails prints how to see it again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtual_time import VirtualLedger

from ledger_model.draws import Plain
from ledger_model.ending import LedgerWorld
from ledger_model.steps import STEPS
from ledger_model.wire import Wire
from worker.embedded import EmbeddedServer

EPISODE = 250  # steps: then most messages have ended, and no more are made
CHECK_EACH = 20

Move = tuple[str, int]  # a step's name, and the seed of what it draws


@dataclass
class Walked:
    """How far it went."""

    steps: int = 0
    episodes: int = 0
    calls: int = 0
    taken: Counter[str] = field(default_factory=Counter)


class Disagreement(AssertionError):
    """The ledger did what the model does not allow; says with which steps."""


@contextlib.contextmanager
def real_server() -> Iterator[Any]:
    """A client of a server of our own, over a socket file."""
    with tempfile.TemporaryDirectory(prefix="walk-") as directory:
        socket = str(Path(directory) / "s")
        with EmbeddedServer(appendonly=False, options=("--unixsocket", socket)):
            redis = Wire(socket)
            try:
                yield redis
            finally:
                redis.close()


def moves_of(seed: int, steps: int = EPISODE) -> list[Move]:
    """The moves of one episode."""
    draw = random.Random(seed)
    names = list(STEPS)
    return [(draw.choice(names), draw.getrandbits(48)) for _ in range(steps)]


def episode(redis: Any, moves: Sequence[Move], *, check_each: int, walked: Walked | None = None) -> None:
    """Walk one episode to its end. ``redis``: a client of a server that is ours alone, or None for a fake one."""
    if redis is not None:
        redis.flushdb()
    ledger = VirtualLedger(redis, lapsing=True)
    try:
        world = LedgerWorld(ledger, thorough=check_each == 1)
        world.begin()
        for nth, (name, seed) in enumerate(moves, 1):
            step = STEPS[name]
            if step.possible(world):
                step.take(world, Plain(seed))
                if walked is not None:
                    walked.taken[name] += 1
            if nth % check_each == 0:
                world.everything_holds()
        if world.messages:
            world.everything_holds()
            world.settle()
    finally:
        if walked is not None:
            walked.calls += ledger.calls
        if redis is None:
            ledger.close()


def failure(redis: Any, moves: Sequence[Move]) -> str | None:
    """What goes wrong with these moves, checked after each; None: nothing."""
    try:
        episode(redis, moves, check_each=1)
    except Exception as wrong:  # noqa: BLE001 a model that stumbles is a disagreement too
        last = traceback.extract_tb(wrong.__traceback__)[-1]
        return f"{type(wrong).__name__} in {last.name}, line {last.lineno}: {str(wrong)[:400]}"
    return None


def shortest(redis: Any, moves: list[Move], *, within_s: float = 120) -> list[Move]:
    """Leave out what is not needed for a failure at the same place."""

    def place(text: str | None) -> str:
        return (text or "").partition(":")[0]

    wanted, until_s = place(failure(redis, moves)), time.monotonic() + within_s
    size = len(moves) // 2
    while size and time.monotonic() < until_s:
        at, shrunk = 0, False
        while at < len(moves) and time.monotonic() < until_s:
            fewer = moves[:at] + moves[at + size :]
            if place(failure(redis, fewer)) == wanted:
                moves, shrunk = fewer, True
            else:
                at += size
        size = size if shrunk and size == 1 else size // 2
    return moves


def walk(
    redis: Any, *, steps: int, seed: int, check_each: int = CHECK_EACH, shrink_s: float = 120, tell: Any = None
) -> Walked:
    """Go so many steps.

    Raises:
        Disagreement: with the seed of the episode and the shortest steps that were found.
    """
    walked = Walked()
    seeds = random.Random(seed)
    while walked.steps < steps:
        of_episode = seeds.getrandbits(48)
        moves = moves_of(of_episode)
        try:
            episode(redis, moves, check_each=check_each, walked=walked)
        except Exception as wrong:
            few = shortest(redis, moves, within_s=shrink_s)
            said = failure(redis, few) or f"only with checks each {check_each} steps: {wrong}"
            raise Disagreement(
                f"{said}\nepisode {of_episode} of seed {seed}, cut to {len(few)} steps:\n{few}"
            ) from wrong
        walked.steps = walked.taken.total()
        walked.episodes += 1
        if tell:
            tell(walked)
    return walked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--fake", action="store_true", help="on a fake server")
    parser.add_argument("--check-each", type=int, default=CHECK_EACH)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began_s = last_s = time.monotonic()

    def tell(walked: Walked) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > 30:
            last_s = time.monotonic()
            print(f"{walked.steps} steps, {walked.steps / (last_s - began_s):.0f}/s", flush=True)

    with contextlib.nullcontext() if options.fake else real_server() as redis:
        try:
            walked = walk(redis, steps=options.steps, seed=options.seed, check_each=options.check_each, tell=tell)
        except Disagreement as wrong:
            print(wrong)
            return 1
    took_s = time.monotonic() - began_s
    print(f"{walked.steps} steps in {walked.episodes} episodes, {walked.steps / took_s:.0f}/s: no disagreement")
    print(dict(walked.taken.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
