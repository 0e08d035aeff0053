# SPDX-License-Identifier: Apache-2.0
"""The memory of one GPU, for acceptance challenges; see `provider_agent.prover.acceptance`.

Everything stays on the GPU: only roots, leaves and paths that are opened cross to the host.
"""

from __future__ import annotations

import numpy as np

from provider_agent.prover.acceptance.memory import Progress
from provider_agent.prover.cuda import kernels
from provider_agent.prover.cuda.device import Buffer, CudaDevice, Region, Stream
from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import BLOCK_BYTES, DIGEST_BYTES, DIGESTS_PER_LEAF, LEAF_BYTES
from teraproof.pog.errors import EngineError

_HASH_BYTES = 32
# Blocks that lie together in the kernels' layout.
_GROUP = 32
# Blocks between two reports of progress: a launch lasts a tenth of a second or less.
_BATCH = 1 << 18
#: Bytes left to the driver and to libraries, and those that digests and hashes take for a block.
_LEFT, _PER_BLOCK = 256 << 20, 16
_ORDER = Stream.PRODUCT


class CudaMemory:
    """A `Memory`; it belongs to a device that somebody else closes."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._buffers: list[Buffer] = []
        self._blocks = 0
        self._key: bytes | None = None

    def room(self) -> int:
        """Blocks that fit the memory that no process holds."""
        return max(0, self._device.free_bytes() - _LEFT) // (BLOCK_BYTES + _PER_BLOCK)

    def fill(self, seed: bytes, blocks: int, progress: Progress) -> None:
        """See `Memory`."""
        self.close()
        self._used = -(-blocks // DIGESTS_PER_LEAF)
        self._leaves = fmt.leaves(blocks)
        try:
            self._memory = self._allocate(-(-blocks // _GROUP) * _GROUP * BLOCK_BYTES)
            self._digests = self._allocate(self._used * LEAF_BYTES)
            self._tree = self._allocate(2 * self._leaves * _HASH_BYTES)
            self._factors = self._allocate(BLOCK_BYTES)
        except BaseException:
            self.close()
            raise
        for first in range(0, blocks, _BATCH):
            count = min(_BATCH, blocks - first)
            kernels.fill_memory(self._device, seed, first, count, self._memory.at(0), _ORDER)
            self._device.synchronize()
            progress((first + count) / blocks)
        self._blocks = blocks

    def sweep(self, key: bytes) -> bytes:
        """See `Memory`."""
        self._swept(key)
        top = self._levels()[-1]
        return self._read(self._tree.at(top * _HASH_BYTES), _HASH_BYTES)

    def open(self, key: bytes, block: int) -> tuple[bytes, list[bytes]]:
        """See `Memory`."""
        if self._key != key:
            self._swept(key)
        index = block // DIGESTS_PER_LEAF
        leaf = self._read(self._digests.at(index * LEAF_BYTES), LEAF_BYTES)
        path = [
            self._read(self._tree.at((first + (index >> height ^ 1)) * _HASH_BYTES), _HASH_BYTES)
            for height, first in enumerate(self._levels()[:-1])
        ]
        return leaf, path

    def close(self) -> None:
        """See `Memory`."""
        if self._buffers:
            self._device.synchronize()
        while self._buffers:
            self._device.release(self._buffers.pop())
        self._blocks, self._key = 0, None

    def _allocate(self, size: int) -> Buffer:
        buffer = self._device.allocate(size)
        self._buffers.append(buffer)
        return buffer

    def _levels(self) -> list[int]:
        """The first node of each level of the tree, leaves first."""
        starts, count, first = [], self._leaves, 0
        while count:
            starts.append(first)
            first, count = first + count, count // 2
        return starts

    def _swept(self, key: bytes) -> None:
        """Do a sweep, and the tree over it."""
        if not self._blocks:
            raise EngineError("the memory was not filled")
        device = self._device
        device.upload(np.frombuffer(fmt.coefficients(key), np.uint8), self._factors.at(0))
        kernels.sweep_memory(
            device,
            self._memory.at(0),
            self._factors.at(0),
            self._digests.at(0),
            self._blocks,
            self._used * LEAF_BYTES // DIGEST_BYTES,
            _ORDER,
        )
        kernels.hash_digests(
            device, self._digests.at(0), self._tree.at(0), self._used, self._leaves, _ORDER
        )
        starts = self._levels()
        for height in range(1, len(starts)):
            below, above = (
                self._tree.at(first * _HASH_BYTES) for first in starts[height - 1 : height + 1]
            )
            kernels.hash_nodes(device, below, above, self._leaves >> height, _ORDER)
        self._key = key

    def _read(self, source: Region, size: int) -> bytes:
        return self._device.download(source, size, _ORDER).result()
