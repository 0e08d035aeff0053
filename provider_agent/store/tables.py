# SPDX-License-Identifier: Apache-2.0
"""What a module keeps in the agent's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Looks at the rows of today's tables in a file. Raises StoreError, sqlite3.Error.
RowCheck = Callable[[sqlite3.Connection, Path], None]


def _nothing(db: sqlite3.Connection, path: Path) -> None:
    """Nothing to check."""


@dataclass(frozen=True)
class Tables:
    """Tables as numbered steps in a folder, and what their rows must say at each start."""

    module: str
    steps: Path
    check: RowCheck = _nothing
