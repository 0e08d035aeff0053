# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the agent's files: one line for a person, a code for programs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code


class StoreError(LocalError):
    """The database cannot be used."""

    def __init__(self, code: Code, line: str) -> None:
        super().__init__(line, code)


_RESTORE = (
    "stop the agent, move the file away and restore a backup; without one start with "
    "--adopt-nonces: running jobs are found on the disk and on chain"
)
# SQLite's primary result codes.
_CODES = {
    sqlite3.SQLITE_CORRUPT: Code.DATABASE_DAMAGED,
    sqlite3.SQLITE_NOTADB: Code.DATABASE_DAMAGED,
    sqlite3.SQLITE_FORMAT: Code.DATABASE_DAMAGED,
    sqlite3.SQLITE_FULL: Code.DISK_FULL,
    sqlite3.SQLITE_BUSY: Code.DATABASE_BUSY,
    sqlite3.SQLITE_LOCKED: Code.DATABASE_BUSY,
    sqlite3.SQLITE_READONLY: Code.DATABASE_UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: Code.DATABASE_UNWRITABLE,
    sqlite3.SQLITE_PERM: Code.DATABASE_UNWRITABLE,
    sqlite3.SQLITE_IOERR: Code.DATABASE_UNWRITABLE,
}


def damaged(path: Path, why: str) -> StoreError:
    """The error for a file whose content is not what was written."""
    return StoreError(Code.DATABASE_DAMAGED, f"the database {path} is damaged ({why}); {_RESTORE}")


def explain(path: Path, error: sqlite3.Error | OSError | ValueError) -> StoreError:
    """SQLite's or the system's error as one line that says what to do."""
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        return StoreError(
            Code.DATABASE_UNWRITABLE,
            f"cannot open the database {path}: {why}; check agent.data_dir",
        )
    code = getattr(error, "sqlite_errorcode", None)
    fault = None if code is None else _CODES.get(code & 0xFF)
    if fault is Code.DISK_FULL:
        line = f"no room left for the database {path}; make room on its disk"
    elif fault is Code.DATABASE_BUSY:
        line = f"the database {path} is in use by another program; stop it"
    elif fault is Code.DATABASE_UNWRITABLE:
        line = (
            f"cannot write the database {path}: {error}; check its owner, its disk and "
            "agent.data_dir"
        )
    else:
        # A table that is missing, a value that is not a number: the file is not what we wrote.
        return damaged(path, str(error))
    return StoreError(fault, line)
