"""How many messages the configured limits let through in a span of time: what the memory of Redis must hold. Pure.

An upper bound: every sender busy all the time, at its rate and within the limits it shares. What a sender's profile or
campaign bounds further is left out, for a bound may be too high and never too low.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

DAY_S = 86_400


def most_messages(publication: Mapping[str, Any], span_s: float) -> float:
    """The most that may leave in ``span_s`` seconds."""
    buckets = publication["buckets"]

    def paced(name: str) -> float:
        return math.inf if "gate" in buckets[name] else float(span_s * 1e6 / buckets[name]["t_us"])

    senders: dict[str, list[str]] = {}  # own bucket → what else the sender draws on; its SMS and MMS share the own one
    for lane in publication["lanes"].values():
        senders.setdefault(lane["buckets"][0], lane["buckets"][1:])
    by_cap: dict[str, float] = defaultdict(float)
    account_of: dict[str, str] = {}
    for own, shared in senders.items():
        cap = next((name for name in shared if "cap" in buckets[name]), own)
        by_cap[cap] += paced(own)
        account_of[cap] = next((name for name in shared if name.startswith("a:")), "")
    by_account: dict[str, float] = defaultdict(float)
    for cap, count in by_cap.items():
        most = buckets[cap]["cap"] * (span_s / DAY_S + 1) if "cap" in buckets[cap] else count
        by_account[account_of[cap]] += min(count, most)
    return sum(min(count, paced(account)) if account else count for account, count in by_account.items())
