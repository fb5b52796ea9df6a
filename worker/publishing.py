"""Publish the configuration: what every process of the service does at its start.

Scripts read rates only from what is published, so two versions that run side by side during a deploy pace alike; the
greater release wins, and between equals the one that started last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from producers.ledger.scripts import Call
from worker.compliance.time_zones import zone_table
from worker.publication import publication
from worker.settings.model import Config

MIDNIGHTS_DAYS = 40  # far longer than a process lives without a restart, and each of them publishes anew


def publish(ledger: Ledger, config: Config, release: int) -> str:
    """Publish ``config``: "published", "same", or "older" where a later release already has.

    Raises:
        redis.RedisError: the server is away; safe to repeat.
    """
    return ledger.run(publish_call(config, release, now_us=time.time_ns() // 1000))


def publish_call(config: Config, release: int, *, now_us: int) -> Call[str]:
    """The same as a call, for an event loop."""
    content = publication(config, release=release)
    zone = config.defaults.timezone
    table = zone_table(zone, datetime.fromtimestamp(now_us / 1_000_000, UTC).year)
    zones = {} if table is None else {zone: table}
    return calls.publish(content, midnights(content["buckets"], now_us=now_us), zones)


def midnights(
    buckets: Mapping[str, Mapping[str, Any]], *, now_us: int, days: int = MIDNIGHTS_DAYS
) -> dict[str, list[int]]:
    """When each daily cap starts anew, in its own zone: the coming ``days`` midnights as microseconds of the epoch.

    Lua knows no time zones, and a day with a clock change has 23 or 25 hours, so they are worked out here. The last midnight
    comes first: where our clock is ahead of the server's, it is still to come there.
    """
    return {name: _midnights(now_us, ZoneInfo(b["tz"]), days) for name, b in buckets.items() if "cap" in b}


def _midnights(now_us: int, zone: ZoneInfo, days: int) -> list[int]:
    today = datetime.fromtimestamp(now_us / 1_000_000, zone).date()
    at = (datetime.combine(today + timedelta(days=n), datetime.min.time(), tzinfo=zone) for n in range(days + 1))
    return [int(midnight.astimezone(UTC).timestamp()) * 1_000_000 for midnight in at]
