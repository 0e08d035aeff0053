# SPDX-License-Identifier: Apache-2.0
"""What lies at the destination of checkpoints, and how it is read.

    writers/<epoch>                                claims: the highest one may write
    objects/<sha256>                               the bytes of files
    checkpoints/<epoch>-<number>-<sha256>          manifests; the name has the sha256 of the bytes

A checkpoint is there when its manifest is: that is written last, in one step. The newest one has
the highest epoch, and of those the highest number.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from teraproof.errors import LocalError
from teraproof.protocol.digests import MAX_FILES, MAX_SIZE, Entry, encode_manifest
from teraproof.protocol.errors import Code
from teraproof.protocol.paths import MAX_PATH_BYTES, check_path, check_tree
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Source, Store
from teraproof.storage.transfer import attempts, send

MANIFESTS, OBJECTS, WRITERS = "checkpoints/", "objects/", "writers/"
# As many files as a checkpoint may have, with paths of 130 bytes; of fewer, longer ones.
MANIFEST_BYTES = 256 * MAX_FILES
_HEAD, _TAIL = b'{"files":[', b'],"version":1}'
# A row in its only spelling, and the most that it has but its path: with the comma.
_ROW = re.compile(
    rb'\{"path":"([^"\\]*(?:\\"[^"\\]*)*)","sha256":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,15})\}'
)
_FRAME_BYTES = 120
_ROW_BYTES = 2 * MAX_PATH_BYTES + _FRAME_BYTES  # a quotation mark takes two

_NAME = re.compile(r"(\d{6})-(\d{9})-([0-9a-f]{64})")
_WRITER = re.compile(r"\d{6}")
MOST_EPOCHS, MOST_NUMBERS = 10**6 - 1, 10**9 - 1  # as many as a name has digits for
_CLAIMS = 16  # tries; each is lost only to another writer that comes at the same moment


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A complete checkpoint. The order is that of age, the newest last."""

    epoch: int
    number: int
    sha256: str
    """Of the manifest."""

    @property
    def name(self) -> str:
        """The last part of its key."""
        return f"{self.epoch:06d}-{self.number:09d}-{self.sha256}"

    @classmethod
    def parse(cls, name: str) -> Checkpoint | None:
        """By its name; None for the name of something else."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(int(found[1]), int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


@dataclass
class Destination:
    """Where checkpoints go. For one thread."""

    store: Store
    limits: Limits = field(default_factory=Limits)

    def listed(self) -> list[Checkpoint]:
        """All complete checkpoints, the newest last."""
        found = (Checkpoint.parse(name) for name in self._names(MANIFESTS))
        return sorted(each for each in found if each is not None)

    def writers(self) -> list[int]:
        """The epochs that were claimed, the present one last."""
        return sorted(int(name) for name in self._names(WRITERS) if _WRITER.fullmatch(name))

    def claim(self) -> int:
        """Become the one who writes: a new epoch, above all others. LocalError: others claim it
        each time, or no number is left.
        """
        for _ in range(_CLAIMS):
            epoch = max([0, *self.writers(), *(each.epoch for each in self.listed())]) + 1
            if epoch > MOST_EPOCHS:
                raise used_up(self.store)
            token = Source.of_bytes(secrets.token_hex(16).encode())
            if send(self.store, f"{WRITERS}{epoch:06d}", token, self.limits, new=True):
                return epoch
        raise LocalError(
            f"{self.store.uri}: others become its writer each time; end them, or take another "
            "destination",
            Code.STORE_REFUSED,
        )

    def files(self, checkpoint: Checkpoint) -> list[Entry]:
        """The files of a checkpoint. LocalError: OBJECT_MISSING when it was removed meanwhile,
        CHECKPOINT_DAMAGED when it is not as it was written.
        """
        key = MANIFESTS + checkpoint.name

        def once() -> bytearray:
            data = bytearray()
            with self.store.read(key, 0) as body:
                for piece in body.pieces:
                    data += piece
                    if len(data) > MANIFEST_BYTES:
                        raise damaged(self.store, checkpoint)
            return data

        data = attempts(once, self.limits)
        if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
            raise damaged(self.store, checkpoint)
        return decode(data, checkpoint, self.store)

    def _names(self, prefix: str) -> list[str]:
        return attempts(lambda: list(self.store.keys(prefix)), self.limits)


def encode(files: tuple[Entry, ...]) -> bytes:
    """The bytes of a manifest: a version, and the files as in every manifest."""
    return b'{"files":' + encode_manifest(files) + b',"version":1}'


def check_rows(files: tuple[Entry, ...]) -> None:
    """LocalError unless the manifest of these files is one that is read again."""
    if len(_HEAD + _TAIL) + sum(map(_most_bytes, files)) > MANIFEST_BYTES:
        raise LocalError(
            f"the names of {len(files)} files take more than the {MANIFEST_BYTES} bytes that a "
            "manifest may have; pack them",
            Code.LIMIT_EXCEEDED,
        )


def decode(data: bytes | bytearray, checkpoint: Checkpoint, store: Store) -> list[Entry]:
    """The files of a manifest whose digest was checked. It is read row by row, up to the first one
    that is not as we write it: a stranger's takes no more than ours.
    """
    try:
        return list(rows(data))
    except (ValueError, LocalError):
        raise damaged(store, checkpoint) from None


def rows(data: bytes | bytearray) -> Iterator[Entry]:
    """The files of a manifest. ValueError or LocalError for what is not canonical, sorted, clean,
    and of a tree.
    """
    if not (data.startswith(_HEAD) and data.endswith(_TAIL)):
        raise ValueError
    at, end = len(_HEAD), len(data) - len(_TAIL)
    before, paths = b"", list[str]()
    while at < end:
        if paths and data[at] != ord(","):
            raise ValueError
        at += bool(paths)
        found = _ROW.match(data, at, min(end, at + _ROW_BYTES))
        if found is None or len(paths) == MAX_FILES or int(found[3]) > MAX_SIZE:
            raise ValueError
        spelled = bytes(found[1]).replace(b'\\"', b'"')
        if spelled <= before:
            raise ValueError
        before, at = spelled, found.end()
        paths.append(check_path(spelled.decode()))
        yield Entry(paths[-1], int(found[3]), bytes(found[2]).decode())
    check_tree(paths)


def _most_bytes(entry: Entry) -> int:
    return _FRAME_BYTES + len(entry.path.encode()) + entry.path.count('"')


def used_up(store: Store) -> LocalError:
    """A destination where no later checkpoint can be named."""
    return LocalError(
        f"{store.uri}: its numbers are used up; take another destination", Code.STORE_REFUSED
    )


def damaged(store: Store, checkpoint: Checkpoint) -> LocalError:
    """A checkpoint that cannot be used."""
    return LocalError(
        f"{store.uri}: checkpoint {checkpoint} is not as it was written; take an earlier one",
        Code.CHECKPOINT_DAMAGED,
    )
