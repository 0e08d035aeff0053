# SPDX-License-Identifier: Apache-2.0
"""Takes the declared outputs out of a directory that a stranger's program has filled.

Nothing there is trusted: links, pipes and device files, names that are not text, files that claim a
terabyte, directories without end or without permissions. What is not a plain file or directory is
an error, not left out: a result with holes must not be attested. Runs after the last process of
the job is gone, and still opens every step by descriptor and without following links.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.paths import check_path

MAX_FILES = 10_000
# What a job can make of its files; any other error is the machine's.
_BY_THE_JOB = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
_CHUNK = 1 << 20
_OWN = Path("/proc/self/fd")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnfitOutput(Exception):
    """A declared output that cannot be collected; one line that says which and why."""


def collect(work: Path, declared: Sequence[str], target: Path, limit_bytes: int) -> int:
    """Copies each declared file or directory from `work` to `target` and returns the bytes.

    `target` appears complete or not at all. Files are plain with mode 0644; hard links become
    copies. Every path is one that a manifest can hold. Raises UnfitOutput for what the job did, and
    OSError where this machine fails, its disk being full for one.
    """
    building = target.with_name(target.name + ".part")
    remove_tree(building)
    building.mkdir(mode=0o755)
    copier = _Copier(limit_bytes)
    try:
        with _opened_work(work) as source, _opened(building) as destination:
            for path in declared:
                copier.copy_declared(source, path, destination)
        os.replace(building, target)
    except (UnfitOutput, OSError):
        remove_tree(building)
        raise
    return copier.copied


def remove_tree(path: Path) -> None:
    """Deletes a directory whatever a job has made of it; does nothing when there is none.

    Nested directories are first moved up to the top, so that no depth exhausts descriptors, the
    stack or the length of a path.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
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


class _Copier:
    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.copied = 0
        self.files = 0

    def copy_declared(self, source: int, path: str, destination: int) -> None:
        """Walks to a declared path, makes the same directories, and copies what is there."""
        *above, last = path.split("/")
        opened: list[int] = []
        try:
            for name in above:
                source = _open(name, source, path, os.O_DIRECTORY)
                opened.append(source)
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=destination)
                destination = os.open(name, _DIRECTORY, dir_fd=destination)
                opened.append(destination)
            self._copy(source, last, destination, path)
        finally:
            for fd in reversed(opened):
                os.close(fd)

    def _copy(self, source: int, name: str, destination: int, shown: str) -> None:
        # Here and not when all is copied: this is the rule of the manifest that will name it.
        try:
            check_path(shown)
        except LocalError as error:
            raise UnfitOutput(f"output is unfit: {error}") from None
        try:
            kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        except OSError as error:
            raise _fault(error, shown) from None
        if stat.S_ISREG(kind):
            self._copy_file(source, name, destination, shown)
        elif stat.S_ISDIR(kind):
            inner = _open(name, source, shown, os.O_DIRECTORY)
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=destination)
                with os.scandir(inner) as listing:
                    # Sorted, so that the same outputs fail with the same words.
                    names = sorted(entry.name for entry in islice(listing, MAX_FILES + 1))
                if len(names) > MAX_FILES:
                    raise UnfitOutput(f"output {_plain(shown)} has over {MAX_FILES} entries")
                copy = os.open(name, _DIRECTORY, dir_fd=destination)
                try:
                    for child in names:
                        self._copy(inner, child, copy, f"{shown}/{child}")
                finally:
                    os.close(copy)
            finally:
                os.close(inner)
        else:
            raise UnfitOutput(f"output {_plain(shown)} is neither a file nor a directory")

    def _copy_file(self, source: int, name: str, destination: int, shown: str) -> None:
        self.files += 1
        if self.files > MAX_FILES:
            raise UnfitOutput(f"there are over {MAX_FILES} output files")
        # Non-blocking: should it be a pipe after all, the open must not wait for a writer.
        read = _open(name, source, shown, os.O_NONBLOCK)
        try:
            status = os.fstat(read)
            if not stat.S_ISREG(status.st_mode):
                raise UnfitOutput(f"output {_plain(shown)} is not a plain file")
            if self.copied + status.st_size > self.limit:
                raise UnfitOutput(f"outputs are larger than {self.limit} bytes together")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                write = os.open(name, flags, 0o644, dir_fd=destination)
            except FileExistsError:
                return  # declared twice, as itself and with its directory
            try:
                while chunk := os.read(read, _CHUNK):
                    self.copied += len(chunk)
                    if self.copied > self.limit:
                        raise UnfitOutput(f"outputs are larger than {self.limit} bytes together")
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(write, view) :]
                os.fsync(write)
            finally:
                os.close(write)
        finally:
            os.close(read)


def _open(name: str, parent: int, shown: str, flags: int) -> int:
    wanted = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags
    try:
        return os.open(name, wanted, dir_fd=parent)
    except OSError as error:
        raise _fault(error, shown) from None


def _fault(error: OSError, shown: str) -> Exception:
    """The error to raise: UnfitOutput for what a job can bring about, else the error itself."""
    if error.errno == errno.ENOENT:
        return UnfitOutput(f"output {_plain(shown)} is missing")
    if error.errno not in _BY_THE_JOB:
        return error
    reason = os.strerror(error.errno).lower()
    return UnfitOutput(f"output {_plain(shown)} cannot be read: {reason}")


def _plain(text: str) -> str:
    """The text in one line of ASCII, at most 120 characters."""
    return ascii(text)[1:-1][:120]


def _force_open(name: str, parent: int) -> int:
    """Opens a directory that its owner may have closed to itself."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise _fault(error, ".") from None
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
