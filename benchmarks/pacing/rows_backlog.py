"""Row about size: does enqueueing cost more where a million already wait?"""

from __future__ import annotations

import time

from benchmarks.pacing.figures import quantile
from benchmarks.pacing.report import Figure, Result, at_most
from benchmarks.pacing.site import TEXT, Site, running_site, short_codes
from producers.ledger import calls
from producers.ledger.calls import Admission

WAITING, SAMPLES = 1_000_000, 1500
EMPTY, FULL = "lane1", "lane2"
# Only the lane's own structure can make an enqueue slower, so it alone is filled: with ids that no record belongs to.
_FILL = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('ZADD', KEYS[1], i, string.format('%032d-%d', i, 0))
end
"""


def enqueue(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """The way of one message into an empty lane and into one of 1,000,000: submit and admit, taking turns."""
    with running_site(short_codes([1, 2]), workers=1, sender=sender) as site:
        site.workers[0].kill()  # it has published; from here on nobody else changes the lanes
        for start in range(1, WAITING, 10_000):
            site.redis.eval(_FILL, 1, site.ledger.key(f"q:{FULL}:1"), start, start + 9_999)
        times: dict[str, list[float]] = {EMPTY: [], FULL: []}
        for i in range(SAMPLES):
            for lane in (EMPTY, FULL) if i % 2 else (FULL, EMPTY):
                times[lane].append(_enqueue_us(site, lane))
        waiting = site.waiting(FULL, klass=1)
    medians = {lane: quantile(values, 0.5) for lane, values in times.items()}
    figures = [
        Figure("into an empty lane, median", medians[EMPTY], "us"),
        Figure(f"into one with {waiting}, median", medians[FULL], "us"),
        at_most("full by empty", medians[FULL] / medians[EMPTY], 1.2),
    ]
    return [Result(row, "no sender", 0, 0, figures=figures)]


def _enqueue_us(site: Site, lane: str) -> float:
    began = time.perf_counter()
    ticket = site.notifier.enqueue(lane, to="+13125550100", text=TEXT, priority="normal")
    loaded = site.ledger.run(calls.load(ticket.id, None))
    if loaded is None:
        raise AssertionError(f"notification {ticket.id} has nothing to expand: is a worker still running?")
    admission = Admission(to="+13125550100", lane=lane)
    admitted = site.ledger.run(calls.admit(ticket.id, None, loaded.content.decode(), [admission]))
    took_us = (time.perf_counter() - began) * 1e6
    if admitted.queued != 1:
        raise AssertionError(f"notification {ticket.id} was not admitted: {admitted}")
    return took_us
