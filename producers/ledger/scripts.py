"""Load and run the Lua scripts: one file a script, shared parts named on top (``-- needs: ...``; a part may need others).

A script is run by its digest and sent whole when the server does not know it (after a restart or a failover), so there
is nothing to install or migrate. Real servers get ``allow-oom`` for the scripts that end or free things, so that a full
server can still drain itself, and refuse the others whole, before their first write. What that promises is proved on a real
server, for fakeredis knows no such flags.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Arg = str | bytes | int | float

LUA = Path(__file__).parent / "lua"
# These end, free or record what already happened, and what it takes to get there: they must run when memory is full. The
# others (submit, hear, an admit of many recipients) are refused with a clear error, for they would go on filling it.
RUNS_WHEN_FULL = frozenset(
    {
        "attempt", "finish", "receipt", "wake", "reap", "cancel", "beat", "ear", "opt", "opt_rows", "opt_sweep", "take",
        "grant", "lane", "fetch", "ack", "point", "load", "publish", "repost", "zones", "foresee", "forget", "claim", "settle",
        "figures", "opt_sync", "click", "sticky", "aside", "reread", "withdraw", "opt_file",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """One script, ready to run. ``source`` includes the shared parts; ``sha`` is its SHA-1, the server's name for it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str, *, real_server: bool = True, when_full: bool = False) -> Script:
    """The script ``name``, with what it needs put in front. ``when_full``: to run although memory is full."""
    own = (LUA / f"{name}.lua").read_text()
    parts = list(_parts(own, {}).values())
    flags = " flags=allow-oom" if when_full or name in RUNS_WHEN_FULL else ""
    shebang = f"#!lua{flags}\n" if real_server else ""
    source = shebang + "\n".join([*parts, own])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _parts(source: str, found: dict[str, str]) -> dict[str, str]:
    """The shared parts that ``source`` needs, each once and after those that it needs itself."""
    needed = re.search(r"^-- needs: (.+)$", source, re.MULTILINE)
    for part in needed.group(1).split() if needed else ():
        if part not in found:
            text = (LUA / "lib" / f"{part}.lua").read_text()
            _parts(text, found)
            found[part] = text
    return found


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A script with its arguments and how to read its reply; made by :mod:`producers.ledger.calls`, run by a ledger."""

    script: str
    args: Sequence[Arg]
    decode: Callable[[Any], T]
    when_full: bool = False  # run it although memory is full, whatever its script does otherwise
