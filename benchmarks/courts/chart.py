# SPDX-License-Identifier: Apache-2.0
"""Line charts as SVG, written by hand: panels of curves, and dots that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_TOP, _HEIGHT, _WIDTH, _GAP = 40, 290, 360, 90
_STEPS = 40
_COLOURS = ("#c0392b", "#1f77b4", "#d98200", "#2e8b57", "#6b4fa0", "#555555")


@dataclass(frozen=True)
class Curve:
    """A label, what is drawn, and what was measured of it."""

    label: str
    value: Callable[[float], float]
    dots: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Panel:
    """One coordinate system; curves leave it where they are out of range."""

    title: str
    x_label: str
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    curves: Sequence[Curve]
    show_x: Callable[[float], str] = field(default=lambda tick: f"{100 * tick:g} %")
    show_y: Callable[[float], str] = field(default=lambda tick: f"{tick:g}")

    def draw(self, left: float) -> list[str]:
        low_x, high_x = self.x_ticks[0], self.x_ticks[-1]
        low, high = self.y_ticks[0], self.y_ticks[-1]

        def x(at: float) -> float:
            return left + _WIDTH * (at - low_x) / (high_x - low_x)

        def y(at: float) -> float:
            return _TOP + _HEIGHT * (high - at) / (high - low)

        bottom = _TOP + _HEIGHT
        lines = [
            f'<text x="{left}" y="{_TOP - 12}" font-weight="bold">{self.title}</text>',
            f'<text x="{left + _WIDTH / 2:.0f}" y="{bottom + 38}" text-anchor="middle">'
            f"{self.x_label}</text>",
        ]
        for tick in self.y_ticks:
            colour = "#444" if tick == 0 else "#ddd"
            lines.append(
                f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
                f'stroke="{colour}"/><text x="{left - 6}" y="{y(tick) + 4:.1f}" '
                f'text-anchor="end">{self.show_y(tick)}</text>'
            )
        lines += [
            f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{self.show_x(tick)}</text>"
            for tick in self.x_ticks
        ]
        for number, curve in enumerate(self.curves):
            colour = _COLOURS[number]
            points = []
            for step in range(_STEPS + 1):
                at = low_x + (high_x - low_x) * step / _STEPS
                value = curve.value(at)
                if low <= value <= high:
                    points.append(f"{x(at):.1f},{y(value):.1f}")
            lines.append(
                f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                f'{" ".join(points)}"/>'
            )
            lines += [
                f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="4" fill="{colour}"/>'
                for at, value in curve.dots
                if low <= value <= high
            ]
            row = bottom + 64 + 20 * number
            lines.append(
                f'<line x1="{left}" x2="{left + 30}" y1="{row - 4}" y2="{row - 4}" '
                f'stroke="{colour}" stroke-width="2"/><text x="{left + 38}" y="{row}">'
                f"{curve.label}</text>"
            )
        lines.append(
            f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
            'stroke="#444"/>'
        )
        return lines


def chart(title: str, panels: Sequence[Panel]) -> str:
    """Panels next to each other; `title` is for readers that do not see."""
    rows = max(len(panel.curves) for panel in panels)
    width = len(panels) * (_WIDTH + _GAP) + 20
    height = _TOP + _HEIGHT + 70 + 20 * rows
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        lines += panel.draw(70 + number * (_WIDTH + _GAP))
    return "\n".join(lines) + "\n</svg>\n"
