# SPDX-License-Identifier: Apache-2.0
"""What the commands of this folder have in common: how they begin, and how they end."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.console import Console

from teraproof.errors import LocalError
from tools import engine


class BenchmarkError(Exception):
    """One line for a person: what went wrong and what to do."""


class Measured(Protocol):
    """What came of a run: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def faults(self) -> Sequence[str]:
        """What is other than promised, a line each."""

    def show(self, console: Console) -> None:
        """Its tables."""


@contextlib.contextmanager
def engine_and_place() -> Iterator[tuple[engine.Daemon, str, Path]]:
    """An engine, the image of a small web server, and an empty directory; all end with it."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        engine.running() as (daemon, image),
    ):
        yield daemon, image, Path(place)


def run(module: str, given: Sequence[str], result: Path, measure: Callable[[], Measured]) -> int:
    """Measure where an engine may run, write the figures to `result`, and show them. The exit
    code: 0 when everything is as promised.
    """
    ended = engine.enter(sys.executable, "-m", module, *given)
    if ended is not None:
        return ended
    try:
        found = measure()
    except (BenchmarkError, AssertionError, LocalError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return conclude(found, result)


def conclude(found: Measured, result: Path) -> int:
    """Write figures to a file, and show them; the exit code."""
    result.parent.mkdir(exist_ok=True)
    figures = {**asdict(found), "faults": list(found.faults)}
    result.write_text(json.dumps(figures, indent=1) + "\n")
    console = Console()
    found.show(console)
    for fault in found.faults:
        console.print(f"wrong: {fault}", highlight=False)
    return 1 if found.faults else 0
