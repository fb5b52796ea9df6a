"""Workers die while messages fall back: each gets its next leg once, and nobody two texts of one leg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from service_kit import Service, running_service, terminate, wait_until

from worker.sandbox import SandboxOptions, magic_number

POINTS = [
    "admit.after:kill", "take.after:kill:3", "request.after:kill:3", "finish.before:kill:2", "finish.after:kill:2",
    "receipt.before:kill:2", "receipt.after:kill:2", "wake.before:kill:3", "wake.after:kill:2", "poll.after:kill",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A provider that ignores keys, so that whatever is sent twice arrives twice."""
    options = SandboxOptions(faults={"honour_keys": False, "latency_ms": 40})
    with running_service(
        tmp_path_factory.mktemp("fallback"), sandbox=options, grace="5s", liveness="2s", poll_after="60s", after="3s"
    ) as service:
        service.start_web()
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_makes_no_leg_twice_and_loses_none(site: Service, point: str) -> None:
    doomed = site.start_worker(fault=point)
    ids = []
    for nth in range(6):
        for magic in (45, 61):  # fails; is never heard of
            to = magic_number(magic, nth)
            ids.append(site.notifier.enqueue("login", to=to, variables={"code": "1234"}).id)
    wait_until(lambda: site.reached(doomed), what="the point to be reached", child=doomed)
    doomed.kill()
    heir = site.start_worker()
    wait_until(
        lambda: all(site.sent(ref=f"{id}-0-2") for id in ids),
        timeout_s=60,
        what="every second leg to arrive",
        seen=lambda: [len(site.sent(ref=f"{id}-0-2")) for id in ids],
    )
    site.wait_final(*ids[::2], timeout_s=60)
    refs = Counter(ref for id in ids for ref in (f"{id}-0", f"{id}-0-2", f"{id}-0-3") for _ in site.sent(ref=ref))
    assert all(refs[f"{id}-0-2"] == 1 for id in ids)
    # A first leg that its worker died over may never have left: it was in doubt until it fell back, and is not asked again.
    assert max(refs.values()) == 1
    assert not any(ref.endswith("-3") for ref in refs)
    assert terminate(heir) == 0
