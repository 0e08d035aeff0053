# SPDX-License-Identifier: Apache-2.0
"""The tables of one module, next to the agent's own in the same file and the same transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from provider_agent.store.core import Store
from provider_agent.store.history import History


class Repository:
    """Reads and writes a module's tables over the connections of the agent's store."""

    def __init__(self, core: Store) -> None:
        self.core = core

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.core.path

    @property
    def history(self) -> History:
        """What has ended."""
        return self.core.history

    def transaction(
        self, *, lasting: bool = True
    ) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """See the store."""
        return self.core.transaction(lasting=lasting)

    def _db(self) -> sqlite3.Connection:
        return self.core._db()

    def _now(self) -> int:
        return self.core._now()

    def _update(self, table: str, key: str, value: object, columns: dict[str, Any]) -> None:
        self.core._update(table, key, value, columns)
