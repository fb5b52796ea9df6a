"""The embedded server: ours, safe on disk, and gone when we are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from producers.ledger.connection import connect
from worker import children, embedded
from worker.embedded import EmbeddedServer, NoServerError, find_server, free_port, main


def alive(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_answers_and_is_gone_afterwards():
    with EmbeddedServer() as server:
        pid, directory = server.pid, server.directory
        redis = connect(server.url)
        assert redis.ping()
        assert redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        redis.close()
    assert not alive(pid)
    assert not directory.exists()


def test_what_was_written_survives_a_kill_and_a_start_at_the_same_address(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        redis = connect(server.url)
        redis.set("kept", "yes")
        address = server.url
        # the append-only file is written on each loop of the server, before the answer
        server.kill()
        server.start()
        assert server.url == address
        redis.connection_pool.disconnect()
        assert redis.get("kept") == b"yes"
        redis.close()


def test_a_port_that_another_server_holds_is_not_taken_for_ours(monkeypatch, redis_server):
    ports = iter([redis_server.port, redis_server.port])
    real = embedded.free_port
    monkeypatch.setattr(embedded, "free_port", lambda: next(ports, None) or real())
    with EmbeddedServer(appendonly=False) as server:
        assert server.port != redis_server.port
        assert server.pid != redis_server.pid


def test_a_server_that_refuses_its_options_says_why():
    with pytest.raises(NoServerError, match="no-such-option"), EmbeddedServer(options=("--no-such-option", "1")):
        pass


def test_redis_server_overrides_and_a_wrong_one_is_named(tmp_path):
    own = tmp_path / "my-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_server({"REDIS_SERVER": str(own)}) == own
    with pytest.raises(NoServerError, match=r"REDIS_SERVER is .*nowhere"):
        find_server({"REDIS_SERVER": str(tmp_path / "nowhere")})


PARENT = """
import sys, time
from pathlib import Path
from worker.children import spawn
from worker.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[2]), appendonly=False).start()
tree = spawn("tree", ["sh", "-c", "sleep 600 & echo $! > " + sys.argv[1] + "; wait"])
print(server.pid, tree.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_parent_leaves_no_server_and_no_tree(tmp_path, wait_until):
    grandchild_file = tmp_path / "grandchild"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(grandchild_file), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )
    assert parent.stdout is not None
    try:
        server_pid, tree_pid = parent.stdout.readline().split()
        grandchild = int(wait_until(lambda: grandchild_file.exists() and grandchild_file.read_text().strip()))
        assert all(alive(int(pid)) for pid in (server_pid, tree_pid, grandchild))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not any(alive(int(pid)) for pid in (server_pid, tree_pid, grandchild)))
    finally:
        parent.kill()
        parent.stdout.close()


def test_a_ctrl_c_while_a_child_starts_is_put_off_until_the_child_is_known(monkeypatch):
    real = subprocess.Popen

    def interrupted(*args, **kwargs):
        process = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)  # between the start and whatever would remember it
        return process

    told = []
    monkeypatch.setattr(children._guard, "tell", lambda sign, group: told.append((sign, group)))
    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            children.spawn("sleeper", ["sleep", "600"])
    finally:
        signal.signal(signal.SIGINT, before)
        for _, group in told:
            os.killpg(group, signal.SIGKILL)
            os.waitpid(group, 0)
    assert [sign for sign, _ in told] == ["+"]


DIES_EARLY = """
import os, signal, sys
from worker import children
children._guard.tell = lambda sign, group: (print(group, flush=True), os.kill(os.getpid(), signal.SIGKILL))
children.spawn("writer", ["touch", sys.argv[1]])
"""


def test_a_parent_that_is_killed_before_its_guard_knows_of_a_child_leaves_none(tmp_path, wait_until):
    mark = tmp_path / "the program ran"
    parent = subprocess.run(
        [sys.executable, "-c", DIES_EARLY, str(mark)], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert parent.returncode == -signal.SIGKILL
    wait_until(lambda: not alive(int(parent.stdout)))
    assert not mark.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_command_it_serves_until_it_is_told_to_end_and_leaves_nothing(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "worker.embedded", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removeprefix("REDIS_URL=")
        client: Any = connect(url)
        server = client.info("server")["process_id"]
        client.close()
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    assert not alive(server)


@pytest.mark.parametrize("arguments", [["x"], ["0"], ["70000"], ["6379", "6380"]])
def test_as_a_command_it_refuses_what_is_no_port(arguments: list[str]) -> None:
    assert main(arguments) == 2
