"""The HTTP API over real HTTP: notifications in, their fate out, opt-outs, lanes; and every error a problem."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producers.ledger import calls
from producers.ledger.ledger import Ledger
from worker.compliance.opt_outs import read_opt_out
from worker.embedded import EmbeddedServer
from worker.web.models import (
    BatchAnswer,
    DryRunAnswer,
    LanesAnswer,
    NotificationAnswer,
    OptOutAnswer,
)
from worker.web.problems import ProblemBody

from .conftest import APP_KEY, OTHER_KEY, PERSON, PROFILE, READER_KEY, Web, running, web_settings

OTP = {"job_type": "otp", "to": PERSON, "variables": {"code": "123456"}}
NOTICE = {"job_type": "notice", "to": PERSON, "text": "hello"}
UNKNOWN_ID = "0" * 32


def _enqueue(web: Web, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = web.call("POST", "/v1/notifications", json=fields, **more)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    ProblemBody.model_validate(body)
    assert (body["status"], body["code"]) == (status, code)
    return body


def _keys(ledger: Ledger, *parts: str) -> list[bytes]:
    redis: Any = ledger.redis
    return [key for part in parts for key in redis.scan_iter(match=ledger.key(part), count=1000)]


# Enqueue


def test_a_notification_is_kept_and_pointed_at_when_202_arrives(web: Web, ledger: Ledger) -> None:
    made = _enqueue(web, OTP)
    assert made == {"id": made["id"], "messages": 1} and len(made["id"]) == 32
    redis: Any = ledger.redis
    assert redis.hget(ledger.key(f"m:{made['id']}-0"), "cl") == b"app"
    assert redis.llen(f"{{{ledger.namespace}}}:d:expand.urgent") == 1


def test_a_repeat_gives_the_same_answer_and_says_so(web: Web) -> None:
    first = web.call("POST", "/v1/notifications", json=OTP, headers={"idempotency-key": "k1"})
    again = web.call("POST", "/v1/notifications", json=OTP, headers={"idempotency-key": "k1"})
    by_field = web.call("POST", "/v1/notifications", json={**OTP, "idempotency_key": "k1"})
    assert first.json() == again.json() == by_field.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == by_field.headers["idempotent-replayed"] == "true"


def test_a_key_with_another_request_is_a_conflict(web: Web) -> None:
    made = _enqueue(web, OTP, headers={"idempotency-key": "k1"})
    answer = web.call("POST", "/v1/notifications", json=NOTICE, headers={"idempotency-key": "k1"})
    assert _problem(answer, 409, "idempotency_conflict")["id"] == made["id"]


def test_the_keys_of_two_clients_never_meet(web: Web) -> None:
    mine = _enqueue(web, OTP, headers={"idempotency-key": "k1"})
    theirs = _enqueue(web, NOTICE, headers={"idempotency-key": "k1"}, key=OTHER_KEY)
    assert mine["id"] != theirs["id"]


def test_header_and_field_must_agree(web: Web) -> None:
    body = {**OTP, "idempotency_key": "b"}
    answer = web.call("POST", "/v1/notifications", json=body, headers={"idempotency-key": "a"})
    assert _problem(answer, 422, "invalid_notification")["errors"][0]["field"] == "idempotency_key"
    assert web.call("POST", "/v1/notifications", json=body, headers={"idempotency-key": "b"}).status_code == 202


def test_all_that_is_wrong_is_named_at_once_and_nothing_is_written(web: Web, ledger: Ledger) -> None:
    fields = {"job_type": "opt", "to": ["+13125550100", "3125557731"], "colour": "red"}
    body = _problem(web.call("POST", "/v1/notifications", json=fields), 422, "invalid_notification")
    by_field = {error["field"]: error for error in body["errors"]}
    assert set(by_field) == {"job_type", "to[1]", "colour"}
    assert by_field["job_type"]["remedy"] == 'did you mean "otp"?'
    assert "3125557731" not in json.dumps(body)
    assert _keys(ledger, "m:*", "n:*") == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"  \n", 400, "empty_body"),
        (b'{"to": ', 400, "unreadable_json"),
        (b'{"to": NaN}', 400, "unreadable_json"),
        (b"\xff\xfe", 400, "unreadable_json"),
        (b"[" * 100_000, 400, "unreadable_json"),
        (b'{"job_type": "otp", "to": "+13125550100", "variables": {"code": "\\ud800"}}', 400, "unreadable_json"),
        (b"null", 422, "invalid_notification"),
        (b"[]", 422, "invalid_notification"),
        (b'"text"', 422, "invalid_notification"),
        (b"{}", 422, "invalid_notification"),
        (b'{"job_type": "otp", "to": "+13125550100", "variables": {"code": 1e999}}', 422, "invalid_notification"),
        (b'{"job_type": "otp", "to": "+13125550100", "variables": {"code": [1]}}', 422, "invalid_notification"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/notifications?dry_run=true"])
def test_a_body_that_is_no_request_is_a_problem(web: Web, path: str, body: bytes, status: int, code: str) -> None:
    _problem(web.call("POST", path, content=body), status, code)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_8_mb_is_refused_while_the_client_still_sends(web: Web, chunked: bool) -> None:
    body = b'{"text": "' + b"x" * 12_000_000 + b'"}'
    content = (body[i : i + 65_536] for i in range(0, len(body), 65_536)) if chunked else body
    _problem(web.call("POST", "/v1/notifications", content=content), 413, "too_large")
    assert web.client.get("/healthz").status_code == 200


# Batch


def test_a_batch_answers_in_order(web: Web) -> None:
    rows = [{**NOTICE, "to": f"+131255501{i:02d}"} for i in range(50)]
    answer = web.call("POST", "/v1/notifications/batch", json=rows)
    assert answer.status_code == 202
    BatchAnswer.model_validate(answer.json())
    for row, made in zip(rows, answer.json()["notifications"], strict=True):
        shown = web.call("GET", f"/v1/notifications/{made['id']}").json()
        assert shown["messages"][0]["to"] == row["to"]


def test_a_bad_row_has_its_problem_in_its_place_and_the_others_go(web: Web) -> None:
    rows = [NOTICE, {"job_type": "notice", "to": "x", "text": "y"}, 7, OTP]
    answer = web.call("POST", "/v1/notifications/batch", json=rows)
    assert answer.status_code == 207
    BatchAnswer.model_validate(answer.json())
    good, bad, worse, also = answer.json()["notifications"]
    assert good["messages"] == also["messages"] == 1
    assert (bad["error"]["status"], bad["error"]["errors"][0]["field"]) == (422, "[1].to")
    assert worse["error"]["status"] == 422


def test_a_batch_s_key_makes_a_key_of_each_row(web: Web) -> None:
    headers = {"idempotency-key": "b1"}
    first = web.call("POST", "/v1/notifications/batch", json=[NOTICE, OTP], headers=headers).json()
    assert web.call("POST", "/v1/notifications/batch", json=[NOTICE, OTP], headers=headers).json() == first
    single = _enqueue(web, OTP, headers={"idempotency-key": "b1:1"})
    assert single["id"] == first["notifications"][1]["id"]
    changed = web.call("POST", "/v1/notifications/batch", json=[NOTICE, NOTICE], headers=headers)
    assert changed.status_code == 207
    assert changed.json()["notifications"][0] == first["notifications"][0]
    assert changed.json()["notifications"][1]["error"]["status"] == 409


def test_ten_thousand_rows_go_in_one_call_and_one_more_is_refused(web: Web) -> None:
    rows = [{**NOTICE, "to": f"+1312{2_000_000 + i}"} for i in range(10_001)]
    _problem(web.call("POST", "/v1/notifications/batch", json=rows), 413, "too_many_rows")
    answer = web.call("POST", "/v1/notifications/batch", json=rows[:10_000])
    assert answer.status_code == 202
    assert len({made["id"] for made in answer.json()["notifications"]}) == 10_000


def test_a_batch_that_is_no_array_is_refused(web: Web) -> None:
    _problem(web.call("POST", "/v1/notifications/batch", json=OTP), 422, "invalid_notification")


def test_an_empty_batch_is_no_error(web: Web) -> None:
    answer = web.call("POST", "/v1/notifications/batch", json=[])
    assert (answer.status_code, answer.json()) == (202, {"notifications": []})


# Show and cancel


def test_a_fresh_notification_shows_its_way_so_far(web: Web) -> None:
    made = _enqueue(web, NOTICE)
    shown = web.call("GET", f"/v1/notifications/{made['id']}").json()
    NotificationAnswer.model_validate(shown)
    (message,) = shown["messages"]
    assert shown["state_counts"] == {"new": 1} and shown["next"] is None
    assert (message["id"], message["to"], message["channel"]) == (f"{made['id']}-0", PERSON, "long_code")
    assert (message["from"], message["attempts"], message["provider_id"]) == ("+13125550001", 0, None)
    (step,) = message["timeline"]
    assert (step["state"], step["leg"], step["attempt"], step["reason"]) == ("new", 1, 0, None)
    at = datetime.fromisoformat(step["at"])
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=30) and step["at"].endswith("Z") and len(step["at"]) == 24


def test_pages_hold_each_message_once(web: Web, numbers: Callable[[int], list[str]]) -> None:
    to = numbers(450)
    made = _enqueue(web, {**NOTICE, "to": to})
    seen: list[str] = []
    after: str | None = None
    while True:
        more = f"&after={after}" if after is not None else ""
        page = web.call("GET", f"/v1/notifications/{made['id']}?limit=200{more}").json()
        NotificationAnswer.model_validate(page)
        assert page["state_counts"] == {"new": 450}
        seen += [message["to"] for message in page["messages"]]
        after = page["next"]
        if after is None:
            break
        assert isinstance(after, str) and len(page["messages"]) == 200
    assert seen == to
    assert len(web.call("GET", f"/v1/notifications/{made['id']}").json()["messages"]) == 100


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "after=9999999999999"])
def test_a_page_that_cannot_be_is_a_problem(web: Web, query: str) -> None:
    made = _enqueue(web, NOTICE)
    body = _problem(web.call("GET", f"/v1/notifications/{made['id']}?{query}"), 422, "invalid_notification")
    assert body["errors"][0]["field"] == query.partition("=")[0]


def test_after_the_last_message_a_page_is_empty(web: Web) -> None:
    made = _enqueue(web, NOTICE)
    shown = web.call("GET", f"/v1/notifications/{made['id']}?after=999").json()
    assert (shown["messages"], shown["next"]) == ([], None)


def test_a_group_shows_its_members(web: Web, ledger: Ledger) -> None:
    to = ["+13125550100", "+13125550101"]
    made = _enqueue(web, {"job_type": "family_update", "to": to, "text": "hi"})
    assert made["messages"] == 1
    (message,) = web.call("GET", f"/v1/notifications/{made['id']}").json()["messages"]
    assert message["to"] == to
    assert message["members"] == [{"to": number, "state": "new", "errors": []} for number in to]


def test_a_rejected_message_tells_why(web: Web, ledger: Ledger) -> None:
    made = _enqueue(web, NOTICE)
    item = calls.Admission(to=PERSON, reject="parts", title="too long")
    ledger.run(calls.admit(made["id"], None, "", [item]))
    (message,) = web.call("GET", f"/v1/notifications/{made['id']}").json()["messages"]
    assert message["state"] == "rejected" and message["next_at"] is None
    assert [(e["code"], e["title"], e["phase"]) for e in message["errors"]] == [("parts", "too long", "expand")]
    assert [step["state"] for step in message["timeline"]] == ["new", "rejected"]


def test_a_provider_s_code_without_words_gets_plain_ones(web: Web, ledger: Ledger) -> None:
    made = _enqueue(web, NOTICE)
    ledger.run(calls.admit(made["id"], None, "", [calls.Admission(to=PERSON, lane="local")]))
    answer = calls.Finish(message=f"{made['id']}-0", token="t", outcome="accepted", provider_id="p1")
    ledger.run(calls.finish("0" * 32, [answer]))
    fact = calls.Fact(
        ref=f"{made['id']}-0", provider_id="p1", state="F", raw="delivery_failed", error=("w", "40008", "")
    )
    assert ledger.run(calls.receipt("", [fact])) == ["applied"]
    (message,) = web.call("GET", f"/v1/notifications/{made['id']}").json()["messages"]
    (error,) = message["errors"]
    assert (error["code"], error["phase"], message["provider_id"]) == ("40008", "receipt", "p1")
    assert len(error["title"]) > 10


def test_cancel_stops_what_waits_and_may_be_repeated(web: Web, numbers: Callable[[int], list[str]]) -> None:
    made = _enqueue(web, {**NOTICE, "to": numbers(450)})
    answer = web.call("DELETE", f"/v1/notifications/{made['id']}")
    assert (answer.status_code, answer.json()) == (200, {"id": made["id"], "cancelled": 450})
    assert web.call("DELETE", f"/v1/notifications/{made['id']}").json()["cancelled"] == 0
    assert web.call("GET", f"/v1/notifications/{made['id']}").json()["state_counts"] == {"cancelled": 450}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("id", [UNKNOWN_ID, "x", "0" * 31 + "g", "A" * 32, "%00", "a%2F..%2Fb", "1" * 500])
def test_an_unknown_or_malformed_id_is_not_found(web: Web, method: str, id: str) -> None:
    _problem(web.call(method, f"/v1/notifications/{id}"), 404, "not_found")


def test_another_client_s_notification_looks_like_none(web: Web) -> None:
    made = _enqueue(web, NOTICE)
    for method in ("GET", "DELETE"):
        theirs = _problem(web.call(method, f"/v1/notifications/{made['id']}", key=OTHER_KEY), 404, "not_found")
        nobody = _problem(web.call(method, f"/v1/notifications/{UNKNOWN_ID}", key=OTHER_KEY), 404, "not_found")
        assert theirs["detail"].replace(made["id"], "") == nobody["detail"].replace(UNKNOWN_ID, "")
    assert web.call("GET", f"/v1/notifications/{made['id']}").json()["state_counts"] == {"new": 1}


# Dry run


def _dry(web: Web, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = web.call("POST", "/v1/notifications?dry_run=true", json=fields, **more)
    assert answer.status_code == 200, answer.text
    DryRunAnswer.model_validate(answer.json())
    said: dict[str, Any] = answer.json()
    return said


def test_a_dry_run_writes_nothing_the_key_included(web: Web, ledger: Ledger) -> None:
    before = set(_keys(ledger, "*"))
    said = _dry(web, {**NOTICE, "text": "a" * 161}, headers={"idempotency-key": "k1"})
    assert {name: said[name] for name in ("encoding", "parts", "forces_ucs2", "filtered")} == {
        "encoding": "GSM-7", "parts": 2, "forces_ucs2": [], "filtered": [],
    }  # fmt: skip
    assert said["part_texts"] == ["a" * 153, "a" * 8]
    assert {key for key in _keys(ledger, "*") if b":ears:" not in key} <= before | {ledger.key("ears").encode()}
    made = web.call("POST", "/v1/notifications", json=OTP, headers={"idempotency-key": "k1"})
    assert made.status_code == 202 and "idempotent-replayed" not in made.headers


def test_a_dry_run_names_the_characters_that_cost(web: Web) -> None:
    said = _dry(web, {**NOTICE, "text": "Garçon " * 12})
    assert (said["encoding"], said["parts"], said["forces_ucs2"]) == ("UCS-2", 2, ["ç U+00E7"])


def test_a_dry_run_takes_the_longest_of_many_texts(web: Web) -> None:
    to = [PERSON, {"to": "+13125550101", "variables": {"code": "9" * 200}}]
    assert _dry(web, {**OTP, "to": to})["parts"] == 2


def test_a_dry_run_lists_who_would_get_nothing_and_why(web: Web) -> None:
    web.call("PUT", "/v1/opt-outs/+13125550101")
    said = _dry(web, {**NOTICE, "to": [PERSON, "+13125550101"]})
    assert said["filtered"] == [{"to": "+13125550101", "reason": "opted_out"}]
    said = _dry(web, {"job_type": "abroad", "to": [PERSON, "+447911123456"], "text": "hi"})
    assert said["filtered"] == [{"to": PERSON, "reason": "destination"}]
    said = _dry(web, {**NOTICE, "text": "a" * 5_000})
    assert said["filtered"] == [{"to": PERSON, "reason": "parts"}]


def test_a_dry_run_knows_when_it_would_leave(web: Web) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    assert datetime.fromisoformat(_dry(web, {**NOTICE, "send_at": at.isoformat()})["leaves_at"]) == at
    soon = datetime.fromisoformat(_dry(web, NOTICE)["leaves_at"])
    assert abs(soon - datetime.now(UTC)) < timedelta(seconds=30)
    for lever in ("drain", "pause"):
        web.call("POST", f"/v1/lanes/local/{lever}")
        assert _dry(web, NOTICE)["leaves_at"] is None
        web.call("POST", "/v1/lanes/local/resume")


def test_a_dry_run_counts_the_backlog(web: Web, ledger: Ledger) -> None:
    for i in range(30):  # at 10/s these take 3 s
        made = _enqueue(web, {**NOTICE, "to": f"+131255501{i:02d}"})
        ledger.run(calls.admit(made["id"], None, "", [calls.Admission(to=f"+131255501{i:02d}", lane="local")]))
    before = time.time()
    at = datetime.fromisoformat(_dry(web, NOTICE)["leaves_at"]).timestamp()
    assert before + 2.5 < at < before + 30
    urgent = datetime.fromisoformat(_dry(web, {**NOTICE, "priority": "urgent"})["leaves_at"]).timestamp()
    assert urgent < at - 2


def test_a_dry_run_refuses_what_the_call_would_refuse(web: Web) -> None:
    answer = web.call("POST", "/v1/notifications?dry_run=true", json={"job_type": "otp", "to": PERSON})
    assert _problem(answer, 422, "invalid_notification")["errors"][0]["field"] == "variables.code"


# Keys


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/notifications"),
        ("POST", "/v1/notifications/batch"),
        ("GET", f"/v1/notifications/{UNKNOWN_ID}"),
        ("DELETE", f"/v1/notifications/{UNKNOWN_ID}"),
        ("GET", f"/v1/opt-outs/{PERSON}"),
        ("PUT", f"/v1/opt-outs/{PERSON}"),
        ("DELETE", f"/v1/opt-outs/{PERSON}"),
        ("GET", "/v1/lanes"),
        ("POST", "/v1/lanes/local/pause"),
        ("POST", "/v1/lanes/local/resume"),
        ("POST", "/v1/lanes/local/drain"),
        ("PUT", "/v1/lanes/local/rate"),
    ],
)
def test_every_call_needs_a_key_with_its_scope(web: Web, method: str, path: str) -> None:
    for key in (None, "wrong", "", APP_KEY + "x"):
        answer = web.call(method, path, key=key)
        _problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    basic = web.client.request(method, path, headers={"authorization": "Basic YXBwOmFwcC1rZXk="})
    _problem(basic, 401, "unauthorized")
    if (method, path.split("/")[2]) != ("GET", "notifications"):
        _problem(web.call(method, path, key=READER_KEY), 403, "forbidden")


def test_a_key_that_may_only_read_reads_its_own(web: Web) -> None:
    _problem(web.call("GET", f"/v1/notifications/{UNKNOWN_ID}", key=READER_KEY), 404, "not_found")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/notifications/", "/docs"])
def test_an_unknown_path_is_a_problem(web: Web, path: str) -> None:
    _problem(web.call("GET", path), 404, "not_found")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(web: Web) -> None:
    answer = web.call("PUT", "/v1/notifications")
    _problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


# Opt-outs


def test_an_opt_out_is_set_shown_and_lifted(web: Web) -> None:
    path = f"/v1/opt-outs/{PERSON}"
    assert web.call("GET", path).json()["opted_out"] is False
    assert web.call("PUT", path).status_code == 204
    shown = web.call("GET", path).json()
    OptOutAnswer.model_validate(shown)
    assert (shown["number"], shown["scope"], shown["opted_out"]) == (PERSON, "global", True)
    assert (shown["source"], shown["by_operator"]) == ("api", True)
    assert web.call("DELETE", path).status_code == 204
    assert web.call("GET", path).json()["opted_out"] is False


@pytest.mark.parametrize("scope", ["sender:local", f"profile:{PROFILE}"])
def test_an_opt_out_counts_in_its_scope(web: Web, scope: str) -> None:
    path = f"/v1/opt-outs/{PERSON.replace('+', '%2B')}"
    web.call("PUT", path, params={"scope": scope})
    assert web.call("GET", path, params={"scope": scope}).json()["opted_out"] is True
    assert web.call("GET", path).json()["opted_out"] is False


def test_nobody_lifts_a_person_s_own_stop(web: Web, ledger: Ledger) -> None:
    ledger.run(calls.opt(PERSON, "out", scopes=["global"], source="webhook"))
    assert web.call("DELETE", f"/v1/opt-outs/{PERSON}").status_code == 204
    shown = web.call("GET", f"/v1/opt-outs/{PERSON}").json()
    assert (shown["opted_out"], shown["source"], shown["by_operator"]) == (True, "webhook", False)


@pytest.mark.parametrize(
    ("number", "scope", "field"),
    [
        ("3125557731", "global", "number"),
        ("+1312", "global", "number"),
        ("x", "global", "number"),
        (PERSON, "sender:nobody", "scope"),
        (PERSON, "profile:x", "scope"),
        (PERSON, "any", "scope"),
        (PERSON, "", "scope"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_number_or_scope_that_is_none_is_a_problem(
    web: Web, method: str, number: str, scope: str, field: str
) -> None:
    body = _problem(web.call(method, f"/v1/opt-outs/{number}", params={"scope": scope}), 422, "invalid_notification")
    assert body["errors"][0]["field"] == field
    assert "3125557731" not in json.dumps(body)


# Lanes


def _lane(web: Web, name: str) -> dict[str, Any]:
    answer = web.call("GET", "/v1/lanes")
    LanesAnswer.model_validate(answer.json())
    found: dict[str, Any] = next(lane for lane in answer.json()["lanes"] if lane["name"] == name)
    return found


def test_lanes_show_rate_and_backlog(web: Web, ledger: Ledger) -> None:
    made = _enqueue(web, {**NOTICE, "priority": "bulk"})
    ledger.run(calls.admit(made["id"], None, "", [calls.Admission(to=PERSON, lane="local")]))
    lane = _lane(web, "local")
    assert (lane["sender"], lane["channel"], lane["state"], lane["rate_per_s"]) == ("local", "long_code", "open", 10.0)
    assert lane["backlog"] == {"urgent": 0, "normal": 0, "bulk": 1}


def test_pause_holds_all_lanes_of_a_sender_until_resume(web: Web) -> None:
    answer = web.call("POST", "/v1/lanes/local/pause", json={"reason": "carrier trouble"})
    assert [(lane["name"], lane["state"], lane["reason"]) for lane in answer.json()["lanes"]] == [
        ("local", "paused", "carrier trouble"),
        ("local.mms", "paused", "carrier trouble"),
    ]
    assert _lane(web, "alerts")["state"] == "open"
    assert web.call("POST", "/v1/lanes/local/resume").status_code == 200
    assert _lane(web, "local")["state"] == _lane(web, "local.mms")["state"] == "open"
    assert web.call("POST", "/v1/lanes/local/resume?shared=true").status_code == 200
    assert web.call("POST", "/v1/lanes/local/resume?shred=true").status_code == 422


def test_a_rate_set_at_run_time_outlives_a_deploy(web: Web, redis_url: str, namespace: str) -> None:
    answer = web.call("PUT", "/v1/lanes/local/rate", json={"rate": "60/min"})
    assert {lane["rate_per_s"] for lane in answer.json()["lanes"]} == {1.0}
    with running(web_settings(redis_url, namespace)) as next_version:
        lane = _lane(next_version, "local")
    assert (lane["rate_per_s"], lane["overridden"]) == (1.0, True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", ("rate", "missing", "add it")),
        (b'{"rate": "1/s", "x": 1}', ("x", "unknown", "remove it")),
        (b'"1/s"', ("body", "a string of 3 characters", "send a JSON object")),
        (b'{"rate": 5}', ("rate", "5", "input should be a valid string")),
    ],
)
def test_a_problem_of_a_rate_names_field_value_and_remedy(web: Web, body: bytes, error: tuple[str, ...]) -> None:
    answer = web.call("PUT", "/v1/lanes/local/rate", content=body)
    assert [tuple(row.values()) for row in answer.json()["errors"]] == [error]


@pytest.mark.parametrize(
    ("method", "path", "name", "remedy"),
    [
        ("POST", "/v1/notifications?dryrun=true", "dryrun", 'did you mean "dry_run"?'),
        ("POST", "/v1/notifications/batch?dry_run=true", "dry_run", "remove it: this call takes none"),
        ("DELETE", f"/v1/opt-outs/{PERSON}?scop=sender:alerts", "scop", 'did you mean "scope"?'),
        ("GET", "/v1/lanes?page=2", "page", "remove it: this call takes none"),
    ],
)
def test_a_parameter_that_a_call_does_not_know_is_refused_and_nothing_done(
    web: Web, ledger: Ledger, *, method: str, path: str, name: str, remedy: str
) -> None:
    ledger.run(calls.opt(PERSON, "out", scopes=["global"], source="api", by_operator=True))
    body = [NOTICE] if "batch" in path else NOTICE
    answer = web.call(method, path, **({"json": body} if method == "POST" else {}))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": name, "value": "unknown parameter", "remedy": remedy}]
    assert read_opt_out(ledger, PERSON, "global").opted_out
    assert web.call(method, path, key=None).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_answers_monitors_that_only_want_the_head(web: Web, path: str) -> None:
    answer = web.call("HEAD", path, key=None)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"rate": "fast"}', b'{"rate": 5}', b'{"rate": "1/s", "x": 1}'])
def test_a_rate_that_is_none_is_a_problem(web: Web, body: bytes) -> None:
    answer = web.call("PUT", "/v1/lanes/local/rate", content=body)
    assert answer.status_code in (400, 422)
    ProblemBody.model_validate(answer.json())


def test_an_unknown_sender_is_not_found_with_the_nearest_name(web: Web) -> None:
    for what, method in (("pause", "POST"), ("drain", "POST"), ("resume", "POST")):
        body = _problem(web.call(method, f"/v1/lanes/locla/{what}"), 404, "not_found")
        assert 'did you mean "local"?' in body["detail"]


def test_drain_keeps_later_messages_until_resume(web: Web) -> None:
    answer = web.call("POST", "/v1/lanes/local/drain", json={"reason": "moving away"})
    assert [(lane["name"], lane["state"], lane["reason"]) for lane in answer.json()["lanes"]] == [
        ("local", "drained", "moving away"),
        ("local.mms", "drained", "moving away"),
    ]
    assert _lane(web, "alerts")["state"] == "open"
    assert web.call("POST", "/v1/lanes/local/resume").status_code == 200
    assert _lane(web, "local")["state"] == "open"


# Health, and Redis away


def test_health_and_readiness_are_open(web: Web) -> None:
    assert web.call("GET", "/healthz", key=None).json() == {"status": "ok"}
    assert web.call("GET", "/readyz", key=None).json() == {"status": "ready", "opt_out_list_age_s": None}


def test_readiness_says_how_old_the_list_of_opt_outs_is(web: Web, ledger: Ledger) -> None:
    redis: Any = ledger.redis
    redis.hset(ledger.key("os"), "newer_us", (int(redis.time()[0]) - 7_200) * 1_000_000)
    age_s = web.call("GET", "/readyz", key=None).json()["opt_out_list_age_s"]
    shown = dict(line.rsplit(" ", 1) for line in web.call("GET", "/metrics").text.splitlines() if line[0] != "#")
    redis.delete(ledger.key("os"))
    assert age_s >= 7_200 and float(shown["notify_opt_out_list_age_seconds"]) >= 7_200


def test_while_redis_is_away_every_call_is_503_with_retry_after(wait_until: Any) -> None:
    with EmbeddedServer() as server, running(web_settings(server.url, "away")) as web:
        made = _enqueue(web, NOTICE)
        server.kill()
        for method, path, body in (
            ("POST", "/v1/notifications", NOTICE),
            ("POST", "/v1/notifications?dry_run=true", NOTICE),
            ("GET", f"/v1/notifications/{made['id']}", None),
            ("DELETE", f"/v1/notifications/{made['id']}", None),
            ("GET", f"/v1/opt-outs/{PERSON}", None),
            ("PUT", f"/v1/opt-outs/{PERSON}", None),
            ("GET", "/v1/lanes", None),
            ("POST", "/v1/lanes/local/pause", None),
        ):
            began = time.monotonic()
            answer = web.call(method, path, json=body)
            assert (path, answer.status_code) == (path, 503)
            assert answer.headers["retry-after"] == "1"
            ProblemBody.model_validate(answer.json())
            assert time.monotonic() - began < 4
        rows = web.call("POST", "/v1/notifications/batch", json=[NOTICE])
        assert rows.status_code == 503 or rows.json()["notifications"][0]["error"]["status"] == 503
        server.start()
        wait_until(lambda: web.call("POST", "/v1/notifications", json=NOTICE).status_code == 202)
