# SPDX-License-Identifier: Apache-2.0
"""A directory of small files as one file of a backup. What is written in it is written once."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from provider_agent.durable import sync, sync_directory

ENDING = ".tar"
_MOST = 1 << 20  # bytes of one file


def pack(folder: Path, file: Path) -> None:
    """Write the files of `folder` into a new `file`. Raises OSError.

    Names that begin with a dot are half written and left out, and so is what goes meanwhile.
    """
    with tarfile.open(file, "x:") as archive:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                archive.add(path, path.name, recursive=False)
            except FileNotFoundError:
                continue
    os.chmod(file, 0o600)
    sync(file)


def unpack(file: Path, folder: Path) -> None:
    """Put the files of an archive into `folder`, whole or not at all. One that is there stays.

    Raises OSError, and ValueError for an archive that `pack` has not made.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                name = member.name
                plain = member.isreg() and Path(name).name == name and not name.startswith(".")
                data = archive.extractfile(member) if plain else None
                if data is None or member.size > _MOST:
                    raise ValueError(f"{name} does not belong into it")
                with open(part / name, "xb") as written:
                    os.chmod(part / name, 0o600)
                    shutil.copyfileobj(data, written)
                os.utime(part / name, (member.mtime, member.mtime))
                sync(part / name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in part.iterdir():
            if not (folder / path.name).exists():
                os.replace(path, folder / path.name)
        sync_directory(folder)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
