"""Telnyx's callbacks over real HTTP: what is proved, what is kept, and when 200 may be said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey

from producers.ledger import calls
from producers.ledger.connection import connect
from producers.ledger.ledger import Ledger
from worker.compliance.opt_outs import read_opt_out
from worker.embedded import EmbeddedServer
from worker.publishing import publish
from worker.settings import parse_config
from worker.web.bodies import WEBHOOK_MAX_BYTES
from worker.web.services import make_services
from worker.web.upkeep import keep_hearing

from .conftest import CONFIG, PERSON, PROFILE, Web, inbound, receipt, running, signed, web_settings


def _redis(ledger: Ledger) -> Any:
    return ledger.redis


def _kept(ledger: Ledger) -> list[dict[str, Any]]:
    """All receipts that are kept and not applied."""
    batches = _redis(ledger).zrange(ledger.key("rx"), 0, -1)
    bodies = [_redis(ledger).get(ledger.key(f"rx:{batch.decode()}")) for batch in batches]
    return [json.loads(text) for body in bodies for text in json.loads(body)]


def _odd(ledger: Ledger) -> list[dict[str, str]]:
    rows = _redis(ledger).xrange(ledger.key("odd"))
    return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in rows]


def _out(ledger: Ledger, scope: str) -> bool:
    return read_opt_out(ledger, PERSON, scope).opted_out


def test_a_receipt_is_kept_without_its_text_before_the_200(web: Web, ledger: Ledger) -> None:
    ref = f"{uuid.uuid4().hex}-0"
    assert web.webhook(receipt(ref)).status_code == 200
    (kept,) = _kept(ledger)
    assert ref in kept["data"]["payload"]["webhook_url"]
    assert "secret" not in json.dumps(kept)


def test_a_kept_receipt_is_pointed_at(web: Web, ledger: Ledger, wait_until: Any) -> None:
    web.webhook(receipt(f"{uuid.uuid4().hex}-0"))
    wait_until(lambda: _redis(ledger).llen(f"{{{ledger.namespace}}}:d:receipts") == 1)
    (batch,) = _redis(ledger).zrange(ledger.key("rx"), 0, -1)
    (job,) = _redis(ledger).hvals(f"{{{ledger.namespace}}}:d:receipts.msgs")
    assert json.loads(job)["args"] == [batch.decode()]


def test_receipts_that_come_together_are_kept_together(web: Web, ledger: Ledger) -> None:
    async def send_all() -> list[int]:
        async with httpx.AsyncClient(base_url=web.url, limits=httpx.Limits(max_connections=100)) as client:
            bodies = [receipt(f"{i:032x}-0") for i in range(200)]
            answers = await asyncio.gather(
                *(client.post("/webhooks/telnyx", content=body, headers=signed(body)) for body in bodies)
            )
            return [answer.status_code for answer in answers]

    assert asyncio.run(send_all()) == [200] * 200
    assert len({row["data"]["payload"]["webhook_url"] for row in _kept(ledger)}) == 200
    assert _redis(ledger).zcard(ledger.key("rx")) < 150


def test_a_receipt_finds_its_message_through_the_kept_batch(web: Web, ledger: Ledger) -> None:
    """The batch that web keeps is what the reconciler reads: a list of events, each as text."""
    web.webhook(receipt("0" * 32 + "-0"))
    (batch,) = _redis(ledger).zrange(ledger.key("rx"), 0, -1)
    (text,) = json.loads(_redis(ledger).get(ledger.key(f"rx:{batch.decode()}")))
    assert isinstance(text, str) and json.loads(text)["data"]["event_type"] == "message.finalized"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda h: h.pop("telnyx-signature-ed25519"), "missing_signature"),
        (lambda h: h.pop("telnyx-timestamp"), "missing_timestamp"),
        (lambda h: h.update({"telnyx-signature-ed25519": "AAAA"}), "malformed"),
        (lambda h: h.update({"telnyx-timestamp": str(int(h["telnyx-timestamp"]) + 1)}), "mismatch"),
    ],
)
def test_a_callback_that_is_not_proved_is_refused_with_the_reason(
    web: Web, ledger: Ledger, spoil: Any, reason: str
) -> None:
    body = receipt("0" * 32 + "-0")
    headers = signed(body)
    spoil(headers)
    answer = web.webhook(body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert _kept(ledger) == []


def test_a_stale_callback_is_refused(web: Web) -> None:
    body = receipt("0" * 32 + "-0")
    answer = web.webhook(body, headers=signed(body, at_s=int(time.time()) - 400))
    assert (answer.status_code, answer.json()["code"]) == (401, "stale")


def test_a_callback_signed_by_another_key_is_refused(web: Web) -> None:
    body = inbound("STOP", keyword="STOP")
    answer = web.webhook(body, headers=signed(body, key=SigningKey.generate()))
    assert (answer.status_code, answer.json()["code"]) == (401, "mismatch")


def test_a_changed_body_is_refused(web: Web) -> None:
    body = receipt("0" * 32 + "-0")
    assert web.webhook(body + b" ", headers=signed(body)).json()["code"] == "mismatch"


def test_the_query_of_the_callback_s_own_url_is_ignored(web: Web, ledger: Ledger) -> None:
    body = receipt("0" * 32 + "-0")
    answer = web.client.post("/webhooks/telnyx?ref=forged", content=body, headers=signed(body))
    assert answer.status_code == 200
    assert "forged" not in json.dumps(_kept(ledger))


def test_a_stop_is_in_force_when_its_200_arrives(web: Web, ledger: Ledger) -> None:
    assert not _out(ledger, "sender:local")
    assert web.webhook(inbound("STOP", keyword="STOP")).status_code == 200
    assert _out(ledger, "sender:local")
    assert not _out(ledger, "global")


def _said(ledger: Ledger) -> dict[bytes, Any]:
    """All that is known of opt-outs."""
    keys = sorted(_redis(ledger).scan_iter(match=ledger.key("o:*"), count=1000))
    return {key: _redis(ledger).hgetall(key) for key in keys}


@pytest.mark.parametrize("word", ["STOP", "START"])
def test_what_is_forged_stale_or_replayed_changes_no_opt_out(web: Web, ledger: Ledger, word: str) -> None:
    first = inbound("STOP", keyword="STOP")
    replayed = signed(first)
    assert web.webhook(first, headers=replayed).status_code == 200
    if word == "STOP":
        assert web.webhook(inbound("START", keyword="START")).status_code == 200
    before = _said(ledger)
    forged = inbound(word, keyword=word)
    stranger, stale = signed(forged, key=SigningKey.generate()), signed(forged, at_s=int(time.time()) - 301)
    early, other = signed(forged, at_s=int(time.time()) + 330), signed(first)
    for headers in (stranger, stale, early, other, {}):
        assert web.webhook(forged, headers=headers).status_code == 401
    for _ in range(3):  # a copy whose signature still holds: what it says is no news
        assert web.webhook(first, headers=replayed).status_code == 200
    assert _said(ledger) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload.pop("from"),
        lambda payload: payload.update({"from": {"phone_number": None}}),
        lambda payload: payload.update({"from": []}),
        lambda payload: payload.update({"direction": "outbound"}),
        lambda payload: payload.update({"autoresponse_type": "HELP"}),
        lambda payload: payload.update({"autoresponse_type": {"STOP": 1}, "text": None}),
    ],
)
def test_what_is_malformed_is_answered_and_changes_no_opt_out(web: Web, ledger: Ledger, spoil: Any) -> None:
    event = json.loads(inbound("STOP", keyword="STOP"))
    spoil(event["data"]["payload"])
    if event["data"]["payload"].get("direction") == "outbound":
        event["data"]["event_type"] = "message.finalized"
    assert web.webhook(json.dumps(event).encode()).status_code == 200
    assert _said(ledger) == {}


def _behind_receipts(web: Web, ledger: Ledger, batches: int) -> None:
    """Receipts are kept that no worker has applied; then a STOP comes."""
    for i in range(batches):
        ledger.run(calls.hear(f"{i:032x}", json.dumps([receipt(f"{i:032x}-{n}").decode() for n in range(50)]).encode()))
    assert _redis(ledger).zcard(ledger.key("rx")) == batches
    assert web.webhook(inbound("STOP", keyword="STOP")).status_code == 200
    assert _out(ledger, "sender:local")
    assert _redis(ledger).zcard(ledger.key("rx")) == batches, "it did not wait for any of them"


def test_a_stop_does_not_wait_behind_receipts(web: Web, ledger: Ledger) -> None:
    _behind_receipts(web, ledger, 10)


@pytest.mark.slow
def test_a_stop_does_not_wait_behind_fifty_thousand_receipts(web: Web, ledger: Ledger) -> None:
    _behind_receipts(web, ledger, 1000)


def test_a_stop_blocks_the_profile_and_the_sender_it_went_to(web: Web, ledger: Ledger) -> None:
    web.webhook(inbound("STOP", keyword="STOP", messaging_profile_id=PROFILE.upper()))
    assert _out(ledger, f"profile:{PROFILE}") and _out(ledger, "sender:local")
    assert not _out(ledger, "sender:alerts")


def test_a_stop_that_cannot_be_placed_is_global(web: Web, ledger: Ledger) -> None:
    web.webhook(inbound("STOP", to="+13125559999", keyword="STOP"))
    assert _out(ledger, "global")


def test_start_lifts_what_stop_set(web: Web, ledger: Ledger) -> None:
    web.webhook(inbound("STOP", keyword="STOP"))
    web.webhook(inbound("START", keyword="START"))
    assert not _out(ledger, "sender:local")


def test_a_stop_that_arrives_late_and_twice_does_not_undo_a_start(web: Web, ledger: Ledger) -> None:
    stop = inbound("STOP", keyword="STOP")
    web.webhook(stop)
    web.webhook(inbound("START", keyword="START"))
    assert web.webhook(stop).status_code == 200
    assert not _out(ledger, "sender:local")


def test_stop_on_whatsapp_is_read_from_its_text(web: Web, ledger: Ledger) -> None:
    body = {"type": "text", "text": {"body": "Stop!"}, "from": PERSON.removeprefix("+")}
    event = inbound("", to="+13125550003", type="WHATSAPP", body=body, **{"from": None})
    assert web.webhook(event).status_code == 200
    assert _out(ledger, "sender:wa")


@pytest.mark.parametrize("text", ["STOP", "stop all.", "ALTO", "Arrêt !"])
def test_a_stop_that_telnyx_did_not_mark_is_read_by_us_and_kept_as_ours(web: Web, ledger: Ledger, text: str) -> None:
    assert web.webhook(inbound(text)).status_code == 200
    said = read_opt_out(ledger, PERSON, "sender:local").person
    assert said is not None and (said.out, said.source) == (True, "keyword")


def test_help_is_recorded_and_changes_nothing(web: Web, ledger: Ledger) -> None:
    web.webhook(inbound("HELP", keyword="HELP"))
    assert not _out(ledger, "sender:local")
    assert _redis(ledger).xlen(ledger.key("in")) == 1


def test_an_inbound_message_is_kept_once_with_its_text_since_it_has_no_second_source(web: Web, ledger: Ledger) -> None:
    event = inbound("my card is 4111")
    assert [web.webhook(event).status_code for _ in range(3)] == [200] * 3
    ((_, fields),) = _redis(ledger).xrange(ledger.key("in"))
    assert json.loads(fields[b"d"])["text"] == "my card is 4111"
    assert json.loads(fields[b"d"])["from"] == PERSON
    assert 0 < _redis(ledger).ttl(ledger.key("in")) <= 604_800


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"data":{"event_type":"message.finalized","payload":{}}}',
        b'{"event_type":"whatsapp.template.approved","text":"\\ud800"}',
        b'{"data":{"event_type":"message.received","payload":{"direction":"inbound","from":"\\ud800"}}}',
        b'{"data":{"record_type":"link_clicked","message_id":"x","url":"https://x","to":"18445550001"}}',
    ],
)
def test_what_is_signed_but_odd_gets_200_and_is_kept(web: Web, ledger: Ledger, body: bytes) -> None:
    assert web.webhook(body).status_code == 200
    assert len(_odd(ledger)) + _redis(ledger).xlen(ledger.key("in")) == 1


def test_what_is_not_understood_is_kept_aside_with_the_reason(web: Web, ledger: Ledger) -> None:
    web.webhook(b'{"data":{"event_type":"planet.aligned","payload":{"text":"a secret"}}}')
    (row,) = _odd(ledger)
    assert (row["why"], row["type"]) == ("unknown_event", "planet.aligned")
    assert "secret" not in row["d"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_callback_over_a_megabyte_is_refused(web: Web, chunked: bool) -> None:
    body = b"x" * (WEBHOOK_MAX_BYTES + 1)
    content = (body[i : i + 65_536] for i in range(0, len(body), 65_536)) if chunked else body
    answer = web.client.post("/webhooks/telnyx", content=content, headers=signed(body))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_only_post_is_taken(web: Web) -> None:
    answer = web.client.get("/webhooks/telnyx")
    assert (answer.status_code, answer.json()["status"]) == (405, 405)


def _asked(web: Web, body: bytes) -> tuple[float, httpx.Response]:
    """The answer, and after how many seconds it came."""
    began = time.monotonic()
    answer = web.webhook(body)
    return time.monotonic() - began, answer


def _refused() -> list[bytes]:
    """One callback of each kind; each needs Redis."""
    return [receipt("0" * 32 + "-0"), inbound("STOP", keyword="STOP"), b"{}"]


def test_while_redis_is_away_the_answer_is_503_at_once_and_200_again_after(wait_until: Any) -> None:
    with EmbeddedServer() as server, running(web_settings(server.url, "away")) as web:
        server.kill()
        for body in _refused():
            tries = [_asked(web, body) for _ in range(5)]
            assert {(answer.status_code, answer.headers["retry-after"]) for _, answer in tries} == {(503, "1")}
            assert min(took_s for took_s, _ in tries) < 1.0  # the least, for the machine may be busy
        assert web.client.get("/readyz").status_code == 503
        assert web.client.get("/healthz").status_code == 200
        server.start()
        wait_until(lambda: web.webhook(receipt("0" * 32 + "-0")).status_code == 200)
        wait_until(lambda: web.client.get("/readyz").status_code == 200)


def test_while_redis_hangs_the_answer_is_503_within_what_telnyx_waits() -> None:
    with EmbeddedServer(appendonly=False) as server, running(web_settings(server.url, "stalled")) as web:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(6) as pool:
                tries = list(pool.map(lambda body: _asked(web, body), _refused() * 2))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert {answer.status_code for _, answer in tries} == {503}
        assert statistics.median(took_s for took_s, _ in tries) < 2.0


def test_who_refuses_a_receipt_does_not_say_that_it_hears(wait_until: Any) -> None:
    """A full Redis refuses receipts and still takes stamps: silence would look like proof that nothing was delivered."""
    with EmbeddedServer(appendonly=False) as server, running(web_settings(server.url, "full")) as web:
        redis = connect(server.url)

        def last_us() -> int:
            return int(redis.hget("{full}:ears", "last") or 0)

        wait_until(last_us)
        redis.config_set("maxmemory", 1)
        assert web.webhook(receipt("0" * 32 + "-0")).status_code == 503
        refused_us = last_us()
        redis.config_set("maxmemory", 0)
        wait_until(lambda: last_us() > refused_us, timeout_s=30)
        assert last_us() - refused_us > 5_000_000
        redis.close()


def test_web_says_that_it_hears(web: Web, ledger: Ledger, wait_until: Any) -> None:
    def heard_us() -> int:
        return int(_redis(ledger).hget(ledger.key("ears"), "last") or 0)

    first = wait_until(heard_us)
    wait_until(lambda: heard_us() > first, timeout_s=10)
    assert 0 < heard_us() - first < 5_000_000


def test_a_lost_configuration_is_published_again(redis_url: str, namespace: str, ledger: Ledger) -> None:
    async def lose_it() -> None:
        services = make_services(web_settings(redis_url, namespace), parse_config(CONFIG))
        upkeep = asyncio.create_task(keep_hearing(services, lambda: False, every_s=0.02))
        async with asyncio.timeout(20):
            for _ in range(2):
                while not _redis(ledger).exists(ledger.key("cfg")):
                    await asyncio.sleep(0.02)
                _redis(ledger).delete(ledger.key("cfg"))
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        await services.close()

    asyncio.run(lose_it())


def test_an_older_release_does_not_replace_a_newer_configuration(
    redis_url: str, namespace: str, ledger: Ledger
) -> None:
    newer = web_settings(redis_url, namespace)
    assert publish(ledger, newer.config, 7) == "published"
    with running(replace(newer, release=6)):
        assert _redis(ledger).hget(ledger.key("cfg"), "release") == b"7"


def test_a_repeated_call_of_hear_keeps_one_batch(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.run(calls.hear("b" * 32, b"[]"))
    assert _redis(ledger).zcard(ledger.key("rx")) == 1
