"""Dramatiq's own CLI, as the master of a tree of worker processes, with signals that are safe at any instant.

Run as ``python -m worker.engine.master --processes 1 --threads 16`` by ``notify worker``, which blocks the signals
before it does so: one that comes during the start waits until handlers stand. Loads what its processes need, and does
not import ``worker.main``: a broker made before the fork would give all processes one identity.
"""

from __future__ import annotations

from worker.engine import preflight

preflight.load()  # before anything else would load some of it in its costlier way

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402

import dramatiq.cli  # noqa: E402

from worker.engine.shutdown import drop_repeated_signals  # noqa: E402

BROKER = "worker.main:broker"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SHUTDOWN_MS = 1000  # for idle threads; what is under way is waited for before, by our own life cycle
BOOT_LOOK_S, BOOT_PATIENCE = 1.0, 5  # so many looks at a tree that stands still over a dead child


def watch_boot() -> None:
    """End the tree if a child dies while it boots and Dramatiq does not notice.

    Its master waits for an event of each child. A child that is killed just while it sets that event, say by the message
    that it took up first, leaves the event's lock behind, and nobody would ever wait for a child's end, nor start a new tree.
    A timer's signal reaches the master in that wait too. The other children notice that they are orphans, and drain.
    """
    if not hasattr(os, "waitid"):
        return  # macOS, where people develop
    seen = 0

    def look(_signal: int, _frame: object) -> None:
        nonlocal seen
        try:
            seen += os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return  # none was started yet
        if seen > BOOT_PATIENCE:
            os.write(
                2, b"notify: a worker process died while it booted: ending the tree, for the platform to start anew\n"
            )
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, BOOT_LOOK_S, BOOT_LOOK_S)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Meanwhile a signal ends this process with 0: nothing has been started. Before and after, it waits."""

    def end(_signal: int, _frame: object) -> None:
        os._exit(0)

    for number in SIGNALS:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    yield
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def main(arguments: list[str]) -> int:
    """Run the tree until it ends. Returns the exit code: 0 after a signal, 2 or 3 if it must not start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    given = [BROKER, "--worker-shutdown-timeout", str(SHUTDOWN_MS), "--skip-logging", *arguments]
    options = dramatiq.cli.make_argument_parser().parse_args(given)  # type: ignore[no-untyped-call]
    try:
        with _ended_by_signals():
            preflight.check(options.queues or ())
    except preflight.NotReady as problem:
        print(f"notify: {problem}", file=sys.stderr)
        return problem.code
    unblock = dramatiq.cli.try_unblock_signals
    master = os.getpid()

    def unblock_safely() -> None:
        if os.getpid() == master:
            signal.setitimer(signal.ITIMER_REAL, 0)  # booted: from here on Dramatiq waits for its children
            # A closed terminal ends the tree like any other signal; Dramatiq would start itself anew.
            signal.signal(signal.SIGHUP, lambda *_: os.kill(master, signal.SIGTERM))
        else:
            drop_repeated_signals()  # a worker process: its handlers stand, and nothing was delivered yet
        unblock()  # type: ignore[no-untyped-call]

    dramatiq.cli.try_unblock_signals = unblock_safely
    watch_boot()
    code: int = dramatiq.cli.main(options)  # type: ignore[no-untyped-call]
    for number in SIGNALS:  # the interpreter resets handlers on its way out, and a late signal would kill it
        signal.signal(number, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
