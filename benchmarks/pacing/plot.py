"""Arrivals per second as SVG: several ways side by side, a panel a lane. Pure Python, no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLORS = ("#0b7a75", "#c8553d", "#8a6fb0")
RATE, INK, FAINT = "#222222", "#333333", "#dddddd"
PANEL_W, PANEL_H, LEFT, TOP, GAP_X, GAP_Y = 400, 150, 56, 92, 70, 62
FONT = 'font-family="system-ui, sans-serif"'


def _text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", color: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {FONT} text-anchor="{anchor}" fill="{color}">'
        f"{escape(words)}</text>"
    )


def _line(points: Sequence[tuple[float, float]], color: str, *, width: float = 1.6, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashed}/>'


def _panel(at_xy: tuple[float, float], name: str, rate: float, ways: Sequence[Sequence[int]]) -> list[str]:
    x, y = at_xy
    highest = max(value for way in ways for value in way)
    top = max(highest, rate) * 1.15
    count = max(2, *(len(way) for way in ways))

    def at(second: float, value: float) -> tuple[float, float]:
        return x + second / (count - 1) * PANEL_W, y + PANEL_H * (1 - value / top)

    parts = [f'<rect x="{x}" y="{y}" width="{PANEL_W}" height="{PANEL_H}" fill="none" stroke="{FAINT}"/>']
    for value in sorted({0.0, rate, float(highest)}):
        if value != rate and abs(value - rate) < top * 0.09:
            continue
        _, height = at(0, value)
        parts += [_text(x - 6, height + 4, f"{value:g}", size=11, anchor="end")]
    parts += [_line([at(0, rate), at(count - 1, rate)], RATE, width=1, dash="4 3")]
    for way, color in reversed(list(zip(ways, COLORS, strict=False))):  # the first on top
        parts += [_line([at(i, value) for i, value in enumerate(way)], color)]
    parts += [
        _text(x, y - 8, f"a sender of {name}", size=13),
        _text(x, y + PANEL_H + 16, "0 s", size=11),
        _text(x + PANEL_W, y + PANEL_H + 16, f"{count} s", size=11, anchor="end"),
    ]
    return parts


def arrivals_svg(ways: Mapping[str, Mapping[str, Sequence[int]]], rates: Mapping[str, float]) -> str:
    """A panel for each lane: arrivals in each second on each of up to three ways, and the rate as a dashed line.

    Args:
        ways: By the words of the legend: arrivals in each second, by lane.
        rates: By lane.
    """
    rows = (len(rates) + 1) // 2
    width, height = LEFT + 2 * PANEL_W + GAP_X + 24, TOP + rows * (PANEL_H + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 22, "Messages that arrive at the provider in each second, with a backlog", size=15),
    ]
    legend = [*zip(ways, COLORS, strict=False), ("- - the sender's rate", INK)]
    for i, (words, color) in enumerate(legend):
        parts.append(_text(LEFT + (i % 2) * (PANEL_W + GAP_X), 42 + 18 * (i // 2), words, color=color, size=13))
    for i, (name, rate) in enumerate(rates.items()):
        corner = (LEFT + (i % 2) * (PANEL_W + GAP_X), TOP + (i // 2) * (PANEL_H + GAP_Y))
        parts += _panel(corner, name, rate, [series[name] for series in ways.values()])
    return "\n".join([*parts, "</svg>"]) + "\n"
