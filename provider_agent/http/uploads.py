# SPDX-License-Identifier: Apache-2.0
"""Uploaded inputs on disk: `<root>/<address>/<sha256>`, complete and verified or not there at all.

Each account has its own copies. A digest is public (it stands in the specification), so naming one
must not give access to bytes that somebody else uploaded.

Room is taken from the ledger of the machine: an upload reserves its announced size before a byte
flows. What jobs of ours and live quotes need stays; the rest is deleted when a paid order needs the
room.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from provider_agent.core.capacity import (
    UNWANTED,
    Amounts,
    Capacity,
    Hold,
    Key,
    Kind,
    free_on,
    on_disk,
)
from provider_agent.durable import sync_directory
from teraproof.errors import LocalError, Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import address

_FILES, _UPLOAD = "files", "upload"  # what a key of ours in the ledger stands for


@dataclass(frozen=True)
class StorageLimits:
    """How much may lie on disk, in bytes unless it says otherwise."""

    file: int = 16 << 30
    account: int = 64 << 30
    account_files: int = 8_192
    total: int = 512 << 30


@dataclass(frozen=True)
class Permit:
    """That an account may upload a file, and what the order pays that it is for: payment token
    units, or None for a job of ours.
    """

    worth: int | None


@dataclass
class _Used:
    """What an account has on the disk; the files that are needed with their sizes."""

    size: int = 0
    files: int = 0
    blocks: int = 0
    worth: int = UNWANTED
    needed: dict[str, int] = field(default_factory=dict)
    version: int = 0


class InputStorage:
    """Files by account and digest. Safe to use from several threads of one process.

    Without a ledger of the machine it takes what the disk has.
    """

    def __init__(
        self, root: Path, limits: StorageLimits | None = None, capacity: Capacity | None = None
    ) -> None:
        self.root = root
        self.limits = limits or StorageLimits()
        self._incoming = root / "incoming"
        # What a killed agent was receiving is worth nothing: nobody knows how it ends.
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True, mode=0o700)
        self.capacity = capacity or Capacity(lambda: free_on(root))
        self.capacity.drop = self._drop
        # One lock for the files and for what they take: nothing comes in between.
        self._lock = self.capacity.lock
        self._versions = itertools.count(1)
        self._used: dict[str, _Used] = {}
        self._uploads: dict[str, Upload] = {}
        for path in root.glob("0x*/*"):
            self._add(path.parent.name, path.stat().st_size, 1)

    def path(self, account: str, sha256: str) -> Path | None:
        """The verified file that `account` uploaded as `sha256` (64 hex digits), or None."""
        path = self._place(account, sha256)
        return path if path.is_file() else None

    def version(self, account: str) -> int:
        """A number that changes with each file of an account that comes or goes."""
        with self._lock:
            return self._used.get(_folder(account), _Used()).version

    def used(self, account: str | None = None) -> tuple[int, int]:
        """Bytes and files of one account, or of all; of uploads under way, what has arrived."""
        with self._lock:
            if account is not None:
                names = [_folder(account)]
            else:
                names = list({*self._used, *(one.folder for one in self._uploads.values())})
            found = [self._used.get(name, _Used()) for name in names]
            coming = [one for one in self._uploads.values() if one.folder in names]
            size = sum(used.size for used in found) + sum(one.received for one in coming)
            return size, sum(used.files for used in found) + len(coming)

    def receive(self, account: str, sha256: str, size: int, worth: int | None = UNWANTED) -> Upload:
        """Open an upload of `size` bytes, a context manager. Refused when it does not fit.

        `worth` is what the order pays that it is for, in payment token units: uploads that are
        worth less make room. None is for a job of ours, which everything makes room for.
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
            used = self._used.get(folder, _Used())
            coming = [one for one in self._uploads.values() if one.folder == folder]
            held = used.size + sum(one.size for one in coming)
            if held + size > limits.account or used.files + len(coming) >= limits.account_files:
                raise Refused(
                    Code.UPLOAD_QUOTA,
                    "your uploads are over this provider's quota; finish a job first",
                )
            token = secrets.token_hex(16)
            upload = Upload(self, folder, place, sha256, size, self._incoming / token, worth)
            self._worth(folder, worth)
            if not self._within_total(size) or not self.capacity.reserve(
                (_UPLOAD, token), upload.hold()
            ):
                raise _no_room()
            self._uploads[token] = upload
        return upload

    def need(self, needed: Mapping[tuple[str, str], int]) -> None:
        """Say which files, by (address in lower case, sha256), jobs of ours and live quotes need,
        and their sizes in bytes: others cannot have that room.
        """
        with self._lock:
            before = {folder for folder, used in self._used.items() if used.needed}
            by_account: dict[str, dict[str, int]] = {}
            for (account, sha256), size in needed.items():
                by_account.setdefault(account, {})[sha256] = size
            for folder in before | set(by_account):
                used = self._used.get(folder)
                if used is not None and used.needed != by_account.get(folder, {}):
                    used.needed = by_account.get(folder, {})
                    self._say(folder)

    def knows(self, account: str) -> bool:
        """Whether an account has files here, or one on its way."""
        folder = _folder(account)
        with self._lock:
            coming = any(upload.folder == folder for upload in self._uploads.values())
            return coming or folder in self._used

    def accounts(self) -> list[str]:
        """Who has files here, in lower case."""
        with self._lock:
            return list(self._used)

    def value(self, worths: Mapping[str, int]) -> None:
        """Say what the orders of accounts (in lower case) pay now, in payment token units: what
        they have sent is worth that, whatever it was sent for.
        """
        with self._lock:
            for folder, worth in worths.items():
                used = self._used.get(folder)
                if used is not None and used.worth != worth:
                    used.worth = worth
                    self._say(folder)
                for token, upload in self._uploads.items():
                    if upload.folder == folder and upload.worth is not None:
                        upload.worth = min(upload.worth, worth)
                        self.capacity.put((_UPLOAD, token), upload.hold())

    def remove(self, account: str, sha256: str) -> None:
        """Delete a file if it is there."""
        path = self._place(account, sha256)
        with self._lock:
            self._delete(path)

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

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self._add(path.parent.name, -size, -1)

    def _add(self, folder: str, size: int, files: int) -> None:
        used = self._used.setdefault(folder, _Used())
        used.size, used.files = used.size + size, used.files + files
        used.blocks += files * on_disk(abs(size))
        used.version = next(self._versions)
        if not used.files:
            del self._used[folder]
        self._say(folder)

    def _worth(self, folder: str, worth: int | None) -> None:
        """More is sent. What is here keeps what it is worth if the new is for less."""
        used = self._used.get(folder)
        if used is not None and worth is not None and used.worth < worth:
            used.worth = worth
            self._say(folder)

    def _say(self, folder: str) -> None:
        """Tell the ledger what the files of an account take, but for those that are needed."""
        used = self._used.get(folder)
        if used is None:
            self.capacity.release((_FILES, folder))
            return
        blocks = used.blocks - sum(map(on_disk, used.needed.values()))
        files = used.files - len(used.needed)
        amounts = Amounts(disk=max(0, blocks), inodes=max(0, files))
        self.capacity.put(
            (_FILES, folder), Hold(Kind.SPARE, amounts, stored=amounts, worth=used.worth)
        )

    def _drop(self, key: Key) -> None:
        """Give up an account's files, or an upload, because something else needs the room."""
        if not isinstance(key, tuple):
            return
        kind, name = key
        if kind == _UPLOAD:
            self._uploads[name].give_up()
            return
        used = self._used[name]
        for path in (self.root / name).iterdir():
            if path.name not in used.needed:
                self._delete(path)
        self.capacity.release(key)

    def _within_total(self, size: int) -> bool:
        """Whether `size` more bytes are within the total. What has arrived counts: who only
        announces much keeps nobody out.
        """
        held = sum(used.size for used in self._used.values())
        held += sum(upload.received for upload in self._uploads.values())
        return held + size <= self.limits.total

    def _arrives(self, token: str, size: int) -> None:
        """Raises Refused when the room was given to something else."""
        with self._lock:
            if token not in self._uploads or not self._within_total(size):
                raise _no_room()

    def _arrived(self, token: str) -> None:
        with self._lock:
            upload = self._uploads.get(token)
            if upload is not None:
                self.capacity.put((_UPLOAD, token), upload.hold())

    def _release(self, token: str) -> None:
        with self._lock:
            self._uploads.pop(token, None)
            self.capacity.release((_UPLOAD, token))

    def _commit(self, upload: Upload, temporary: Path, place: Path) -> None:
        with self._lock:
            if temporary.name not in self._uploads:
                raise _no_room()
            place.parent.mkdir(mode=0o700, exist_ok=True)
            # Two uploads of one file may end: it takes its room once.
            again = place.exists()
            temporary.rename(place)
            self._release(temporary.name)
            if not again:
                self._add(upload.folder, upload.size, 1)
                self._worth(upload.folder, upload.worth)
        for directory in (place.parent, self.root):
            sync_directory(directory)


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
        worth: int | None,
    ) -> None:
        self._storage, self.folder, self._place = storage, folder, place
        self._sha256, self.size, self._temporary = sha256, size, temporary
        self.worth = worth
        self._digest = hashlib.sha256()
        #: Bytes that have arrived.
        self.received = 0
        self._file: IO[bytes] | None = None
        self._done = False

    def hold(self) -> Hold:
        """What it takes: all that was announced, some of which is on the disk."""
        return Hold(
            Kind.OWED if self.worth is None else Kind.SPARE,
            Amounts(disk=on_disk(self.size), inodes=1),
            stored=Amounts(disk=on_disk(self.received), inodes=int(self._file is not None)),
            worth=UNWANTED if self.worth is None else self.worth,
        )

    def give_up(self) -> None:
        """Free what has arrived; the next piece is refused."""
        self._storage._release(self._temporary.name)
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)

    def __enter__(self) -> Upload:
        try:
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            self._storage._release(self._temporary.name)
            raise
        # Unbuffered: what is given up is not written after that.
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._storage._arrived(self._temporary.name)
        return self

    def write(self, data: bytes) -> None:
        """Append bytes. Refused when they are more than was announced, or there is no room left."""
        assert self._file is not None
        if self.received + len(data) > self.size:
            raise Refused(
                Code.BODY_TOO_LARGE,
                "more bytes than announced; send the file again",
                limit=self.size,
            )
        self._storage._arrives(self._temporary.name, len(data))
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.received += len(data)
        self._storage._arrived(self._temporary.name)
        self._digest.update(data)

    def finish(self) -> None:
        """Make the file visible, durably. Refused when it is not the one named."""
        assert self._file is not None
        if self.received != self.size or self._digest.hexdigest() != self._sha256:
            raise Refused(
                Code.DIGEST_MISMATCH, "the bytes received do not hash to the name; send them again"
            )
        os.fsync(self._file.fileno())
        self._storage._commit(self, self._temporary, self._place)
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
            self._storage._release(self._temporary.name)


def _no_room() -> Refused:
    return Refused(Code.STORAGE_FULL, "this provider has no room left; try later or elsewhere")


def _folder(account: str) -> str:
    return address("account", account).lower()
