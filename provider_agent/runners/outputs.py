# SPDX-License-Identifier: Apache-2.0
"""Takes the declared outputs out of a directory that a stranger's program has filled.

Nothing there is trusted: links, pipes and device files, names that are not text, files that claim
a terabyte, directories without end or without permissions. What cannot be kept is named, with its
reason: a result with holes is never attested as a success. Runs after the last process of the job
is gone. Files are opened step by step by descriptor, and no link is followed by the kernel.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from provider_agent.durable import sync_tree
from teraproof.errors import LocalError
from teraproof.protocol.paths import check_path

MAX_FILES = 10_000  # directories included
MAX_STEPS = 200_000  # looks at names, also at those that are not kept
# What a slow machine does in a second, by which deadlines are planned.
_STEPS_A_SECOND, _FILES_A_SECOND = 20_000, 1_000
KEPT_UNFIT = 100
_ASKED_EVERY = 64  # looks after which it is asked whether to go on
_MOST_HOPS = 40  # as the kernel
_INSIDE = "/job"  # what links call the job's directory
_KINDS = {
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFBLK: "is a device file",
    stat.S_IFCHR: "is a device file",
}
# Any other error of what a job has made is the job's: it chooses names, links and permissions.
_BY_THE_MACHINE = (
    errno.EIO,
    errno.EUCLEAN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EINTR,
)
_CHUNK = 1 << 20
_OWN = Path("/proc/self/fd")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Unfit:
    """A path that is not kept, in printable ASCII, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Collected:
    """Bytes that were copied, and what could not be: how many, and the first `KEPT_UNFIT`."""

    copied: int
    unfit: tuple[Unfit, ...]
    refused: int


class _Refused(Exception):
    """Why something is not kept: what stands after its path."""


class _Full(Exception):
    """There are too many: the path, and after how many of what it comes."""


def _never() -> None:
    """Nobody wants it to stop."""


def collect(
    work: Path,
    declared: Sequence[str],
    target: Path,
    limit_bytes: int,
    go_on: Callable[[], None] = _never,
) -> Collected:
    """Copies the declared files and directories from `work` to `target`, as far as can be.

    `target` appears when all is copied. Files are plain with mode 0644; hard links become copies.
    A link whose end lies in the outputs becomes a second name of what it leads to. Every path is
    one that a manifest can hold. Raises OSError where this machine fails, its disk being full for
    one, and what `go_on` raises, which is called again and again.
    """
    building = target.with_name(target.name + ".part")
    remove_tree(building)
    building.mkdir(mode=0o755)
    try:
        with _opened_work(work) as source, _opened(building) as destination:
            copier = _Copier(source, destination, (_INSIDE, str(work)), limit_bytes, go_on)
            copier.run(declared)
        sync_tree(building)
        go_on()
        os.replace(building, target)
    except BaseException:
        remove_tree(building)
        raise
    return Collected(copier.copied, tuple(copier.unfit), copier.refused)


def most_seconds(entries: int) -> int:
    """How long it takes to collect and keep that number of files and directories, whatever else a
    job has made. The bytes in them are not counted.
    """
    return MAX_STEPS // _STEPS_A_SECOND + -(-min(entries, MAX_FILES) // _FILES_A_SECOND)


def remove_tree(path: Path, most: int | None = None) -> bool:
    """Deletes a directory whatever a job has made of it; does nothing when there is none.

    Nested directories are first moved up to the top, so that no depth exhausts descriptors, the
    stack or the length of a path. After `most` files and directories it returns False, and leaves
    the rest to another call.
    """
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return True
    left = math.inf if most is None else most
    top = os.open(path, _DIRECTORY)
    try:
        number = 0
        waiting = [""]
        while waiting:
            name = waiting.pop()
            here = os.dup(top) if not name else _force_open(name, top)
            try:
                with os.scandir(here) as listing:
                    entries = [(e.name, e.is_dir(follow_symlinks=False)) for e in listing]
                for child, is_directory in entries:
                    left -= 1
                    if left < 0:
                        return False
                    if not is_directory:
                        os.unlink(child, dir_fd=here)
                        continue
                    os.close(_force_open(child, here))  # moving it needs its permission, too
                    # Longer than any name can be that is still to be met at the top.
                    moved = f".removed-{number}"
                    while _exists(moved, top):
                        number += 1
                        moved = f".removed-{number}"
                    number += 1
                    os.rename(child, moved, src_dir_fd=here, dst_dir_fd=top)
                    waiting.append(moved)
            finally:
                os.close(here)
            if name:
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    shutil.rmtree(path)
    return True


class _Copier:
    """Files and directories first; links when all that they may lead to is there."""

    def __init__(
        self,
        source: int,
        destination: int,
        roots: Sequence[str],
        limit: int,
        go_on: Callable[[], None],
    ) -> None:
        self._source, self._destination, self._roots = source, destination, roots
        self._limit, self._go_on = limit, go_on
        self._made: set[str] = set()  # what is in the destination, files and directories
        self._links: dict[str, None] = {}  # in the order in which they were met
        self._steps = 0
        self.copied = 0
        self.unfit: list[Unfit] = []
        self.refused = 0

    def run(self, declared: Sequence[str]) -> None:
        """Copies all that can be kept, and notes what cannot."""
        try:
            for path in declared:
                self._try(path, partial(self._declared, path))
            for path in self._links:
                self._try(path, partial(self._link, path, declared))
        except _Full as error:
            path, others = error.args
            self._refuse(path, f"comes after {others}, as may what follows")

    def _try(self, shown: str, step: Callable[[], None]) -> None:
        try:
            step()
        except _Refused as error:
            self._refuse(shown, str(error))

    def _refuse(self, shown: str, reason: str) -> None:
        self.refused += 1
        if len(self.unfit) < KEPT_UNFIT:
            self.unfit.append(Unfit(_plain(shown), reason))

    def _step(self, shown: str) -> None:
        """Count one look, so that no tree or chain of links takes long. Raises _Full."""
        self._steps += 1
        if self._steps % _ASKED_EVERY == 0:
            self._go_on()
        if self._steps > MAX_STEPS:
            raise _Full(shown, f"{MAX_STEPS} looks at files, directories and links")

    # -------------------------------------------------------------- files and directories

    def _declared(self, path: str) -> None:
        """Walks to a declared path, makes the same directories, and copies what is there."""
        *above, last = path.split("/")
        source, opened = self._source, list[int]()
        try:
            for number, name in enumerate(above):
                source = _open(name, source, os.O_DIRECTORY)
                opened.append(source)
                self._make_directory("/".join(above[: number + 1]))
            self._copy(source, last, path)
        finally:
            for fd in reversed(opened):
                os.close(fd)

    def _copy(self, source: int, name: str, shown: str) -> None:
        self._step(shown)
        _check(shown)
        try:
            kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        except OSError as error:
            raise _fault(error) from None
        if stat.S_ISLNK(kind):
            self._links[shown] = None
        elif stat.S_ISREG(kind):
            self._copy_file(source, name, shown)
        elif stat.S_ISDIR(kind):
            inner = _open(name, source, os.O_DIRECTORY)
            try:
                self._make_directory(shown)
                for child in _names(inner):
                    path = f"{shown}/{child}"
                    self._try(path, partial(self._copy, inner, child, path))
            finally:
                os.close(inner)
        else:
            raise _Refused(_KINDS.get(stat.S_IFMT(kind), "is neither a file nor a directory"))

    def _copy_file(self, source: int, name: str, shown: str) -> None:
        if shown in self._made:
            return  # declared twice, as itself and with its directory
        # Non-blocking: should it be a pipe after all, the open must not wait for a writer.
        read = _open(name, source, os.O_NONBLOCK)
        try:
            status = os.fstat(read)
            if not stat.S_ISREG(status.st_mode):
                raise _Refused("is not a plain file")
            if self.copied + status.st_size > self._limit:
                raise _Refused(f"makes the outputs larger than {self._limit} bytes")
            self._count(shown)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            write = os.open(shown, flags, 0o644, dir_fd=self._destination)
            try:
                while chunk := os.read(read, _CHUNK):
                    self._go_on()
                    self.copied += len(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(write, view) :]
            finally:
                os.close(write)
        finally:
            os.close(read)

    def _make_directory(self, shown: str) -> None:
        if shown not in self._made:
            self._count(shown)
            os.mkdir(shown, 0o755, dir_fd=self._destination)

    def _count(self, shown: str) -> None:
        if len(self._made) >= MAX_FILES:
            raise _Full(shown, f"{MAX_FILES} other files and directories")
        self._made.add(shown)

    # -------------------------------------------------------------- links

    def _link(self, shown: str, declared: Sequence[str]) -> None:
        above = shown.split("/")[:-1]
        self._place(self._follow(shown.split("/"), declared), shown, declared, (above,))

    def _place(
        self,
        real: list[str],
        shown: str,
        declared: Sequence[str],
        above: tuple[list[str], ...],
    ) -> None:
        """Puts what stands at `real` at the place of a link. `above` are the directories that the
        place lies in, links followed: one that holds itself has no end.
        """
        self._step(shown)
        _check(shown)
        path = "/".join(real)
        try:
            kind = os.stat(path, dir_fd=self._source, follow_symlinks=False).st_mode
        except OSError as error:
            raise _fault(error) from None
        if stat.S_ISLNK(kind):
            self._place(self._follow(real, declared), shown, declared, above)
        elif stat.S_ISDIR(kind):
            if any(holder[: len(real)] == real for holder in above):
                raise _Refused("leads to a directory that it lies in")
            self._make_directory(shown)
            inner = _open(path, self._source, os.O_DIRECTORY)
            try:
                names = _names(inner)
            finally:
                os.close(inner)
            for child in names:
                step = partial(
                    self._place, [*real, child], f"{shown}/{child}", declared, (*above, real)
                )
                self._try(f"{shown}/{child}", step)
        elif path not in self._made:
            raise _Refused("leads to a file that cannot be kept")
        elif shown not in self._made:
            self._count(shown)
            # A second name: the file is there already, and nobody writes to it any more.
            own = self._destination
            os.link(path, shown, src_dir_fd=own, dst_dir_fd=own, follow_symlinks=False)

    def _follow(self, link: list[str], declared: Sequence[str]) -> list[str]:
        """Where a link leads to, without links on the way; inside of the outputs."""
        here, ahead, hops = link[:-1], [link[-1]], 0
        while ahead:
            name = ahead.pop(0)
            self._step("/".join(link))
            if name in ("", "."):
                continue
            if name == "..":
                if not here:
                    raise _Refused("leads out of the job's directory")
                here.pop()
                continue
            path = "/".join([*here, name])
            try:
                target = _read_link(path, self._source)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    raise _Refused("leads nowhere") from None
                raise _fault(error) from None
            if target is None:
                here.append(name)
                continue
            hops += 1
            if hops > _MOST_HOPS:
                raise _Refused("leads in a circle")
            if target.startswith("/"):
                here, target = [], self._within(target)
            ahead = [*target.split("/"), *ahead]
        if not any(here[: len(parts)] == parts for parts in (p.split("/") for p in declared)):
            raise _Refused("leads to what is not an output")
        return here

    def _within(self, target: str) -> str:
        """An absolute path as one below the job's directory."""
        for root in self._roots:
            if target == root or target.startswith(root + "/"):
                return target[len(root) :]
        raise _Refused("leads out of the job's directory")


def _check(shown: str) -> None:
    # Here and not when all is copied: this is the rule of the manifest that will name it.
    try:
        check_path(shown)
    except LocalError as error:
        raise _Refused(f"has no fit name: {error}") from None


def _read_link(path: str, directory: int) -> str | None:
    """The target of a link; None for what is none."""
    if not stat.S_ISLNK(os.stat(path, dir_fd=directory, follow_symlinks=False).st_mode):
        return None
    return os.readlink(path, dir_fd=directory)


def _names(directory: int) -> list[str]:
    """Sorted, so that the same outputs are kept, and refused, in the same way."""
    try:
        with os.scandir(directory) as listing:
            return sorted(entry.name for entry in islice(listing, 2 * MAX_FILES))
    except OSError as error:
        raise _fault(error) from None


def _open(name: str, parent: int, flags: int) -> int:
    wanted = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags
    try:
        return os.open(name, wanted, dir_fd=parent)
    except PermissionError as error:
        try:  # the job's user, who is ours, too, may have closed it to itself
            return _force_open(name, parent, flags)
        except OSError:
            raise _fault(error) from None
    except OSError as error:
        raise _fault(error) from None


def _fault(error: OSError) -> Exception:
    """The error to raise: the error itself if the machine fails, else _Refused."""
    if error.errno == errno.ENOENT:
        return _Refused("is missing")
    if error.errno in _BY_THE_MACHINE:
        return error
    return _Refused(f"cannot be read: {os.strerror(error.errno or 0).lower()}")


def _plain(text: str) -> str:
    """The text in one line of ASCII, at most 120 characters."""
    return ascii(text)[1:-1][:120]


def _force_open(name: str, parent: int, flags: int = os.O_DIRECTORY) -> int:
    """Opens a file or directory that its owner may have closed to itself."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | flags, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | flags)
    finally:
        os.close(handle)


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _opened_work(path: Path) -> Iterator[int]:
    # A descriptor of ours is a link, too, and the only one that may be followed.
    flags = _DIRECTORY if path.parent != _OWN else _DIRECTORY & ~os.O_NOFOLLOW
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
