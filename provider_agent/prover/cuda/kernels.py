# SPDX-License-Identifier: Apache-2.0
"""Calls of the kernels in `kernels.cu`, with the arguments that each takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from provider_agent.prover.cuda.device import CudaDevice, Region, Stream

SOURCE = Path(__file__).with_name("kernels.cu")
NAMES = ("generate_a", "generate_b", "hash_leaves", "hash_nodes")
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
    lanes = [np.uint64(int.from_bytes(seed[k : k + 8], "little")) for k in range(0, 32, 8)]
    count = rows * blocks
    device.launch(
        kernel,
        count,
        [*lanes, np.uint32(first), np.uint32(blocks), np.uint32(count), out],
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
