# SPDX-License-Identifier: Apache-2.0
"""Uploaded inputs on disk: `<root>/<address>/<sha256>`, complete and verified or not there at all.

Each account has its own copies. A digest is public (it stands in the specification), so naming one
must not give access to bytes that somebody else uploaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import address


@dataclass(frozen=True)
class StorageLimits:
    """How much may lie on disk, in bytes unless it says otherwise."""

    file: int = 16 << 30
    account: int = 64 << 30
    account_files: int = 8_192
    total: int = 512 << 30
    free: int = 1 << 30
    """What an upload must leave free on the disk."""


class InputStorage:
    """Files by account and digest. Safe to use from several threads of one process."""

    def __init__(self, root: Path, limits: StorageLimits | None = None) -> None:
        self.root = root
        self.limits = limits or StorageLimits()
        self._incoming = root / "incoming"
        self._lock = threading.Lock()
        # What a killed agent was receiving is worth nothing: nobody knows how it ends.
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True, mode=0o700)
        self._used: dict[str, tuple[int, int]] = {}
        self._announced: dict[str, int] = {}
        for path in root.glob("0x*/*"):
            self._add(path.parent.name, path.stat().st_size, 1)

    def path(self, account: str, sha256: str) -> Path | None:
        """The verified file that `account` uploaded as `sha256` (64 hex digits), or None."""
        path = self._place(account, sha256)
        return path if path.is_file() else None

    def used(self, account: str | None = None) -> tuple[int, int]:
        """Bytes and files of one account, or of all; of uploads under way, what has arrived."""
        with self._lock:
            if account is not None:
                return self._used.get(_folder(account), (0, 0))
            sums = list(self._used.values())
        return sum(size for size, _ in sums), sum(files for _, files in sums)

    def receive(self, account: str, sha256: str, size: int) -> Upload:
        """Open an upload of `size` bytes, a context manager. Refused when it does not fit.

        The account's own quota holds the announced size. The room that all share is taken by what
        has arrived: who only announces much keeps nobody else out.
        """
        folder, limits = _folder(account), self.limits
        place = self._place(account, sha256)
        if size > limits.file:
            raise Refused(
                Code.BODY_TOO_LARGE,
                f"the file is larger than {limits.file} bytes; split it",
                limit=limits.file,
            )
        with self._lock:
            held, files = self._used.get(folder, (0, 0))
            held += self._announced.get(folder, 0)
            if held + size > limits.account or files >= limits.account_files:
                raise Refused(
                    Code.UPLOAD_QUOTA,
                    "your uploads are over this provider's quota; finish a job first",
                )
            self._check_room(size)
            self._add(folder, 0, 1)
            self._announce(folder, size)
        return Upload(self, folder, place, sha256, size, self._incoming / secrets.token_hex(16))

    def remove(self, account: str, sha256: str) -> None:
        """Delete a file if it is there."""
        path = self._place(account, sha256)
        with self._lock, contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self._add(_folder(account), -size, -1)

    def prune(self, older_than: float, keep: Callable[[str, str], bool]) -> int:
        """Delete files untouched for `older_than` seconds that `keep(address, sha256)` gives up.

        Returns how many were deleted. Addresses are in lower case.
        """
        limit = time.time() - older_than
        gone = 0
        for path in self.root.glob("0x*/*"):
            account, sha256 = path.parent.name, path.name
            if path.stat().st_mtime < limit and not keep(account, sha256):
                self.remove(account, sha256)
                gone += 1
        return gone

    def _place(self, account: str, sha256: str) -> Path:
        if not is_hex_digest(sha256):
            raise LocalError("sha256: expected 64 lower-case hex digits")
        return self.root / _folder(account) / sha256

    def _add(self, folder: str, size: int, files: int) -> None:
        held, count = self._used.get(folder, (0, 0))
        if count + files:
            self._used[folder] = (held + size, count + files)
        else:
            self._used.pop(folder, None)

    def _announce(self, folder: str, size: int) -> None:
        """Count bytes that are still to come; negative when they have come, or never will."""
        left = self._announced.get(folder, 0) + size
        if left:
            self._announced[folder] = left
        else:
            self._announced.pop(folder, None)

    def _check_room(self, size: int) -> None:
        total = sum(used for used, _ in self._used.values())
        free = shutil.disk_usage(self.root).free
        if total + size > self.limits.total or free - size < self.limits.free:
            raise Refused(
                Code.STORAGE_FULL, "this provider has no room left; try later or elsewhere"
            )

    def _arrived(self, folder: str, size: int) -> None:
        with self._lock:
            self._check_room(size)
            self._add(folder, size, 0)
            self._announce(folder, -size)

    def _release(self, folder: str, received: int, missing: int) -> None:
        with self._lock:
            self._add(folder, -received, -1)
            self._announce(folder, -missing)

    def _commit(self, folder: str, temporary: Path, place: Path, size: int) -> None:
        with self._lock:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            again = place.exists()
            temporary.rename(place)
            if again:
                # Two uploads of one file ended: it takes its room once.
                self._add(folder, -size, -1)
        for directory in (place.parent, self.root):
            _sync_directory(directory)


class Upload:
    """One file on its way in. Leaving the context without `finish` leaves nothing behind."""

    def __init__(
        self,
        storage: InputStorage,
        folder: str,
        place: Path,
        sha256: str,
        size: int,
        temporary: Path,
    ) -> None:
        self._storage, self._folder, self._place = storage, folder, place
        self._sha256, self._size, self._temporary = sha256, size, temporary
        self._digest = hashlib.sha256()
        self._received = 0
        self._file: IO[bytes] | None = None
        self._done = False

    def __enter__(self) -> Upload:
        try:
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            self._storage._release(self._folder, 0, self._size)
            raise
        self._file = os.fdopen(descriptor, "wb")
        return self

    def write(self, data: bytes) -> None:
        """Append bytes. Refused when they are more than was announced, or than there is room."""
        assert self._file is not None
        if self._received + len(data) > self._size:
            raise Refused(
                Code.BODY_TOO_LARGE,
                "more bytes than announced; send the file again",
                limit=self._size,
            )
        self._storage._arrived(self._folder, len(data))
        self._received += len(data)
        self._digest.update(data)
        self._file.write(data)

    def finish(self) -> None:
        """Make the file visible, durably. Refused when it is not the one named."""
        assert self._file is not None
        if self._received != self._size or self._digest.hexdigest() != self._sha256:
            raise Refused(
                Code.DIGEST_MISMATCH, "the bytes received do not hash to the name; send them again"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._storage._commit(self._folder, self._temporary, self._place, self._size)
        self._done = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()
        if not self._done:
            self._temporary.unlink(missing_ok=True)
            self._storage._release(self._folder, self._received, self._size - self._received)


def _folder(account: str) -> str:
    return address("account", account).lower()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
