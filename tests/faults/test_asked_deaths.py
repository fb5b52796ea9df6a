"""A process dies before and after it does what an operator asked for: asked again, it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from service_kit import Service, running_service, terminate

ASKED = {f"forget.{edge}": f"forget.{edge}:kill" for edge in ("before", "after")}
PERSON = "+13125558101"

pytestmark = pytest.mark.slow


def dies(site: Service, command: str, *arguments: str, fault: str) -> None:
    doomed = site.start(command, *arguments, fault=fault)
    assert doomed.wait(timeout_s=60) != 0
    assert site.reached(doomed) is not None


def succeeds(site: Service, command: str, *arguments: str) -> Any:
    child = site.start(command, *arguments, "--json")
    assert child.wait(timeout_s=60) == 0, child.tail(40)
    assert child.log is not None
    return json.loads(child.log.read_text())


@pytest.mark.parametrize("point", ASKED.values())
def test_forgetting_that_dies_there_is_done_again(tmp_path: Path, point: str) -> None:
    with running_service(tmp_path) as site:
        site.start_web()
        tickets = [site.notifier.enqueue("notice", to=PERSON, text="hello") for _ in range(3)]
        worker = site.start_worker()
        site.wait_final(*(ticket.id for ticket in tickets))
        assert terminate(worker) == 0
        dies(site, "forget", PERSON, fault=point)
        assert succeeds(site, "forget", PERSON)["left"] == 0
        for ticket in tickets:
            (message,) = site.notifier.status(ticket.id).messages
            assert message.to == "forgotten"
