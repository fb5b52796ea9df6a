"""What `notify doctor` says of a server, from what the server says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from worker.doctor import OWN_BYTES, Check, server
from worker.pacing.volume import DAY_S, most_messages
from worker.publication import publication
from worker.settings import Settings, parse_config

CONFIG = """
[senders.alerts]
channel = "short_code"
from = "12345"
rate = "100/s"
[senders.chat]
channel = "whatsapp"
from = "+13125550003"
rate = "10/s"
[job_types.otp]
sender = "alerts"
[job_types.chat]
sender = "chat"
"""


def most_a_day(config: str) -> float:
    return most_messages(publication(parse_config(config), release=1), DAY_S)


def settings(config: str = CONFIG) -> Settings:
    return Settings(role="doctor", redis_url="redis://127.0.0.1:1/0", loaded_config=parse_config(config))


def persistence(options: dict[str, str] | None = None, **info: Any) -> Check:
    return server._persistence({"aof_enabled": 1, **info}, options or {})


def memory(config: str = CONFIG, **info: int) -> Check:
    return server._memory({"used_memory": 2_000_000, **info}, settings(config))


@pytest.mark.parametrize(
    ("options", "info", "result", "says"),
    [
        ({"appendfsync": "everysec"}, {}, "ok", "appendfsync everysec"),
        ({"appendfsync": "always"}, {}, "ok", "appendfsync always"),
        ({}, {}, "ok", "append-only file on"),  # a platform that tells no options
        ({"appendfsync": "no"}, {}, "warning", "appendfsync no"),
        ({"save": "60 1"}, {"aof_enabled": 0}, "warning", "snapshots only"),
        ({"save": ""}, {"aof_enabled": 0}, "warning", "append-only file off"),
        ({}, {"aof_last_write_status": "err"}, "failed", "disk"),
        ({"save": "60 1"}, {"rdb_last_bgsave_status": "err"}, "failed", "disk"),
        ({"save": ""}, {"rdb_last_bgsave_status": "err"}, "ok", "on"),  # nobody asked for snapshots
    ],
)
def test_what_a_server_keeps_on_disk(options: dict[str, str], info: dict[str, Any], result: str, says: str) -> None:
    check = persistence(options, **info)
    assert check.result == result
    assert says in check.found
    assert (check.remedy == "") == (result == "ok")


def test_a_replica_is_no_server_to_write_to() -> None:
    (check,) = server._role({"role": "slave"})
    assert (check.result, "primary" in check.remedy) == ("failed", True)
    assert server._role({"role": "master"}) == []


def test_memory_without_a_limit_is_warned_of() -> None:
    check = memory(maxmemory=0, total_system_memory=8_000_000_000)
    assert check.result == "warning"
    assert "8.0 GB" in check.found
    assert "maxmemory" in check.remedy


def test_memory_is_compared_with_what_leaves_within_the_retention() -> None:
    day = CONFIG + '[storage]\nretention = "1d"\n'
    need = 110 * DAY_S * OWN_BYTES
    assert memory(day, maxmemory=need + 1).result == "ok"
    check = memory(day, maxmemory=need // 4)
    assert check.result == "warning"
    for figure in ("110/s", "1 d", "5.9 GB", "6 h"):
        assert figure in check.found, figure
    assert "27.5/s on average" in check.remedy
    assert "[storage] retention" in check.remedy


def test_a_server_that_is_almost_full_is_warned_of_first() -> None:
    check = memory(maxmemory=2_100_000)
    assert check.result == "warning"
    assert "refuses new notifications" in check.remedy


def test_a_shared_limit_bounds_what_leaves_and_whatsapp_has_none() -> None:
    assert most_a_day(CONFIG) == 110 * DAY_S
    assert most_a_day(CONFIG + '[limits]\naccount = "20/s"\n') == 30 * DAY_S


def test_a_daily_cap_bounds_its_brand() -> None:
    capped = (
        CONFIG
        + """
[senders.local]
channel = "long_code"
from = "+13125550001"
campaign = "C1"
rate = "50/s"
[job_types.note]
sender = "local"
[campaigns.C1]
class = "A"
brand = "acme"
[brands.acme]
daily_cap = 1000
cap_timezone = "America/Los_Angeles"
"""
    )
    assert most_a_day(capped) == 110 * DAY_S + 2_000  # a day may touch two of the cap's


@pytest.mark.parametrize(("trip_s", "result"), [(0.0005, "ok"), (0.025, "warning")])
def test_a_server_that_is_far_away_is_warned_of(trip_s: float, result: str) -> None:
    check = server._latency(trip_s)
    assert (check.result, check.remedy == "") == (result, result == "ok")
