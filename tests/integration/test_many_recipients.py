"""100,000 people in one call: expanded in chunks, in bounded memory, while a code overtakes them all."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, wait_until

from worker.sandbox import SandboxOptions

pytestmark = [pytest.mark.xdist_group("many"), pytest.mark.slow, pytest.mark.timeout(300)]
MANY = 100_000
LIMIT_MB = 300


def peak_mb(pid: int) -> float:
    """The most that a process ever held in memory (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no VmHWM of {pid}")


def tree(pid: int) -> list[int]:
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += tree(int(child))
    return found


def waiting(service: Service, id: str) -> int:
    redis: Any = service.ledger.redis
    return int(redis.hget(service.ledger.key(f"n:{id}"), "ex") or 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc: Linux only")
@pytest.mark.parametrize("how", ["one enqueue", "a batch sequence"])
def test_a_code_overtakes_100_000_that_are_being_expanded_and_no_process_grows_beyond_its_dyno(
    tmp_path: Path, how: str
) -> None:
    with running_service(tmp_path, rate="50/s", sandbox=SandboxOptions(seed=1, magic=False)) as service:
        web = service.start_web()
        worker = service.start_worker()
        numbers = [f"+1312{2_000_000 + i:07d}" for i in range(MANY)]
        if how == "one enqueue":
            ids = [service.notifier.enqueue("notice", to=numbers, text="a word to all", priority="bulk").id]
        else:
            ids = []
            for start in range(0, MANY, 10_000):
                rows = [
                    {"job_type": "notice", "to": n, "text": "a word to all", "priority": "bulk"}
                    for n in numbers[start : start + 10_000]
                ]
                status, answer = service.call("POST", "/v1/notifications/batch", rows)
                assert status == 202, answer
                ids += [row["id"] for row in answer["notifications"]]
        latencies = []
        for i in range(5):
            began = time.time()
            code = service.notifier.enqueue("otp", to=f"+1646555{i:04d}", variables={"code": "1"})
            (arrived,) = wait_until(lambda code=code: service.sent(ref=f"{code.id}-0"), what="the code to arrive")
            latencies.append(arrived["arrived_at"] / 1e6 - began)
        assert max(latencies) < 1.0, latencies
        queued: Any = service.ledger.redis

        def expanded() -> bool:
            left = sum(queued.zcard(service.ledger.key(f"q:alerts:{k}")) for k in range(3))
            return bool(left + len(service.sandbox("arrivals")) >= MANY)

        wait_until(expanded, timeout_s=200, what="all to be expanded", child=worker)
        peaks = {
            f"{name} {pid}": peak_mb(pid) for name, root in (("web", web), ("worker", worker)) for pid in tree(root.pid)
        }
        assert max(peaks.values()) < LIMIT_MB, peaks
        stopped = sum(service.notifier.cancel(id) for id in ids[:1])
        assert stopped >= (MANY / 2 if how == "one enqueue" else 0)
        print(
            f"\n{how}: codes after {[round(s * 1000) for s in latencies]} ms; peaks { ({k: round(v) for k, v in peaks.items()}) } MB"
        )
