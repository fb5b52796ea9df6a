"""The clock process: what is periodic by the calendar. No promise depends on it being up.

It makes the notifications of ``[schedules]``; any number of clocks may run, and each tick is made once (see ``schedules``).
It starts the reading of Telnyx's list of opt-outs, as any worker does too, and keeps the configuration published: a Redis that
lost its data gets it back, and the coming midnights of daily caps are renewed. It publishes again only what is published
already, for an older clock beside a newer deploy must not bring the old rates back. SIGTERM ends it with 0, at any instant and
however often.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any

import structlog
from redis.exceptions import RedisError

from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from producers.notifier import Notifier
from producers.pointers import Pointers
from worker.opt_out_sync import start_if_due
from worker.publication import publication
from worker.publishing import publish
from worker.schedules import Schedules, load_recipients
from worker.settings import Settings

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BEAT_S = 30.0
RETRY_S = 2.0  # while Redis is away
RENEW_EVERY = 120  # beats: hourly, for midnights that lie 40 days ahead


def run(settings: Settings) -> int:
    """Run until a signal comes. Call it from the main thread; returns the exit code of the process."""
    leave = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        leave.set()

    for number in SIGNALS:
        signal.signal(number, on_signal)
    redis = connect(settings.redis_url)
    ledger = Ledger(redis, settings.namespace)
    pointers = Pointers(redis, settings.namespace)
    recipients = load_recipients(settings.config)
    notifier = Notifier(settings.redis_url, namespace=settings.namespace)
    schedules = Schedules(settings.config, ledger, notifier, recipients)
    next_tick_s: int | None = None
    digest = str(publication(settings.config, release=settings.release)["digest"])
    beats, away, published = 0, False, False
    log.info("clock_started", release=settings.release)
    while not leave.is_set():
        try:
            if not published or _is_ours_to_renew(ledger, digest, renew=beats % RENEW_EVERY == 0):
                log.info("configuration_published", outcome=publish(ledger, settings.config, settings.release))
                published = True
            start_if_due(ledger, pointers)
            next_tick_s = schedules.run()
            if away:
                log.info("redis_back")
            away = False
            beats += 1
            log.debug("clock_beat", beats=beats)
        except RedisError as error:
            if not away:
                log.warning("redis_away", error=type(error).__name__)
            away = True
        leave.wait(RETRY_S if away else min(BEAT_S, BEAT_S if next_tick_s is None else max(next_tick_s, 1)))
    for number in SIGNALS:  # Python would put the deadly default back while it shuts down
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(RedisError):
        redis.close()
    log.info("clock_stopped")
    return 0


def _is_ours_to_renew(ledger: Ledger, digest: str, *, renew: bool) -> bool:
    """Nothing is published any more; or, when it is time, what is published is what we have."""
    redis: Any = ledger.redis
    held = redis.hget(ledger.key("cfg"), "digest")
    return held is None or (renew and held.decode() == digest)
