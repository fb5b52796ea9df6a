"""How many bytes of Redis a waiting message takes, all of it: record, content, lane, timers.

Runs a real server (promises hold for jemalloc only, so Debian's redis-server is the reference: give it by REDIS_SERVER),
puts messages into a lane as producers and expand do, and divides the growth of used_memory by their number.

    REDIS_SERVER=/usr/bin/redis-server python benchmarks/bytes_per_message.py
"""

from __future__ import annotations

import argparse
import json
import uuid
from typing import Any

from producers.ledger import calls
from producers.ledger.calls import Admission, Submission
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.embedded import EmbeddedServer

TEXT = "Your parcel 1Z999AA10123456784 will arrive today between 14:00 and 16:00. Track it: example.com/t/8f3k2p."[:100]
PUBLICATION: dict[str, Any] = {
    "release": 1,
    "digest": "bench",
    "lanes": {
        "alerts": {
            "sender": "alerts", "channel": "short_code", "buckets": ["s:alerts"], "share": 10,
            "scopes": ["global", "sender:alerts"], "unit": "message",
        }
    },
    "buckets": {"s:alerts": {"t_us": 1_000_000}},
    "job_types": {},
    "timing": {
        "grace_us": 60_000_000, "grace_urgent_us": 15_000_000, "liveness_us": 10_000_000, "poll_after_us": 60_000_000,
        "silent_after_us": 259_200_000_000, "max_tries": 5, "job_grace_us": {}, "give_up": [],
    },
    "storage": {"retention_s": 604_800, "content_kept_s": 0, "events": 100_000},
    "receipts": "webhook",
}  # fmt: skip


def used(ledger: Ledger) -> int:
    redis: Any = ledger.redis
    return int(redis.info("memory")["used_memory"])


def own_text(ledger: Ledger, count: int) -> None:
    """One notification a message, each with a text of its own of 100 characters."""
    content = json.dumps({"text": TEXT}).encode()
    for start in range(0, count, 500):
        ids = [uuid.uuid4().hex for _ in range(start, min(start + 500, count))]
        ledger.run_many([
            calls.submit(Submission(
                id=id, client="billing", fingerprint="0123456789abcdef", job_type="order_update", klass=1,
                valid_for_us=86_400_000_000, send_at_us=0, messages=1, group=False, content=content, extras=b"",
                recipients=[f"+1312555{i:04d}"],
            ))
            for i, id in enumerate(ids)
        ])  # fmt: skip
        ledger.run_many(
            [calls.admit(id, None, "", [Admission(to="", lane="alerts", content=content.decode())]) for id in ids]
        )


def shared_content(ledger: Ledger, count: int) -> None:
    """One notification of many recipients."""
    id = uuid.uuid4().hex
    rows = [[f"+1312{i:07d}", None] for i in range(count)]
    chunks: list[str | bytes] = [
        json.dumps(rows[i : i + 200], separators=(",", ":")).encode() for i in range(0, count, 200)
    ]
    ledger.run(calls.submit(Submission(
        id=id, client="billing", fingerprint="0123456789abcdef", job_type="promotion", klass=2,
        valid_for_us=259_200_000_000, send_at_us=0, messages=count, group=False,
        content=json.dumps({"text": TEXT}).encode(), extras=b"", recipients=chunks,
    )))  # fmt: skip
    cursor: str | None = None
    while True:
        loaded = ledger.run(calls.load(id, cursor))
        assert loaded is not None
        items = [Admission(to=number, lane="alerts") for number, _ in json.loads(loaded.chunk)]
        cursor = ledger.run(calls.admit(id, loaded.cursor, json.dumps({"text": TEXT}), items)).next_cursor
        if cursor is None:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    with EmbeddedServer(appendonly=False) as server:
        redis: Any = connect(server.url, answer_s=60)
        info = redis.info()
        server_name = f"{info.get('server_name', 'redis')} {info['redis_version']}"
        print(f"server {server_name}, allocator {info['mem_allocator']}, {count} messages")
        for name, fill in (("own text of 100 characters", own_text), ("shared content", shared_content)):
            redis.flushall()
            ledger = Ledger(redis, "notify")
            ledger.run(calls.publish(PUBLICATION, {}))
            before = used(ledger)
            fill(ledger, count)
            waiting = sum(redis.zcard(ledger.key(f"q:alerts:{k}")) for k in range(3))
            assert waiting == count, waiting
            redis.delete(ledger.key("ev"))
            total = used(ledger) - before
            timers = redis.zcard(ledger.key("timers"))
            print(f"{name}: {total / count:.0f} bytes a message ({timers} timers left)")


if __name__ == "__main__":
    main()
