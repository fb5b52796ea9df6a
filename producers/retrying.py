"""Repeat a call to the ledger until it answers, within a deadline; and tell what a failure leaves open.

Safe only because every call of the ledger may be repeated: the id of a notification is fixed before the first try, and
``submit`` gives the same answer again. Stop, wait and sleep are arguments, so tests need no real time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from producers.errors import EnqueueError

T = TypeVar("T")

DEADLINE_S = 5.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0


def never_ran(error: BaseException) -> bool:
    """Whether the server certainly did not run the command: it said so, or there was no connection to send it on."""
    from redis import exceptions as e

    if isinstance(error, e.BusyLoadingError | e.ReadOnlyError | e.OutOfMemoryError | e.AuthenticationError):
        return True
    if isinstance(error, e.ResponseError):  # a script refused before it ran; anything else is a bug and is not repeated
        return str(error).startswith(("LOADING", "READONLY", "OOM", "MASTERDOWN", "NOAUTH", "NOPERM", "MISCONF"))
    return isinstance(error, e.ConnectionError) and "connecting to" in str(error)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may work a moment later."""
    from redis import exceptions as e

    if isinstance(error, e.AuthenticationError | e.AuthorizationError):
        return False
    if isinstance(error, e.ResponseError):
        return str(error).startswith(("LOADING", "READONLY", "OOM", "MASTERDOWN", "MISCONF", "TRYAGAIN")) or isinstance(
            error, e.BusyLoadingError | e.ReadOnlyError | e.OutOfMemoryError
        )
    return isinstance(error, e.ConnectionError | e.TimeoutError)


def until_answered(
    call: Callable[[], T], *, id: str, deadline_s: float = DEADLINE_S, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Run ``call``, repeating it with full jitter while the server is away, for at most ``deadline_s``.

    Raises:
        EnqueueError: no clear answer in time; ``may_exist`` tells whether any try may have run.
    """
    from redis.exceptions import RedisError
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    open_question = False

    def attempt() -> T:
        nonlocal open_question
        try:
            return call()
        except RedisError as error:
            open_question = open_question or not never_ran(error)
            raise

    policy = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_delay(deadline_s),
        wait=wait_random_exponential(FIRST_WAIT_S, LONGEST_WAIT_S),
        sleep=sleep,
        reraise=True,
    )
    try:
        return policy(attempt)
    except RedisError as error:
        raise EnqueueError(id, may_exist=open_question, reason=_words(error)) from error


def _words(error: BaseException) -> str:
    from redis.exceptions import OutOfMemoryError

    text = str(error).split("\n", 1)[0][:160] or type(error).__name__
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return "Redis is out of memory: raise maxmemory, or wait until the backlog has drained"
    return f"Redis: {text}"
