# SPDX-License-Identifier: Apache-2.0
"""Backups of an agent in one directory: its databases, what its modules must never forget, its
settings and its encrypted key.

A copy is made while the agent runs. A restored database is older than the chain: its agent takes
nonces, runs and jobs from the chain and the disk, as one whose file was lost does, and sends
nothing that the copy still had under way.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_agent.durable import sync
from provider_agent.store import IntentState, Store, packing
from provider_agent.store.copying import copy_database
from provider_agent.store.errors import explain
from teraproof.errors import LocalError, of_file
from teraproof.protocol.errors import Code

MANIFEST = "backup.json"
DATABASES = ("agent.sqlite", "history.sqlite")
_FORMAT, _READ = 2, (1, 2)  # the first one held databases, settings and key alone
_UNDER_WAY = (IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT)


@dataclass(frozen=True)
class Backup:
    """A complete backup on the disk."""

    folder: Path
    made: int
    """Unix seconds."""
    chain: str
    """Chain id; empty when the agent had not started yet."""
    operator: str
    """Address of the key; empty when the agent had not started yet."""
    files: tuple[str, ...]
    """Names of the files in the folder."""
    holds_all: bool
    """Whether it is of a version that copied all that an agent must not forget."""


def make(
    folder: Path, data_dir: Path, others: Sequence[Path] = (), kept: Sequence[str] = ()
) -> Backup:
    """Copy the databases of `data_dir` and some `others` into a new folder, complete or not at all.

    `kept` are directories of small files in `data_dir`, copied after the databases: what these say
    is in them. LocalError when the folder is there, or when anything cannot be read or written.
    """
    if folder.exists() or folder.is_symlink():
        raise LocalError(f"{folder} is there already; name a new directory", Code.INPUT_INVALID)
    main = data_dir / DATABASES[0]
    if not main.exists():
        raise LocalError(f"{main} is not there; the agent has not run yet", Code.INPUT_INVALID)
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700, parents=True)
        for name in DATABASES:
            if (data_dir / name).exists():
                copy_database(data_dir / name, part / name)
        for name in kept:
            if (data_dir / name).is_dir():
                packing.pack(data_dir / name, part / f"{name}{packing.ENDING}")
        for file in others:
            shutil.copyfile(file, part / file.name)
            os.chmod(part / file.name, 0o600)
            sync(part / file.name)
        about = _about(part / DATABASES[0])
        files = sorted(path.name for path in part.iterdir())
        manifest = {
            "format": _FORMAT,
            "made": int(time.time()),
            **about,
            "files": {name: _digest(part / name) for name in files},
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        os.chmod(part / MANIFEST, 0o600)
        sync(part / MANIFEST)
        sync(part)
        part.rename(folder)
        sync(folder.parent)
    except sqlite3.Error as error:
        raise explain(main, error) from error
    except OSError as error:
        what = error.filename or folder
        raise of_file(error, what, f"cannot back up to {folder}:") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return read(folder)


def read(folder: Path) -> Backup:
    """A backup whose files are all there, byte by byte. LocalError says what is not."""
    file = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text("utf-8"))
        files: dict[str, str] = manifest["files"]
        found = Backup(
            folder,
            int(manifest["made"]),
            str(manifest["chain"]),
            str(manifest["operator"]),
            tuple(sorted(files)),
            manifest["format"] == _FORMAT,
        )
        known = manifest["format"] in _READ and all(Path(name).name == name for name in files)
    except OSError as error:
        raise LocalError(
            f"cannot read {file}: {error.strerror}; name a directory of `provider-agent backup`",
            Code.INPUT_INVALID,
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise LocalError(f"{file} is not a backup that this version reads", Code.INPUT_INVALID)
    for name, digest in files.items():
        try:
            right = _digest(folder / name) == digest
        except OSError:
            right = False
        if not right:
            raise LocalError(
                f"{folder / name} is missing or not as it was written; use another backup",
                Code.INPUT_INVALID,
            )
    return found


def restore(
    backup: Backup,
    data_dir: Path,
    open_store: Callable[[Path], Store],
    kept: Sequence[str] = (),
) -> None:
    """Put the databases of a backup into `data_dir`, which has none, and what of the directories
    `kept` is not there. No agent may run there.

    What was under way in the copy is given up: the next start reads the chain and the disk.
    LocalError when there is a database, or when the copy cannot be used.
    """
    there = data_dir / DATABASES[0]
    if there.exists():
        raise LocalError(
            f"{there} is there; move it and its -wal file away first", Code.INPUT_INVALID
        )
    part = data_dir / ".restoring"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        for name in DATABASES:
            if name in backup.files:
                shutil.copyfile(backup.folder / name, part / name)
                os.chmod(part / name, 0o600)
        _make_fit(part / DATABASES[0], open_store)
        for name in kept:
            if name + packing.ENDING in backup.files:
                packing.unpack(backup.folder / f"{name}{packing.ENDING}", data_dir / name)
        for name in reversed(DATABASES):  # the main one last: with it the restoring is done
            if (part / name).exists():
                for side in ("-wal", "-shm"):
                    (data_dir / f"{name}{side}").unlink(missing_ok=True)
                sync(part / name)
                os.replace(part / name, data_dir / name)
        sync(data_dir)
    except ValueError as error:
        raise LocalError(f"{backup.folder} cannot be used: {error}", Code.INPUT_INVALID) from error
    except OSError as error:
        what = error.filename or data_dir
        raise of_file(error, what, f"cannot restore to {data_dir}:") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make_fit(path: Path, open_store: Callable[[Path], Store]) -> None:
    """Check the copy, bring it up to date, and have its agent start as after a loss."""
    store = open_store(path)
    try:
        with store.transaction():
            store.mark_lost()
            for intent in store.intents_in(*_UNDER_WAY):
                store.set_intent_state(
                    intent.id, IntentState.ABANDONED, reason="restored from a backup"
                )
    except sqlite3.Error as error:
        raise explain(path, error) from error
    finally:
        store.close()


def _about(path: Path) -> dict[str, str]:
    """What a copied database belongs to, of whatever version it is. Raises sqlite3.Error."""
    db = sqlite3.connect(path)
    try:
        rows = dict(db.execute("SELECT key, value FROM meta WHERE key LIKE 'identity.%'"))
    finally:
        db.close()
    return {name: str(rows.get(f"identity.{name}", "")) for name in ("chain", "operator")}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
