"""Routes in the whole service: lanes add up, a paused one gets nobody new, and no death gives a message two senders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, terminate, wait_until

from producers.ledger import calls
from producers.ledger.reading import read_notification
from worker.sandbox import SandboxOptions

LANES = ("r1", "r2", "r3")
NUMBER_OF = {name: f"+1312555002{name[1]}" for name in LANES}
ROUTED = "".join(
    f'[senders.{name}]\nchannel = "long_code"\nfrom = "{NUMBER_OF[name]}"\nrate = "RATE"\n' for name in LANES
)
ROUTED += '[job_types.spread]\nroutes = [{ senders = ["r1", "r2", "r3"] }]\n'
ROUTED += '[job_types.known]\nsticky = true\nroutes = [{ senders = ["r1", "r2", "r3"] }]\n'


def with_routes(service: Service, rate: str) -> Service:
    file = Path(service.environ["NOTIFY_CONFIG"])
    file.write_text(file.read_text() + ROUTED.replace("RATE", rate))
    return service


def lever(service: Service, what: Any, sender: str) -> None:
    service.ledger.run(calls.lane(sender, what, ""))


def texts(service: Service, id: str) -> list[dict[str, Any]]:
    """What the provider accepted of a notification, oldest first."""
    return [row for row in service.sent() if str(row["ref"]).startswith(id)]


@pytest.mark.slow
def test_three_equal_lanes_add_up_and_a_paused_one_gets_nobody_new(
    tmp_path: Path, numbers: Callable[[int], list[str]]
) -> None:
    options = SandboxOptions(magic=False, faults={"latency_ms": 20})
    with running_service(tmp_path, sandbox=options) as service:
        with_routes(service, "10/s").start_web()
        worker = service.start_worker()
        people = numbers(240)
        first = service.notifier.enqueue("spread", to=people[:150], text="hello").id
        wait_until(lambda: len(texts(service, first)) >= 60, what="a part of the first notification", child=worker)
        lever(service, "pause", "r2")
        second = service.notifier.enqueue("spread", to=people[150:], text="hello").id
        service.wait_final(second)
        assert Counter(row["from"] for row in texts(service, second))[NUMBER_OF["r2"]] == 0
        lever(service, "resume", "r2")
        service.wait_final(first)
        rows = texts(service, first)
        assert sorted(row["to"] for row in rows) == sorted(people[:150])  # also what had waited in the paused lane
        counts = Counter(row["from"] for row in rows[:60])
        # Together they send three times what one does. (Each keeps its own rate: the tests of pacing say so.)
        assert set(counts) == set(NUMBER_OF.values()) and 2.4 * max(counts.values()) <= 60
        assert terminate(worker) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A provider that ignores keys, so that whatever is sent twice arrives twice."""
    options = SandboxOptions(magic=False, faults={"honour_keys": False, "latency_ms": 20})
    with running_service(tmp_path_factory.mktemp("routes"), sandbox=options, grace="3s", liveness="2s") as service:
        with_routes(service, "100/s").start_web()
        yield service


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["load.after:kill", "admit.before:kill", "admit.after:kill:2", "successor.after:kill"]
)
@pytest.mark.parametrize("job_type", ["spread", "known"])
def test_a_worker_that_dies_in_an_expansion_gives_nobody_two_senders(
    site: Service, numbers: Callable[[int], list[str]], point: str, job_type: str
) -> None:
    people = numbers(450)
    doomed = site.start_worker(fault=point)
    id = site.notifier.enqueue(job_type, to=people, text="hello").id
    wait_until(lambda: site.reached(doomed), what="the point to be reached", child=doomed)
    doomed.kill()
    lever(site, "pause", "r1")  # who expands it anew chooses otherwise
    heir = site.start_worker()
    wait_until(lambda: not site.states(id).get("new"), what="all recipients to be expanded", child=heir)
    lever(site, "resume", "r1")
    site.wait_final(id)
    rows = texts(site, id)
    assert sorted(row["to"] for row in rows) == sorted(people)
    lane_of = {}
    for after in range(-1, 450, 150):
        page = read_notification(site.ledger, id, limit=150, after=after)
        lane_of |= {str(message.to): message.lane for message in page.messages} if page else {}
    assert {row["to"]: row["from"] for row in rows} == {to: NUMBER_OF[lane] for to, lane in lane_of.items()}
    assert terminate(heir) == 0
