"""Rows about urgent messages: behind a backlog, beside expansion, and on an idle system."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from benchmarks.pacing.figures import quantile
from benchmarks.pacing.report import Figure, Result, at_most
from benchmarks.pacing.site import Lane, Site, gaps, running_site, wait_until
from benchmarks.pacing.usage import Monitor

BACKLOG = 100_000
URGENT = 200
LANE = Lane("promotions", 50, "10000")
EXPAND_MORE_BELOW = 40_000  # while an expansion is to go on, the next begins when so few are left of the last


def _send_urgent(site: Site, pauses: list[float], go_on: Callable[[], bool] = lambda: True) -> dict[str, int]:
    """Enqueue an urgent message after each pause: when each was handed over, by message id."""
    begun: dict[str, int] = {}
    for i, pause_s in enumerate(pauses):
        time.sleep(pause_s)
        if not go_on():
            break
        now_ns = time.time_ns()
        ticket = site.notifier.enqueue(
            LANE.name, to=f"+1415{3_000_000 + i}", text="Your code is 123456", priority="urgent"
        )
        begun[f"{ticket.id}-0"] = now_ns
    return begun


def _latencies_ms(site: Site, begun: dict[str, int]) -> list[float]:
    """From the call of enqueue to the arrival, by the kernel's stamp."""
    arrived: dict[str, int] = {}

    def all_arrived() -> bool:
        arrived.update({row.message: row.arrived_ns for row in site.arrivals() if row.message in begun})
        return len(arrived) == len(begun)

    wait_until(all_arrived, what="every urgent message to arrive", timeout_s=20, seen=lambda: len(arrived))
    return [(arrived[message] - at_ns) / 1e6 for message, at_ns in begun.items()]


def _figures(latencies_ms: list[float], median_ms: float, worst_ms: float) -> list[Figure]:
    return [
        at_most("urgent, enqueue to provider, median", quantile(latencies_ms, 0.5), median_ms, "ms"),
        Figure("urgent, p99", quantile(latencies_ms, 0.99), "ms"),
        at_most("urgent, worst", max(latencies_ms), worst_ms, "ms"),
        Figure("urgent messages", len(latencies_ms)),
    ]


def behind(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """200 urgent ones behind 100,000 bulk on 50/s. Takes 30 s and more, whatever ``seconds`` says below that."""
    rng = random.Random(1)
    with running_site([LANE], workers=workers, sender=sender) as site:
        site.fill({LANE.name: BACKLOG})
        site.resume(LANE.name)
        time.sleep(2)
        usage = site.usage()
        mean_s = max(seconds, 30.0) / URGENT if seconds >= 30 else 0.1
        latencies_ms = _latencies_ms(site, _send_urgent(site, gaps(rng, URGENT, 0.4 * mean_s, 1.6 * mean_s)))
        result = Result(row, sender, workers, round(URGENT * mean_s, 1), cpu=usage.shares())
        result.figures = _figures(latencies_ms, 40, 120)
        return [result]


def beside_expansion(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """The same, while another 100,000 are being expanded, again and again until all urgent ones are out."""
    rng = random.Random(2)
    with running_site([LANE], workers=workers, sender=sender) as site:
        site.fill({LANE.name: BACKLOG})
        site.resume(LANE.name)
        time.sleep(2)
        usage = site.usage()
        done, begun_count = threading.Event(), [0]
        feeder = threading.Thread(target=_expand_on, args=(site, done, begun_count), daemon=True)
        feeder.start()
        wait_until(lambda: begun_count[0], what="an expansion to begin")
        begun = _send_urgent(site, gaps(rng, URGENT, 0.04, 0.16))
        done.set()
        feeder.join()
        latencies_ms = _latencies_ms(site, begun)
        result = Result(row, sender, workers, 20.0, cpu=usage.shares())
        result.figures = _figures(latencies_ms, 40, 250)
        result.notes.append(f"{begun_count[0]} notifications of {BACKLOG} were expanding meanwhile, one after another")
        return [result]


def _expand_on(site: Site, done: threading.Event, begun: list[int]) -> None:
    """Keep one large notification expanding until ``done``."""
    key, wanted = site.ledger.key(f"q:{LANE.name}:2"), 0
    while not done.is_set():
        waiting = int(site.redis.zcard(key))
        if wanted - waiting < EXPAND_MORE_BELOW:
            site.submit(LANE.name, BACKLOG)
            wanted = max(wanted, waiting) + BACKLOG
            begun[0] += 1
        done.wait(0.25)


def idle(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """Nothing to do: what it costs, and how soon an urgent message leaves."""
    rng = random.Random(3)
    with running_site([LANE], workers=workers, sender=sender) as site:
        site.resume(LANE.name)
        _send_urgent(site, [0.2] * 5)  # connections and caches
        time.sleep(3)
        site.arrivals()
        usage = site.usage()
        with Monitor(site.ledger) as monitor:
            time.sleep(seconds)
        shares = usage.shares()
        latencies_ms = _latencies_ms(site, _send_urgent(site, gaps(rng, 100, 0.1, 0.4)))
        rates = monitor.rates()
        result = Result(row, sender, workers, seconds, cpu=shares)
        result.figures = [
            at_most("CPU of a process", shares["workers"] / workers * 100, 1.0, "% of a core"),
            at_most("Redis commands a process", sum(rates.values()) / workers, 20, "a second"),
            Figure("commands inside scripts", monitor.inside_scripts / seconds, "a second"),
            *_figures(latencies_ms, 15, float("inf")),
        ]
        result.figures = [f for f in result.figures if f.name not in ("urgent, p99", "urgent, worst")]
        result.figures += [
            at_most("urgent, p99", quantile(latencies_ms, 0.99), 50, "ms"),
            Figure("urgent, worst", max(latencies_ms), "ms"),
        ]
        result.notes.append("commands a second: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
        return [result]
