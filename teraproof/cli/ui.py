# SPDX-License-Identifier: Apache-2.0
"""The terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from teraproof.errors import CommandError, Declined
from teraproof.market.ui import Row


@dataclass
class ConsoleUi:
    """A terminal, or a log when there is none."""

    yes: bool = False
    console: Console = field(default_factory=lambda: _console())

    def step(self, text: str) -> None:
        """One line with a mark."""
        self.console.print(Text.assemble(("✓ ", "green"), text))

    def note(self, text: str) -> None:
        """One line."""
        self.console.print(Text(text, style="yellow"))

    def table(self, title: str, columns: Row, rows: Sequence[Row]) -> None:
        """A table; addresses may be folded, never cut."""
        grid = Table(title=title, title_justify="left", title_style="bold")
        for name in columns:
            grid.add_column(name, overflow="fold")
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        self.console.print(grid)

    def ask(self, question: str) -> None:
        """Ask, unless consent was given on the command line. Without a terminal: refuse."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise CommandError(
                f"{question.rstrip('?')}: nobody is there to ask; pass --yes to go on"
            )
        if not click.confirm(question):
            raise Declined


def _console() -> Console:
    # A log has no width of its own.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
