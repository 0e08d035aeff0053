# SPDX-License-Identifier: Apache-2.0
"""Durable copies of a database that may be in use."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from provider_agent.durable import sync


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, its log included, while others write to it; `target` appears complete.

    Raises OSError and sqlite3.Error, and leaves nothing behind.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        read, written = sqlite3.connect(source), sqlite3.connect(part)
        try:
            read.backup(written)
            # The copy is one file; the agent turns its log on again.
            written.execute("PRAGMA journal_mode = DELETE")
        finally:
            written.close()
            read.close()
        sync(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    sync(target.parent)
