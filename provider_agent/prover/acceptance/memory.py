# SPDX-License-Identifier: Apache-2.0
"""The memory of a device that a challenge fills and reads: the interface, and that of the host."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import BLOCK_BYTES, BLOCK_WORDS, DIGESTS_PER_LEAF, LEAF_BYTES
from teraproof.pog import merkle
from teraproof.pog.errors import EngineError

Words = npt.NDArray[np.uint64]
Progress = Callable[[float], None]
"""Takes the part that is done, 0 to 1."""

# Blocks between two reports of progress, and in one product.
_BATCH = 1024
#: What is left to the machine, as a part of what is free: it has other things to do.
_LEFT = 8


class Memory(Protocol):
    """Memory of one device. Every kind gives the same bytes."""

    def room(self) -> int:
        """Blocks that can be filled now."""

    def fill(self, seed: bytes, blocks: int, progress: Progress) -> None:
        """Take the memory and fill it. EngineError when it is not there."""

    def sweep(self, key: bytes) -> bytes:
        """Read all of it; the root over the digests of its blocks."""

    def open(self, key: bytes, block: int) -> tuple[bytes, list[bytes]]:
        """The leaf that holds a block's digest in the sweep with this key, and its path.

        The sweep is done again; ask for digests of one sweep one after the other.
        """

    def close(self) -> None:
        """Give the memory back."""


class Sweep:
    """The digests of one sweep, and the tree over them."""

    def __init__(self, digests: bytes) -> None:
        """`digests` has 8 bytes for each block."""
        self._digests = digests
        self.tree = fmt.tree(digests)

    @property
    def root(self) -> bytes:
        """What is committed of it."""
        return self.tree[-1][0]

    def opening(self, block: int) -> tuple[bytes, list[bytes]]:
        """The leaf of a block's digest, and its path."""
        index = block // DIGESTS_PER_LEAF
        leaf = self._digests[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
        return leaf.ljust(LEAF_BYTES, b"\0"), merkle.path(self.tree, index)


class HostMemory:
    """Memory of the machine, for the CPU: one core fills it, as one device."""

    def __init__(self) -> None:
        self._words: Words | None = None
        self._last: tuple[bytes, Sweep] | None = None

    def room(self) -> int:
        """Blocks that fit what is free, less a part for the machine."""
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        return (free - free // _LEFT) // BLOCK_BYTES

    def fill(self, seed: bytes, blocks: int, progress: Progress) -> None:
        """See `Memory`."""
        self._last = None
        try:
            words = np.empty((blocks, BLOCK_WORDS), "<u8")
        except MemoryError:
            raise EngineError("the machine has not that much memory") from None
        for index in range(blocks):
            words[index] = np.frombuffer(fmt.block(seed, index), "<u8")
            if index % _BATCH == 0:
                progress(index / blocks)
        self._words = words

    def sweep(self, key: bytes) -> bytes:
        """See `Memory`."""
        return self._swept(key).root

    def open(self, key: bytes, block: int) -> tuple[bytes, list[bytes]]:
        """See `Memory`."""
        return self._swept(key).opening(block)

    def close(self) -> None:
        """See `Memory`."""
        self._words = self._last = None

    def _swept(self, key: bytes) -> Sweep:
        if self._words is None:
            raise EngineError("the memory was not filled")
        if self._last is None or self._last[0] != key:
            factors = np.frombuffer(fmt.coefficients(key), "<u8")
            digests = b"".join(
                (self._words[at : at + _BATCH] @ factors).astype("<u8").tobytes()
                for at in range(0, len(self._words), _BATCH)
            )
            self._last = key, Sweep(digests)
        return self._last[1]


class NoMemory:
    """Of a device whose memory nobody can fill."""

    def room(self) -> int:
        """None."""
        return 0

    def fill(self, seed: bytes, blocks: int, progress: Progress) -> None:
        """See `Memory`."""
        raise EngineError("the memory of this device cannot be filled")

    def sweep(self, key: bytes) -> bytes:
        """See `Memory`."""
        raise EngineError("the memory was not filled")

    def open(self, key: bytes, block: int) -> tuple[bytes, list[bytes]]:
        """See `Memory`."""
        raise EngineError("the memory was not filled")

    def close(self) -> None:
        """Nothing is held."""
