# SPDX-License-Identifier: Apache-2.0
"""What every store of objects can do, and what objects are made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from teraproof.errors import LocalError
from teraproof.protocol.digests import MAX_SIZE, is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.storage.limits import PIECE
from teraproof.storage.uris import Uri


@dataclass(frozen=True)
class Named:
    """The bytes that somebody means: sha256 as 64 lower-case hex digits, and size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not is_hex_digest(self.sha256):
            raise LocalError("sha256: expected 64 lower-case hex digits", Code.INPUT_INVALID)
        if not 0 <= self.size <= MAX_SIZE:
            raise LocalError("size: not a size in bytes", Code.INPUT_INVALID)


@dataclass(frozen=True)
class Body:
    """An open object."""

    start: int
    """Where the bytes begin: 0 where a store cannot begin in the middle."""
    size: int | None
    """The size of the whole object, if the store says it."""
    pieces: Iterator[bytes]
    """LocalError when they do not come."""


class Source:
    """What is sent: a file that is named by its digest, or a few bytes. `opened` opens a file that
    is elsewhere.
    """

    def __init__(
        self,
        named: Named,
        path: Path | None = None,
        data: bytes = b"",
        opened: Callable[[], IO[bytes]] | None = None,
    ) -> None:
        self.named, self._path, self._data, self._opened = named, path, data, opened

    @classmethod
    def of_bytes(cls, data: bytes) -> Source:
        """Bytes in memory."""
        return cls(Named(hashlib.sha256(data).hexdigest(), len(data)), data=data)

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """A file, read once for its digest. LocalError when it cannot be read."""
        digest, size = hashlib.sha256(), 0
        with _opened(path) as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
        return cls(Named(digest.hexdigest(), size), path)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes, to read and to seek. LocalError when the file cannot be read."""
        if self._opened is not None:
            with self._opened() as far:
                yield far
            return
        if self._path is None:
            from io import BytesIO

            yield BytesIO(self._data)
            return
        with _opened(self._path) as file:
            yield file

    def pieces(self) -> Iterator[bytes]:
        """All bytes. The last ones come only if the digest is right: what has changed since is
        never sent whole.
        """
        digest, left, held = hashlib.sha256(), self.named.size, b""
        with self.open() as file:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                if held:
                    yield held
                digest.update(piece)
                held, left = piece, left - len(piece)
        if left or digest.hexdigest() != self.named.sha256:
            raise LocalError(
                f"{self._path or self.named.sha256}: changed while it was sent; stop what writes "
                "to it",
                Code.DIGEST_MISMATCH,
            )
        yield held


def too_many(uri: Uri, most: int) -> LocalError:
    """A place that names more than anybody wants to read."""
    return LocalError(
        f"{uri}: has more than {most} names in one place; take a place of its own",
        Code.LIMIT_EXCEEDED,
    )


class Store(Protocol):
    """Objects below one URI. A key is a path of clean parts; the empty one is the URI itself."""

    uri: Uri

    def close(self) -> None:
        """Close the connections."""
        ...

    def cut_off(self) -> None:
        """Break off what is under way. Any thread; what waits for the store hears it as a fault."""
        ...

    def size(self, key: str) -> int | None:
        """The size of an object in bytes; None when there is no such object."""
        ...

    def read(self, key: str, start: int) -> AbstractContextManager[Body]:
        """Open an object, from byte `start` on if the store can do that. LocalError, with
        OBJECT_MISSING when there is no such object.
        """
        ...

    def write(self, key: str, source: Source, *, new: bool = False) -> bool:
        """Put an object in its place, all of it or nothing. With `new`, False when there is one
        under this key already. What an earlier, broken call has sent is not sent again where
        the store allows that.
        """
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The last parts of the keys below `prefix`, a path that ends with a slash."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; that it is not there is no error."""
        ...


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not os.path.isfile(f"/proc/self/fd/{handle}"):
            os.close(handle)
            raise LocalError(f"{path}: not a regular file", Code.INPUT_INVALID)
    except OSError as error:
        raise LocalError(f"{path}: cannot be read ({error.strerror})", Code.INPUT_INVALID) from None
    with open(handle, "rb") as file:
        yield file
