"""What a caller catches."""

import pickle
import subprocess
import sys

import pytest

from producers.errors import (
    ERRORS_KEPT,
    EnqueueError,
    EventsGone,
    FieldError,
    IdempotencyConflict,
    InvalidNotification,
    NotFound,
    NotifyError,
    NotReady,
)

TOO_SHORT = FieldError("to[17]", "+1312***0001", "it has too few digits")
MISSING = FieldError("variables.code", "missing", "add it")

EVERY = [
    InvalidNotification([TOO_SHORT, MISSING], total=7),
    NotReady(),
    EnqueueError("a" * 32, may_exist=True),
    EnqueueError("a" * 32, may_exist=False, reason="Redis is loading"),
    IdempotencyConflict("b" * 32),
    NotFound("c" * 32),
    EventsGone("1-0", "5-0"),
]


def test_an_invalid_notification_names_every_field_value_and_remedy() -> None:
    error = InvalidNotification([TOO_SHORT, MISSING])
    for part in (*TOO_SHORT, *MISSING):
        assert part in str(error)
    assert isinstance(error, ValueError)
    assert "more" not in str(error)


def test_of_many_errors_a_hundred_are_kept_and_all_are_counted() -> None:
    errors = [FieldError(f"to[{index}]", "***", "no") for index in range(5000)]
    error = InvalidNotification(errors)
    assert (len(error.errors), error.total) == (ERRORS_KEPT, 5000)
    assert "4990 more" in str(error)
    assert InvalidNotification(errors[:100], total=7000).total == 7000


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_every_error_is_ours_and_survives_pickling(error: NotifyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, NotifyError)
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_may_retry_says_whether_the_same_call_helps_later() -> None:
    assert [error.may_retry for error in EVERY] == [False, True, True, True, False, False, False]


def test_an_enqueue_error_says_whether_the_notification_may_exist() -> None:
    assert "may have been written" in str(EVERY[2])
    assert "nothing was written" in str(EVERY[3])
    assert "a" * 32 in str(EVERY[2])


@pytest.mark.parametrize("module", ["errors", "notification"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    program = (
        f"import sys; before = set(sys.modules); import producers.{module};"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"redis", "dramatiq", "pydantic", "phonenumbers", "worker", "telnyx", "tenacity"} & set(loaded)
    assert "producers" in loaded


def test_an_error_about_a_read_names_no_empty_id() -> None:
    assert str(EnqueueError("", may_exist=False)).startswith("the notification was not confirmed")
