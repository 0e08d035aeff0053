# SPDX-License-Identifier: Apache-2.0
"""Products on the CPU by NumPy's BLAS, in float32 or float64.

Both are proven to be exact for every depth of the format, see `base`: float32 in centred pieces,
float64 without more, since 127 * 127 * 132,960 is below 2^53.
"""

from __future__ import annotations

import numpy as np

from provider_agent.prover.keccak import Bytes
from provider_agent.prover.products.base import CENTRE, PROVEN_DEPTH, Operand, Sums


class _OnTheHost:
    """What is easy where operands are arrays of NumPy."""

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """See `Way`."""
        raise NotImplementedError

    def low(self, rows: Operand, columns: Operand, first: int, count: int) -> Bytes:
        """See `Way`."""
        return (self.product(rows, columns, first, count) & 0xFF).astype(np.uint8)

    def run(self, rows: Operand, columns: Operand, first: int, count: int) -> None:
        """See `Way`."""
        self.product(rows, columns, first, count)

    def release(self) -> None:
        """See `Way`."""


class Float32Blas(_OnTheHost):
    """Centred float32; the entries stay bytes and become floats a piece at a time."""

    name = "float32 BLAS"
    sum_limit = None

    def operand(self, entries: Bytes) -> Operand:
        """The entries themselves, and their sums."""
        return Operand(entries, entries.sum(axis=1, dtype=np.int32))

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """See `Way`."""
        taken = slice(first, first + count)
        left, right = rows.values[taken], columns.values
        depth = left.shape[1]
        # In this order nothing passes 32 bits on the way.
        total = CENTRE * (rows.sums[taken, None] - CENTRE * depth) + CENTRE * columns.sums[None, :]
        result: Sums = total.astype(np.int32, copy=False)
        for start in range(0, depth, PROVEN_DEPTH):
            part = slice(start, start + PROVEN_DEPTH)
            piece = _centred(left[:, part]) @ _centred(right[:, part]).T
            result += piece.astype(np.int32)
        return result


class Float64Blas(_OnTheHost):
    """Plain float64: half the speed of float32 where that is at its best, and never cut."""

    name = "float64 BLAS"
    sum_limit = None

    def operand(self, entries: Bytes) -> Operand:
        """The entries themselves."""
        return Operand(entries)

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """See `Way`."""
        left = rows.values[first : first + count].astype(np.float64)
        result: Sums = (left @ columns.values.astype(np.float64).T).astype(np.int32)
        return result


def _centred(entries: Bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    floats = entries.astype(np.float32)
    floats -= np.float32(CENTRE)
    return floats
