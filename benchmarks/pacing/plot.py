"""Arrivals per second as SVG: two ways side by side, a panel a lane. Pure Python, no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

OURS, OTHER, RATE, INK, FAINT = "#0b7a75", "#c8553d", "#222222", "#333333", "#dddddd"
PANEL_W, PANEL_H, LEFT, TOP, GAP_X, GAP_Y = 400, 150, 56, 74, 70, 62
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


def _panel(at_xy: tuple[float, float], name: str, rate: float, ours: Sequence[int], other: Sequence[int]) -> list[str]:
    x, y = at_xy
    top = max([*ours, *other, rate]) * 1.15
    count = max(len(ours), len(other), 2)

    def at(second: float, value: float) -> tuple[float, float]:
        return x + second / (count - 1) * PANEL_W, y + PANEL_H * (1 - value / top)

    parts = [f'<rect x="{x}" y="{y}" width="{PANEL_W}" height="{PANEL_H}" fill="none" stroke="{FAINT}"/>']
    for value in sorted({0.0, rate, float(max([*ours, *other]))}):
        if value != rate and abs(value - rate) < top * 0.09:
            continue
        _, height = at(0, value)
        parts += [_text(x - 6, height + 4, f"{value:g}", size=11, anchor="end")]
    parts += [_line([at(0, rate), at(count - 1, rate)], RATE, width=1, dash="4 3")]
    parts += [
        _line([at(i, v) for i, v in enumerate(other)], OTHER),
        _line([at(i, v) for i, v in enumerate(ours)], OURS),
    ]
    parts += [
        _text(x, y - 8, f"a sender of {name}", size=13),
        _text(x, y + PANEL_H + 16, "0 s", size=11),
        _text(x + PANEL_W, y + PANEL_H + 16, f"{count} s", size=11, anchor="end"),
    ]
    return parts


def arrivals_svg(
    ours: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]], rates: Mapping[str, float]
) -> str:
    """A panel for each lane, by name: arrivals in each second, ours, the other's, and the rate as a dashed line."""
    rows = (len(rates) + 1) // 2
    width, height = LEFT + 2 * PANEL_W + GAP_X + 24, TOP + rows * (PANEL_H + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 22, "Messages that arrive at the provider in each second, with a backlog", size=15),
        _text(LEFT, 42, "this service", color=OURS, size=13),
        _text(LEFT + 100, 42, "Dramatiq's BucketRateLimiter with retries", color=OTHER, size=13),
        _text(LEFT + 380, 42, "- - the sender's rate", size=13),
    ]
    for i, (name, rate) in enumerate(rates.items()):
        x, y = LEFT + (i % 2) * (PANEL_W + GAP_X), TOP + (i // 2) * (PANEL_H + GAP_Y)
        parts += _panel((x, y), name, rate, ours[name], other[name])
    return "\n".join([*parts, "</svg>"]) + "\n"
