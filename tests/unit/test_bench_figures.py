"""The benchmark's arithmetic: windows are half-open, shares are of intervals, a silent end counts."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from benchmarks.pacing.figures import NS, allowed, held, per_second, quantile, worst_window
from benchmarks.pacing.plot import arrivals_svg
from benchmarks.pacing.report import Result, at_least, at_most, between, table, write


def stamps(rate: float, count: int, start_s: float = 0.0) -> list[int]:
    return [round((start_s + i / rate) * NS) for i in range(count)]


def test_a_window_is_half_open():
    assert worst_window(stamps(10, 100), 1) == 10
    assert worst_window([0, NS], 1) == 1
    assert worst_window([0, NS - 1], 1) == 2


def test_the_worst_window_lies_over_the_border_of_calendar_seconds():
    burst = [int(0.9 * NS) + i for i in range(5)] + [int(1.1 * NS) + i for i in range(5)]
    assert worst_window(burst, 1) == 10


def test_no_stamps_have_no_worst_window():
    assert worst_window([], 1) == 0


def test_an_exact_pace_is_held_at_one_whatever_the_rate():
    for rate, count in ((1, 30), (100, 3000), (400, 12000)):
        assert held(stamps(rate, count), rate, until_ns=30 * NS) == pytest.approx(1.0, abs=1e-6)


def test_every_tenth_slot_lost_is_held_at_nine_tenths():
    kept = [s for i, s in enumerate(stamps(10, 301)) if i % 10]
    assert held(kept, 10, until_ns=30 * NS) == pytest.approx(0.9, abs=0.01)


def test_a_lane_that_falls_silent_is_charged_for_the_silence():
    assert held(stamps(100, 1500), 100, until_ns=30 * NS) == pytest.approx(0.5, abs=0.01)


def test_too_few_stamps_hold_nothing():
    assert held([], 1, until_ns=NS) == 0
    assert held([5], 1, until_ns=NS) == 0


def test_stamps_outside_the_seconds_are_not_counted():
    assert per_second([-1, 0, NS - 1, NS, 2 * NS], start_ns=0, seconds=2) == [2, 1]


def test_quantiles_are_values_that_occurred():
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([3, 1, 2], 1) == 3
    assert math.isnan(quantile([], 0.5))


def test_one_more_than_the_rate_or_one_percent_is_allowed():
    assert allowed(1).second == 2
    assert allowed(400).second == 404
    assert allowed(400).ten_seconds == 4004
    assert allowed(100).raw_second == 104


def test_a_result_is_good_only_if_no_goal_is_missed():
    result = Result("row", "sdk", 2, 30, figures=[between("held", 0.995, 0.99, 1.001), at_most("worst", 101, 101)])
    assert result.ok
    result.figures.append(at_least("used", 0.98, 0.99))
    assert not result.ok
    assert "MISS used" in table(result)


def test_results_are_written_with_what_they_ran_on(tmp_path):
    write([Result("row", "bare", 2, 30)], tmp_path / "deep" / "r.json", machine={"cores": 2})
    assert '"cores": 2' in (tmp_path / "deep" / "r.json").read_text()


def test_the_plot_is_valid_svg_with_every_way_and_the_rate_in_each_panel():
    ours = {"1/s": [1, 1], "100/s": [100, 99]}
    theirs = {"1/s": [0, 2], "100/s": [190, 40]}
    root = ET.fromstring(arrivals_svg({"this & that": ours, "theirs": theirs}, {"1/s": 1, "100/s": 100}))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 6
    assert "this & that" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
