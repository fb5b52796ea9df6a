"""What the rules know of one message and of one notification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    """What the rules know of one message."""

    id: str
    many: bool
    klass: int
    job_type: str
    to: str
    until_us: int
    send_at_us: int
    submitted_us: int = 0
    state: str = "N"
    lane: str = ""
    maybe: bool = False
    tries: int = 0
    attempts: int = 0
    first_us: int = 0
    token: str = ""
    process: str = ""
    builder: str = ""
    cancelled: bool = False
    look_us: int = 0
    doubt_us: int = 0
    handed_us: int = 0
    ids: list[str] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    version: int = 0
    steps: int = 0
    expanded: bool = False
    lost: int = 0

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(f"<{self.id} {self.state}>")

    @property
    def group(self) -> bool:
        return "," in self.to

    def end(self, state: str) -> str:
        """What may be out and gets no more tries is unconfirmed."""
        return "X" if self.maybe else state


@dataclass
class Notification:
    id: str
    messages: list[Message]
    chunks: list[list[int]]
    cursor: int = 0
    closed: bool = False
    submission: Any = None
    finishes: int = 1

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(f"<{self.id}>")
