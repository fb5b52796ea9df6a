"""A worker dies while it hands messages over ahead of their time: each lies at the provider once, and can be asked back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from faults.load import NUMBERS
from service_kit import Service, running_service, terminate, wait_until

from worker.sandbox import SandboxOptions

POINTS = [
    "take.after",
    "request.before",
    "request.after",
    "answer.before",
    "answer.after",
    "finish.before",
    "finish.after",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = SandboxOptions(magic=False, faults={"latency_ms": 60})
    directory = tmp_path_factory.mktemp("ahead")
    with running_service(directory, sandbox=options, grace="5s", liveness="2s") as service:
        service.start_web()
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_each_lies_at_telnyx_once_with_one_time_and_comes_back(site: Service, point: str) -> None:
    doomed = site.start_worker(fault=f"{point}:kill:2")
    to = [f"+1312558{next(NUMBERS) % 10_000:04d}" for _ in range(30)]
    at = datetime.now(UTC) + timedelta(hours=2)
    id = site.notifier.enqueue("reminder", to=to, text="later", send_at=at, schedule="provider").id
    wait_until(lambda: site.reached(doomed), what="the point to be reached", child=doomed)
    doomed.kill()
    heir = site.start_worker()
    wait_until(lambda: site.states(id) == {"accepted": 30}, timeout_s=90, seen=lambda: site.states(id))
    ours = [m for m in site.sent() if m["ref"].startswith(id)]
    assert sorted(m["to"] for m in ours) == sorted(to), "none is missing, and none lies there twice"
    told = {m["id"]: m["provider_send_at"] for m in site.get(f"/v1/notifications/{id}")[1]["messages"]}
    assert all(m["send_at"] == datetime.fromisoformat(told[m["ref"]]).timestamp() * 1e6 for m in ours)
    assert site.notifier.stop_any(id) == (0, 30)
    (ends,) = site.wait_final(id, timeout_s=90)
    # Of what the dead worker had taken and not sent nobody knows whether a first request left: unconfirmed, as always.
    assert set(ends) <= {"cancelled", "unconfirmed"}
    assert ends["cancelled"] > 15
    assert {m["status"] for m in site.sent() if m["ref"].startswith(id)} == {"cancelled"}
    assert terminate(heir) == 0
