"""Start programs as children that never outlive us.

Each child leads a process group of its own, so a Ctrl-C at the terminal reaches us alone and we decide the order in which
things end, and so a whole tree can be killed at once. What must stay true: when this process is gone, by whatever death,
so are the groups it started. A guard process sees to that (``worker/guard.py``); ``PR_SET_PDEATHSIG`` would reach only
the leaders, and only on Linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")
# A child waits for a word from us before it becomes the program; if we die first, it reads the end of the pipe and ends.
WAIT_AND_BECOME = 'read -r go && exec "$@" </dev/null'


class _Guard:
    """The guard of this process, started with the first child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: IO[bytes] | None = None
        self._owner = 0

    def tell(self, sign: str, group: int) -> None:
        with self._lock:
            if self._pipe is None or self._owner != os.getpid():  # a fork has a guard of its own
                self._pipe, self._owner = self._start(), os.getpid()
            with contextlib.suppress(BrokenPipeError):
                self._pipe.write(f"{sign}{group}\n".encode())
                self._pipe.flush()

    @staticmethod
    def _start() -> IO[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if process.stdin is None:
            raise RuntimeError("the guard has no pipe: Popen was asked for one")
        process.returncode = 0  # it ends after us by design: no ResourceWarning about a child still running
        return process.stdin


_guard = _Guard()


class Child:
    """A running program that leads its own process group."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path | None) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._is_gone = False

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the leader, as a platform's supervisor does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, *, timeout_s: float) -> int:
        """Wait for its end.

        Raises:
            TimeoutError: it still runs after ``timeout_s``.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout_s:g} s") from None

    def kill(self) -> int:
        """SIGKILL the whole group: no handler, no ``finally``, no ``atexit``. Safe to repeat: the system may have given
        the id of a group that is gone to somebody else."""
        if self._is_gone:
            return self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        _guard.tell("-", self.pid)
        self._is_gone = True
        return code

    def stop(self, *, timeout_s: float) -> int:
        """SIGTERM, wait, and kill what is left of the group. Returns the leader's exit code."""
        if self.exit_code() is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                self.wait(timeout_s=timeout_s)
        return self.kill()

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def spawn(
    name: str,
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    directory: Path | None = None,
) -> Child:
    """Start ``command`` in a process group of its own; its output goes to ``log``, else nowhere."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_uninterrupted())
        out = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            ["/bin/sh", "-c", WAIT_AND_BECOME, "sh", *(str(part) for part in command)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if environ is None else dict(environ),
            cwd=directory,
            process_group=0,
        )
        _guard.tell("+", process.pid)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(b"go\n")
    return Child(name, process, log)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put signals off until the child is known to the guard: a Ctrl-C in between would leave it to nobody.

    Handlers and not a signal mask, which the child would inherit; ignored signals stay ignored, for it and for us.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    put_off = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in put_off:
        signal.signal(number, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in put_off.items():
            signal.signal(number, handler)
        for late in arrived:
            os.kill(os.getpid(), late)
