"""Rows about the rate: is it held, in every window, over any number of processes and through their deaths?"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from benchmarks.pacing.figures import NS, allowed, held, per_second, quantile, worst_window
from benchmarks.pacing.report import Figure, Result, at_least, at_most, between
from benchmarks.pacing.site import Arrival, Lane, Site, running_site, short_codes, wait_until
from benchmarks.pacing.usage import ScriptTimes

RATES = (1, 10, 100, 400)
WARM_S = 2.0
AFTER_S = 3.0  # backlog beyond the measured time, so that no lane runs dry


def backlog(lanes: Sequence[Lane], seconds: float) -> dict[str, int]:
    return {lane.name: int(lane.rate * (WARM_S + seconds + AFTER_S)) + 2 for lane in lanes}


class Measured:
    """The arrivals of one measured time, by lane."""

    def __init__(self, rows: Sequence[Arrival], start_ns: int, seconds: float) -> None:
        self.start_ns, self.seconds = start_ns, seconds
        self.until_ns = start_ns + int(seconds * NS)
        self.rows = rows

    def sent(self, lane: str) -> list[int]:
        return self._between(row.sent_ns for row in self.rows if row.lane == lane)

    def arrived(self, lane: str) -> list[int]:
        return self._between(row.arrived_ns for row in self.rows if row.lane == lane)

    def read(self, lane: str) -> list[int]:
        return self._between(row.read_ns for row in self.rows if row.lane == lane)

    def _between(self, stamps: object) -> list[int]:
        return [stamp for stamp in stamps if self.start_ns <= stamp < self.until_ns]  # type: ignore[attr-defined]

    def lag_ms(self, share: float) -> float:
        """How late the receiving server read what had arrived."""
        return quantile([(row.read_ns - row.arrived_ns) / 1e6 for row in self.rows], share)

    def way_ms(self, share: float) -> float:
        """From the sender's write to the kernel of the receiving server."""
        return quantile([(row.arrived_ns - row.sent_ns) / 1e6 for row in self.rows if row.sent_ns], share)


def measure(
    site: Site, lanes: Sequence[str], seconds: float, *, meanwhile: Callable[[], None] | None = None
) -> Measured:
    """Resume these lanes, let them settle, and collect what arrives in the time that follows."""
    site.resume(*lanes)
    time.sleep(WARM_S)
    start_ns = time.time_ns()
    if meanwhile is not None:
        meanwhile()
    time.sleep(max(0.0, seconds - (time.time_ns() - start_ns) / NS))
    time.sleep(0.3)  # what was sent at the end arrives
    return Measured(site.arrivals(), start_ns, seconds)


def lane_figures(measured: Measured, lane: Lane, *, at_least_held: float, slots_spare: int = 0) -> list[Figure]:
    """How well one lane was held. ``slots_spare``: this many lost slots are forgiven (a lane of 1/s loses 3 % by one)."""
    limit, sent = allowed(lane.rate), measured.sent(lane.name)
    share = held(sent, lane.rate, until_ns=measured.until_ns)
    low = min(at_least_held, 1 - slots_spare / (lane.rate * measured.seconds))
    name = f"{lane.rate}/s"
    return [
        between(f"{name} held", share, round(low, 3), 1.001),
        at_most(f"{name} worst second, sent", worst_window(sent, 1), limit.second),
        at_most(f"{name} worst second, arrived", worst_window(measured.arrived(lane.name), 1), limit.second),
        at_most(f"{name} worst second, read", worst_window(measured.read(lane.name), 1), limit.raw_second),
        at_most(f"{name} worst ten seconds, sent", worst_window(sent, 10), limit.ten_seconds),
        at_most(f"{name} worst ten seconds, arrived", worst_window(measured.arrived(lane.name), 10), limit.ten_seconds),
    ]


def finish(result: Result, site: Site, measured: Measured, shares: dict[str, float], lanes: Sequence[Lane]) -> Result:
    """Add what every row tells: CPU, the way, missed slots, and arrivals a second for the plot."""
    result.cpu = shares
    if count := sum(len(measured.sent(lane.name)) for lane in lanes):
        cost_ms = 1000 * shares["workers"] * measured.seconds / count
        result.figures.append(Figure("workers' CPU a message", cost_ms, "ms"))
    result.notes.append(
        f"write to arrival p50/p99/worst {measured.way_ms(0.5):.2f}/{measured.way_ms(0.99):.2f}/{measured.way_ms(1):.2f} ms, "
        f"receiver's lag {measured.lag_ms(0.5):.2f}/{measured.lag_ms(0.99):.2f}/{measured.lag_ms(1):.2f} ms"
    )
    if missed := site.slots_missed():
        result.notes.append("workers logged " + ", ".join(f"{k}: {v}" for k, v in sorted(missed.items())))
    result.series = {
        f"{lane.rate}/s": per_second(
            measured.arrived(lane.name), start_ns=measured.start_ns, seconds=int(measured.seconds)
        )
        for lane in lanes
    }
    return result


def _sdk_floor(lane: Lane, sender: str, at_least_held: float) -> float:
    """The SDK's CPU may hold the 400/s lane at 0.95 on two shared cores."""
    return min(at_least_held, 0.95) if sender == "sdk" and lane.rate >= 400 else at_least_held


def together(row: str, *, workers: int, sender: str, seconds: float, rates: Sequence[int] = RATES) -> list[Result]:
    """Lanes of these rates at once."""
    lanes = short_codes(rates)
    with running_site(lanes, workers=workers, sender=sender) as site:
        site.fill(backlog(lanes, seconds))
        usage = site.usage()
        measured = measure(site, [lane.name for lane in lanes], seconds)
        result = Result(row, sender, workers, seconds)
        for lane in lanes:
            result.figures += lane_figures(measured, lane, at_least_held=_sdk_floor(lane, sender, 0.99))
        return [finish(result, site, measured, usage.shares(), lanes)]


def alone(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """Each lane by itself."""
    lanes, results = short_codes(RATES), []
    with running_site(lanes, workers=workers, sender=sender) as site:
        site.fill(backlog(lanes, seconds))
        for lane in lanes:
            site.arrivals()
            usage = site.usage()
            measured = measure(site, [lane.name], seconds)
            shares = usage.shares()
            site.pause(lane.name)
            result = Result(f"{row} {lane.rate}/s", sender, workers, seconds)
            result.figures = lane_figures(measured, lane, at_least_held=_sdk_floor(lane, sender, 0.99))
            results.append(finish(result, site, measured, shares, [lane]))
    return results


def churn(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """One process is killed after a fifth of the time, one added after two fifths, one stopped for 2 s after three."""
    lanes = short_codes(RATES)
    with running_site(lanes, workers=workers, sender=sender) as site:
        site.fill(backlog(lanes, seconds))
        usage = site.usage()
        at_s: dict[str, float] = {}

        def trouble() -> None:
            started_s = time.monotonic()

            def at(share: float, what: str) -> None:
                time.sleep(max(0.0, started_s + share * seconds - time.monotonic()))
                at_s[what] = round(time.monotonic() - started_s, 1)

            at(0.2, "killed")
            site.workers[0].kill()
            at(0.4, "added")
            site.start_workers(1)
            at(0.6, "stopped")
            site.signal_worker(1, signal.SIGSTOP)
            time.sleep(2.0)
            site.signal_worker(1, signal.SIGCONT)

        measured = measure(site, [lane.name for lane in lanes], seconds, meanwhile=trouble)
        result = Result(row, sender, workers, seconds, notes=[f"instants (s): {at_s}"])
        for lane in lanes:
            floor = _sdk_floor(lane, sender, 0.98)
            result.figures += lane_figures(measured, lane, at_least_held=floor, slots_spare=1)
        return [finish(result, site, measured, usage.shares(), lanes)]


def fast(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """One lane at 1,000/s: how far does it get, and what limits it?"""
    lanes = short_codes([1000])
    with running_site(lanes, workers=workers, sender=sender) as site:
        site.fill(backlog(lanes, seconds))
        usage = site.usage()
        measured = measure(site, [lane.name for lane in lanes], seconds)
        result = Result(row, sender, workers, seconds)
        for figure in lane_figures(measured, lanes[0], at_least_held=0.0):
            result.figures.append(Figure(figure.name, figure.value, figure.unit))
        return [finish(result, site, measured, usage.shares(), lanes)]


def many(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """1,000 lanes at 1/s, all with backlog."""
    lanes = [Lane(f"lane{i}", 1, str(100_000 + i)) for i in range(1000)]
    with running_site(lanes, workers=workers, sender=sender) as site:
        site.fill(backlog(lanes, seconds))
        usage = site.usage()
        with ScriptTimes(site.ledger) as times:
            measured = measure(site, [lane.name for lane in lanes], seconds)
        shares = usage.shares()
        granting = times.cpu_share("grant", shares.get("redis"))
        counts = [len(measured.sent(lane.name)) for lane in lanes]
        worst = max(worst_window(measured.sent(lane.name), 1) for lane in lanes)
        result = Result(row, sender, workers, seconds)
        result.figures = [
            at_least("held in total", sum(counts) / (1000 * seconds), 0.99),
            at_most("worst second of any lane, sent", worst, 2),
            at_least("least sent by any lane", min(counts), int(seconds) - 2),
            at_most("granting: server and threads", granting + shares["granting"], 0.05, "core"),
            Figure("of it the server", granting, "core"),
            Figure("grant calls a second", times.calls["grant"] / (seconds + WARM_S)),
        ]
        return [finish(result, site, measured, shares, [])]


def shared(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """10,000 lanes behind a full account bucket of 200/s, and a lane of 100/s that does not draw on it."""
    account, free = 200, Lane("whatsapp", 100, "+13125550003", channel="whatsapp")
    crowd = [Lane(f"lane{i}", 1, str(100_000 + i)) for i in range(10_000)]
    with running_site([*crowd, free], workers=workers, sender=sender, account=f"{account}/s") as site:
        share = int(account * (WARM_S + seconds) / len(crowd)) + 1
        site.fill({**{lane.name: share for lane in crowd}, **backlog([free], seconds)})
        usage = site.usage()
        with ScriptTimes(site.ledger) as times:
            measured = measure(site, [free.name, *(lane.name for lane in crowd)], seconds)
        shares = usage.shares()
        drawn = [row.sent_ns for row in measured.rows if row.lane != free.name]
        drawn = [stamp for stamp in drawn if measured.start_ns <= stamp < measured.until_ns]
        result = Result(row, sender, workers, seconds)
        limit = allowed(account)
        messages = [row.message for row in measured.rows]
        result.figures = [
            between("account used", held(drawn, account, until_ns=measured.until_ns), 0.99, 1.001),
            at_most("account, worst second, sent", worst_window(drawn, 1), limit.second),
            at_most("messages sent twice", len(messages) - len(set(messages)), 0),
            *[
                Figure(f"free lane {f.name}", f.value, f.unit, f.goal, f.ok)
                for f in lane_figures(measured, free, at_least_held=0.99)
            ],
            Figure("server's CPU in grant", times.cpu_share("grant", shares.get("redis")), "core"),
            Figure("grant calls a second", times.calls["grant"] / (seconds + WARM_S)),
        ]
        return [finish(result, site, measured, shares, [free])]


def routes(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """One job type over three lanes of 10/s: do they add up? Then one is paused, and what comes goes to the other two."""
    lanes = [Lane(f"lane{i}", 10, str(10_000 + i)) for i in range(3)]
    names, total = [lane.name for lane in lanes], sum(lane.rate for lane in lanes)
    with running_site(lanes, workers=workers, sender=sender) as site:
        # a hash shares evenly but for chance: every lane has its part, and some to spare
        many = int(total * (WARM_S + seconds + AFTER_S) * 1.2)
        site.submit("routed", many)
        wait_until(lambda: site.waiting(*names) >= many, what="the backlog", children=site.workers, every_s=0.2)
        usage = site.usage()
        measured = measure(site, names, seconds)
        sent = sorted(stamp for name in names for stamp in measured.sent(name))
        result = Result(row, sender, workers, seconds)
        result.figures = [
            between("three lanes together held", held(sent, total, until_ns=measured.until_ns), 0.99, 1.005)
        ]
        result.figures += [
            Figure(f"{lane.name} {figure.name}", figure.value, figure.unit, figure.goal, figure.ok)
            for lane in lanes
            for figure in lane_figures(measured, lane, at_least_held=0.99)[:2]
        ]
        site.pause(names[1])
        before = site.waiting(names[1])
        id = site.submit("routed", total * 10)
        wait_until(lambda: not site.notifier.status(id).state_counts.get("new"), what="the second notification")
        result.figures.append(at_most("new ones in the paused lane", site.waiting(names[1]) - before, 0))
        return [finish(result, site, measured, usage.shares(), lanes)]
