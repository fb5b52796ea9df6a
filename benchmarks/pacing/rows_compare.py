"""The same workload on the conventional way: Dramatiq's own rate limiter with retries (``benchmarks/conventional.py``)."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pacing.figures import held, per_second, worst_window
from benchmarks.pacing.report import Figure, Result
from benchmarks.pacing.rows_rates import RATES, WARM_S, Measured, backlog, together
from benchmarks.pacing.site import ROOT, TEXT, Lane, receiving, redis_server, short_codes, wait_until
from benchmarks.pacing.usage import Usage, tree
from producers.ledger.connection import connect
from worker.children import spawn

THREADS = 32  # 640 requests a second of 100 ms over two processes; with 64 the interpreter only switches more
BACKOFFS = {"retries after 0.1 to 1 s": "100-1000", "retries as by default": ""}  # impatient, and Dramatiq's from 15 s


def compare(row: str, *, workers: int, sender: str, seconds: float, rates: Sequence[int] = RATES) -> list[Result]:
    """Ours, then the conventional way, on the same lanes with the same backlog."""
    lanes = short_codes(rates)
    ours = together(f"{row}: this service", workers=workers, sender=sender, seconds=seconds, rates=rates)
    others = [
        _conventional(f"{row}: Dramatiq's limiter, {name}", lanes, workers=workers, seconds=seconds, backoff_ms=backoff)
        for name, backoff in BACKOFFS.items()
    ]
    return [*ours, *others]


def compare_one(row: str, *, workers: int, sender: str, seconds: float) -> list[Result]:
    """The same with one lane of 100/s, where the conventional way has CPU to spare."""
    return compare(row, workers=workers, sender=sender, seconds=seconds, rates=[100])


def _conventional(row: str, lanes: Sequence[Lane], *, workers: int, seconds: float, backoff_ms: str) -> Result:
    result = Result(row, f"http.client, {THREADS} threads", workers, seconds)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, redis_pid = stack.enter_context(redis_server())
        receiver = stack.enter_context(receiving(directory, 100.0))
        _enqueue(url, receiver.url, lanes, backlog(lanes, seconds))
        log = directory / "dramatiq.log"
        command = [sys.executable, "-m", "dramatiq", "benchmarks.conventional"]
        environ = {**os.environ, "BENCH_URL": receiver.url, "BENCH_REDIS": url, "BENCH_BACKOFF_MS": backoff_ms}
        dramatiq = spawn(
            "dramatiq",
            [*command, "--processes", str(workers), "--threads", str(THREADS)],
            environ=environ,
            log=log,
            directory=ROOT,
        )
        try:
            lane_of = {lane.number: lane.name for lane in lanes}
            wait_until(lambda: receiver.rows(lane_of), what="a message", children=[dramatiq])
            time.sleep(WARM_S)
            parts = {"workers": tree(dramatiq.pid), "receiver": [receiver.child.pid]}
            if redis_pid is not None:
                parts["redis"] = [redis_pid]
            usage = Usage(parts)
            start_ns = time.time_ns()
            time.sleep(seconds)
            result.cpu = usage.shares()
            measured = Measured(receiver.rows(lane_of), start_ns, seconds)
        finally:
            dramatiq.kill()
            if redis_pid is None:
                _clean(url)
    _fill_in(result, measured, lanes)
    return result


def _fill_in(result: Result, measured: Measured, lanes: Sequence[Lane]) -> None:
    """The same figures as ours, without goals."""
    count = 0
    for lane in lanes:
        sent, name = measured.sent(lane.name), f"{lane.rate}/s"
        count += len(sent)
        result.figures += [
            Figure(f"{name} used", len(sent) / (lane.rate * measured.seconds)),
            Figure(f"{name} held", held(sent, lane.rate, until_ns=measured.until_ns)),
            Figure(f"{name} worst second, sent", worst_window(sent, 1)),
            Figure(f"{name} worst ten seconds, sent", worst_window(sent, 10)),
        ]
        result.series[name] = per_second(
            measured.arrived(lane.name), start_ns=measured.start_ns, seconds=int(measured.seconds)
        )
    if count:
        cost_ms = 1000 * result.cpu["workers"] * measured.seconds / count
        result.figures.append(Figure("workers' CPU a message", cost_ms, "ms"))


def _enqueue(redis_url: str, receiver_url: str, lanes: Sequence[Lane], backlog_of: dict[str, int]) -> None:
    """All messages, those of the lanes mixed as they would be, by Dramatiq's own enqueue."""
    os.environ.update(BENCH_REDIS=redis_url, BENCH_URL=receiver_url)
    for name in [name for name in sys.modules if name == "benchmarks.conventional"]:
        del sys.modules[name]  # another row may have imported it for another server
    from benchmarks.conventional import broker, send

    by_name = {lane.name: lane for lane in lanes}
    total = sum(backlog_of.values())
    order = sorted((i / count, name, i) for name, count in backlog_of.items() for i in range(count))
    for place, name, i in order:
        lane = by_name[name]
        broker.enqueue(
            send.message(lane.number, lane.rate, f"{name}-{i}", f"+1312{2_000_000 + place * total:.0f}", TEXT)
        )
    broker.close()


def _clean(redis_url: str) -> None:
    """Take our keys out of a server that is not ours."""
    redis: Any = connect(redis_url, max_connections=1, answer_s=60)
    for pattern in ("conventional:*", "rate:1????@*"):
        for key in redis.scan_iter(match=pattern, count=5000):
            redis.unlink(key)
    redis.close()
