"""The sandbox's signed callbacks, and people who text back, against a real webhook server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

from worker.sandbox import RunningSandbox, SandboxOptions, magic_number, running_sandbox

LONG, PERSON = "+13125550001", "+13125550100"
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
DEADLINE_S = 30.0

http_client = httpx.Client(timeout=DEADLINE_S, trust_env=False, verify=False)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@dataclass
class Hook:
    """A webhook server: keeps what it hears, and answers with the status set for a path (else 200)."""

    url: str = ""
    heard: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body, _ in self.heard]

    def kinds(self) -> list[str]:
        return [event["data"]["event_type"] for event in self.events]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"]["payload"] for event in self.events if event["data"]["event_type"] == kind]


@pytest.fixture(scope="module")
def hook_server() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.heard.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(hook.statuses.get(self.path.partition("?")[0], 200))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook.url = f"http://127.0.0.1:{server.server_port}"
    yield hook
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSandbox]:
    options = SandboxOptions(
        sent_delay_s=0.01, final_delay_s=0.03, late_s=0.3, silent_s=0.05, callback_backoff_s=0.02, callback_timeout_s=5
    )
    with running_sandbox(options) as running:
        yield running


@pytest.fixture
def telnyx(shared: RunningSandbox, hook_server: Hook) -> RunningSandbox:
    http_client.post(f"{shared.url}/sandbox/reset")
    hook_server.heard.clear()
    hook_server.statuses.clear()
    return shared


@pytest.fixture
def hook(telnyx: RunningSandbox, hook_server: Hook) -> Hook:
    return hook_server


def send(telnyx: RunningSandbox, hook: Hook, path: str = "/messages/long_code", **fields: Any) -> httpx.Response:
    body = {"from": LONG, "to": PERSON, "text": "hello", "webhook_url": f"{hook.url}/hook?ref=r1", **fields}
    return http_client.post(telnyx.base_url + path, json=body, headers={"authorization": "Bearer key"})


def get(telnyx: RunningSandbox, path: str) -> Any:
    return http_client.get(telnyx.url + path, headers={"authorization": "Bearer key"}).json()


def row(telnyx: RunningSandbox) -> Any:
    return get(telnyx, "/sandbox/messages")[0]


def counts(telnyx: RunningSandbox) -> dict[str, int]:
    callbacks: dict[str, int] = get(telnyx, "/sandbox/summary")["callbacks"]
    return callbacks


# Receipts


def test_a_message_brings_sent_then_finalized_with_our_url_in_the_signed_body(
    telnyx: RunningSandbox, hook: Hook
) -> None:
    message_id = send(telnyx, hook).json()["data"]["id"]
    wait_until(lambda: len(hook.heard) == 2)
    assert hook.kinds() == ["message.sent", "message.finalized"]
    assert [payload["to"][0]["status"] for payload in (*hook.of("message.sent"), *hook.of("message.finalized"))] == [
        "sent",
        "delivered",
    ]
    for event in hook.events:
        data, meta = event["data"], event["meta"]
        assert (data["payload"]["id"], data["payload"]["webhook_url"]) == (message_id, f"{hook.url}/hook?ref=r1")
        assert meta == {"attempt": 1, "delivered_to": f"{hook.url}/hook?ref=r1"}
        assert data["occurred_at"][19] == "."  # milliseconds, so that events can be put in order
    assert len({event["data"]["id"] for event in hook.events}) == 2
    final = hook.of("message.finalized")[0]
    assert final["cost"] == {"amount": "0.0051", "currency": "USD"} and final["completed_at"]
    wait_until(lambda: row(telnyx)["callbacks"] == [200, 200])


def test_the_sdk_accepts_the_signature_and_no_changed_body(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook)
    wait_until(lambda: hook.heard)
    _, body, headers = hook.heard[0]
    key = http_client.get(f"{telnyx.url}/sandbox/public_key").text
    verify_webhook_signature(body, headers, key)
    assert key == telnyx.public_key
    with pytest.raises(WebhookVerificationError):
        verify_webhook_signature(body.replace(b"hello", b"hullo"), headers, key)


@pytest.mark.parametrize(
    ("magic", "status", "code"),
    [
        (40, "delivery_failed", "40008"),
        (41, "delivery_failed", "40003"),
        (42, "delivery_failed", "40001"),
        (43, "delivery_unconfirmed", None),
        (44, "unknown", None),
        (90, "delivery_failed", "41000"),
    ],
)
def test_a_verdict_comes_as_finalized_with_its_error(
    telnyx: RunningSandbox, hook: Hook, magic: int, status: str, code: str | None
) -> None:
    send(telnyx, hook, to=magic_number(magic))
    wait_until(lambda: hook.of("message.finalized"))
    final = hook.of("message.finalized")[0]
    assert final["to"][0]["status"] == status
    assert [error["code"] for error in final["errors"]] == ([] if code is None else [code])
    assert hook.kinds() == ["message.sent", "message.finalized"]


def test_what_never_left_telnyx_is_never_sent(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(45))
    wait_until(lambda: hook.heard)
    wait_until(lambda: counts(telnyx)["pending"] == 0)
    assert hook.kinds() == ["message.finalized"]
    assert hook.of("message.finalized")[0]["to"][0]["status"] == "sending_failed"


def test_a_silent_message_is_only_seen_by_asking(telnyx: RunningSandbox, hook: Hook) -> None:
    ids = [send(telnyx, hook, to=magic_number(code)).json()["data"]["id"] for code in (60, 61, 62)]

    def statuses() -> list[str]:
        return [get(telnyx, f"/v2/messages/{message_id}")["data"]["to"][0]["status"] for message_id in ids]

    wait_until(lambda: statuses() == ["delivered", "sent", "sent"] and len(hook.heard) == 1)
    assert hook.events[0]["data"]["payload"]["id"] == ids[2] and hook.kinds() == ["message.sent"]


def test_duplicates_have_one_event_id(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(80))
    wait_until(lambda: len(hook.heard) == 4)
    assert len({event["data"]["id"] for event in hook.events}) == 2


def test_reordered_receipts_have_finalized_first(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(81))
    wait_until(lambda: len(hook.heard) == 2)
    assert hook.kinds() == ["message.finalized", "message.sent"]
    first, second = (event["data"]["occurred_at"] for event in hook.events)
    assert second <= first  # what happened first is still said to have happened first


def test_a_correction_follows_the_first_verdict(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(83))
    wait_until(lambda: len(hook.of("message.finalized")) == 2)
    assert [p["to"][0]["status"] for p in hook.of("message.finalized")] == ["delivery_unconfirmed", "delivered"]


def test_odd_shapes_are_those_that_telnyx_has_been_seen_with(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(82))
    wait_until(lambda: hook.of("message.finalized"))
    final = hook.of("message.finalized")[0]
    assert final["from"] == LONG and isinstance(final["cost"]["amount"], float) and isinstance(final["cc"][0], str)


def test_whatsapp_may_be_read(telnyx: RunningSandbox, hook: Hook) -> None:
    content = {"type": "template", "template": {"name": "code", "language": {"code": "en_US"}}}
    send(telnyx, hook, "/messages/whatsapp", to=magic_number(91), whatsapp_message=content)
    wait_until(lambda: hook.of("message.read"))
    assert hook.of("message.read")[0]["template_name"] == "code"


def test_a_group_gets_one_finalized_event_per_member_under_its_own_id(telnyx: RunningSandbox, hook: Hook) -> None:
    group = [PERSON, magic_number(40), "+13125550102"]
    group_id = send(telnyx, hook, "/messages/group_mms", to=group).json()["data"]["id"]
    wait_until(lambda: len(hook.of("message.finalized")) == 3)
    finals = hook.of("message.finalized")
    assert {payload["id"] for payload in finals} == {payload["group_message_id"] for payload in finals} == {group_id}
    seen = {payload["to"][0]["phone_number"]: payload["to"][0]["status"] for payload in finals}
    assert seen == dict(zip(group, ["delivered", "delivery_failed", "delivered"], strict=True))
    assert [len(payload["to"]) for payload in hook.of("message.sent")] == [3]


def test_a_group_may_also_show_all_members_each_time(hook_server: Hook) -> None:
    hook_server.heard.clear()
    with running_sandbox(SandboxOptions(group_receipts="all", sent_delay_s=0, final_delay_s=0)) as telnyx:
        send(telnyx, hook_server, "/messages/group_mms", to=[PERSON, "+13125550102"])
        wait_until(lambda: len(hook_server.of("message.finalized")) == 2)
    assert [len(payload["to"]) for payload in hook_server.of("message.finalized")] == [2, 2]


# Delivery


def test_three_attempts_then_the_failover_url_each_counted_and_signed(telnyx: RunningSandbox, hook: Hook) -> None:
    hook.statuses["/hook"] = 503
    send(telnyx, hook, to=magic_number(62), webhook_failover_url=f"{hook.url}/failover")
    wait_until(lambda: len(hook.heard) == 4)
    assert [path for path, _, _ in hook.heard] == ["/hook?ref=r1"] * 3 + ["/failover"]
    assert [event["meta"]["attempt"] for event in hook.events] == [1, 2, 3, 4]
    assert len({event["data"]["id"] for event in hook.events}) == 1
    for _, body, headers in hook.heard:
        verify_webhook_signature(body, headers, telnyx.public_key)
    wait_until(lambda: row(telnyx)["callbacks"] == [503, 503, 503, 200])


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_no_2xx_is_a_failure_and_after_all_tries_the_event_is_gone(
    telnyx: RunningSandbox, hook: Hook, status: int
) -> None:
    hook.statuses["/hook"] = status
    send(telnyx, hook, to=magic_number(62))
    wait_until(lambda: counts(telnyx).get("given_up") == 1)
    assert row(telnyx)["callbacks"] == [status] * 3


def test_nobody_at_the_url_counts_as_no_answer(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(62), webhook_url="http://127.0.0.1:1/hook?ref=r1")
    wait_until(lambda: counts(telnyx).get("given_up") == 1)
    assert row(telnyx)["callbacks"] == [0, 0, 0]


def test_a_message_without_a_url_brings_no_event(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, webhook_url=None)
    wait_until(lambda: row(telnyx)["status"] == "delivered")
    assert counts(telnyx)["without_url"] == 2 and not hook.heard


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("lose_receipts", []),
        ("lose_first_receipts", ["message.finalized"]),
        ("duplicate_receipts", ["message.finalized"] * 2 + ["message.sent"] * 2),
        ("reorder_receipts", ["message.finalized", "message.sent"]),
    ],
)
def test_faults_of_receipts(telnyx: RunningSandbox, hook: Hook, fault: str, kinds: list[str]) -> None:
    http_client.post(f"{telnyx.url}/sandbox/faults", json={fault: 1.0})
    send(telnyx, hook)
    wait_until(lambda: row(telnyx)["status"] == "delivered" and len(hook.heard) == len(kinds))
    wait_until(lambda: counts(telnyx)["pending"] == 0)
    assert sorted(hook.kinds()) == sorted(kinds)
    if fault == "reorder_receipts":
        assert hook.kinds() == kinds


def test_a_reset_ends_what_was_planned(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook, to=magic_number(42))  # its verdict comes late
    wait_until(lambda: hook.heard)
    http_client.post(f"{telnyx.url}/sandbox/reset")
    send(telnyx, hook, to=magic_number(42))
    wait_until(lambda: hook.of("message.finalized"))
    assert len(hook.of("message.finalized")) == 1


# People who text back


def inbound(telnyx: RunningSandbox, text: str, **fields: Any) -> Any:
    body = {"from": PERSON, "to": LONG, "text": text, **fields}
    answer = http_client.post(f"{telnyx.url}/sandbox/inbound", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_stop_is_told_and_blocks_until_start(telnyx: RunningSandbox, hook: Hook) -> None:
    send(telnyx, hook)
    wait_until(lambda: len(hook.heard) == 2)
    answer = inbound(telnyx, "Stop")
    assert answer["autoresponse_type"] == "STOP" and [c["status"] for c in answer["callbacks"]] == [200]
    (payload,) = hook.of("message.received")
    assert (payload["direction"], payload["autoresponse_type"], payload["text"]) == ("inbound", "STOP", "Stop")
    assert (payload["from"]["phone_number"], payload["to"][0]["phone_number"]) == (PERSON, LONG)
    assert hook.heard[-1][0] == "/hook"  # where this number's events went before
    refused = send(telnyx, hook)
    assert refused.json()["errors"][0]["code"] == "40300" and "STOP" in refused.json()["errors"][0]["title"]
    (optout,) = get(telnyx, "/v2/messaging_optouts")["data"]
    assert (optout["from"], optout["to"], optout["keyword"]) == (LONG, PERSON, "STOP")
    assert optout["messaging_profile_id"] == payload["messaging_profile_id"]
    inbound(telnyx, "START")
    assert send(telnyx, hook).status_code == 200
    assert get(telnyx, "/v2/messaging_optouts")["data"] == []


def test_a_stop_counts_for_every_number_of_the_profile_and_for_no_other(telnyx: RunningSandbox, hook: Hook) -> None:
    for sender in (LONG, "+13125550002"):
        send(telnyx, hook, **{"from": sender, "messaging_profile_id": PROFILE})
    inbound(telnyx, "STOP", webhook_url=f"{hook.url}/hook")
    assert send(telnyx, hook, **{"from": "+13125550002"}).status_code == 400
    pool = {"messaging_profile_id": PROFILE, "from": None}
    assert send(telnyx, hook, "/messages/number_pool", **pool).status_code == 400
    assert send(telnyx, hook, **{"from": "+13125550003"}).status_code == 200
    assert send(telnyx, hook, to="+13125550101").status_code == 200


def test_one_blocked_member_refuses_a_group(telnyx: RunningSandbox, hook: Hook) -> None:
    inbound(telnyx, "STOP", webhook_url=f"{hook.url}/hook")
    refused = send(telnyx, hook, "/messages/group_mms", to=["+13125550101", PERSON])
    assert refused.json()["errors"][0]["code"] == "40300"


def test_the_opt_out_list_filters_and_redacts(telnyx: RunningSandbox, hook: Hook) -> None:
    inbound(telnyx, "STOP", webhook_url=f"{hook.url}/hook")

    def listed(query: str) -> list[str]:
        return [r["to"] for r in get(telnyx, f"/v2/messaging_optouts?{query}")["data"]]

    assert listed("redaction_enabled=false") == listed("filter[from]=%2B13125550001") == [PERSON]
    assert listed("filter[from]=%2B13125550002") == listed("created_at[lte]=2020-01-01T00:00:00Z") == []
    assert listed("created_at[gte]=2020-01-01T00:00:00%2B00:00") == [PERSON]
    assert listed("redaction_enabled=true") == ["+1312555****"]


def test_whatsapp_knows_no_keywords(telnyx: RunningSandbox, hook: Hook) -> None:
    answer = inbound(telnyx, "STOP", type="WHATSAPP", webhook_url=f"{hook.url}/hook")
    (payload,) = hook.of("message.received")
    assert answer["autoresponse_type"] is None and "autoresponse_type" not in payload
    assert (payload["to"], payload["body"]["text"]["body"]) == (LONG, "STOP")
    assert send(telnyx, hook).status_code == 200


def test_an_inbound_message_nobody_can_be_told_of_still_blocks(telnyx: RunningSandbox, hook: Hook) -> None:
    assert inbound(telnyx, "STOP")["webhook_url"] is None
    assert send(telnyx, hook).status_code == 400


def test_any_body_can_be_signed_and_sent(telnyx: RunningSandbox, hook: Hook) -> None:
    for body in ({"data": {"record_type": "link_clicked"}}, "not JSON"):
        answer = http_client.post(
            f"{telnyx.url}/sandbox/callback", json={"webhook_url": f"{hook.url}/hook", "body": body}
        )
        assert answer.json()["status"] == 200
    assert [body for _, body, _ in hook.heard] == [b'{"data":{"record_type":"link_clicked"}}', b"not JSON"]
    for _, raw, headers in hook.heard:
        verify_webhook_signature(raw, headers, telnyx.public_key)


@pytest.mark.parametrize("body", [{"to": LONG}, {"from": 5, "to": LONG}, []])
def test_an_incomplete_inbound_message_is_refused_with_the_remedy(telnyx: RunningSandbox, body: Any) -> None:
    answer = http_client.post(f"{telnyx.url}/sandbox/inbound", json=body)
    assert answer.status_code in (400, 422) and answer.json()["error"]
