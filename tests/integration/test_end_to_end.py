"""The main job, whole: real processes, a real server, real HTTP; a notification goes in, a reconciled message comes out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from app_kit import running_app
from service_kit import NOTIFY, PROFILE, Service, running_service, terminate, wait_until

from worker.sandbox import SandboxOptions, magic_number

SENDER_ERRORS: dict[str, str] = {}  # sender → code that the sandbox refuses its sends with, while it is here


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("service"), sandbox=SandboxOptions(seed=1, hang_s=2, sender_errors=SENDER_ERRORS)
    ) as service:
        service.start_web()
        service.start_worker(processes=2)
        yield service


def one(service: Service, id: str) -> dict[str, Any]:
    status, body = service.get(f"/v1/notifications/{id}")
    assert status == 200, body
    (message,) = body["messages"]
    found: dict[str, Any] = message
    return found


PLAIN = {"from": None, "text": "hello there"}
CHANNELS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("notice", {"to": "+13125551000", "text": "hello there"}, "/messages/short_code", {"from": "12345"}),
    ("reminder", {"to": "+13125551001", "text": "hello there"}, "/messages/long_code", {"from": "+13125550001"}),
    ("ticket", {"to": "+13125551002", "text": "hello there"}, "/messages", {"from": "+18885550001"}),
    ("promotion", {"to": "+13125551003", "text": "hello there"}, "/messages/number_pool", {}),
    ("travel", {"to": "+447700900123", "text": "hello there"}, "/messages/alphanumeric_sender_id", {"from": "ACME"}),
    ("generic", {"to": "+13125551007", "text": "hello there"}, "/messages", {"from": "+13125550009"}),
    (
        "family",
        {"to": ["+13125551004", "+13125551005"], "text": "hello there"},
        "/messages/group_mms",
        {"from": "+13125550002"},
    ),
    ("order", {"to": "+13125551006", "variables": {"order": "A7"}}, "/messages/whatsapp", {"from": "+13125550003"}),
]


@pytest.mark.parametrize(("job_type", "request_fields", "path", "expected"), CHANNELS, ids=[c[0] for c in CHANNELS])
def test_a_message_of_every_channel_reaches_its_own_endpoint_and_ends_delivered(
    service: Service, job_type: str, request_fields: dict[str, Any], path: str, expected: dict[str, Any]
) -> None:
    ticket = service.notifier.enqueue(job_type, **request_fields)
    service.wait_final(ticket.id)
    message = one(service, ticket.id)
    assert message["state"] == "delivered"
    (arrival,) = service.sent(ref=message["id"])
    assert arrival["path"] == path
    assert arrival["key"] == message["id"], "the Idempotency-Key is the message's id"
    assert len(arrival["callbacks"]) == len(arrival["to"]) + 1 if job_type == "family" else 2, (
        "sent and finalized came to our webhook"
    )
    for name, value in expected.items():
        assert arrival[name] == value
    assert message["provider_id"] == arrival["id"]
    steps = [step["state"] for step in message["timeline"]]
    assert steps[:3] == ["new", "queued", "sending"]
    assert "accepted" in steps or "sent" in steps, "the answer, unless a receipt overtook it"
    assert message["attempts"] == 1, "a slot that a busy machine missed is no attempt"


def test_the_app_that_asked_is_called_back_with_the_event_of_the_stream(service: Service) -> None:
    with running_app(service.environ["NOTIFY_SECRET"]) as app:
        app.answers = [500]
        ticket = service.notifier.enqueue(
            "notice", to=["+13125551008", "+13125551009"], text="hello", callback_url=app.url, metadata={"order": 7}
        )
        wait_until(lambda: len({e["id"] for e in app.heard}) == 3, what="two messages and the end to be told")
        wait_until(lambda: len(app.heard) >= 4, what="what was refused to be told again")
    events = [e for e in service.notifier.events() if e.notification == ticket.id]
    assert {(e["type"], e["id"], e["state"] or "", e["version"]) for e in app.heard} == {
        (e.type, e.id, e.state, e.version) for e in events
    }
    assert app.of("notification.finished")[0]["counts"] == {"delivered": 2}
    assert all(e["metadata"] == {"order": 7} for e in app.heard)


def legs_sent(service: Service, entry: str) -> list[tuple[str, Any]]:
    """What the sandbox accepted of an entry: paths and content by leg."""
    return [
        (arrival["path"], arrival["text"])
        for ref in (entry, f"{entry}-2", f"{entry}-3")
        for arrival in service.sent(ref=ref)
    ]


def test_a_code_that_shows_no_receipt_goes_to_whatsapp_once(service: Service) -> None:
    silent = magic_number(61)
    ticket = service.notifier.enqueue("login", to=silent, variables={"code": "123456"})
    entry = f"{ticket.id}-0"
    wait_until(lambda: service.sent(ref=f"{entry}-2"), what="the code to go by WhatsApp")
    (sms, whatsapp) = legs_sent(service, entry)
    assert sms == ("/messages/short_code", "Your code is 123456")
    assert whatsapp[0] == "/messages/whatsapp"
    message = one(service, ticket.id)
    steps = [(step["leg"], step["state"]) for step in message["timeline"]]
    assert (1, "sending") in steps
    assert (2, "sending") in steps
    assert message["errors"] == []


def test_a_code_that_fails_goes_to_whatsapp_and_its_app_hears_of_one_end(service: Service) -> None:
    with running_app(service.environ["NOTIFY_SECRET"]) as app:
        ticket = service.notifier.enqueue(
            "login", to=magic_number(45), variables={"code": "123456"}, callback_url=app.url
        )
        assert service.wait_final(ticket.id) == [{"failed": 1}], "the sandbox lets both fail"
        wait_until(lambda: app.of("notification.finished", ticket.id), what="the end to be told")
        assert [(e["state"], e["leg"]) for e in app.of("message.final", f"{ticket.id}-0")] == [("failed", 2)]
    assert len(legs_sent(service, f"{ticket.id}-0")) == 2


def test_the_timeline_is_there_from_the_instant_enqueue_returned(service: Service) -> None:
    ticket = service.notifier.enqueue("notice", to="+13125551010", text="now")
    message = one(service, ticket.id)
    assert message["timeline"][0]["state"] == "new"
    assert message["to"] == "+13125551010"


@pytest.mark.parametrize(
    ("magic", "state", "error", "attempts"),
    [
        (40, "failed", ("40008", "receipt"), 1),
        (41, "failed", ("40003", "receipt"), 1),
        (43, "unconfirmed", None, 1),
        (44, "unconfirmed", None, 1),
        (45, "failed", ("40014", "receipt"), 1),
        (50, "opted_out", ("40300", "send"), 1),
        (51, "rejected", ("40310", "send"), 1),
        (58, "rejected", ("40322", "send"), 1),
        (71, "delivered", None, 1),
        (72, "delivered", None, 1),
        (74, "delivered", ("10007", "send"), 2),
        (75, "delivered", ("10011", "send"), 2),
        (77, "delivered", None, 1),
        (80, "delivered", None, 1),
        (81, "delivered", None, 1),
        (82, "delivered", None, 1),
    ],
)
def test_every_fate_ends_as_it_should(
    service: Service, magic: int, state: str, error: tuple[str, str] | None, attempts: int
) -> None:
    ticket = service.notifier.enqueue("notice", to=magic_number(magic, 7), text="hello")
    service.wait_final(ticket.id)
    message = one(service, ticket.id)
    assert (message["state"], message["attempts"]) == (state, attempts), message["timeline"]
    if error:
        assert (message["errors"][-1]["code"], message["errors"][-1]["phase"]) == error
        assert len(message["errors"][-1]["title"]) > 5, "in plain words"
    assert len(service.sent(ref=message["id"])) <= 1


def test_a_stop_in_the_webhook_blocks_and_a_start_lifts_it(service: Service) -> None:
    person = "+13125551020"
    hook = f"{service.environ['PUBLIC_URL']}/webhooks/telnyx"

    def says(text: str) -> None:
        answer = service.sandbox("inbound", {"from": person, "to": "12345", "text": text, "webhook_url": hook})
        assert [c["status"] for c in answer["callbacks"]] == [200]

    says("STOP")
    stopped = service.notifier.enqueue("notice", to=person, text="hello")
    service.wait_final(stopped.id)
    assert one(service, stopped.id)["state"] == "opted_out"
    assert service.sent(to=person) == []
    says("START")
    started = service.notifier.enqueue("notice", to=person, text="hello")
    service.wait_final(started.id)
    assert one(service, started.id)["state"] == "delivered"


def test_a_member_of_a_group_who_opted_out_is_left_out_and_the_others_get_it(service: Service) -> None:
    service.notifier.ledger  # noqa: B018
    status, _ = service.call("PUT", "/v1/opt-outs/+13125551031")
    assert status in (200, 204)
    ticket = service.notifier.enqueue("family", to=["+13125551030", "+13125551031", magic_number(40, 8)], text="dinner")
    service.wait_final(ticket.id)
    message = one(service, ticket.id)
    states = {m["to"]: m["state"] for m in message["members"]}
    assert states == {"+13125551030": "delivered", "+13125551031": "opted_out", magic_number(40, 8): "failed"}
    assert message["state"] == "failed"
    (arrival,) = service.sent(ref=message["id"])
    assert "+13125551031" not in json.dumps(arrival["to"])


def test_the_profile_of_a_pool_reaches_telnyx(service: Service) -> None:
    ticket = service.notifier.enqueue("promotion", to="+13125551040", text="sale")
    service.wait_final(ticket.id)
    message = one(service, ticket.id)
    assert message["from"], "what Telnyx chose"
    redis: Any = service.ledger.redis
    assert PROFILE in redis.hget(service.ledger.key("lane:pool"), "scp").decode()


def test_the_http_api_enqueues_repeats_and_cancels(service: Service) -> None:
    body = {"job_type": "notice", "to": "+13125551050", "text": "later", "send_at": "2099-01-01T00:00:00Z"}
    status, problem = service.call("POST", "/v1/notifications", body, Idempotency_Key="k-1")
    assert status == 422, "over a year ahead"
    del body["send_at"]
    status, first = service.call("POST", "/v1/notifications", body, Idempotency_Key="k-1")
    assert status == 202, (first, problem)
    assert service.call("POST", "/v1/notifications", body, Idempotency_Key="k-1") == (202, first)
    status, _ = service.call("POST", "/v1/notifications", {**body, "text": "other"}, Idempotency_Key="k-1")
    assert status == 409


def notify(service: Service, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [NOTIFY, *arguments, "--json"], env=service.environ, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_a_rejected_message_is_listed_and_replayed_once_the_cause_is_gone(service: Service) -> None:
    SENDER_ERRORS["+18885550001"] = "40322"
    try:
        ticket = service.notifier.enqueue(
            "ticket", to=["+13125551090", "+13125551091", "+13125551092"], text="Your ticket"
        )
        assert service.wait_final(ticket.id) == [{"rejected": 3}]
    finally:
        SENDER_ERRORS.clear()
    ids = [f"{ticket.id}-{i}" for i in range(3)]
    _, listed = notify(service, "dead", "--job-type", "ticket")
    rows = {row["id"]: (row["code"], row["replayable"]) for row in listed["dead"]}
    assert {id: rows[id] for id in ids} == dict.fromkeys(ids, ("40322", True))
    service.call("PUT", "/v1/opt-outs/+13125551091")
    code, done = notify(service, "replay", ids[0], ids[1])
    assert code == 1
    assert [(row["leg"], row["why"]) for row in done["messages"]] == [(f"{ids[0]}-2", None), (None, "opted_out")]
    assert service.wait_final(ticket.id) == [{"delivered": 1, "rejected": 2}]
    _, body = service.get(f"/v1/notifications/{ticket.id}")
    message = body["messages"][0]
    (arrival,) = service.sent(ref=f"{ids[0]}-2")
    assert (message["id"], message["state"], message["provider_id"]) == (ids[0], "delivered", arrival["id"])
    assert (arrival["key"], message["attempts"]) == (f"{ids[0]}-2", 2)
    assert [error["code"] for error in message["errors"]] == ["40322"]
    steps = [(step["leg"], step["state"]) for step in message["timeline"]]
    assert steps[:5] == [(1, "new"), (1, "queued"), (1, "sending"), (1, "rejected"), (2, "new")]
    assert steps[-1] == (2, "delivered")
    assert service.sent(to="+13125551091") == []


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def handed_ahead(service: Service, id: str, count: int) -> list[dict[str, Any]]:
    """The messages of a notification once Telnyx holds them all."""

    def held() -> list[dict[str, Any]] | None:
        _, body = service.get(f"/v1/notifications/{id}")
        found: list[dict[str, Any]] = body["messages"]
        return found if len(found) == count and all(m["state"] == "accepted" for m in found) else None

    messages: list[dict[str, Any]] = wait_until(held, what="Telnyx to hold them", seen=lambda: service.states(id))
    return messages


def test_what_telnyx_holds_is_asked_back_by_a_cancel_and_what_it_keeps_is_delivered(service: Service) -> None:
    body = {"job_type": "reminder", "text": "later", "send_at": in_an_hour(), "schedule": "provider"}
    to = ["+13125551100", "+13125551101", magic_number(64, 1), magic_number(66, 1)]
    status, ticket = service.call("POST", "/v1/notifications", {**body, "to": to})
    assert status == 202, ticket
    id = ticket["id"]
    for message in handed_ahead(service, id, 4):
        (arrival,) = service.sent(ref=message["id"])
        assert (arrival["path"], arrival["key"], arrival["status"]) == ("/messages", message["id"], "scheduled")
        assert datetime.fromisoformat(message["provider_send_at"]).timestamp() * 1e6 == arrival["send_at"]
    status, answer = service.call("DELETE", f"/v1/notifications/{id}")
    assert (status, answer) == (200, {"id": id, "cancelled": 0, "asked_back": 4})
    assert service.wait_final(id, timeout_s=60) == [{"cancelled": 3, "delivered": 1}]
    _, body = service.get(f"/v1/notifications/{id}")
    (kept,) = [m for m in body["messages"] if m["state"] == "delivered"]
    assert (kept["to"], [e["code"] for e in kept["errors"]]) == (to[2], ["too_late"])
    assert [m["status"] for m in service.sent() if m["ref"].startswith(id)].count("cancelled") == 3


def test_a_stop_by_webhook_asks_back_what_telnyx_holds_for_the_person(service: Service) -> None:
    to = ["+13125551110", "+13125551111"]
    ticket = service.notifier.enqueue("reminder", to=to, text="later", send_at=in_an_hour(), schedule="provider")
    handed_ahead(service, ticket.id, 2)
    service.sandbox("inbound", {"from": to[0], "to": "+13125550001", "text": "STOP"})
    states = {"accepted": 1, "opted_out": 1}
    wait_until(lambda: service.states(ticket.id) == states, what="it back", seen=lambda: service.states(ticket.id))
    (arrival,) = service.sent(to=to[0])
    assert arrival["status"] == "cancelled"
    service.sandbox("release", {})
    assert service.wait_final(ticket.id) == [{"delivered": 1, "opted_out": 1}]


def said(service: Service, *arguments: str) -> str:
    done = subprocess.run(
        [NOTIFY, *arguments], env=service.environ, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_by_hand_a_message_is_held_by_telnyx_shown_as_such_and_asked_back(service: Service) -> None:
    request = ["reminder", "--to", "+13125551120", "--text", "later", "--at", in_an_hour(), "--schedule", "provider"]
    code, sent = notify(service, "send", *request)
    assert code == 0
    handed_ahead(service, sent["id"], 1)
    assert "scheduled at Telnyx for" in " ".join(said(service, "status", sent["id"]).split())
    answer = f"1 message asked back from Telnyx: notify status {sent['id']} shows what it answers\n"
    assert said(service, "cancel", sent["id"]) == answer
    assert service.wait_final(sent["id"]) == [{"cancelled": 1}]


def test_nothing_that_was_sent_stands_in_a_log(service: Service) -> None:
    ticket = service.notifier.enqueue("otp", to="+13125551060", variables={"code": "SECRET-8271"})
    service.wait_final(ticket.id)
    logs = "".join(path.read_text() for path in service.directory.glob("*.log"))
    assert ticket.id in logs
    assert "SECRET-8271" not in logs
    assert "13125551060" not in logs


def test_without_webhooks_fates_come_from_polls(tmp_path: Path, redis_url: str) -> None:
    with running_service(tmp_path, redis_url, mode="poll", poll_after="1s") as service:
        service.environ.pop("PUBLIC_URL")
        service.start_web()
        worker = service.start_worker()
        ticket = service.notifier.enqueue("notice", to=["+13125551070", magic_number(40, 9)], text="hello")
        assert service.wait_final(ticket.id) == [{"delivered": 1, "failed": 1}]
        assert [(m["ref"], m["callbacks"]) for m in service.sent()] == [(None, []), (None, [])], (
            "no webhook was asked for"
        )
        assert terminate(worker) == 0


def test_silent_messages_are_polled_and_receipts_that_were_lost_do_no_harm(tmp_path: Path, redis_url: str) -> None:
    with running_service(tmp_path, redis_url, poll_after="2s") as service:
        service.sandbox("faults", {"lose_receipts": 1.0})
        service.start_web()
        service.start_worker()
        ticket = service.notifier.enqueue("notice", to=["+13125551080", magic_number(40, 9)], text="hello")
        wait_until(lambda: service.sent() and len(service.sent()) == 2, what="both to arrive")
        assert service.wait_final(ticket.id) == [{"delivered": 1, "failed": 1}]
