"""A scripted day on this machine alone: real processes, a real server, a sandbox in Telnyx's place."""

from __future__ import annotations


def run(*, keep: bool = False, as_json: bool = False) -> int:
    """Run it. The exit code: 0 only if every message is final and nobody was texted twice."""
    from worker.demo.run import run as perform

    return perform(keep=keep, as_json=as_json)
