"""The site that is driven: three lanes that share buckets, a daily cap, a few people."""

from __future__ import annotations

from typing import Any

from ledger_kit import lane
from virtual_time import DAY_US, HOUR_US, SECOND_US, START

GRACE_US, GRACE_URGENT_US, LIVE_US, STALL_US = 5 * SECOND_US, 2 * SECOND_US, 10 * SECOND_US, 30 * SECOND_US
SILENT_US, KEY_LIVES_US, MOST_TRIES, MOST_LOST = 72 * HOUR_US, 23 * HOUR_US, 3, 3
WAITING, FLYING, FINAL = "NWQ", "SU", "DFXRECO"
RANK = {"A": 1, "T": 2, "X": 3, "F": 4, "D": 5}
SCOPES = {
    "a": ["global", "sender:a", "profile:p1"],
    "b": ["global", "sender:b", "profile:p2"],
    "c": ["global", "sender:c"],  # of unknown profile: any opt-out of the person counts
}
LANES = {
    "a": lane("a", "s:a", "a:sms", profile="p1", share=3),
    "b": lane("b", "s:b", "c:x", "a:sms", profile="p2", share=3),
    "c": lane("c", "s:c", "d:acme", share=3),
}
BUCKETS: dict[str, Any] = {
    "s:a": {"t_us": 10_000}, "s:b": {"t_us": 50_000}, "s:c": {"t_us": 1_000_000}, "c:x": {"t_us": 40_000},
    "a:sms": {"t_us": 20_000}, "d:acme": {"cap": 8, "reserve": 0.25, "tz": "UTC"},
}  # fmt: skip
MIDNIGHTS = [int(START.timestamp()) * SECOND_US + 6 * HOUR_US + n * DAY_US for n in range(40)]
PREFIX = {"sender": "s", "campaign": "c", "brand": "d", "account": "a"}
PEOPLE = [f"+1312555{i:04d}" for i in (100, 101, 199, 200, 300, 301)]
GROUP = ",".join(PEOPLE[:3])
OUTCOMES = ("accepted", "rejected", "opted_out", "retry", "slow_down", "not_sent", "conflict", "uncertain")
JUMPS_MS = (
    1,
    4,
    15,
    15,
    40,
    40,
    90,
    150,
    150,
    400,
    400,
    900,
    2_600,
    6_000,
    11_000,
    31_000,
    65_000,
    900_000,
    50_000_000,
)
