# SPDX-License-Identifier: Apache-2.0
"""What a lease begins with: its newest checkpoint that is whole, moved into its volume."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.paths import UnfitTree
from teraproof.storage.checkpoints import resume
from teraproof.storage.layout import Checkpoint, Destination

log = logging.getLogger(__name__)

_OPEN, _FILE = 0o777, 0o666  # whoever the program runs as goes on with them
_LOOKED_AT = 4  # checkpoints that are tried when the newest ones are damaged


def newest(destination: Destination, place: Path) -> Checkpoint | None:
    """Have the newest checkpoint that is whole at `place`; None where nothing was saved. Of those
    that are damaged a few are looked at: who writes there could leave any number of them.
    """
    if place.exists():  # a killed agent's: it appeared when all of it was verified
        return None
    damaged: LocalError | None = None
    for each in destination.listed()[: -_LOOKED_AT - 1 : -1]:
        try:
            return resume(destination, place, each.name)[0]
        except LocalError as error:
            if error.code is not Code.CHECKPOINT_DAMAGED:
                raise
            log.warning("%s", error)
            damaged = error
    if damaged is not None:
        raise damaged
    return None


def lay_out(resumed: Path, place: Path, inside: str) -> None:
    """Move what was fetched into a volume that no container has used yet. A killed call is finished
    by the next one. In a volume that has these names already nothing is touched.
    """
    if not resumed.exists():
        return
    owner = place.stat()
    for parent, folders, files in os.walk(resumed):
        for path, mode in (
            *((Path(parent) / one, _OPEN) for one in folders),
            *((Path(parent) / one, _FILE) for one in files),
        ):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
            path.chmod(mode)
    with _directory_in(place, inside, owner) as target:
        there = set(os.listdir(target))
        moved = sorted(child.name for child in resumed.iterdir())
        if not there.isdisjoint(moved):
            log.warning("%s: has files already, and begins with those", place)
            shutil.rmtree(resumed)
            return
        for name in moved:
            os.rename(resumed / name, name, dst_dir_fd=target)
        os.fsync(target)


@contextmanager
def _directory_in(place: Path, inside: str, owner: os.stat_result) -> Iterator[int]:
    """A directory of a volume, made and open to whoever the program runs as. No link is followed:
    a program may have been in the volume, whatever this agent remembers.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(place, flags)
    try:
        os.fchmod(handle, _OPEN)  # without the sticky bit: files are replaced by another user
        for part in inside.split("/") if inside else ():
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=handle)
            try:
                deeper = os.open(part, flags, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise UnfitTree(f"{inside}: not a directory; make one there") from None
            os.close(handle)
            handle = deeper
            os.fchown(handle, owner.st_uid, owner.st_gid)
            os.fchmod(handle, _OPEN)
        yield handle
    finally:
        os.close(handle)
