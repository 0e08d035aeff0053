# SPDX-License-Identifier: Apache-2.0
"""A directory as it was at one moment, copied while a program goes on writing to it.

Nothing changed between the first look and the last one, so the copy is what was there in between.
What was copied before and has not changed since is neither read nor copied again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from teraproof.errors import LocalError
from teraproof.protocol.digests import MAX_FILES, Entry, open_beneath
from teraproof.protocol.errors import Code
from teraproof.protocol.paths import UnfitTree, check_path
from teraproof.storage.disk import faults
from teraproof.storage.limits import PIECE
from teraproof.storage.objects import Named, Source

_TRIES = 5
# File systems stamp a change with a clock that ticks some times per second: what is younger than
# this may change once more under the same stamp.
_SETTLED_SECONDS = 0.05
_INDEX = "index.json"
_INDEX_BYTES = 32 << 20

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: What tells one state of a file from another: device, inode, size, and both times in ns.
Mark = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """The files, in the order of their paths. Those with a sha256 in `staged` had to be copied."""

    files: tuple[Entry, ...]
    staged: frozenset[str]


class Copier(Protocol):
    """Takes snapshots of a directory, here or on another machine."""

    def take(self, held: Set[str]) -> Snapshot:
        """What is there now. Objects whose sha256 is in `held` need no copy."""
        ...

    def drop(self, keep: Set[str] = frozenset()) -> None:
        """Remove the copies, but those whose sha256 is in `keep`."""
        ...

    def source(self, named: Named) -> Source:
        """A copy, to be sent."""
        ...


class Snapshots:
    """Takes snapshots of `source`, a directory. Copies lie below `stage`: at no moment more than
    `most_bytes` of them, whatever changes meanwhile. With `inside`, of a directory below it that
    somebody else names and writes to: a clean path, on which no link is followed, not even one that
    is put there meanwhile. `go_on` is called at each piece, and raises LocalError to break it off.
    """

    def __init__(
        self,
        source: Path,
        stage: Path,
        most_bytes: int,
        sleep: Callable[[float], None] = time.sleep,
        inside: str = "",
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._go_on = go_on
        self._inside = check_path(inside).split("/") if inside else []
        self._source, self._stage, self._most, self._sleep = source, stage, most_bytes, sleep
        self._objects = stage / "objects"
        self._room = most_bytes  # for copies
        # Little of what a small directory may have: whoever grants room for copies grants this too.
        self._index_bytes = min(_INDEX_BYTES, most_bytes // 16 + (2 << 20))
        self._known: dict[str, tuple[Mark, str]] = {}

    def take(self, held: Set[str]) -> Snapshot:
        """What is there now. Objects whose sha256 is in `held` need no copy.

        LocalError: SNAPSHOT_UNSTABLE when it does not hold still, LIMIT_EXCEEDED when it is too
        large, PATH_UNFIT for what no manifest can name, DISK_FULL. No copy stays then.
        """
        with faults(self._stage):
            self._objects.mkdir(parents=True, exist_ok=True)
            self._sweep()  # a killed one's
            self._load()
        try:
            with faults(self._stage):
                for attempt in range(_TRIES):
                    found = self._try(held)
                    if found is not None:
                        self._keep()
                        return found
                    self._sleep(_SETTLED_SECONDS * 2**attempt)
            raise self._unstable()
        except BaseException:
            self._sweep()
            self.drop()
            raise

    def source(self, named: Named) -> Source:
        """A copy, to be sent."""
        return Source(named, self.copy(named.sha256))

    def copy(self, sha256: str) -> Path:
        """Where a copy lies that was taken."""
        return self._objects / sha256

    def _unstable(self) -> LocalError:
        return LocalError(
            f"{self._source}: changes faster than it can be copied; write files under another name "
            "and rename them",
            Code.SNAPSHOT_UNSTABLE,
        )

    def drop(self, keep: Set[str] = frozenset()) -> None:
        """Remove the copies, but those whose sha256 is in `keep`."""
        with faults(self._stage):
            for path in self._objects.glob("*"):
                if path.name not in keep:
                    path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove copies that are not whole."""
        with faults(self._stage):
            for left in self._stage.glob("copy-*"):
                left.unlink(missing_ok=True)

    def _try(self, held: Set[str]) -> Snapshot | None:
        with self._top() as top:
            return self._try_at(top, held)

    def _try_at(self, top: int, held: Set[str]) -> Snapshot | None:
        began = time.time()
        try:
            before = dict(self._look(top))
            if any(mark[4] > (began - _SETTLED_SECONDS) * 1e9 for mark in before.values()):
                return None
            self._forget_but(before, held)
            for path, mark in before.items():
                if self._is_known(path, mark, held):
                    continue
                copied = self._copy(top, path)
                if copied[0] != mark:
                    return None  # its copy goes with the next try, or with the error
                self._known[path] = copied
            if before != dict(self._look(top)):
                return None
        except FileNotFoundError:
            return None  # it went away while we looked
        known = self._known
        files = tuple(
            Entry(path, known[path][0][2], known[path][1])
            for path in sorted(known, key=lambda each: each.encode())
        )
        return Snapshot(files, frozenset({entry.sha256 for entry in files} - held))

    def _forget_but(self, now: dict[str, Mark], held: Set[str]) -> None:
        """Keep what is known of files as they are now, and no copies but of these."""
        self._sweep()
        self._known = {
            path: self._known[path]
            for path, mark in now.items()
            if path in self._known and self._known[path][0] == mark
        }
        self.drop({sha256 for _, sha256 in self._known.values()} - held)
        with os.scandir(self._objects) as kept:
            self._room = self._most - sum(each.stat().st_size for each in kept)

    def _is_known(self, path: str, mark: Mark, held: Set[str]) -> bool:
        known, sha256 = self._known.get(path, (None, ""))
        return known == mark and (sha256 in held or (self._objects / sha256).is_file())

    @contextmanager
    def _top(self) -> Iterator[int]:
        """The directory, open: what is named by it stays below it."""
        try:
            handle = os.open(self._source, _FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            raise LocalError(f"{self._source}: not a directory", Code.INPUT_INVALID) from None
        try:
            for part in self._inside:
                try:
                    deeper = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    shown = "/".join(self._inside)
                    raise UnfitTree(f"{shown}: not a directory; make one there") from None
                os.close(handle)
                handle = deeper
            yield handle
        finally:
            os.close(handle)

    def _look(self, top: int) -> Iterator[tuple[str, Mark]]:
        """Each file with its mark, in no order; no link is followed."""
        files = folders = total = 0
        for path, found in self._walk(top):
            self._go_on()
            if stat.S_ISDIR(found.st_mode):
                folders += 1
            elif stat.S_ISREG(found.st_mode):
                files, total = files + 1, total + found.st_size
            else:
                raise UnfitTree(f"{path}: a link or special file; leave only files")
            if max(files, folders) > MAX_FILES:
                raise UnfitTree(
                    f"{self._source}: more than {MAX_FILES} files or folders; pack them"
                )
            if total > self._most:
                raise LocalError(
                    f"{self._source}: has more than the {self._most} bytes that a checkpoint may "
                    "have",
                    Code.LIMIT_EXCEEDED,
                )
            if stat.S_ISREG(found.st_mode):
                yield path, _mark(found)

    def _walk(self, folder: int, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """All that is below an open folder, one by one: no list of it is ever held."""
        with os.scandir(folder) as listing:
            for each in listing:
                path = check_path(prefix + each.name)  # it bounds the depth, too
                yield path, each.stat(follow_symlinks=False)
                if not each.is_dir(follow_symlinks=False):
                    continue
                try:
                    handle = os.open(each.name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                except NotADirectoryError:
                    raise FileNotFoundError(path) from None  # replaced meanwhile
                try:
                    yield from self._walk(handle, f"{path}/")
                finally:
                    os.close(handle)

    def _copy(self, top: int, path: str) -> tuple[Mark, str]:
        """Copy a file; its mark when it was opened, and its sha256. FileNotFoundError when it has
        changed so that the copy would have another size, or would not fit.
        """
        digest, size = hashlib.sha256(), 0
        made = self._stage / f"copy-{secrets.token_hex(8)}"
        with open_beneath(Path(f"/proc/self/fd/{top}"), path) as handle, made.open("xb") as file:
            mark = _mark(os.fstat(handle))
            if mark[2] > self._room:
                raise FileNotFoundError(path)  # another one than was looked at
            self._room -= mark[2]
            while size < mark[2] and (piece := os.read(handle, min(PIECE, mark[2] - size))):
                self._go_on()
                digest.update(piece)
                file.write(piece)
                size += len(piece)
            if size < mark[2]:
                raise FileNotFoundError(path)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._objects / digest.hexdigest())
        return mark, digest.hexdigest()

    # ---------------------------------------------------------------- what is known

    def _load(self) -> None:
        """What an earlier program has found out. Losing it costs a copy."""
        place = self._stage / _INDEX
        if self._known or not place.is_file() or place.stat().st_size > self._index_bytes:
            return
        try:
            listed = json.loads(place.read_bytes())
            self._known = {
                str(path): ((mark[0], mark[1], mark[2], mark[3], mark[4]), str(sha256))
                for path, (mark, sha256) in listed.items()
            }
        except (ValueError, TypeError, AttributeError, IndexError, RecursionError):
            self._known = {}

    def _keep(self) -> None:
        """Write it down, unless that takes more than it may."""
        rows, size = [], 2
        for path, found in self._known.items():
            rows.append(json.dumps({path: found})[1:-1])
            size += len(rows[-1]) + 1
            if size > self._index_bytes:
                (self._stage / _INDEX).unlink(missing_ok=True)
                return
        made = self._stage / f"copy-{secrets.token_hex(8)}"
        made.write_text("{" + ",".join(rows) + "}")
        made.replace(self._stage / _INDEX)


def _mark(found: os.stat_result) -> Mark:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
