"""Outlive the process that started us just long enough to end the children it left.

Run as a program of its own (``python -I -S guard.py``), in its own session, with a pipe from its parent as standard
input: ``+<group>`` names a process group to watch over, ``-<group>`` one that has ended. When the pipe closes, however
the parent died (``kill -9`` runs no handler), every group that is still named gets SIGKILL. Standard library only, and
nothing of ours: it must start in milliseconds and cannot be allowed to fail.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends the parent must not end us first
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line[:1] == b"+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
