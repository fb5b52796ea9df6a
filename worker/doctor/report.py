"""What was looked at and what came of it, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from worker.terminal import Exit

Result = Literal["ok", "warning", "failed", "skipped"]

MARKS: Mapping[Result, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("skipped", "dim"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``remedy`` says what to do where the result is not ok."""

    name: str
    result: Result
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All checks. ``unreachable``: Redis or Telnyx gave no answer; ``misconfigured``: the settings themselves are wrong."""

    checks: list[Check]
    unreachable: bool = False
    misconfigured: bool = False

    @property
    def ok(self) -> bool:
        return self.code == Exit.DONE

    @property
    def code(self) -> Exit:
        if self.misconfigured:
            return Exit.USAGE
        if self.unreachable:
            return Exit.UNREACHABLE
        return Exit.NO if any(check.result == "failed" for check in self.checks) else Exit.DONE

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "unreachable": self.unreachable, "checks": [asdict(check) for check in self.checks]}

    def show(self) -> None:
        from rich.text import Text

        from worker.terminal import console, print_table

        rows = []
        for check in self.checks:
            mark, style = MARKS[check.result]
            rows.append([Text(mark, style=style), check.name, check.found, check.remedy])
        print_table(["result", "check", "found", "what to do"], rows)
        if not self.ok:
            console().print("not ready: see the failed checks above", style="bold red")


def softened(check: Check) -> Check:
    """The check as one that stops no release."""
    return Check(check.name, "warning" if check.result == "failed" else check.result, check.found, check.remedy)
