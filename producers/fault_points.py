"""Points at which a test may let this process die or freeze: one before and one after each step that moves a message.

A promise about processes that die is only as good as the instants at which they were made to. So each step on the way of
a message, and of a receipt, names its two edges by a call of :func:`reach`, and tests arm one of them in a real process,
by two variables that are read once, when the process starts:

- ``NOTIFY_FAULT_POINT``: ``<point>[@<of>]:<kill|stop>[:<nth>]``, such as ``take.after:kill:3`` (SIGKILL when the point is
  reached for the third time) or ``ack.before@receipts:stop`` (SIGSTOP, when it is reached for that queue).
- ``NOTIFY_FAULT_MARK``: a file that gets a line, point and process id, just before. A test whose point was never reached
  proves nothing, and reads there that it was.

They are no settings: nobody but a test sets them, and without them ``reach`` is an empty function.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Mapping

STEPS = {
    # the way of a message
    "submit": "write a notification's records",
    "pointer": "point at what was submitted",
    "load": "read the next chunk of recipients",
    "admit": "put a chunk's messages into lanes",
    "successor": "point at the chunk after it",
    "grant": "reserve slots for this process",
    "take": "bind messages to slots: the leave to send them",
    "request": "write the bytes of one request; before: ahead of the last look at the clock",
    "answer": "judge what came back",
    "finish": "record results",
    "ack": "acknowledge pointers of a queue",
    # the way of a receipt
    "hear": "keep a batch of receipts, before Telnyx gets its 200",
    "bell": "point at batches that were kept",
    "reconcile": "read a batch",
    "receipt": "apply its facts and forget it",
    # what any worker does for all
    "wake": "do what timers are due for; after: with pointers that are not pushed yet",
    "reap": "put in doubt what the dead were sending",
    "poll": "record what Telnyx says when asked",
    "withdraw": "ask the provider to give a scheduled message back",
    "withdrawn": "record what it answered",
    # the way of a callback
    "claim": "take callbacks that are due; after: with some",
    "callback": "tell an app",
    "settle": "record how that went",
    # what operators ask for
    "forget": "take a person out of some of their messages",
}
POINTS = tuple(f"{step}.{edge}" for step in STEPS for edge in ("before", "after"))
ACTIONS = {"kill": "SIGKILL", "stop": "SIGSTOP"}  # by name: not every system on which apps are written has them


def _unarmed(point: str, of: str = "") -> None:
    """What every point costs in production."""


def armed(environ: Mapping[str, str], *, act: Callable[[int, int], None] = os.kill) -> Callable[..., None]:
    """What ``reach`` is under these variables.

    Raises:
        ValueError: ``NOTIFY_FAULT_POINT`` names no point or no action: a test that armed nothing must not pass.
    """
    spec = environ.get("NOTIFY_FAULT_POINT")
    if not spec:
        return _unarmed
    name, action, nth = [*spec.split(":"), "", ""][:3]
    wanted, _, only = name.partition("@")
    if wanted not in POINTS or action not in ACTIONS or not (nth or "1").isdigit():
        raise ValueError(
            f"NOTIFY_FAULT_POINT is {spec!r}: write <point>[@<of>]:<kill|stop>[:<nth>], as take.after:kill:3"
        )
    mark = environ.get("NOTIFY_FAULT_MARK")
    times = itertools.count(1)

    def reach(point: str, of: str = "") -> None:
        if point != wanted or (only and of != only) or next(times) != int(nth or 1):
            return
        if mark:
            with open(mark, "a") as file:
                file.write(f"{point} {os.getpid()}\n")
        act(os.getpid(), getattr(signal, ACTIONS[action]))

    return reach


reach = armed(os.environ)
IS_ARMED = reach is not _unarmed
