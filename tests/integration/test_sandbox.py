"""The sandbox over real HTTP: its answers fit the pinned SDK's own models, and its faults do what they say."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from telnyx import Telnyx

from worker.sandbox import RunningSandbox, SandboxOptions, magic_number, running_sandbox

LONG, SHORT, PERSON, BRITON = "+13125550001", "12345", "+13125550100", "+447700900123"
PROFILE = "abc85f64-5717-4562-b3fc-2c9600000000"
HOOK = "http://127.0.0.1:9/hook"
HEADERS = {"authorization": "Bearer key"}
DEADLINE_S = 30.0

http_client = httpx.Client(
    timeout=DEADLINE_S, trust_env=False, verify=False
)  # one for all: a new one reads every certificate there is


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSandbox]:
    options = SandboxOptions(sent_delay_s=0.01, final_delay_s=0.02, slow_s=0.3, hang_s=0.6, silent_s=0.05)
    with running_sandbox(options) as running:
        yield running


@pytest.fixture
def telnyx(shared: RunningSandbox) -> RunningSandbox:
    http_client.post(f"{shared.url}/sandbox/reset")
    return shared


@pytest.fixture
def client(telnyx: RunningSandbox) -> Telnyx:
    return Telnyx(api_key="key", base_url=telnyx.base_url, max_retries=0)


def send(
    telnyx: RunningSandbox, path: str = "/messages/long_code", key: str | None = None, **fields: Any
) -> httpx.Response:
    body = {"from": LONG, "to": PERSON, "text": "hello", **fields}
    headers = HEADERS if key is None else {**HEADERS, "idempotency-key": key}
    return http_client.post(telnyx.base_url + path, json=body, headers=headers)


def get(telnyx: RunningSandbox, path: str) -> Any:
    return http_client.get(telnyx.url + path, headers=HEADERS).json()


def summary(telnyx: RunningSandbox) -> Any:
    return get(telnyx, "/sandbox/summary")


def set_faults(telnyx: RunningSandbox, **faults: Any) -> None:
    assert http_client.post(f"{telnyx.url}/sandbox/faults", json=faults).status_code == 200


def code_of(response: httpx.Response) -> str:
    return str(response.json()["errors"][0]["code"])


def strictly(raw: Any) -> Any:
    """The parsed answer, after its raw bytes passed the strict form of the model that the SDK declares for it."""
    parsed = raw.parse()
    type(parsed).model_validate_json(raw.http_response.content, strict=True)
    return parsed


# Answers, by the pinned SDK


def test_every_send_answers_as_the_sdk_declares(client: Telnyx) -> None:
    messages = client.messages.with_raw_response
    media = ["https://example.com/a.png"]
    answers = [
        messages.send(from_=LONG, to=PERSON, text="hello", webhook_url=HOOK),
        messages.send(from_=LONG, to=PERSON, media_urls=media, subject="s"),
        messages.send_long_code(from_=LONG, to=PERSON, text="hello"),
        messages.send_short_code(from_=SHORT, to=PERSON, text="hello"),
        messages.send_number_pool(messaging_profile_id=PROFILE, to=PERSON, text="hello"),
        messages.send_group_mms(from_=LONG, to=[PERSON, "+13125550101"], text="hello", media_urls=media),
        messages.send_with_alphanumeric_sender(from_="ACME", messaging_profile_id=PROFILE, text="hello", to=BRITON),
        messages.schedule(from_=LONG, to=PERSON, text="hello", send_at=in_minutes(10)),
    ]
    for answer in answers:
        data = strictly(answer).data
        assert data.id and data.from_.phone_number and data.to[0].status == "queued"
        assert data.wait_seconds == 0.0 and data.parts == 1
    assert strictly(answers[4]).data.from_.phone_number.startswith("+1773555")
    assert [to.phone_number for to in strictly(answers[5]).data.to] == [PERSON, "+13125550101"]


@pytest.mark.parametrize(
    "content",
    [
        {"type": "text", "text": {"body": "hello"}},
        {
            "type": "template",
            "template": {
                "name": "code",
                "language": {"code": "en_US"},
                "components": [{"type": "body", "parameters": [{"type": "text", "text": "1"}]}],
            },
        },
        {"type": "image", "image": {"link": "https://example.com/a.png"}},
    ],
)
def test_whatsapp_answers_as_the_sdk_declares(client: Telnyx, content: Any) -> None:
    sent = strictly(client.messages.with_raw_response.whatsapp(from_=LONG, to=PERSON, whatsapp_message=content))
    assert sent.data.type == "WHATSAPP" and sent.data.to[0].status == "queued"
    found = strictly(client.messages.with_raw_response.retrieve(sent.data.id))
    assert found.data.type == "WHATSAPP"


def test_lookups_answer_as_the_sdk_declares(client: Telnyx) -> None:
    raw = client.messages.with_raw_response
    sent = client.messages.send_group_mms(from_=LONG, to=[PERSON, magic_number(40)], text="hello").data
    assert sent is not None and sent.id is not None
    message_id = sent.id

    def statuses() -> list[str]:
        return [to.status for to in strictly(raw.retrieve(message_id)).data.to]

    wait_until(lambda: statuses() == ["delivered", "delivery_failed"])
    found = strictly(raw.retrieve(message_id)).data
    assert [error.code for error in found.errors] == ["40008"]
    assert found.completed_at and found.cost.amount == "0.0051"
    members = strictly(raw.retrieve_group_messages(message_id)).data
    assert [member.to[0].phone_number for member in members] == [PERSON, magic_number(40)]


def test_numbers_and_opt_outs_answer_as_the_sdk_declares(client: Telnyx, telnyx: RunningSandbox) -> None:
    strictly(client.phone_numbers.messaging.with_raw_response.retrieve(LONG))
    raw = client.phone_numbers.messaging.with_raw_response
    updated = strictly(raw.update(LONG, messaging_profile_id=PROFILE, messaging_product="P2P", tags=["a"])).data
    assert (updated.messaging_profile_id, updated.messaging_product, updated.tags) == (PROFILE, "P2P", ["a"])
    kept = strictly(raw.update(updated.id, tags=["b"])).data
    assert (kept.messaging_profile_id, kept.tags) == (PROFILE, ["b"])
    assert strictly(raw.update(LONG, messaging_profile_id="")).data.messaging_profile_id is None
    page = strictly(raw.list(filter_type="tollfree", sort_phone_number="desc", page_size=5))
    assert [number.type for number in page.data] == ["tollfree"]
    strictly(client.mobile_phone_numbers.messaging.with_raw_response.retrieve("+13125550011"))
    assert len(strictly(client.mobile_phone_numbers.messaging.with_raw_response.list()).data) == 2
    http_client.post(f"{telnyx.url}/sandbox/inbound", json={"from": PERSON, "to": LONG, "text": "STOP"})
    rows = strictly_lax_times(client.messaging_optouts.with_raw_response.list(filter={"from": LONG}))
    assert [(row.to, row.from_, row.keyword) for row in rows.data] == [(PERSON, LONG, "STOP")]


def strictly_lax_times(raw: Any) -> Any:
    """As ``strictly``, but Telnyx writes these times with a space where RFC 3339 has a T."""
    parsed = raw.parse()
    type(parsed).model_validate_json(raw.http_response.content.replace(b" ", b"T"), strict=True)
    return parsed


def test_the_sdk_walks_every_page(client: Telnyx, telnyx: RunningSandbox) -> None:
    for n in range(45):
        http_client.post(
            f"{telnyx.url}/sandbox/inbound", json={"from": f"+131255512{n:02d}", "to": LONG, "text": "STOP"}
        )
    assert len({row.to for row in client.messaging_optouts.list(page_size=20)}) == 45
    meta = get(telnyx, "/v2/messaging_optouts?page[size]=20&page[number]=3")["meta"]
    assert meta == {"page_number": 3, "page_size": 20, "total_pages": 3, "total_results": 45}


def test_bulk_assignment_is_pending_then_done(client: Telnyx) -> None:
    raw = client.messaging_numbers_bulk_updates.with_raw_response
    order = strictly(raw.create(messaging_profile_id=PROFILE, numbers=[LONG, "+13125559999"])).data
    assert order.pending == [LONG, "+13125559999"]
    wait_until(lambda: not strictly(raw.retrieve(order.order_id)).data.pending)
    done = strictly(raw.retrieve(order.order_id)).data
    assert (done.success, done.failed) == ([LONG], ["+13125559999"])


def test_a_scheduled_message_can_be_cancelled_and_a_sent_one_cannot(client: Telnyx, telnyx: RunningSandbox) -> None:
    scheduled = client.messages.send(from_=LONG, to=PERSON, text="later", send_at=in_minutes(10)).data
    assert scheduled is not None and scheduled.id is not None
    assert get(telnyx, f"/v2/messages/{scheduled.id}")["data"]["to"][0]["status"] == "scheduled"
    cancelled = strictly(client.messages.with_raw_response.cancel_scheduled(scheduled.id))
    assert (cancelled.id, cancelled.to[0].status) == (scheduled.id, "cancelled")
    sent = send(telnyx).json()["data"]["id"]
    for message_id, status in ((sent, 403), (scheduled.id, 403), ("6b1ff1d2-0000-4000-8000-000000000000", 404)):
        assert http_client.delete(f"{telnyx.base_url}/messages/{message_id}", headers=HEADERS).status_code == status


def in_minutes(minutes: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60 * minutes))


# Refusals


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "Basic eDp5"}])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/messages"), ("GET", "/messages/x"), ("GET", "/messaging_optouts")]
)
def test_a_missing_key_is_401(telnyx: RunningSandbox, method: str, path: str, headers: dict[str, str]) -> None:
    answer = http_client.request(method, telnyx.base_url + path, headers=headers)
    assert (answer.status_code, code_of(answer)) == (401, "10009")


def test_a_key_that_an_option_names_is_the_only_one() -> None:
    with running_sandbox(SandboxOptions(api_key="right")) as telnyx:
        assert send(telnyx).status_code == 401
        right = {"authorization": "Bearer right"}
        assert http_client.get(f"{telnyx.base_url}/messaging_optouts", headers=right).status_code == 200


@pytest.mark.parametrize("path", ["/messages/6b1ff1d2-0000-4000-8000-000000000000", "/messages/group/x", "/nothing"])
def test_what_does_not_exist_is_404(telnyx: RunningSandbox, path: str) -> None:
    answer = http_client.get(telnyx.base_url + path, headers=HEADERS)
    assert (answer.status_code, code_of(answer)) == (404, "10005")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"to":', b'"x"', b"\xff"])
def test_an_unreadable_body_is_refused(telnyx: RunningSandbox, raw: bytes) -> None:
    answer = http_client.post(f"{telnyx.base_url}/messages", content=raw, headers=HEADERS)
    assert (answer.status_code, code_of(answer)) == (400, "10015")


@pytest.mark.parametrize(
    ("magic", "status", "code"),
    [(50, 400, "40300"), (51, 400, "40310"), (53, 429, "40333"), (54, 400, "40318"), (56, 402, "20100")],
)
def test_a_refused_magic_recipient_is_never_accepted(
    telnyx: RunningSandbox, magic: int, status: int, code: str
) -> None:
    answer = send(telnyx, to=magic_number(magic))
    assert (answer.status_code, code_of(answer)) == (status, code)
    assert summary(telnyx)["accepted"] == 0
    assert summary(telnyx)["refused"] == {code: 1}


def test_a_sender_can_be_made_to_fail() -> None:
    with running_sandbox(SandboxOptions(sender_errors={LONG: "40315", PROFILE: "40312"})) as telnyx:
        assert code_of(send(telnyx)) == "40315"
        assert code_of(send(telnyx, "/messages/number_pool", messaging_profile_id=PROFILE)) == "40312"
        assert send(telnyx, **{"from": "+13125550002"}).status_code == 200


# Answers that get lost


def test_a_cut_answer_leaves_an_accepted_message(telnyx: RunningSandbox) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        send(telnyx, to=magic_number(71), key="k1", webhook_url=f"{HOOK}?ref=r1")
    assert [row["ref"] for row in get(telnyx, "/sandbox/messages?ref=r1")] == ["r1"]
    again = send(telnyx, to=magic_number(71), key="k1", webhook_url=f"{HOOK}?ref=r1")
    assert again.headers["idempotent-replayed"] == "true"
    assert summary(telnyx)["texted_twice"] == []


def test_a_cut_before_acceptance_leaves_nothing(telnyx: RunningSandbox) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        send(telnyx, to=magic_number(79), key="k1")
    assert summary(telnyx)["accepted"] == 0


def test_a_500_after_acceptance_is_not_replayed_so_the_same_key_texts_twice(telnyx: RunningSandbox) -> None:
    for _ in range(2):
        assert send(telnyx, to=magic_number(72), key="k1", webhook_url=f"{HOOK}?ref=r1").status_code == 500
    assert [(entry["ref"], entry["count"]) for entry in summary(telnyx)["texted_twice"]] == [("r1", 2)]


@pytest.mark.parametrize(("magic", "status"), [(74, 500), (75, 429)])
def test_a_failure_that_comes_once_is_over_at_the_second_try(telnyx: RunningSandbox, magic: int, status: int) -> None:
    url = f"{HOOK}?ref=r1"
    first = send(telnyx, to=magic_number(magic), key="k1", webhook_url=url)
    assert first.status_code == status
    assert ("retry-after" in first.headers) is (status == 429)
    assert send(telnyx, to=magic_number(magic), key="k1", webhook_url=url).status_code == 200
    assert send(telnyx, to=magic_number(magic), webhook_url=f"{HOOK}?ref=r2").status_code == status
    assert summary(telnyx)["accepted"] == 1


def test_a_500_before_acceptance_accepts_nothing(telnyx: RunningSandbox) -> None:
    assert send(telnyx, to=magic_number(73)).status_code == 500
    assert summary(telnyx)["accepted"] == 0


def test_a_garbled_answer_is_a_200_that_nobody_can_read(telnyx: RunningSandbox) -> None:
    answer = send(telnyx, to=magic_number(77))
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert summary(telnyx)["accepted"] == 1


@pytest.mark.parametrize(("magic", "at_least_s"), [(70, 0.3), (76, 0.6)])
def test_a_slow_answer_comes_late_for_a_message_accepted_at_once(
    telnyx: RunningSandbox, magic: int, at_least_s: float
) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, telnyx, to=magic_number(magic))
        wait_until(lambda: summary(telnyx)["accepted"] == 1)
        accepted_after_s = time.monotonic() - started
        assert answer.result().status_code == 200
    assert time.monotonic() - started >= at_least_s
    assert not answer.running() and accepted_after_s < time.monotonic() - started


# Idempotency keys


def test_a_repeat_with_the_same_bytes_gets_the_first_answer_again(telnyx: RunningSandbox) -> None:
    first = send(telnyx, key="k1")
    wait_until(
        lambda: get(telnyx, f"/v2/messages/{first.json()['data']['id']}")["data"]["to"][0]["status"] == "delivered"
    )
    second = send(telnyx, key="k1")
    assert second.content == first.content
    assert "idempotent-replayed" not in first.headers and second.headers["idempotent-replayed"] == "true"
    assert (summary(telnyx)["accepted"], summary(telnyx)["replays"]) == (1, 1)


def test_a_key_with_another_body_is_422_and_at_another_path_a_new_message(telnyx: RunningSandbox) -> None:
    send(telnyx, key="k1")
    other = send(telnyx, key="k1", text="other")
    assert (other.status_code, code_of(other)) == (422, "10027")
    assert send(telnyx, "/messages", key="k1").status_code == 200
    assert summary(telnyx)["accepted"] == 2


def test_a_repeat_while_the_first_one_runs_is_409(telnyx: RunningSandbox) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, telnyx, to=magic_number(76), key="k1")
        wait_until(lambda: summary(telnyx)["accepted"] == 1)
        second = send(telnyx, to=magic_number(76), key="k1")
        assert (second.status_code, code_of(second)) == (409, "10036")
        first.result()
    assert send(telnyx, to=magic_number(76), key="k1").headers["idempotent-replayed"] == "true"
    assert summary(telnyx)["accepted"] == 1


def test_a_refused_request_leaves_its_key_free(telnyx: RunningSandbox) -> None:
    assert send(telnyx, key="k1", text="").status_code == 400
    assert send(telnyx, key="k1").status_code == 200


def test_ignored_keys_show_who_would_be_texted_twice(telnyx: RunningSandbox) -> None:
    set_faults(telnyx, honour_keys=False)
    for _ in range(2):
        send(telnyx, key="k1", webhook_url=f"{HOOK}?ref=r1")
    assert [entry["ref"] for entry in summary(telnyx)["texted_twice"]] == ["r1"]


# Faults and limits


def test_down_answers_503_without_json_until_it_is_up_again(telnyx: RunningSandbox) -> None:
    set_faults(telnyx, down=True)
    for answer in (send(telnyx), http_client.get(f"{telnyx.base_url}/messages/x", headers=HEADERS)):
        assert answer.status_code == 503
        with pytest.raises(json.JSONDecodeError):
            answer.json()
    set_faults(telnyx, down=False)
    assert send(telnyx).status_code == 200


@pytest.mark.parametrize(
    ("fault", "statuses", "accepted"),
    [
        ("500_before", {500}, 0),
        ("429", {429}, 0),
        ("500_after_accept", {500}, 3),
        ("cut_after_accept", {None}, 3),
    ],
)
def test_a_fault_with_share_one_hits_every_request(
    telnyx: RunningSandbox, fault: str, statuses: set[int | None], accepted: int
) -> None:
    set_faults(telnyx, **{fault: 1.0})
    seen: set[int | None] = set()
    for _ in range(3):
        try:
            seen.add(send(telnyx).status_code)
        except httpx.RemoteProtocolError:
            seen.add(None)
    assert seen == statuses
    assert summary(telnyx)["accepted"] == accepted


def test_the_same_seed_gives_the_same_faults(telnyx: RunningSandbox) -> None:
    runs = []
    for _ in range(2):
        set_faults(telnyx, **{"seed": 7, "500_before": 0.5})
        runs.append([send(telnyx).status_code for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


def test_latency_delays_each_answer(telnyx: RunningSandbox) -> None:
    set_faults(telnyx, latency_ms=200)
    started = time.monotonic()
    send(telnyx)
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("body", [{"cut": 1}, {"seed": "x"}, {"down": 1}, [], "x"])
def test_a_wrong_fault_is_refused_with_the_remedy(telnyx: RunningSandbox, body: Any) -> None:
    answer = http_client.post(f"{telnyx.url}/sandbox/faults", json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


def test_a_reset_forgets_messages_keys_and_faults(telnyx: RunningSandbox) -> None:
    send(telnyx, key="k1")
    set_faults(telnyx, **{"500_before": 1.0})
    http_client.post(f"{telnyx.url}/sandbox/reset")
    assert summary(telnyx)["requests"] == 0
    assert get(telnyx, "/sandbox/messages") == []
    assert "idempotent-replayed" not in send(telnyx, key="k1").headers


def test_over_its_rate_a_sender_queues_first_in_first_out() -> None:
    with running_sandbox(SandboxOptions(sender_rates={LONG: 1.0}, sent_delay_s=0.0, final_delay_s=0.0)) as telnyx:
        waits = [send(telnyx).json()["data"]["wait_seconds"] for _ in range(3)]
        assert waits[0] == 0.0 < waits[1] < waits[2]
        assert send(telnyx, **{"from": "+13125550002"}).json()["data"]["wait_seconds"] == 0.0

        def own() -> list[dict[str, Any]]:
            return [row for row in get(telnyx, "/sandbox/messages") if row["from"] == LONG]

        wait_until(lambda: all(row["sent_at"] for row in own()))
        sent = [row["sent_at"] for row in own()]
        assert sent == sorted(sent) and sent[-1] - own()[0]["arrived_at"] >= 2_000_000


def test_a_full_queue_and_a_busy_account_refuse() -> None:
    with running_sandbox(SandboxOptions(default_rate=0.01, queue_s=50)) as telnyx:
        assert send(telnyx).status_code == 200
        assert code_of(send(telnyx)) == "40318"
    with running_sandbox(SandboxOptions(account_rate=0.01, retry_after_s=7)) as telnyx:
        assert send(telnyx).status_code == 200
        refused = send(telnyx)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")


# The record


def test_the_record_tells_what_arrived_when_and_from_whom(telnyx: RunningSandbox) -> None:
    before_us = time.time_ns() // 1000
    send(telnyx, key="k1", webhook_url=f"{HOOK}?ref=r1")
    send(telnyx, to="+13125550101")
    (row,) = get(telnyx, f"/sandbox/messages?to={quote(PERSON)}")
    assert (row["ref"], row["key"], row["path"], row["text_length"]) == ("r1", "k1", "/messages/long_code", 5)
    assert len(row["body_sha256"]) == 64
    assert before_us <= row["arrived_at"] <= time.time_ns() // 1000
    assert [arrival[1:] for arrival in get(telnyx, "/sandbox/arrivals")] == [[LONG, "r1"], [LONG, None]]
    assert get(telnyx, f"/sandbox/messages?since={row['arrived_at'] + 10_000_000}") == []
    send(telnyx, text="")
    assert [arrival[3] for arrival in get(telnyx, "/sandbox/arrivals?all=1")] == [200, 200, 400]


def test_an_arrival_is_stamped_when_its_bytes_come_not_when_the_loop_has_time(telnyx: RunningSandbox) -> None:
    """Many requests at once: whatever the loop does with them, their stamps are a moment apart from being sent."""
    host = urlsplit(telnyx.url)
    body = json.dumps({"from": LONG, "to": PERSON, "text": "hello"})
    start = threading.Barrier(8)

    def one() -> tuple[int, int]:
        connection = http.client.HTTPConnection(str(host.hostname), host.port, timeout=DEADLINE_S)
        start.wait()
        before_us = time.time_ns() // 1000
        connection.request("POST", "/v2/messages/long_code", body, HEADERS)
        assert connection.getresponse().status == 200
        connection.close()
        return before_us, time.time_ns() // 1000

    with ThreadPoolExecutor(8) as pool:
        spans = [done.result() for done in [pool.submit(one) for _ in range(8)]]
    stamps = sorted(arrival[0] for arrival in get(telnyx, "/sandbox/arrivals"))
    assert len(stamps) == 8
    assert min(before for before, _ in spans) <= stamps[0]
    assert stamps[-1] <= max(after for _, after in spans)


def test_the_loop_reports_its_own_lag(telnyx: RunningSandbox) -> None:
    wait_until(lambda: get(telnyx, "/sandbox/lag")["samples"] >= 3)
    lag = get(telnyx, "/sandbox/lag")
    assert lag["p50_us"] <= lag["p99_us"] <= lag["max_us"]


def test_the_page_stands_alone(telnyx: RunningSandbox) -> None:
    page = http_client.get(telnyx.url + "/")
    assert page.headers["content-type"].startswith("text/html")
    outside = page.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in outside and "https://" not in outside  # nothing is loaded from elsewhere
    assert "innerHTML" not in page.text  # what a message says is shown as text
