"""Repeat a call to the ledger while Redis is away for a moment, then give up quietly.

A job that fails need not be remembered by anyone: what it was pointed at lies in the ledger, and a timer points again.
So a job waits out a short absence (a restart, a failover), and no more, for it holds a thread. Only safe because every
call of the ledger may run twice.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from redis.exceptions import RedisError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from producers.retrying import may_pass

T = TypeVar("T")

PATIENCE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0

log = structlog.get_logger(__name__)


def patiently(call: Callable[[], T], *, within_s: float = PATIENCE_S, sleep: Callable[[float], None] = time.sleep) -> T:
    """Run ``call``, repeating it with full jitter for at most ``within_s`` while the server is away.

    Raises:
        redis.RedisError: it stayed away, or refused in a way that waiting does not cure.
    """
    policy = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_delay(within_s),
        wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
        sleep=sleep,
        reraise=True,
    )
    return policy(call)


@contextmanager
def edge(job: str, **ids: str) -> Iterator[None]:
    """The outermost layer of a job: whatever fails becomes one line of the log, never an exception.

    Nothing is repeated by the engine, and its own line for a failure would quote the exception, which may quote a text.
    """
    try:
        yield
    except RedisError as exc:
        if may_pass(exc):
            log.warning("ledger_away", job=job, error=type(exc).__name__, **ids)
        else:
            log.error("job_failed", job=job, error=f"{type(exc).__name__}: {str(exc)[:200]}", trace=frames(exc), **ids)
    except Exception as exc:  # noqa: BLE001 - the edge of a job: the timers of the ledger point again
        log.error("job_failed", job=job, error=type(exc).__name__, trace=frames(exc), **ids)


def frames(exc: BaseException) -> str:
    """Where ``exc`` was raised: files, lines and source, without its message, which may quote a text or a number."""
    return "".join(traceback.format_tb(exc.__traceback__))
