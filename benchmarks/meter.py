# SPDX-License-Identifier: Apache-2.0
"""Where measurements are collected."""

from __future__ import annotations

from dataclasses import dataclass, field

CYCLES = 3


@dataclass
class Meter:
    """Gas by operation, one figure a cycle; a single one where the first time is like any other."""

    figures: dict[str, list[int]] = field(default_factory=dict)

    def note(self, name: str, gas: int) -> None:
        """Add the next cycle's figure."""
        self.figures.setdefault(name, []).append(gas)

    def sum(self, name: str, parts: list[str]) -> None:
        """Add an operation that is the sum of others, cycle by cycle."""
        rows = [self.figures[part] for part in parts]
        self.figures[name] = [sum(row) for row in zip(*rows, strict=True)]
