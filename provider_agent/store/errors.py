# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the agent's files: one line for a person, a code for programs."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from pathlib import Path

from provider_agent.errors import AgentError


class Fault(StrEnum):
    """The codes."""

    NEWER = "database_newer"  # written by a later version
    UNKNOWN = "database_unknown"  # an old number with tables that it never had
    FOREIGN = "database_foreign"  # another program's
    OTHER = "database_of_another_agent"  # another chain, key or deployment
    DAMAGED = "database_damaged"
    UNWRITABLE = "database_unwritable"
    FULL = "disk_full"
    BUSY = "database_busy"
    GONE = "database_gone"  # moved or deleted while it was in use
    UNFINISHED = "database_unfinished_jobs"  # jobs that this version cannot finish
    OLD = "database_not_upgraded"


class StoreError(AgentError):
    """The database cannot be used."""

    def __init__(self, code: Fault, line: str) -> None:
        super().__init__(line)
        self.code = code


_RESTORE = (
    "stop the agent, move the file away and restore a backup; without one start with "
    "--adopt-nonces: running jobs are found on the disk and on chain"
)
# SQLite's primary result codes.
_CODES = {
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_FORMAT: Fault.DAMAGED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_READONLY: Fault.UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: Fault.UNWRITABLE,
    sqlite3.SQLITE_PERM: Fault.UNWRITABLE,
    sqlite3.SQLITE_IOERR: Fault.UNWRITABLE,
}


def damaged(path: Path, why: str) -> StoreError:
    """The error for a file whose content is not what was written."""
    return StoreError(Fault.DAMAGED, f"the database {path} is damaged ({why}); {_RESTORE}")


def explain(path: Path, error: sqlite3.Error | OSError | ValueError) -> StoreError:
    """SQLite's or the system's error as one line that says what to do."""
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        return StoreError(
            Fault.UNWRITABLE, f"cannot open the database {path}: {why}; check agent.data_dir"
        )
    code = getattr(error, "sqlite_errorcode", None)
    fault = None if code is None else _CODES.get(code & 0xFF)
    if fault is Fault.FULL:
        line = f"no room left for the database {path}; make room on its disk"
    elif fault is Fault.BUSY:
        line = f"the database {path} is in use by another program; stop it"
    elif fault is Fault.UNWRITABLE:
        line = (
            f"cannot write the database {path}: {error}; check its owner, its disk and "
            "agent.data_dir"
        )
    else:
        # A table that is missing, a value that is no number: the file is not what we wrote.
        return damaged(path, str(error))
    return StoreError(fault, line)
