"""Errors as problems, keys, and paths in logs."""

from __future__ import annotations

import hashlib
import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.exceptions import HTTPException

from producers.errors import EnqueueError, FieldError, IdempotencyConflict, InvalidNotification, NotFound, NotReady
from producers.notification import FIELDS
from producers.request_schema import NotificationRequest
from worker.settings.variables import ApiKey
from worker.web.auth import Keys
from worker.web.problems import Problem, ProblemBody, problem_of
from worker.web.server import AccessLog, masked_path


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidNotification([FieldError("to", "***", "write it")]), 422, "invalid_notification"),
        (IdempotencyConflict("a" * 32), 409, "idempotency_conflict"),
        (NotFound("a" * 32), 404, "not_found"),
        (NotReady(), 503, "not_ready"),
        (EnqueueError("a" * 32, may_exist=True), 503, "not_confirmed"),
        (EnqueueError("", may_exist=False), 503, "redis_away"),
        (RedisConnectionError("redis://user:password@host refused"), 503, "redis_away"),
        (TimeoutError(), 503, "redis_away"),
        (HTTPException(404), 404, "not_found"),
        (HTTPException(405), 405, "method_not_allowed"),
        (ValueError("+13125550100 said: hello"), 500, "internal_error"),
        (Problem(413, "too_large", "split it"), 413, "too_large"),
    ],
)
def test_every_error_is_a_problem(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    body = ProblemBody.model_validate(problem.body)
    assert (body.status, body.code, problem.status) == (status, code, status)
    assert problem.response().headers["content-type"] == "application/problem+json"
    assert ("Retry-After" in problem.headers) == (status == 503)
    for secret in ("password", "hello", "5550100"):
        assert secret not in str(problem.body)


def test_a_problem_tells_whether_the_notification_may_exist() -> None:
    assert problem_of(EnqueueError("a" * 32, may_exist=True)).body["may_exist"] is True
    assert problem_of(EnqueueError("a" * 32, may_exist=False)).body["may_exist"] is False


def test_many_errors_are_counted_and_a_hundred_shown() -> None:
    body = problem_of(InvalidNotification([FieldError(f"to[{i}]", "***", "x") for i in range(150)])).body
    assert (len(body["errors"]), body["total"]) == (100, 150)


def _key(name: str, token: str) -> ApiKey:
    return ApiKey(name, hashlib.sha256(token.encode()).hexdigest(), frozenset({"read"}))


def test_a_key_is_found_by_its_whole_value_only() -> None:
    keys = Keys([_key("a", "one"), _key("b", "two")])
    assert [found.name if (found := keys.find(token)) else None for token in ("one", "two")] == ["a", "b"]
    stored = hashlib.sha256(b"one").hexdigest()
    assert [keys.find(token) for token in ("", "on", "one ", "ONE", stored, "\udcff")] == [None] * 6


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/opt-outs/+13125550100", "/v1/opt-outs/+1312***0100"),
        ("/v1/opt-outs/%2B13125550100?scope=global", "/v1/opt-outs/+1312***0100?scope=global"),
        ("/v1/opt-outs/13125550100", "/v1/opt-outs/131***00"),
        ("/v1/opt-outs/%31%33%31%32%35%35%35%30%31%30%30", "/v1/opt-outs/131***00"),
        ("/v1/opt-outs/US.1349abcdefgh", "/v1/opt-outs/US.13***efgh"),
        ("/v1/notifications/abc", "/v1/notifications/abc"),
    ],
)
def test_numbers_in_paths_are_masked_however_they_are_written(path: str, shown: str) -> None:
    assert masked_path(path) == shown


@pytest.mark.parametrize(
    ("path", "status", "kept"),
    [
        ("/webhooks/telnyx?ref=x", 200, False),
        ("/webhooks/telnyx", 401, True),
        ("/webhooks/telnyx", 503, True),
        ("/v1/lanes", 200, True),
    ],
)
def test_only_callbacks_that_went_well_are_left_out_of_the_access_log(path: str, status: int, kept: bool) -> None:
    args = ("127.0.0.1:1", "POST", path, "1.1", status)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', args, None)
    assert AccessLog().filter(record) is kept
    assert path in record.getMessage()


def test_the_documented_request_is_the_one_that_is_read() -> None:
    assert set(NotificationRequest.model_fields) == set(FIELDS)
