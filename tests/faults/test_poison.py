"""A message that ends whoever takes it up: real processes that it really ends, and neighbours that must not notice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from service_kit import NOTIFY, Service, running_service, terminate, wait_until

from worker.children import Child

# Run by each interpreter at its start, so by the worker's too: what the tests cannot reach from outside.
KILLER = """
import os, signal, sys
if "worker.engine.master" in sys.orig_argv:
    from worker.telnyx import builder
    build = builder.build
    def killing(sender, to, content, **more):
        if content.text == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        return build(sender, to, content, **more)
    builder.build = killing
"""

# A child that is killed in the middle of saying that it has booted, as the first message that it takes up may do.
KILLED_WHILE_BOOTING = """
import os, signal, sys
if "worker.engine.master" in sys.orig_argv:
    from multiprocessing.synchronize import Event
    def die(self):
        self._cond.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    Event.set = die
"""


def until_final(service: Service, ids: list[str], worker: Child) -> int:
    """Start a new tree whenever one has ended, as a platform does, until all is final; how many ended."""
    trees = [worker]

    def look() -> bool:
        if trees[-1].exit_code() is not None:
            trees.append(service.start("worker", "--threads", "8"))
        return all(service.notifier.status(id, limit=0).is_final for id in ids)

    wait_until(look, timeout_s=240, what="all to be final", seen=lambda: [service.states(id) for id in ids])
    return len(trees) - 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_message_that_kills_its_process_ends_unconfirmed_alone_and_is_replayed(tmp_path: Path) -> None:
    with running_service(tmp_path, grace="3s", liveness="3s") as service:
        config = tmp_path / "notify.toml"
        config.write_text(config.read_text().replace("[timing]", "[timing]\nmax_tries = 3"))
        inject(service, KILLER)
        service.sandbox("faults", {"latency_ms": 300})
        service.start_web()
        worker = service.start("worker", "--threads", "8")
        killer = service.notifier.enqueue("notice", to="+13125552001", text="KILL")
        others = service.notifier.enqueue("notice", to=[f"+1312555{i:04d}" for i in range(2100, 2160)], text="hello")
        assert until_final(service, [killer.id, others.id], worker) == 3
        assert service.states(others.id) == {"delivered": 60}
        assert service.sandbox("summary")["texted_twice"] == []
        (message,) = service.notifier.status(killer.id).messages
        assert (message.state, message.timeline[-1].reason) == ("unconfirmed", "killed_its_worker")
        assert service.sent(to="+13125552001") == []

        del service.environ["PYTHONPATH"]  # the cause is gone
        (row,) = notify(service, "dead")["dead"]
        assert (row["id"], row["replayable"]) == (message.id, True)
        assert "died" in row["why"]
        assert notify(service, "replay", message.id)["replayed"] == 1
        for child in service.children[1:]:
            if child.exit_code() is None:
                terminate(child)
        healthy = service.start_worker()
        assert service.wait_final(killer.id, timeout_s=60) == [{"delivered": 1}]
        assert terminate(healthy) == 0


def inject(service: Service, code: str) -> None:
    """Have each interpreter that the service starts run this first."""
    folder = service.directory / "injected"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    service.environ["PYTHONPATH"] = str(folder)


@pytest.mark.slow
def test_a_tree_whose_process_dies_while_it_boots_ends_for_the_platform_to_start_anew(
    tmp_path: Path, redis_url: str
) -> None:
    with running_service(tmp_path, redis_url) as service:
        inject(service, KILLED_WHILE_BOOTING)
        worker = service.start("worker", "--processes", "2", "--threads", "8")
        assert worker.wait(timeout_s=60) == 1
        assert "died while it booted" in worker.tail()


def notify(service: Service, *arguments: str) -> Any:
    done = subprocess.run(
        [NOTIFY, *arguments, "--json"], env=service.environ, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)
