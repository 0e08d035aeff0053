# SPDX-License-Identifier: Apache-2.0
"""The figure of docs/soundness.md, as SVG written by hand: no plotting library is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Change = Callable[[float, float, int, float, float], float]

_COST = 0.5
_STEPS = 120
_SIZE = (920, 440)
_TOP, _HEIGHT, _WIDTH = 56, 300, 370


@dataclass(frozen=True)
class _Curve:
    label: str
    samples: int
    bond: float
    style: str


_CURVES = (
    _Curve("S = 1, no bond", 1, 0, 'stroke="#8a8a8a" stroke-dasharray="6 4"'),
    _Curve("S = 2, no bond", 2, 0, 'stroke="#d98200"'),
    _Curve("S = 8, no bond", 8, 0, 'stroke="#1f77b4"'),
    _Curve("S = 8, B = w", 8, 1, 'stroke="#c0392b" stroke-width="2.5"'),
)


@dataclass(frozen=True)
class _Panel:
    title: str
    x_label: str
    left: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    ticks: Sequence[float]
    show: Callable[[float], str]
    value: Callable[[float, _Curve], float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + _WIDTH * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _TOP + _HEIGHT * (high - value) / (high - low)

    def draw(self) -> list[str]:
        lines = [
            f'<text x="{self.left}" y="{_TOP - 14}" font-weight="bold">{self.title}</text>',
            f'<rect x="{self.left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
            'stroke="#444"/>',
            f'<text x="{self.left + _WIDTH / 2:.0f}" y="{_TOP + _HEIGHT + 38}" '
            f'text-anchor="middle">{self.x_label}</text>',
        ]
        for tick in self.ticks:
            lines.append(
                f'<text x="{self.x(tick):.1f}" y="{_TOP + _HEIGHT + 18}" '
                f'text-anchor="middle">{self.show(tick)}</text>'
            )
        low, high = self.y_range
        quarter = round(low * 4)
        while quarter / 4 <= high:
            at = self.y(quarter / 4)
            if quarter % 2 == 0:
                lines.append(
                    f'<line x1="{self.left}" x2="{self.left + _WIDTH}" y1="{at:.1f}" y2="{at:.1f}" '
                    f'stroke="{"#444" if quarter == 0 else "#ddd"}"/>'
                )
                lines.append(
                    f'<text x="{self.left - 6}" y="{at + 4:.1f}" text-anchor="end">'
                    f"{quarter / 4:g}</text>"
                )
            quarter += 1
        start, stop = self.x_range
        for curve in _CURVES:
            points = []
            for step in range(_STEPS + 1):
                at = start + (stop - start) * step / _STEPS
                points.append(f"{self.x(at):.1f},{self.y(self.value(at, curve)):.1f}")
            lines.append(
                f'<polyline fill="none" stroke-width="1.8" {curve.style} '
                f'points="{" ".join(points)}"/>'
                if "stroke-width" not in curve.style
                else f'<polyline fill="none" {curve.style} points="{" ".join(points)}"/>'
            )
        return lines


def figure(change: Change) -> str:
    """Both kinds of cheater: expected profit of an epoch in units of w, against what is false.

    `change(work, claim, samples, cost, bond)` is what cheating adds to an honest epoch's profit.
    """
    honest = 1 - _COST
    panels = (
        _Panel(
            "saves work: does 1 - f, claims all",
            "f, part of the work that is left out",
            60,
            (0, 1),
            (-1.5, 1),
            (0, 0.25, 0.5, 0.75, 1),
            lambda tick: f"{100 * tick:g} %",
            lambda f, curve: honest + change(1 - f, 1, curve.samples, _COST, curve.bond),
        ),
        _Panel(
            "inflates: does all it can, claims m times that",
            "m, claim in multiples of the truth",
            520,
            (1, 4),
            (-1.5, 1),
            (1, 2, 3, 4),
            lambda tick: f"{tick:g} x",
            lambda m, curve: honest + change(1, m, curve.samples, _COST, curve.bond),
        ),
    )
    width, height = _SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Expected profit of a cheater in an epoch</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="60" y="20">Expected profit of an epoch in units of its reward w; '
        f"energy of a full window c = {_COST:g} w, honest profit {honest:g}</text>",
    ]
    for panel in panels:
        lines += panel.draw()
    for number, curve in enumerate(_CURVES):
        left = 60 + 200 * number
        lines.append(
            f'<line x1="{left}" x2="{left + 34}" y1="424" y2="424" '
            + (
                curve.style
                if "stroke-width" in curve.style
                else curve.style + ' stroke-width="1.8"'
            )
            + "/>"
        )
        lines.append(f'<text x="{left + 42}" y="428">{curve.label}</text>')
    return "\n".join(lines) + "\n</svg>\n"
