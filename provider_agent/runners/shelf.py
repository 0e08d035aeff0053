# SPDX-License-Identifier: Apache-2.0
"""A directory that a lease has saved, on this machine; see `shelves.Shelf`.

<volume>/
    data/             what its containers see
    resumed.partial/  what is fetched of the checkpoint that it begins with
    resumed/          all of that, until it is moved into `data`
    begun             there once it has begun
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from provider_agent import durable
from provider_agent.runners.shelves import Standing
from teraproof.protocol.digests import Entry
from teraproof.protocol.paths import UnfitTree
from teraproof.storage.objects import Named, Source
from teraproof.storage.parts import Part
from teraproof.storage.snapshot import Snapshot, Snapshots
from teraproof.storage.target import Tree

log = logging.getLogger(__name__)

_BEGUN, _RESUMED = "begun", "resumed"
_OPEN, _FILE = 0o777, 0o666  # whoever the program runs as goes on with them


class NearShelf:
    """See the module. `place` is the volume's `data`, `inside` a directory below it, `own` is for
    copies, which take at most `most` bytes. `go_on` raises LocalError to break off a copy.
    """

    def __init__(
        self,
        place: Path,
        inside: str,
        own: Path,
        most: int,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._place, self._inside, self._own = place, inside, own
        self._resumed = place.parent / _RESUMED
        self._copies = Snapshots(place, own, most, inside=inside, go_on=go_on)
        self._tree = Tree(self._resumed)

    def __str__(self) -> str:
        return f"{self._place}"

    # ------------------------------------------------------------------ before the first start

    def look(self) -> Standing:
        """See `Shelf`."""
        self._own.mkdir(parents=True, exist_ok=True)
        return Standing(
            (self._place.parent / _BEGUN).exists(),
            self._resumed.exists(),
            self._place.stat().st_dev != self._own.stat().st_dev,
        )

    def missing(self, listed: Sequence[Entry]) -> Iterator[Entry]:
        """See `Target`."""
        return self._tree.missing(listed)

    def part(self, entry: Entry) -> AbstractContextManager[Part]:
        """See `Target`."""
        return self._tree.part(entry)

    def appear(self) -> None:
        """See `Target`."""
        self._tree.appear()

    def begin(self) -> None:
        """See `Shelf`. A killed call is finished by the next one."""
        mark = self._place.parent / _BEGUN
        if mark.exists():
            return
        _lay_out(self._resumed, self._place, self._inside)
        mark.touch()
        durable.sync(mark)
        durable.sync_directory(mark.parent)
        # Not before: without both nobody would know that the files in the volume are these.
        shutil.rmtree(self._resumed, ignore_errors=True)

    # ------------------------------------------------------------------ while it runs

    def take(self, held: Set[str]) -> Snapshot:
        """See `Copier`."""
        return self._copies.take(held)

    def drop(self, keep: Set[str] = frozenset()) -> None:
        """See `Copier`."""
        self._copies.drop(keep)

    def source(self, named: Named) -> Source:
        """See `Copier`."""
        return self._copies.source(named)

    def rest(self) -> None:
        """It has no connections."""

    def cut_off(self) -> None:
        """It waits for nobody: the store that it is for is cut off."""


def _lay_out(resumed: Path, place: Path, inside: str) -> None:
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
