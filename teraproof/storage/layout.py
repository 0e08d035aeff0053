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
from dataclasses import dataclass, field

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol.digests import Entry, encode_manifest, parse_manifest
from teraproof.protocol.errors import Code
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Source, Store
from teraproof.storage.transfer import attempts, send

MANIFESTS, OBJECTS, WRITERS = "checkpoints/", "objects/", "writers/"
MANIFEST_BYTES = 64 << 20

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

        def once() -> bytes:
            data = bytearray()
            with self.store.read(key, 0) as body:
                for piece in body.pieces:
                    data += piece
                    if len(data) > MANIFEST_BYTES:
                        raise damaged(self.store, checkpoint)
            return bytes(data)

        data = attempts(once, self.limits)
        if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
            raise damaged(self.store, checkpoint)
        return decode(data, checkpoint, self.store)

    def _names(self, prefix: str) -> list[str]:
        return attempts(lambda: list(self.store.keys(prefix)), self.limits)


def encode(files: tuple[Entry, ...]) -> bytes:
    """The bytes of a manifest: a version, and the files as in every manifest."""
    return b'{"files":' + encode_manifest(files) + b',"version":1}'


def decode(data: bytes, checkpoint: Checkpoint, store: Store) -> list[Entry]:
    """The files of a manifest whose digest was checked."""
    try:
        document = nesting.loads(data)
        if set(document) != {"files", "version"} or document["version"] != 1:
            raise ValueError
        listed = [(each["path"], each["size"], each["sha256"]) for each in document["files"]]
        return parse_manifest(encode_manifest(Entry(*each) for each in listed))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, LocalError):
        raise damaged(store, checkpoint) from None


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
