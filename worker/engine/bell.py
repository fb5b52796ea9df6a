"""Wake consumers when there is something for them, instead of asking Redis many times a second.

One pub/sub thread hears the bell channel and sets the event of what was named: "send", or a queue. A ring may be lost, so
whoever waits also looks each second, and each 50 ms while pub/sub is down. After every (re)connection all are rung, for
something may have been published meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from producers.pointers import FORGOTTEN, bell_channel
from worker.engine.ending import vital_thread

POLL_S = 1.0
POLL_DEAF_S = 0.05
PING_S, SILENT_S = 2.0, 6.0  # a connection whose pings stay unanswered for so long is given up
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0

log = structlog.get_logger(__name__)


class Bells:
    """An event for each name. Clear an event between the wait and the work, never after the work."""

    def __init__(self, names: Iterable[str]) -> None:
        self._events = {name: threading.Event() for name in names}
        self.hears = False

    def __getitem__(self, name: str) -> threading.Event:
        return self._events[name]

    @property
    def poll_s(self) -> float:
        """How long a consumer may wait for its bell before it looks by itself."""
        return POLL_S if self.hears else POLL_DEAF_S

    def ring(self, name: str) -> None:
        """Set the event of ``name``; a name that nobody waits for is ignored."""
        event = self._events.get(name)
        if event is not None and not event.is_set():  # setting costs a lock, also of one that is set
            event.set()

    def ring_all(self) -> None:
        for event in self._events.values():
            event.set()


class BellThread:
    """The thread that listens. ``redis`` needs a connection to spare.

    ``lost`` is told when the connection breaks, and when it was last heard: it is never idle, so it notices first that the
    server is another one. ``forgotten`` is called when another process says that the server had forgotten something.
    """

    def __init__(
        self,
        redis: Redis,
        namespace: str,
        bells: Bells,
        *,
        lost: Callable[[BaseException, float], None] = lambda _exc, _heard_s: None,
        forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis, self._channel, self._bells, self._lost = redis, bell_channel(namespace), bells, lost
        self._forgotten = forgotten
        self._heard_s = 0.0

    def start(self) -> None:
        vital_thread("bell", self._run)

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                self._listen()
            except (RedisError, OSError) as exc:
                if self._bells.hears:
                    self._lost(exc, self._heard_s)
                    log.warning("bell_lost", error=type(exc).__name__)
                    wait_s = _FIRST_WAIT_S
                self._bells.hears = False
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _listen(self) -> None:
        """Listen until the connection breaks, which raises."""
        with self._redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(self._channel)
            self._heard_s = pinged_s = time.monotonic()
            while True:
                message: dict[str, Any] | None = pubsub.get_message(timeout=1.0)
                now_s = time.monotonic()
                if message is not None:
                    self._heard_s = now_s
                    self._take(message)
                elif now_s - self._heard_s > SILENT_S:
                    raise TimeoutError(f"nothing heard for {SILENT_S:g} s, not even the answer to a ping")
                if now_s - max(self._heard_s, pinged_s) > PING_S:
                    pubsub.ping()
                    pinged_s = now_s

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._bells.hears = True
            self._bells.ring_all()
        elif message["type"] == "message":
            name = message["data"].decode(errors="replace")
            if name == FORGOTTEN:
                self._forgotten()
            self._bells.ring(name)
