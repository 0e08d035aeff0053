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

from teraproof.errors import LocalError
from teraproof.protocol.digests import MAX_FILES, Entry, open_beneath
from teraproof.protocol.errors import Code
from teraproof.protocol.paths import UnfitTree, check_path
from teraproof.storage.disk import faults
from teraproof.storage.limits import PIECE

_TRIES = 5
# File systems stamp a change with a clock that ticks some times per second: what is younger than
# this may change once more under the same stamp.
_SETTLED_SECONDS = 0.05
_INDEX = "index.json"
_INDEX_BYTES = 256 << 20

#: What tells one state of a file from another: device, inode, size, and both times in ns.
Mark = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """The files, in the order of their paths. Those that had to be copied lie in `staged`."""

    files: tuple[Entry, ...]
    staged: dict[str, Path]
    """By sha256."""


class Snapshots:
    """Takes snapshots of `source`, a directory. Copies lie below `stage`, at most `most_bytes` of
    them. With `inside`, of a directory below it that somebody else names and writes to: a clean
    path, on which no link is followed, not even one that is put there meanwhile.
    """

    def __init__(
        self,
        source: Path,
        stage: Path,
        most_bytes: int,
        sleep: Callable[[float], None] = time.sleep,
        inside: str = "",
    ) -> None:
        self._inside = check_path(inside).split("/") if inside else []
        self._source, self._stage, self._most, self._sleep = source, stage, most_bytes, sleep
        self._objects = stage / "objects"
        self._known: dict[str, tuple[Mark, str]] = {}

    def take(self, held: Set[str]) -> Snapshot:
        """What is there now. Objects whose sha256 is in `held` need no copy.

        LocalError: SNAPSHOT_UNSTABLE when it does not hold still, LIMIT_EXCEEDED when it is too
        large, PATH_UNFIT for what no manifest can name, DISK_FULL.
        """
        with faults(self._stage):
            self._objects.mkdir(parents=True, exist_ok=True)
            for left in self._stage.glob("copy-*"):
                left.unlink()  # a killed one's
            self._load()
            for attempt in range(_TRIES):
                found = self._try(held)
                if found is not None:
                    self._keep()
                    return found
                self._sleep(_SETTLED_SECONDS * 2**attempt)
        raise LocalError(
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

    def _try(self, held: Set[str]) -> Snapshot | None:
        with self._top() as top:
            return self._try_at(top, held)

    def _try_at(self, top: int, held: Set[str]) -> Snapshot | None:
        began = time.time()
        try:
            before = dict(self._look(top))
            if any(mark[4] > (began - _SETTLED_SECONDS) * 1e9 for mark in before.values()):
                return None
            known = {
                path: self._known[path]
                if self._is_known(path, mark, held)
                else self._copy(top, path)
                for path, mark in before.items()
            }
            after = dict(self._look(top))
        except FileNotFoundError:
            return None  # it went away while we looked
        if before != after or any(known[path][0] != mark for path, mark in before.items()):
            return None
        self._known = known
        files = tuple(
            Entry(path, known[path][0][2], known[path][1])
            for path in sorted(known, key=lambda each: each.encode())
        )
        names = {entry.sha256 for entry in files} - held
        return Snapshot(files, {name: self._objects / name for name in names})

    def _is_known(self, path: str, mark: Mark, held: Set[str]) -> bool:
        known, sha256 = self._known.get(path, (None, ""))
        return known == mark and (sha256 in held or (self._objects / sha256).is_file())

    @contextmanager
    def _top(self) -> Iterator[int]:
        """The directory, open: what is named by it stays below it."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            handle = os.open(self._source, flags)
        except (FileNotFoundError, NotADirectoryError):
            raise LocalError(f"{self._source}: not a directory", Code.INPUT_INVALID) from None
        try:
            for part in self._inside:
                try:
                    deeper = os.open(part, flags | os.O_NOFOLLOW, dir_fd=handle)
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
        count = total = 0
        for path, found in self._walk(top):
            if not stat.S_ISREG(found.st_mode):
                raise UnfitTree(f"{path}: a link or special file; leave only files")
            count, total = count + 1, total + found.st_size
            if count > MAX_FILES:
                raise UnfitTree(f"{self._source}: more than {MAX_FILES} files; pack them")
            if total > self._most:
                raise LocalError(
                    f"{self._source}: has more than the {self._most} bytes that a checkpoint may "
                    "have",
                    Code.LIMIT_EXCEEDED,
                )
            yield check_path(path), _mark(found)

    def _walk(self, top: int) -> Iterator[tuple[str, os.stat_result]]:
        def fail(error: OSError) -> None:
            raise error

        for parent, folders, names, handle in os.fwalk(
            ".", follow_symlinks=False, onerror=fail, dir_fd=top
        ):
            prefix = "" if parent == "." else parent.removeprefix("./") + "/"
            for name in folders:
                check_path(prefix + name)  # before it is entered: it bounds the depth
                if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode):
                    raise UnfitTree(f"{prefix}{name}: a link; leave only files")
            for name in names:
                yield prefix + name, os.stat(name, dir_fd=handle, follow_symlinks=False)

    def _copy(self, top: int, path: str) -> tuple[Mark, str]:
        """Copy a file; its mark when it was opened, and its sha256."""
        digest, size = hashlib.sha256(), 0
        made = self._stage / f"copy-{secrets.token_hex(8)}"
        with open_beneath(Path(f"/proc/self/fd/{top}"), path) as handle, made.open("xb") as file:
            mark = _mark(os.fstat(handle))
            while size <= mark[2] and (piece := os.read(handle, PIECE)):
                digest.update(piece)
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._objects / digest.hexdigest())
        return mark, digest.hexdigest()

    # ---------------------------------------------------------------- what is known

    def _load(self) -> None:
        """What an earlier program has found out. Losing it costs a copy."""
        place = self._stage / _INDEX
        if self._known or not place.is_file() or place.stat().st_size > _INDEX_BYTES:
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
        made = self._stage / f"copy-{secrets.token_hex(8)}"
        made.write_text(json.dumps(self._known))
        made.replace(self._stage / _INDEX)


def _mark(found: os.stat_result) -> Mark:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
