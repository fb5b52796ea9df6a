"""``/metrics`` for Prometheus: what the ledger counts, read from Redis whenever somebody asks.

No figure is kept in this process, so any number of web processes tell the same, and a restart of one resets nothing. The
counters come from what only ever grows (``st:all``, and the minutes that are not in it yet, at one instant).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from producers.ledger.figures import BOUNDS_S, Figures, latencies, read_figures
from producers.ledger.states import STATES
from producers.pointers import LIST_QUEUES, broker_namespace
from worker.pacing.lanes import LaneView, read_lanes
from worker.settings.variables import ApiKey
from worker.statistics import By, LaneNames, read_lane_names
from worker.web.auth import needs
from worker.web.openapi import problems
from worker.web.services import Services

if TYPE_CHECKING:
    from prometheus_client import Metric

    from producers.ledger.ledger import Ledger

router = APIRouter(tags=["health"])
ORDER: tuple[By, ...] = ("job_type", "sender", "channel", "carrier")
LABELS = list(ORDER)
STATES_OF_A_LANE = ("open", "held", "slowed", "paused", "draining", "drained", "gone")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 403, 422, 503)},
)
async def metrics(request: Request, _caller: Annotated[ApiKey, Depends(needs("metrics"))]) -> Response:
    services: Services = request.app.state.services
    body = await services.in_thread(render, services.ledger)
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")


def render(ledger: Ledger) -> bytes:
    """The page, in Prometheus's text format.

    Raises:
        redis.RedisError: the server is away.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    found = list(collect(ledger))

    class Read:
        def collect(self) -> Iterator[Metric]:
            return iter(found)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Read())
    return bytes(generate_latest(registry))


def collect(ledger: Ledger) -> Iterator[Metric]:
    figures, names = read_figures(ledger), read_lane_names(ledger)
    yield from _counters(figures, names)
    yield _latencies(figures, names)
    yield from _lanes(read_lanes(ledger))
    yield from _ledger(ledger)


def _counters(figures: Figures, names: LaneNames) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    def counter(name: str, words: str, *more: str) -> Any:
        return CounterMetricFamily(name, words, labels=[*LABELS, *more])

    ended = counter("notify_messages_ended", "Messages that came to an end for the first time.", "state", "reason")
    corrected = counter("notify_messages_corrected", "Ends that a later receipt corrected.", "from", "to")
    segments = counter("notify_segments", "Segments of messages that were handed over and ended.")
    cost = counter("notify_cost", "What the provider said that messages cost.", "currency")
    returned = counter("notify_cost_returned", "What the provider took back of that.", "currency")
    clicks = counter("notify_link_clicks", "Clicks on links in messages.")
    refused = counter(
        "notify_requests_not_accepted", "Requests to the provider that it did not accept.", "outcome", "reason"
    )
    totals: Counter[tuple[int, tuple[str, ...]]] = Counter()
    families = (ended, corrected, segments, cost, returned, clicks, refused)
    for (kind, labels, more), n in figures.rows.items():
        values = [names.label(by, labels) for by in ORDER]
        if kind[0] == "e":
            totals[0, (*values, STATES[kind[1]], more)] += n
        elif kind[0] == "x":
            totals[1, (*values, STATES[kind[1]], STATES[kind[2]])] += n
        elif kind in "gcrk":
            totals["  gcrk".index(kind), (*values, *((more,) if kind in "cr" else ()))] += n
        elif kind[0] == "o":
            totals[6, (*values, kind[1:], more)] += n
    for (family, values_of), n in totals.items():
        families[family].add_metric(list(values_of), n / 1_000_000 if family in (3, 4) else n)
    return iter(families)


def _latencies(figures: Figures, names: LaneNames) -> Metric:
    """By stage, job type and sender: with a carrier each, there would be thousands of series."""
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "notify_message_latency_seconds",
        "From enqueue (or release) to the provider, and from there to the carrier and to the handset.",
        labels=["stage", "job_type", "sender"],
    )
    buckets: dict[tuple[str, str, str], list[int]] = {}
    sums: Counter[tuple[str, str, str]] = Counter()
    for (stage, labels), latency in latencies(figures).items():
        key: tuple[str, str, str] = (stage, labels.job_type, names.label("sender", labels))
        known = buckets.setdefault(key, [0] * len(latency.buckets))
        buckets[key] = [a + b for a, b in zip(known, latency.buckets, strict=True)]
        sums[key] += latency.sum_s  # type: ignore[assignment]
    for key, counts in buckets.items():
        rows, below = [], 0
        for bound, n in zip((*(f"{b:g}" for b in BOUNDS_S), "+Inf"), counts, strict=True):
            below += n
            rows.append((bound, below))
        family.add_metric(list(key), rows, sum_value=sums[key])
    return family


def _lanes(views: list[LaneView]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    backlog = GaugeMetricFamily(
        "notify_lane_backlog", "Messages that wait in a lane.", labels=["lane", "sender", "class"]
    )
    rate = GaugeMetricFamily("notify_lane_rate", "Units a second that a lane may send.", labels=["lane", "sender"])
    state = GaugeMetricFamily(
        "notify_lane_state", "1 for the state that a lane is in.", labels=["lane", "sender", "state"]
    )
    for view in views:
        for klass, n in view.backlog.items():
            backlog.add_metric([view.name, view.sender, klass], n)
        rate.add_metric([view.name, view.sender], 1e6 / view.interval_us if view.interval_us else 0)
        for word in STATES_OF_A_LANE:
            state.add_metric([view.name, view.sender, word], int(view.state == word))
    return iter((backlog, rate, state))


def _ledger(ledger: Ledger) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    with ledger.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(ledger.key("counts"))
        pipe.time()
        pipe.zrange(ledger.key("rx"), 0, 0, withscores=True)
        pipe.hget(ledger.key("ears"), "last")
        pipe.hget(ledger.key("os"), "newer_us")
        for name in ("rx", "dead", "pq", "timers"):
            pipe.zcard(ledger.key(name))
        pipe.scard(ledger.key("procs"))
        pipe.info("memory")
        for queue in LIST_QUEUES:
            pipe.llen(f"{broker_namespace(ledger.namespace)}:{queue}")
        counts, (seconds, micros), oldest, heard, listed, *sizes = pipe.execute()
    now_us = seconds * 1_000_000 + micros
    waiting, dead, polls, timers, processes, memory, *queues = sizes
    oddities = CounterMetricFamily("notify_oddities", "What should not happen, or seldom.", labels=["kind"])
    for kind, n in counts.items():
        oddities.add_metric([kind.decode()], int(n))
    yield oddities
    gauges = {
        ("notify_receipt_batches_waiting", "Batches of receipts that are kept and not applied."): waiting,
        ("notify_receipts_oldest_seconds", "Age of the oldest of them."): (now_us - oldest[0][1]) / 1e6
        if oldest
        else 0,
        ("notify_dead_letters", "What ended without arriving, and may be replayed."): dead,
        ("notify_polls_waiting", "Messages that wait to be asked about."): polls,
        ("notify_timers", "Messages and others that wait for a time."): timers,
        ("notify_workers", "Worker processes that live."): processes,
        ("notify_redis_used_bytes", "Memory that Redis uses."): memory.get("used_memory", 0),
        ("notify_redis_max_bytes", "Memory that Redis may use; 0: no limit."): memory.get("maxmemory", 0),
    }
    if heard is not None:
        gauges["notify_unheard_seconds", "Since a web process last said that it hears."] = (now_us - int(heard)) / 1e6
    if listed is not None:
        words = "Age of Telnyx's list of opt-outs as it was last read whole."
        gauges["notify_opt_out_list_age_seconds", words] = (now_us - int(listed)) / 1e6
    for (name, words), value in gauges.items():
        yield GaugeMetricFamily(name, words, value=float(value))
    jobs = GaugeMetricFamily("notify_jobs_waiting", "Jobs in one of Dramatiq's queues.", labels=["queue"])
    for queue, n in zip(LIST_QUEUES, queues, strict=True):
        jobs.add_metric([queue], n)
    yield jobs
