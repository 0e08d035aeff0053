# SPDX-License-Identifier: Apache-2.0
"""Digests of files and directories.

A file is named by the sha256 of its bytes. A directory is named by the sha256 of its manifest: the
RFC 8785 JSON of `[{"path", "sha256", "size"}, ...]`, sorted by the UTF-8 bytes of the path. Only
regular files count; empty directories, owners, modes and times do not. Links, sockets, pipes and
devices are refused: what they would read is not part of the directory.

A *result* is a directory, and what the chain has of it is sealed. Its seal is the sha256 of its
job, its provider and its manifest's own sha256; what is attested is the seal hashed three times
more. The chain thus tells nobody the seal, nor any hash on the way. A vote must show one of them,
and can be cast only by one who has run the job, or has got the manifest. And what the chain or a
court has shown of one job is worth nothing for another job (docs/specification.md).

Trees come from strangers, so they are walked by directory descriptor and no link is ever followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rfc8785

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol.paths import UnfitTree as UnfitTree
from teraproof.protocol.paths import check_path as check_path
from teraproof.protocol.paths import check_tree as check_tree
from teraproof.protocol.terms import address, word

MAX_FILES = 100_000
# RFC 8785 numbers are doubles: larger integers have no exact spelling.
MAX_SIZE = 2**53 - 1
#: Rounds of a dispute that votes are revealed in.
VOTE_ROUNDS = 3
#: In front of what a seal is the digest of; a new way to seal takes another one.
SEAL_TAG = b"teraproof result 3"

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file of a manifest: relative path, size in bytes, sha256 as 64 lower-case hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """Which job a result is of (32 bytes), and whose: the provider's owner address.

    A job has one provider, but for a reorg: then the next one must not take over what the first
    has shown.
    """

    job: bytes
    provider: str

    def __post_init__(self) -> None:
        word("origin.job", self.job)
        object.__setattr__(self, "provider", address("origin.provider", self.provider))


def file_digest(path: Path) -> bytes:
    """The sha256 of a regular file's bytes; a link or special file is refused."""
    try:
        fd = _open_regular(str(path), None, str(path))
    except FileNotFoundError:
        raise LocalError(f"{path}: no such file") from None
    try:
        return _hash(fd, str(path))[0]
    finally:
        os.close(fd)


def manifest(directory: Path) -> bytes:
    """The manifest of a directory tree, canonical bytes. LocalError names the path at fault."""
    return encode_manifest(entries(directory))


def directory_digest(directory: Path) -> bytes:
    """The 32 bytes that name a directory tree: the sha256 of its manifest."""
    return manifest_digest(manifest(directory))


def manifest_digest(listed: bytes) -> bytes:
    """The sha256 of a manifest, 32 bytes."""
    return hashlib.sha256(listed).digest()


def seal(listed: bytes, origin: Origin) -> bytes:
    """The seal of the result with this manifest: 32 bytes that its requester and its jurors alone
    may see.
    """
    provider = bytes.fromhex(origin.provider[2:]).rjust(32, b"\0")
    return hashlib.sha256(SEAL_TAG + origin.job + provider + manifest_digest(listed)).digest()


def vote_seal(listed: bytes, origin: Origin, round_number: int) -> bytes:
    """What a juror's vote must show of the result with this manifest, 32 bytes.

    A dispute has up to three rounds, 0 to 2. Each round shows the preimage of what the one before
    has made public; the last one shows the seal itself.
    """
    return _hashed(seal(listed, origin), VOTE_ROUNDS - 1 - round_number)


def result_digest(listed: bytes, origin: Origin) -> bytes:
    """What is attested of the result with this manifest: the sha256 of round 0's seal, 32 bytes."""
    return attested_as(seal(listed, origin))


def attested_as(sealed: bytes) -> bytes:
    """What a result with this seal is attested as, 32 bytes."""
    return _hashed(sealed, VOTE_ROUNDS)


def entries(directory: Path) -> list[Entry]:
    """The files below `directory`, sorted as in its manifest."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise LocalError(f"{directory}: not a directory to digest ({error.strerror})") from None
    try:
        found: list[Entry] = []
        for entry in _walk(root, ""):
            found.append(entry)
            if len(found) > MAX_FILES:
                raise UnfitTree(f"{directory}: more than {MAX_FILES} files; pack them")
        return sorted(found, key=lambda e: e.path.encode())
    except FileNotFoundError:
        raise LocalError(
            f"{directory}: changed while it was read; stop what writes to it"
        ) from None
    finally:
        os.close(root)


def encode_manifest(listed: Iterable[Entry]) -> bytes:
    """The canonical bytes of a manifest, in sorted order whatever order was given."""
    ordered = sorted(listed, key=lambda e: e.path.encode())
    return bytes(
        rfc8785.dumps([{"path": e.path, "sha256": e.sha256, "size": e.size} for e in ordered])
    )


def parse_manifest(data: bytes) -> list[Entry]:
    """Read a manifest that somebody else made.

    LocalError unless it is canonical, sorted, and every path in it is clean and fits
    the others: a manifest that passes can be written to disk as it is.
    """
    try:
        listed = nesting.loads(data)
    except (ValueError, RecursionError):
        raise LocalError("manifest: not JSON; fetch it again") from None
    if not isinstance(listed, list) or len(listed) > MAX_FILES:
        raise LocalError(f"manifest: expected a list of at most {MAX_FILES} files")
    found = []
    for number, item in enumerate(listed):
        if not isinstance(item, dict) or set(item) != {"path", "sha256", "size"}:
            raise LocalError(f"manifest[{number}]: expected path, sha256 and size")
        size, digest = item["size"], item["sha256"]
        if type(size) is not int or not 0 <= size <= MAX_SIZE:
            raise LocalError(f"manifest[{number}].size: not a size in bytes")
        if not is_hex_digest(digest):
            raise LocalError(f"manifest[{number}].sha256: expected 64 lower-case hex digits")
        try:
            found.append(Entry(check_path(item["path"]), size, digest))
        except LocalError as error:
            raise LocalError(f"manifest[{number}].path: {error}") from None
    check_tree(entry.path for entry in found)
    if encode_manifest(found) != data:
        raise LocalError("manifest: not in canonical form; its digest would not be unique")
    return found


def is_hex_digest(value: object) -> bool:
    """Whether `value` is a sha256 in the only spelling that is used: 64 lower-case hex digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


@contextmanager
def open_beneath(directory: Path, path: str) -> Iterator[int]:
    """Open the regular file `path` below `directory` for reading, following no link on the way.

    Yields a descriptor, closed at the end. FileNotFoundError when there is no such file, LocalError
    when the path is not clean or what is there is not a regular file.
    """
    parts = check_path(path).split("/")
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            deeper = _open_directory(part, at, path)
            os.close(at)
            at = deeper
        fd = _open_regular(parts[-1], at, path)
    finally:
        os.close(at)
    try:
        yield fd
    finally:
        os.close(fd)


def _hashed(digest: bytes, times: int) -> bytes:
    for _ in range(times):
        digest = hashlib.sha256(digest).digest()
    return digest


def _walk(root: int, prefix: str) -> Iterator[Entry]:
    with os.scandir(root) as listing:
        names = sorted(item.name for item in listing)
    for name in names:
        path = check_path(prefix + name)
        mode = os.stat(name, dir_fd=root, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            deeper = _open_directory(name, root, path)
            try:
                yield from _walk(deeper, path + "/")
            finally:
                os.close(deeper)
            continue
        fd = _open_regular(name, root, path)
        try:
            digest, size = _hash(fd, path)
        finally:
            os.close(fd)
        yield Entry(path, size, digest.hex())


def _open_directory(name: str, at: int, shown: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise UnfitTree(f"{shown}: leads through something that is not a directory") from None
        raise LocalError(f"{shown}: cannot be read ({error.strerror})") from None


def _open_regular(name: str, at: int | None, shown: str) -> int:
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise UnfitTree(f"{shown}: a link or special file; leave only files") from None
        raise LocalError(f"{shown}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnfitTree(f"{shown}: not a regular file; leave only files and directories")
    return fd


def _hash(fd: int, shown: str) -> tuple[bytes, int]:
    before = os.fstat(fd)
    digest = hashlib.sha256()
    size = 0
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
        size += len(chunk)
    after = os.fstat(fd)
    if size != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise LocalError(f"{shown}: changed while it was read; stop what writes to it")
    return digest.digest(), size
