# SPDX-License-Identifier: Apache-2.0
"""What a command says to a person, and what it asks. A terminal and the demo bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

Row = Sequence[str]


class Ui(Protocol):
    """Where progress goes and where consent comes from."""

    def doing(self, text: str) -> None:
        """What takes the time from now on."""
        ...

    def step(self, text: str) -> None:
        """Something was done."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing."""
        ...

    def table(self, title: str, columns: Row, rows: Sequence[Row]) -> None:
        """Facts in rows."""
        ...

    def ask(self, question: str) -> None:
        """Return if the person agrees, else raise `Declined`."""
        ...


@dataclass
class QuietUi:
    """Silent: confirms every prompt and records the lines."""

    lines: list[str] = field(default_factory=list)

    def doing(self, text: str) -> None:
        """Left out."""

    def step(self, text: str) -> None:
        """Kept."""
        self.lines.append(text)

    def note(self, text: str) -> None:
        """Kept."""
        self.lines.append(text)

    def table(self, title: str, columns: Row, rows: Sequence[Row]) -> None:
        """Kept, a line a row."""
        self.lines += [f"{title}: {' | '.join(row)}" for row in rows]

    def ask(self, question: str) -> None:
        """Agreed."""
        self.lines.append(question)
