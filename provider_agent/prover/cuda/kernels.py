# SPDX-License-Identifier: Apache-2.0
"""Calls of the kernels in `kernels.cu`, with the arguments that each takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from provider_agent.prover.cuda.device import Argument, CudaDevice, Region, Stream

SOURCE = Path(__file__).with_name("kernels.cu")
NAMES = (
    "generate_a",
    "generate_b",
    "hash_leaves",
    "hash_nodes",
    "fill_memory",
    "sweep_memory",
    "hash_digests",
)
THREADS = 128
"""Threads of a block, as the kernels' launch bounds say."""


def generate(
    device: CudaDevice,
    kernel: str,
    seed: bytes,
    first: int,
    rows: int,
    blocks: int,
    out: Region,
    stream: Stream,
) -> None:
    """Entries of rows of A (`generate_a`) or columns of B (`generate_b`), int8[rows][480 blocks].

    `seed` is seed_A or seed_B(t), `first` the number of the first row or column.
    """
    count = rows * blocks
    device.launch(
        kernel,
        count,
        [*_lanes(seed), np.uint32(first), np.uint32(blocks), np.uint32(count), out],
        stream,
    )


def hash_leaves(
    device: CudaDevice,
    c: Region,
    tree: Region,
    across: int,
    stride: int,
    first: int,
    count: int,
    stream: Stream,
) -> None:
    """Hashes of the leaves of a tile of C into the lowest level of a tree.

    The tile has `across` leaves in a row, the whole product `stride`; the tile's first leaf is
    number `first` of the level. Where a leaf is two rows (256 columns), both are 1.
    """
    numbers = (np.uint32(across), np.uint32(stride), np.uint32(first), np.uint32(count))
    device.launch("hash_leaves", count, [c, tree, *numbers], stream)


def hash_nodes(
    device: CudaDevice, below: Region, above: Region, count: int, stream: Stream
) -> None:
    """A level of `count` nodes from the one below it."""
    device.launch("hash_nodes", count, [below, above, np.uint32(count)], stream)


def fill_memory(
    device: CudaDevice, seed: bytes, first: int, count: int, memory: Region, stream: Stream
) -> None:
    """Blocks first, first + 1, ... of a challenge's memory, laid out as `kernels.cu` says."""
    arguments = [*_lanes(seed), np.uint32(first), np.uint32(count), memory]
    device.launch("fill_memory", count, arguments, stream)


def sweep_memory(
    device: CudaDevice,
    memory: Region,
    factors: Region,
    digests: Region,
    blocks: int,
    count: int,
    stream: Stream,
) -> None:
    """Digests of that many blocks, 8 bytes each, zeros up to `count`."""
    numbers = (np.uint32(blocks), np.uint32(count))
    device.launch("sweep_memory", count, [memory, factors, digests, *numbers], stream)


def hash_digests(
    device: CudaDevice, digests: Region, tree: Region, leaves: int, count: int, stream: Stream
) -> None:
    """The lowest level of a sweep's tree: that many leaves' hashes, zeros up to `count`."""
    numbers = (np.uint32(leaves), np.uint32(count))
    device.launch("hash_digests", count, [digests, tree, *numbers], stream)


def _lanes(seed: bytes) -> list[Argument]:
    """A seed as the four lanes that kernels take."""
    return [np.uint64(int.from_bytes(seed[k : k + 8], "little")) for k in range(0, 32, 8)]
