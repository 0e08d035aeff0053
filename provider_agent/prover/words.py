# SPDX-License-Identifier: Apache-2.0
"""The matrices of a round from their seeds, as NumPy arrays of entries 0..127.

`plain` follows `format.words` one by one; `matrix` makes the same array in batches. Which byte of a
word is which entry is written at `format.words`.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from provider_agent.prover import squares
from provider_agent.prover.keccak import BatchKeccak, Bytes
from teraproof.pog import format as pog
from teraproof.pog.format import ENTRIES_PER_WORD, WORDS_PER_BLOCK, Shape

# Blocks made at once; bounds the working memory, 32 * 16 bytes of words a block.
_BATCH = 1 << 15


class Side(Enum):
    """Which factor: in B the ten lanes of a word run backwards."""

    A = "A"
    B = "B"


def entries(words: Bytes, side: Side) -> Bytes:
    """The entries of words given as little-endian bytes, shape (..., 32) to (..., 30)."""
    lanes = words[..., :ENTRIES_PER_WORD].reshape(*words.shape[:-1], 10, 3) & np.uint8(0x7F)
    if side is Side.B:
        lanes = lanes[..., ::-1, :]
    return np.ascontiguousarray(lanes.swapaxes(-1, -2)).reshape(*words.shape[:-1], 30)


def plain(seed: bytes, shape: Shape, side: Side) -> Bytes:
    """Rows of A, or columns of B, from 0 to n - 1; shape (n, depth)."""
    joined = b"".join(
        value.to_bytes(32, "little")
        for index in range(shape.n)
        for value in pog.words(seed, index, shape.blocks)
    )
    words = np.frombuffer(joined, np.uint8).reshape(shape.n, shape.words, 32)
    return entries(words, side).reshape(shape.n, shape.depth)


def matrix(seed: bytes, shape: Shape, side: Side, hasher: BatchKeccak) -> Bytes:
    """The same as `plain`, faster."""
    total = shape.n * shape.blocks
    result = np.empty((total, WORDS_PER_BLOCK * ENTRIES_PER_WORD), np.uint8)
    for start in range(0, total, _BATCH):
        numbers = np.arange(start, min(start + _BATCH, total), dtype=np.uint64)
        messages = np.zeros((len(numbers), 64), np.uint8)
        messages[:, :32] = np.frombuffer(seed, np.uint8)
        # (index << 128) + block, big-endian: both fit 64 bits.
        index, block = np.divmod(numbers, np.uint64(shape.blocks))
        messages[:, 40:48] = index.astype(">u8").view(np.uint8).reshape(-1, 8)
        messages[:, 56:64] = block.astype(">u8").view(np.uint8).reshape(-1, 8)
        digests = np.ascontiguousarray(hasher.digests(messages)[:, ::-1])
        first = digests.view("<u8").astype(np.uint64, copy=False)
        words = squares.chains(first, WORDS_PER_BLOCK).astype("<u8", copy=False).view(np.uint8)
        result[start : start + len(numbers)] = entries(words, side).reshape(len(numbers), -1)
    return result.reshape(shape.n, shape.depth)
