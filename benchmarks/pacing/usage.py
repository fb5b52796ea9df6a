"""CPU of processes and threads from /proc, and what the Redis server did. Linux only; elsewhere figures are missing."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from producers.ledger.ledger import Ledger
from producers.ledger.scripts import LUA, script

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += tree(int(child))
    return found


def cpu_s(pids: list[int], thread: str | None = None) -> float:
    """CPU seconds that these processes have used, or their threads of this name."""
    total = 0.0
    for pid in pids:
        stats = Path(f"/proc/{pid}").glob("task/*/stat") if thread else [Path(f"/proc/{pid}/stat")]
        for stat in stats:
            with contextlib.suppress(OSError):
                name, _, rest = stat.read_text().rpartition(")")
                fields = rest.split()
                if thread is None or name.endswith(f"({thread}"):
                    total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


def machine_cpu_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    with contextlib.suppress(OSError):
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        return sum(int(fields[i]) for i in (0, 1, 2, 5, 6)) * TICK_S  # user, nice, system, irq, softirq
    return 0.0


class Usage:
    """CPU by part, from construction to :meth:`shares`. ``parts`` gives the processes of each part.

    "the rest of the machine" includes this process; where it is much, the row says little.
    """

    def __init__(self, parts: Mapping[str, list[int]], threads: Mapping[str, str] | None = None) -> None:
        self._parts, self._threads = {name: list(pids) for name, pids in parts.items()}, dict(threads or {})
        self._since_s, self._before = time.monotonic(), self._now()

    def _now(self) -> dict[str, float]:
        now = {name: cpu_s(pids) for name, pids in self._parts.items()}
        for name, thread in self._threads.items():
            now[name] = cpu_s(self._parts["workers"], thread)
        now["the rest of the machine"] = machine_cpu_s()
        return now

    def shares(self) -> dict[str, float]:
        """By part, the share of one core since construction."""
        span_s = time.monotonic() - self._since_s
        shares = {name: (value - self._before[name]) / span_s for name, value in self._now().items()}
        shares["the rest of the machine"] -= sum(shares[name] for name in self._parts)
        return {name: round(value, 4) for name, value in shares.items()}


class ScriptTimes:
    """Time that the server spends in each script, by its slow log set to log everything; a context manager."""

    def __init__(self, ledger: Ledger) -> None:
        self._redis: Any = ledger.redis
        self.share: dict[str, float] = {}
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> ScriptTimes:
        self._redis.config_set("slowlog-max-len", 1_000_000)
        self._redis.execute_command("SLOWLOG", "RESET")
        self._redis.config_set("slowlog-log-slower-than", 0)
        self._since_s = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.config_set("slowlog-log-slower-than", -1)
        span_s = time.monotonic() - self._since_s
        names = {script(path.stem).sha.encode(): path.stem for path in LUA.glob("*.lua")}
        spent: Counter[str] = Counter()
        for entry in self._redis.slowlog_get(1_000_000):
            words = entry["command"].split(b" ", 2)
            name = names.get(words[1], "other") if words[0].lower() == b"evalsha" else "other"
            spent[name] += entry["duration"]
            self.calls[name] += 1
        self._redis.execute_command("SLOWLOG", "RESET")
        self.share = {name: us / 1e6 / span_s for name, us in spent.items()}

    def cpu_share(self, name: str, server_cpu: float | None) -> float:
        """What one script takes of a core. Its time by the clock contains waits for a core on a busy machine, so where the
        server's CPU is known, that is divided by the clock times (and includes reading, replying and the append-only file).
        """
        by_clock = self.share.get(name, 0.0)
        if server_cpu is None:
            return by_clock
        return server_cpu * by_clock / max(sum(self.share.values()), server_cpu, 1e-9)


class Monitor:
    """Counts the commands of clients, those inside scripts apart, by the server's MONITOR; a context manager."""

    _COMMAND = re.compile(r'^"(\w+)"')

    def __init__(self, ledger: Ledger) -> None:
        self._redis: Any = ledger.redis
        self.commands: Counter[str] = Counter()
        self.inside_scripts = 0
        self._stop = threading.Event()

    def __enter__(self) -> Monitor:
        self._since_s = time.monotonic()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        names = {script(path.stem).sha: path.stem for path in LUA.glob("*.lua")}
        with self._redis.monitor() as monitor:
            while not self._stop.is_set():
                command = monitor.next_command()
                if command["client_type"] == "lua":
                    self.inside_scripts += 1
                    continue
                words = command["command"].split(" ", 2)
                sha = words[1].strip('"').lower() if len(words) > 1 else ""
                self.commands[names.get(sha, words[0].strip('"').lower())] += 1

    def __exit__(self, *_: object) -> None:
        self._span_s = time.monotonic() - self._since_s
        self._stop.set()
        self._redis.ping()  # wakes the listener
        self._thread.join(timeout=5)
        self.commands["ping"] -= 1

    def rates(self) -> dict[str, float]:
        """Commands a second by name, scripts by their own."""
        return {name: round(count / self._span_s, 2) for name, count in self.commands.most_common() if count > 0}
