# SPDX-License-Identifier: Apache-2.0
"""What a way to multiply is, and how centred products give the sums of the format.

The entries are 0..127. Int8 arithmetic takes them as they are. Floating point takes them less 64:
-64..63 is exact in bf16, fp16 and float32, and the sums stay small. From the centred sum C' follows

    C = C' + 64 * (row sum of A + column sum of B) - 4096 * K

with the sums of the original entries.

When is C' exact in float32, in any order of the additions? Every integer up to 2^24 is. A product
of two entries is at most 4096 = 2^12 in size, so:

- **Proven**: up to a depth of 4096 no partial sum passes 2^24, whatever the entries are.
  `PROVEN_DEPTH` is the blocks of 480 that fit; deeper products are cut into such pieces whose sums
  are added as integers. That is what float32 does here.
- **By chance, with room to spare**: a whole depth of K. The entries come from hashes, and nobody
  can choose them: the seed of B holds the root of an earlier round. Taken as independent and
  uniform, a sum has the mean K / 4 and the standard deviation 1365.5 * sqrt(K). At K = 132,960, the
  deepest, 2^24 is 33 of them away, at 32,640 it is 67. Bernstein's inequality bounds the chance of
  one sum that passes by 2^-700, and a proof has fewer than 2^74 partial sums. (Within a block the
  entries come from one hash by squaring, so that independence is a model; what was looked for and
  not found is in docs/soundness.md.) That is what bf16 and fp16 do here, where pieces would cost.

All of this speaks of a device that adds in float32. Whether it does, `check` finds out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from provider_agent.prover.keccak import Bytes
from teraproof.pog.format import ENTRIES_PER_BLOCK

CENTRE = 64
SUM_LIMIT = 1 << 24
"""Float32 holds every integer up to this."""
PROVEN_DEPTH = SUM_LIMIT // CENTRE**2 // ENTRIES_PER_BLOCK * ENTRIES_PER_BLOCK

Sums = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Operand:
    """Rows of A or columns of B where a way wants them.

    `values` are the entries, `sums` their sum by row (column), both as the way keeps them.
    """

    values: Any
    sums: Any = None


class Way(Protocol):
    """One way to multiply exactly on one device."""

    @property
    def name(self) -> str:
        """For people: the arithmetic and the library."""

    @property
    def sum_limit(self) -> int | None:
        """Size that partial sums of centred products must not pass; None where none can."""

    def operand(self, entries: Bytes) -> Operand:
        """Put entries, (count, depth) of uint8, where products are made of them."""

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """`count` rows from `first` on, times all columns: (count, columns) of int32.

        May fail with an error of the library's own.
        """

    def low(self, rows: Operand, columns: Operand, first: int, count: int) -> Bytes:
        """The same modulo 2^8, as bytes: all that a proof holds of it."""

    def run(self, rows: Operand, columns: Operand, first: int, count: int) -> None:
        """The same, left where it is made; waits for it. To be timed."""

    def release(self) -> None:
        """Give back what the operands took; they cannot be used any more."""
