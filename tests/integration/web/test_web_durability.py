"""A STOP is on the server's disk before it is answered, where the server can say so; and never refused for want of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from producers.ledger.connection import connect, connect_async
from producers.ledger.ledger import Ledger
from worker.compliance.durability import Durability, sync_to_disk
from worker.compliance.opt_outs import read_opt_out
from worker.embedded import EmbeddedServer

from .conftest import PERSON, inbound, running, web_settings

ALWAYS = ("--appendfsync", "always")


@pytest.fixture(scope="module")
def keeping() -> Iterator[EmbeddedServer]:
    """A server that syncs each write, so that a wait for it is short."""
    with EmbeddedServer(options=ALWAYS) as server:
        yield server


def rounds(redis: Any, namespace: str) -> int:
    return int(redis.hget(f"{{{namespace}}}:counts", "opt_outs_synced") or 0)


def test_a_stop_and_an_apps_word_wait_for_the_disk(keeping: EmbeddedServer, wait_until: Any) -> None:
    redis = connect(keeping.url, answer_s=10)
    with running(web_settings(keeping.url, "kept")) as web:
        assert web.webhook(inbound("STOP", keyword="STOP")).status_code == 200
        wait_until(lambda: rounds(redis, "kept") == 1)
        assert web.call("PUT", f"/v1/opt-outs/{PERSON}").status_code == 204
        wait_until(lambda: rounds(redis, "kept") == 2)
        assert web.webhook(inbound("hello")).status_code == 200
        wait_until(lambda: rounds(redis, "kept") == 2)
    redis.close()


def test_an_answered_stop_outlives_a_crash_of_the_server() -> None:
    with (
        EmbeddedServer() as server
    ):  # synced each second: without the wait, the last one could be lost with the machine
        with running(web_settings(server.url, "crash")) as web:
            assert web.webhook(inbound("STOP", keyword="STOP")).status_code == 200
            server.kill()
            server.start()
        redis = connect(server.url, answer_s=10)
        assert read_opt_out(Ledger(redis, "crash"), PERSON, "sender:local").opted_out
        redis.close()


def test_a_server_that_keeps_no_file_refuses_no_stop(redis_url: str, namespace: str, ledger: Ledger) -> None:
    with running(web_settings(redis_url, namespace)) as web:
        assert web.webhook(inbound("STOP", keyword="STOP")).status_code == 200
    assert read_opt_out(ledger, PERSON, "sender:local").opted_out


def test_many_share_a_round_and_each_round_covers_what_was_written_before(keeping: EmbeddedServer) -> None:
    async def ask() -> list[str]:
        durability = Durability(connect_async(keeping.url, max_connections=5, answer_s=10), "shared")
        found = list(await asyncio.gather(*(durability.synced(within_s=30) for _ in range(200))))
        await durability.close()
        return found

    assert asyncio.run(ask()) == ["yes"] * 200
    redis: Any = connect(keeping.url, answer_s=10)
    assert 1 <= int(redis.hget("shared", "opt_outs_synced")) < 20
    redis.close()


def test_a_server_that_does_not_know_the_command_is_asked_again_later(redis_url: str) -> None:
    """The tests' server keeps no append-only file."""
    now = [0.0]

    async def ask() -> list[str]:
        durability = Durability(connect_async(redis_url, answer_s=10), "t-no-aof", clock=lambda: now[0])
        await durability.probe()
        found = [await durability.synced(within_s=30)]
        now[0] = 61.0
        found.append(await durability.synced(within_s=30))
        await durability.close()
        return found

    assert asyncio.run(ask()) == ["unsupported", "unsupported"]
    redis: Any = connect(redis_url, answer_s=10)
    assert int(redis.hget("t-no-aof", "opt_outs_synced")) == 1, "the first was not asked, the second was"
    redis.delete("t-no-aof")
    redis.close()


def test_a_server_that_hangs_costs_the_time_given_and_no_more() -> None:
    async def ask(server: EmbeddedServer) -> list[str]:
        durability = Durability(connect_async(server.url, max_connections=5, answer_s=10), "hung")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            found = [await durability.synced(within_s=0.05) for _ in range(2)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        found.append(await durability.synced(within_s=30))
        await durability.close()
        return found

    with EmbeddedServer(options=ALWAYS) as server:
        assert asyncio.run(ask(server)) == ["timeout", "timeout", "yes"]


def test_what_a_command_writes_is_synced_on_its_own_connection(keeping: EmbeddedServer, redis_url: str) -> None:
    redis = connect(keeping.url, answer_s=10)
    assert sync_to_disk(redis, lambda one: one.set("written", "1"), wait_s=30) == "yes"
    assert redis.get("written") == b"1"
    redis.close()
    unable = connect(redis_url, answer_s=10)
    assert sync_to_disk(unable, lambda one: one.delete("nothing")) == "unsupported"
    unable.close()
