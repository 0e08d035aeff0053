# SPDX-License-Identifier: Apache-2.0
"""The plain engine: format v2 step by step, with NumPy's integer product. Slow; for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np

from provider_agent.prover.engine import Timings, check_memory
from provider_agent.prover.keccak import Bytes
from provider_agent.prover.words import Side, plain
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import EngineError
from teraproof.pog.format import LEAF_BYTES, Shape


class ReferenceEngine:
    """One step after the other, one hash after the other."""

    def __init__(self) -> None:
        self._challenge: bytes | None = None
        self._timings = Timings()

    @property
    def device(self) -> str:
        """What computes, for people."""
        return "numpy (plain reference)"

    def prepare(self, challenge: bytes, shape: Shape) -> None:
        """Make A; see `Engine`."""
        self._challenge = pog.bytes32("challenge", challenge)
        # A and B in 32 bits, C in 32 bits twice and in 8.
        check_memory(8 * shape.n * shape.depth + 9 * shape.n * shape.n)
        self._shape = shape
        self._timings = Timings()
        self._a = plain(pog.seed_a(challenge), shape, Side.A).astype(np.int32)

    def roots(self, done: Sequence[bytes]) -> Iterator[bytes]:
        """The roots that follow `done`; see `Engine`."""
        roots = list(done)
        while True:
            t = len(roots)
            leaves = self._leaves(t, pog.two_before(roots, t))
            roots.append(self._tree(leaves)[-1][0])
            yield roots[-1]

    def open(self, t: int, root_two_before: bytes, i: int, j: int) -> tuple[bytes, list[bytes]]:
        """Leaf and path of an entry; see `Engine`."""
        leaves = self._leaves(t, root_two_before)
        index = self._shape.leaf_index(i, j)
        return leaves[index].tobytes(), merkle.path(self._tree(leaves), index)

    def timings(self) -> Timings:
        """Seconds by part; see `Engine`."""
        return self._timings

    def close(self) -> None:
        """Nothing is held but memory, which goes with the object."""
        self._challenge = None

    def _leaves(self, t: int, root_two_before: bytes) -> Bytes:
        """The leaves of round t, shape (leaves, 512)."""
        if self._challenge is None:
            raise EngineError("the engine has no challenge; prepare it first")
        start = perf_counter()
        seed = pog.seed_b(self._challenge, t, root_two_before)
        b = plain(seed, self._shape, Side.B).astype(np.int32).T
        made = perf_counter()
        product = self._a @ b
        leaves = (product & 0xFF).astype(np.uint8).reshape(-1, LEAF_BYTES)
        self._add(generation=made - start, product=perf_counter() - made)
        return leaves

    def _tree(self, leaves: Bytes) -> merkle.Levels:
        start = perf_counter()
        tree = merkle.levels([pog.keccak(leaf.tobytes()) for leaf in leaves])
        self._add(hashing=perf_counter() - start)
        return tree

    def _add(self, product: float = 0, generation: float = 0, hashing: float = 0) -> None:
        self._timings = self._timings.plus(product, generation, hashing)
