"""Load and run the Lua scripts: one file a script, shared parts named in its second line (``-- needs: ...``).

A script is run by its digest and sent whole when the server does not know it (after a restart or a failover), so there
is nothing to install or migrate. Real servers get ``allow-oom`` for the scripts that end or free things, so that a full
server can still drain itself; what that promises is proved on a real server, for fakeredis knows no such flag.
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
# These end, free or record what already happened: they must run when memory is full. The others refuse with a clear error.
RUNS_WHEN_FULL = frozenset(
    {"finish", "receipt", "wake", "reap", "cancel", "beat", "ear", "opt", "take", "grant", "lane"}
)


@dataclass(frozen=True, slots=True)
class Script:
    """One script, ready to run. ``source`` includes the shared parts; ``sha`` is its SHA-1, the server's name for it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str, *, real_server: bool = True) -> Script:
    """The script ``name``, with what it needs put in front."""
    own = (LUA / f"{name}.lua").read_text()
    needed = re.search(r"^-- needs: (.+)$", own, re.MULTILINE)
    parts = [(LUA / "lib" / f"{part}.lua").read_text() for part in (needed.group(1).split() if needed else ())]
    shebang = "#!lua flags=allow-oom\n" if real_server and name in RUNS_WHEN_FULL else ""
    source = shebang + "\n".join([*parts, own])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A script with its arguments and how to read its reply; made by :mod:`producers.ledger.calls`, run by a ledger."""

    script: str
    args: Sequence[Arg]
    decode: Callable[[Any], T]
