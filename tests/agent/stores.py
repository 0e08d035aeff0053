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

FILES = ("agent.sqlite", "history.sqlite")


@cache
def _made() -> dict[str, bytes]:
    """The files of an agent that has stopped before it did anything."""
    with tempfile.TemporaryDirectory() as folder:
        open_store(Path(folder) / FILES[0]).close()
        return {name: (Path(folder) / name).read_bytes() for name in FILES}


def fresh_store(path: Path, clock: Callable[[], float] = time.time) -> Store:
    """As `open_store` of a database that may be there already.

    Where an agent has left anything, its database was lost: that is seen as ever.
    """
    folder = path.parent
    if path.name == FILES[0] and not any(folder.glob("*")):
        for name, content in _made().items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(content)
    return open_store(path, clock=clock)
