"""What can be wrong with the Redis that REDIS_URL names: too old, a replica, one that throws away, forgets, or is far."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError, ResponseError

from producers.ledger.connection import connect
from worker.compliance.opt_out_list import STALE_S, SyncState
from worker.doctor.report import Check
from worker.pacing.volume import most_messages
from worker.publication import publication
from worker.settings import Settings

OWN_BYTES, SHARED_BYTES = 625, 350  # of a message with its own text, and of one that shares it (benchmarks/README.md)
FULL_SHARE = 0.8
FLOORS = {"redis": (7, 0, 0), "valkey": (7, 2, 0)}
SKEW_S = 2.0  # times come from Redis alone; but webhooks are judged by this machine's clock, and people compare
SLOW_S = 0.010  # a message costs three round trips; beyond this a take comes late for its slot, which lasts 10 ms
ROUND_TRIPS = 9
LIST_NEWS_S = 3_600.0  # many times as long as the readings are apart


def examine_server(settings: Settings) -> tuple[list[Check], bool]:
    """The checks, and whether nobody answered."""
    from worker.terminal import server_of

    redis: Any = connect(settings.redis_url)
    try:
        asked = time.time()
        seconds, micros = redis.time()
        answered = time.time()
        info: dict[str, Any] = redis.info("everything")
        options = _options(redis)
        opt_outs = _opt_out_list(redis, settings.namespace)
        trip_s = statistics.median(_round_trip_s(redis) for _ in range(ROUND_TRIPS))
    except RedisError as error:
        where = server_of(settings.redis_url)
        check = Check(
            "redis", "failed", f"{where}: {type(error).__name__}", "start it, or set REDIS_URL to one that answers"
        )
        return [check], True
    finally:
        redis.close()
    skew_s = seconds + micros / 1_000_000 - (asked + answered) / 2
    checks = [
        _version(info),
        *_role(info),
        _eviction(info),
        _persistence(info, options),
        _skew(skew_s),
        _latency(trip_s),
    ]
    return [*checks, _memory(info, settings), opt_outs], False


def _options(redis: Any) -> dict[str, str]:
    """Of the server's own options those that INFO does not tell; none where the platform keeps them to itself."""
    try:
        return {**redis.config_get("appendfsync"), **redis.config_get("save")}
    except ResponseError:
        return {}


def _round_trip_s(redis: Any) -> float:
    asked = time.perf_counter()
    redis.ping()
    return time.perf_counter() - asked


def _latency(trip_s: float) -> Check:
    found = f"{trip_s * 1000:.1f} ms a round trip (median of {ROUND_TRIPS})"
    if trip_s <= SLOW_S:
        return Check("redis latency", "ok", found)
    return Check("redis latency", "warning", found, "run workers in Redis's own region: slots are missed otherwise")


def _version(info: Mapping[str, Any]) -> Check:
    """Valkey calls itself redis_version 7.2.4, so its own name and version come first."""
    name = "valkey" if info.get("server_name") == "valkey" or "valkey_version" in info else "redis"
    text = str(info.get(f"{name}_version") or info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    found = f"{name.capitalize()} {text}"
    if numbers < FLOORS[name]:
        return Check("redis version", "failed", found, "upgrade to Redis 7.0 or Valkey 7.2, or newer")
    return Check("redis version", "ok", found)


def _role(info: Mapping[str, Any]) -> list[Check]:
    if info.get("role") != "slave":
        return []
    return [
        Check(
            "redis role", "failed", "a read-only replica", "set REDIS_URL to the primary: nothing can be written here"
        )
    ]


def _eviction(info: Mapping[str, Any]) -> Check:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy in ("noeviction", "unknown"):
        return Check("redis maxmemory-policy", "ok" if policy == "noeviction" else "skipped", policy)
    remedy = "set noeviction: under any other policy a full Redis throws messages away"
    return Check("redis maxmemory-policy", "failed", policy, remedy)


def _persistence(info: Mapping[str, Any], options: Mapping[str, Any]) -> Check:
    """An append-only file that is synced each second or more often: what else there is loses what was acknowledged."""
    name = "redis persistence"
    if "aof_enabled" not in info:
        return Check(name, "skipped", "not told by this server")
    failed = info.get("aof_last_write_status") == "err"
    if failed or (options.get("save") and info.get("rdb_last_bgsave_status") == "err"):
        return Check(
            name, "failed", "the last write to disk failed", "free or repair the disk: Redis refuses writes meanwhile"
        )
    if not int(info["aof_enabled"]):
        found = "append-only file off" + (", snapshots only" if options.get("save") else "")
        remedy = "turn appendonly on (or take a plan that persists): a restart loses what is queued"
        return Check(name, "warning", found, remedy)
    synced = str(options.get("appendfsync", ""))
    if synced == "no":
        remedy = "set appendfsync everysec: a crash of the machine loses half a minute of acknowledged notifications"
        return Check(name, "warning", "append-only file on, appendfsync no", remedy)
    return Check(name, "ok", f"append-only file on{f', appendfsync {synced}' if synced else ''}")


def _skew(skew_s: float) -> Check:
    found = f"{skew_s:+.2f} s from this machine's"
    if abs(skew_s) <= SKEW_S:
        return Check("redis clock", "ok", found)
    return Check(
        "redis clock", "warning", found, "run time synchronisation on both: webhooks older than 300 s are refused"
    )


def _opt_out_list(redis: Any, namespace: str) -> Check:
    """How old our knowledge of Telnyx's opt-outs is: a STOP whose callback was lost is known from there alone."""
    name = "opt-out list"
    stored = redis.hgetall(f"{{{namespace}}}:os")
    state = SyncState.of({k.decode(): v.decode() for k, v in stored.items()})
    if not state.new_us:
        return Check(name, "skipped", "never read: the first worker to run reads it", "start `notify worker`")
    new_s, whole_s = (time.time() - at_us / 1_000_000 for at_us in (state.new_us, state.newer_us))
    found = f"news read {_span(max(1.0, new_s))} ago"
    found += f", all of it {_span(max(1.0, whole_s))} ago" if state.newer else ", all of it never"
    if state.held:
        remedy = "check TELNYX_API_KEY; if they are lifted indeed: notify opt-outs sync --full --lift"
        return Check(name, "warning", f"{found}; {state.held:,} are listed no more, too many to lift", remedy)
    if new_s > LIST_NEWS_S or (state.newer and whole_s > STALE_S) or (not state.newer and state.error):
        found += f"; {state.error}" if state.error else ""
        return Check(name, "warning", found, "run a worker; its log says why the list cannot be read")
    return Check(name, "ok", found)


def _memory(info: Mapping[str, Any], settings: Settings) -> Check:
    """Records stay for the retention, so what leaves in that time must fit, and not only what waits."""
    name = "redis memory"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    machine = int(info.get("total_system_memory", 0))
    if not most:
        found = f"{_size(used)} used, maxmemory not set" + (f", the machine has {_size(machine)}" if machine else "")
        remedy = (
            "set maxmemory to three quarters of the machine's: at its end the system kills Redis, a limit only refuses"
        )
        return Check(name, "warning", found, remedy)
    room = max(0, most - used)
    found = f"{_size(used)} of {_size(most)} used, room for {room // OWN_BYTES:,} messages"
    found += f" ({room // SHARED_BYTES:,} where recipients share content)"
    if used > FULL_SHARE * most:
        return Check(name, "warning", found, "raise maxmemory: a full Redis refuses new notifications")
    if settings.loaded_config is None:
        return Check(name, "skipped", found, "mend the settings first: they say how much must fit")
    kept_s = settings.config.storage.retention_s
    made = most_messages(publication(settings.config, release=settings.release), kept_s)
    need = made * OWN_BYTES
    if need <= most:
        return Check(name, "ok", found)
    found += (
        f"; at full rate ({made / kept_s:,.3g}/s in all) the records of {_span(kept_s)} take {_size(need)}, "
        f"and this is full after {_span(kept_s * most / need)}"
    )
    remedy = (
        f"raise maxmemory to {OWN_BYTES} bytes for each message you send in {_span(kept_s)}, or shorten [storage] retention; "
        f"this one holds {most / OWN_BYTES / kept_s:,.3g}/s on average"
    )
    return Check(name, "warning", found, remedy)


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
