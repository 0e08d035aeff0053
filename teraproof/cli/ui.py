# SPDX-License-Identifier: Apache-2.0
"""The terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from teraproof.cli.tables import fitted
from teraproof.errors import Declined, WrongInput
from teraproof.market.ui import Row

_PATIENCE = 1.0  # seconds after which a person reads what takes the time


@dataclass
class ConsoleUi:
    """A terminal, or a log when there is none. `quiet` keeps stdout for one JSON document.

    As a context manager it also shows what takes long.
    """

    yes: bool = False
    quiet: bool = False
    console: Console = field(default_factory=lambda: _console())
    #: What was worth knowing, for the document.
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._errors = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._open = False

    def __enter__(self) -> ConsoleUi:
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self.pause()

    def doing(self, text: str) -> None:
        """What takes the time from now on; shown when it takes more than a second."""
        if not self._open:
            return
        if self._status is not None:
            self._status.update(text)
            return
        self.pause()
        self._timer = threading.Timer(_PATIENCE, self._show, (text,))
        self._timer.daemon = True
        self._timer.start()

    def step(self, text: str) -> None:
        """One line with a mark."""
        self._print(Text.assemble(("✓ ", "green"), text))

    def note(self, text: str) -> None:
        """One line."""
        self.notes.append(text)
        self._print(Text(text, style="yellow"))

    def line(self, text: str) -> None:
        """A line of a stranger's, as it is."""
        self.pause()
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)

    def table(self, title: str, columns: Row, rows: Sequence[Row]) -> None:
        """A table; what is too long for the width goes on below, nothing is cut."""
        self._print(fitted(self.console, title, columns, rows))

    def ask(self, question: str) -> None:
        """Ask, unless consent was given on the command line. Without a terminal: refuse."""
        if self.yes:
            return
        self.pause()
        if not sys.stdin.isatty():
            raise WrongInput(f"{question.rstrip('?')}: nobody is there to ask; pass --yes to go on")
        if not click.confirm(question, err=self.quiet):
            raise Declined

    def secret(self, question: str) -> str:
        """Ask for a password. There must be a terminal."""
        self.pause()
        return str(click.prompt(question, hide_input=True, err=True))

    def _print(self, what: RenderableType) -> None:
        self.pause()
        if not self.quiet:
            self.console.print(what)

    def _show(self, text: str) -> None:
        with self._lock:
            if threading.current_thread() is not self._timer:
                return  # something was said meanwhile
            # A log gets a line, a terminal a sign that moves.
            if not self._errors.is_terminal:
                self._errors.print(Text(f"{text} ..."))
            else:
                self._status = self._errors.status(text)
                self._status.start()

    def pause(self) -> None:
        """Take away what moves: somebody is asked something, or reads."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._status is not None:
                self._status.stop()
                self._status = None


def _console() -> Console:
    # A log has no width of its own.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
