# SPDX-License-Identifier: Apache-2.0
"""Databases of agents that begin: the steps that make their tables run once, not for each test."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from provider_agent.modules.all import open_store
from provider_agent.store import Store


@cache
def _made() -> tuple[bytes, bytes]:
    """The database of an agent that has stopped before it did anything, and its history."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.sqlite"
        open_store(path).close()
        return path.read_bytes(), path.with_name("history.sqlite").read_bytes()


def fresh_store(path: Path, clock: Callable[[], float] = time.time) -> Store:
    """As `open_store` of a database that may be there already.

    Where an agent has left anything, its database was lost: that is seen as ever.
    """
    if not any(path.parent.glob("*")):
        places = path, path.with_name("history.sqlite")
        for place, content in zip(places, _made(), strict=True):
            place.touch(mode=0o600)
            place.write_bytes(content)
    return open_store(path, clock=clock)
