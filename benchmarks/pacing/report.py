"""What a row of the benchmark found, as a table for people and as JSON. Pure, but for writing the file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. ``ok`` is None where there is no goal."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    ok: bool | None = None

    def shown(self) -> str:
        if math.isnan(self.value):
            return "none"
        digits = f"{self.value:.3f}" if self.unit == "" and self.value < 10 else f"{self.value:.4g}"
        return f"{digits} {self.unit}".rstrip()


def at_least(name: str, value: float, limit: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, f"at least {limit:g}", value >= limit)


def at_most(name: str, value: float, limit: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, f"at most {limit:g}", value <= limit)


def between(name: str, value: float, low: float, high: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, f"{low:g} to {high:g}", low <= value <= high)


@dataclass(slots=True)
class Result:
    """One row: what ran, with which sender (the SDK over aiohttp, or a bare aiohttp POST), and its figures."""

    row: str
    sender: str
    workers: int
    seconds: float
    figures: list[Figure] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)  # share of a core by part
    notes: list[str] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)  # for plots

    @property
    def ok(self) -> bool:
        return all(figure.ok is not False for figure in self.figures)


def table(result: Result) -> str:
    """A row as text, one figure a line."""
    sender = {"sdk": "SDK over aiohttp", "bare": "bare aiohttp"}.get(result.sender, result.sender)
    lines = [f"\n{result.row}: {result.workers} workers, {sender}, {result.seconds:g} s"]
    width = max((len(figure.name) for figure in result.figures), default=0)
    for figure in result.figures:
        mark = {True: "ok  ", False: "MISS", None: "    "}[figure.ok]
        lines.append(f"  {mark} {figure.name:{width}}  {figure.shown():>12}  {figure.goal}".rstrip())
    if result.cpu:
        lines.append("       CPU, % of a core: " + ", ".join(f"{k} {100 * v:.1f}" for k, v in result.cpu.items()))
    lines += [f"       {note}" for note in result.notes]
    return "\n".join(lines)


def write(results: Sequence[Result], path: Path, *, machine: dict[str, Any]) -> None:
    """All results as one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(result), "ok": result.ok} for result in results]
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1, allow_nan=True) + "\n")
