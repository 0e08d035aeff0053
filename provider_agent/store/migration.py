# SPDX-License-Identifier: Apache-2.0
"""Brings a database up to date: numbered steps per module, all of them in one transaction.

A step is `NNNN_name.sql` in a folder of its module, or `mNNNN_name.py` with `up(db, folder)`.
Modules are handed in; adding one needs no line here. A new file is made by the same steps, so
there is one way to every table. Which steps a file has had stands in its table `migrations`. Files
from before that table (schemas 1 to 4) are known by their number and by their columns.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider_agent.store.copying import copy_database
from provider_agent.store.errors import StoreError
from provider_agent.store.integrity import check_rows
from provider_agent.store.tables import Tables
from teraproof.protocol.errors import Code

APPLICATION_ID = 0x54504641  # "TPFA": tells our file from anybody else's database
NUMBERED = 5  # user_version of a file whose steps stand in its table
BACKUPS = "backups"
_KEPT_BACKUPS = 3
_ROOT = Path(__file__).parent / "migrations"
CORE = Tables("core", _ROOT / "core", check_rows)
HISTORY = Tables("history", _ROOT / "history")  # in a file of its own
_NAME = re.compile(r"m?(\d{4})_\w+\.(sql|py)")
# Steps that files from before the table of steps have had, by their number. 1 was given twice.
_BEFORE: tuple[tuple[int, Mapping[str, int]], ...] = (
    (1, {"core": 1, "jobs": 1}),
    (1, {"core": 2, "jobs": 2}),
    (2, {"core": 2, "jobs": 2}),
    (3, {"core": 2, "jobs": 2, "proofs": 1}),
    (4, {"core": 2, "jobs": 3, "proofs": 1}),
)
_Shape = dict[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Step:
    """One numbered change of one module's tables."""

    module: str
    number: int
    path: Path

    def apply(self, db: sqlite3.Connection, folder: Path) -> None:
        """Make the change, in the caller's transaction. `folder` is the data directory."""
        if self.path.suffix == ".sql":
            for statement in _statements(self.path.read_text("utf-8")):
                db.execute(statement)
            return
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        assert spec is not None and spec.loader is not None  # a file with a .py name
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.up(db, folder)


def steps(tables: Iterable[Tables]) -> dict[str, list[Step]]:
    """All steps by module, in the order given. Their numbers have no holes."""
    found: dict[str, list[Step]] = {}
    for part in tables:
        files = sorted(
            (int(match[1]), path)
            for path in part.steps.glob("*")
            if (match := _NAME.fullmatch(path.name))
        )
        if [number for number, _ in files] != list(range(1, len(files) + 1)):
            raise ValueError(f"the steps of {part.module} are not numbered one by one")
        found[part.module] = [Step(part.module, number, path) for number, path in files]
    return found


def applied(db: sqlite3.Connection, path: Path, tables: Sequence[Tables]) -> dict[str, int]:
    """The newest step of each module that a file has had. StoreError for a file that is not ours
    or newer than this program.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    shape = _shape(db)
    if not shape and version == 0:
        return {}
    if owner != APPLICATION_ID:
        raise StoreError(
            Code.DATABASE_FOREIGN,
            f"{path} is a database of another program; choose another agent.data_dir",
        )
    if version > NUMBERED:
        raise _newer(path, f"schema {version}")
    if version == NUMBERED:
        rows = db.execute("SELECT module, max(number) FROM migrations GROUP BY module")
        return {str(module): int(number) for module, number in rows}
    for number, had in _BEFORE:
        if number == version and shape == _expected(had, tables):
            return dict(had)
    raise StoreError(
        Code.DATABASE_UNKNOWN,
        f"{path} says schema {version}, but its tables are not those of any version; restore a "
        "backup or choose another agent.data_dir",
    )


def pending(had: Mapping[str, int], tables: Sequence[Tables], path: Path) -> list[Step]:
    """The steps that a file still needs. StoreError when it has had steps unknown here."""
    known = steps(tables)
    for module, number in had.items():
        if module not in known or number > len(known[module]):
            raise _newer(path, f"{module} {number}")
    return [step for name in known for step in known[name][had.get(name, 0) :]]


def upgrade(db: sqlite3.Connection, path: Path, tables: Sequence[Tables], now: float) -> bool:
    """Run what is missing, all or nothing, after a backup; whether there was anything to run.

    `db` must have foreign keys off: tables are replaced.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        had = applied(db, path, tables)
        missing = pending(had, tables, path)
        if not missing:
            db.execute("ROLLBACK")
            return False
        if had:
            _back_up(path, label(had, db), now)
        else:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(
            "CREATE TABLE IF NOT EXISTS migrations (module TEXT NOT NULL, number INTEGER NOT NULL, "
            "name TEXT NOT NULL, applied_at INTEGER NOT NULL, PRIMARY KEY (module, number)) "
            "WITHOUT ROWID"
        )
        for name, number in had.items():
            for step in steps(tables)[name][:number]:
                _record(db, step, now)
        for step in missing:
            step.apply(db, path.parent)
            _record(db, step, now)
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise StoreError(
                Code.DATABASE_DAMAGED, f"{path} has rows that belong to none; restore a backup"
            )
        db.execute(f"PRAGMA user_version = {NUMBERED}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return True


def label(had: Mapping[str, int], db: sqlite3.Connection) -> str:
    """How a schema is called in a backup's name and in what people read."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version < NUMBERED:
        return f"schema-{version}"
    return "-".join(f"{name}{number}" for name, number in sorted(had.items()))


def _record(db: sqlite3.Connection, step: Step, now: float) -> None:
    db.execute(
        "INSERT OR IGNORE INTO migrations VALUES (?, ?, ?, ?)",
        (step.module, step.number, step.path.stem, int(now)),
    )


def _back_up(path: Path, name: str, now: float) -> None:
    """A copy of the file next to it, durable before anything is changed; old ones are deleted."""
    folder = path.parent / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    size = sum(p.stat().st_size for p in (path, Path(f"{path}-wal")) if p.exists())
    if shutil.disk_usage(folder).free < 3 * size:
        raise StoreError(
            Code.DISK_FULL,
            f"no room to back up {path} before the upgrade; make {3 * size >> 20} MiB free",
        )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    place = folder / f"{path.stem}-{name}-{stamp}.sqlite"
    copy_database(path, place)
    old = sorted(folder.glob(f"{path.stem}-*.sqlite"), key=lambda copy: copy.stat().st_mtime)
    for copy in old[:-_KEPT_BACKUPS]:
        copy.unlink()


def _newer(path: Path, what: str) -> StoreError:
    return StoreError(
        Code.DATABASE_NEWER,
        f"{path} was written by a newer agent ({what}); install that version again, or restore "
        f"the backup of before its upgrade from {path.parent / BACKUPS}",
    )


def _expected(had: Mapping[str, int], tables: Sequence[Tables]) -> _Shape:
    """The tables that these steps make."""
    known = steps(tables)
    if not known.keys() >= had.keys():
        return {}
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for name, number in had.items():
            for step in known[name][:number]:
                step.apply(db, Path())
        return _shape(db)
    finally:
        db.close()


def _shape(db: sqlite3.Connection) -> _Shape:
    """The columns and their types, by table."""
    tables = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ).fetchall()
    return {
        str(name): frozenset(
            (str(row[1]), str(row[2])) for row in db.execute(f'PRAGMA table_info("{name}")')
        )
        for (name,) in tables
    }


def _statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, one by one: executescript would end the transaction."""
    text = ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""
