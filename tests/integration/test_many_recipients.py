"""Many people in one call: expanded in chunks, in bounded memory, while a code overtakes them all. 100,000 of them with
``pytest tests/integration/test_many_recipients.py --many 100000``; fewer in a usual run, for the sake of time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, wait_until

from worker.sandbox import SandboxOptions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
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


@pytest.fixture
def many(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--many"))


def is_expanded(service: Service) -> bool:
    """Nothing is pointed at any more."""
    redis: Any = service.ledger.redis
    return not any(redis.zscan_iter(service.ledger.key("timers"), match="n*", count=1000))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc: Linux only")
@pytest.mark.parametrize("how", ["one enqueue", "a batch sequence"])
def test_a_code_overtakes_many_that_are_being_expanded_and_no_process_grows_beyond_its_dyno(
    tmp_path: Path, how: str, many: int
) -> None:
    with running_service(tmp_path, rate="50/s", sandbox=SandboxOptions(seed=1, magic=False)) as service:
        web = service.start_web()
        worker = service.start_worker()
        numbers = [f"+1312{2_000_000 + i:07d}" for i in range(many)]
        word: dict[str, Any] = {"text": "a word to all", "priority": "bulk"}
        if how == "one enqueue":
            ids = [service.notifier.enqueue("notice", to=numbers, **word).id]
        else:
            ids = []
            for start in range(0, many, 10_000):
                rows = [{"job_type": "notice", "to": number, **word} for number in numbers[start : start + 10_000]]
                status, answer = service.call("POST", "/v1/notifications/batch", rows)
                assert status == 202, answer
                ids += [row["id"] for row in answer["notifications"]]
        during = not is_expanded(service)
        latencies = []
        for i in range(5):
            began = time.time()
            code = service.notifier.enqueue("otp", to=f"+1646555{i:04d}", variables={"code": "1"})
            (arrived,) = wait_until(lambda code=code: service.sent(ref=f"{code.id}-0"), what="the code to arrive")
            latencies.append(arrived["arrived_at"] / 1e6 - began)
        assert max(latencies) < 1.0, latencies
        assert during, "the codes came while others were being expanded"
        wait_until(lambda: is_expanded(service), timeout_s=200, what="all to be expanded", child=worker)
        counts = [service.notifier.status(id, limit=0).state_counts for id in (ids if len(ids) == 1 else ids[:100])]
        assert all("new" not in c and "rejected" not in c for c in counts), counts
        peaks = {
            f"{name} {pid}": peak_mb(pid) for name, top in (("web", web), ("worker", worker)) for pid in tree(top.pid)
        }
        assert max(peaks.values()) < LIMIT_MB, peaks
        figures = f"codes after {[round(s * 1000) for s in latencies]} ms, peaks of {sorted(round(p) for p in peaks.values())} MB"
        print(f"\n{many} by {how}: {figures}")
