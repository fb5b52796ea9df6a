"""Fault points: named in the code, armed by two variables, nothing otherwise."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from producers import fault_points
from producers.fault_points import POINTS, armed

ROOT = Path(__file__).parents[2]


def points_in_the_code() -> list[str]:
    """Every name that is reached, as often as it stands there."""
    files = [*(ROOT / "producers").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    return [name for file in files for name in re.findall(r"reach(?:\(|, )\"([a-z]+\.[a-z]+)\"", file.read_text())]


def test_every_point_stands_in_the_code_exactly_once() -> None:
    assert sorted(points_in_the_code()) == sorted(POINTS)


def test_without_a_variable_every_point_is_the_same_empty_function() -> None:
    assert not fault_points.IS_ARMED
    assert armed({}) is fault_points.reach
    assert fault_points.reach.__code__.co_names == ()


def test_an_armed_point_acts_at_the_nth_reach_of_its_own_and_leaves_a_mark(tmp_path: Path) -> None:
    acts: list[tuple[int, int]] = []
    mark = tmp_path / "mark"
    environ = {"NOTIFY_FAULT_POINT": "ack.before@receipts:kill:2", "NOTIFY_FAULT_MARK": str(mark)}
    reach = armed(environ, act=lambda pid, number: acts.append((pid, number)))
    reach("ack.before", "expand")
    reach("ack.after", "receipts")
    reach("ack.before", "receipts")
    assert not acts and not mark.exists()
    reach("ack.before", "receipts")
    reach("ack.before", "receipts")
    assert acts == [(os.getpid(), signal.SIGKILL)]
    assert mark.read_text() == f"ack.before {os.getpid()}\n"


@pytest.mark.parametrize("spec", ["take", "take.after", "take.during:kill", "take.after:drop", "take.after:kill:x"])
def test_what_names_no_point_stops_the_process_that_was_to_die_there(spec: str) -> None:
    with pytest.raises(ValueError, match="NOTIFY_FAULT_POINT"):
        armed({"NOTIFY_FAULT_POINT": spec})
