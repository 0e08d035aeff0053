# SPDX-License-Identifier: Apache-2.0
"""The fast engine for a CPU, and for any device that multiplies for it.

The product of round t runs in a thread of its own (BLAS holds no lock of Python), while this one
hashes round t - 1 and then generates B of round t + 1, which needs the root of t - 1 alone. BLAS
gets one core less than there are: its threads wait for each other by spinning, which takes the
hashing thread's core (measured on 2 cores: 0.24 s of CPU time a round of 1024 x 1920 with both,
0.15 s with one).

The first product of a challenge is checked whole, since a library may take another kernel for its
size than for those of the trial.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from provider_agent.prover.engine import Timings, check_memory
from provider_agent.prover.keccak import BatchKeccak, Bytes
from provider_agent.prover.products.base import Way
from provider_agent.prover.products.check import holds
from provider_agent.prover.products.choose import Chosen, choose, cpu_ways
from provider_agent.prover.words import Side, matrix
from teraproof.errors import counted
from teraproof.pog import format as pog
from teraproof.pog.errors import EngineError, brief
from teraproof.pog.format import LEAF_BYTES, Shape

# Rows of A multiplied at once: bounds the 32-bit copies of C besides its bytes.
_PANEL = 2048
_TRIAL = (256, 256, 1920)


class CpuEngine:
    """Exact products by the fastest way at hand, hashes in batches."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        self._limits = threadpool_limits(max(1, cores - 1), "blas")
        try:
            self.products = self._choose()
        except EngineError:
            self._limits.restore_original_limits()
            raise
        self._way = self.products.way
        self.multiplier = self._name()
        """What multiplies: the CPU, or a device of PyTorch."""
        self.device = f"{self.multiplier} ({self._way.name}, {counted(cores, 'core')})"
        self._hasher = BatchKeccak()
        self._pool = ThreadPoolExecutor(1, "product")
        self._challenge: bytes | None = None
        self._timings = Timings()
        self._opened: tuple[tuple[int, bytes], Bytes, list[Bytes]] | None = None

    def _choose(self) -> Chosen[Way]:
        """The way to multiply."""
        return choose(cpu_ways(), _TRIAL)

    def _name(self) -> str:
        """What multiplies."""
        return "cpu"

    def prepare(self, challenge: bytes, shape: Shape) -> None:
        """Make A; see `Engine`."""
        pog.bytes32("challenge", challenge)
        check_memory(_memory(shape))
        self._shape = shape
        self._timings = Timings()
        self._opened = None
        self._challenge = challenge
        self._unchecked: Bytes | None = matrix(pog.seed_a(challenge), shape, Side.A, self._hasher)
        with _errors():
            self._a = self._way.operand(self._unchecked)

    def roots(self, done: Sequence[bytes]) -> Iterator[bytes]:
        """The roots that follow `done`; see `Engine`."""
        t = len(done)
        before, last = pog.two_before(done, t), pog.two_before(done, t + 1)
        running = self._pool.submit(self._product, self._columns(t, before))
        try:
            while True:
                columns = self._columns(t + 1, last)
                leaves, seconds = running.result()
                running = self._pool.submit(self._product, columns)
                self._add(product=seconds)
                last = self._tree(leaves)[-1].tobytes()
                yield last
                t += 1
        finally:
            # The thread is not left at work for nobody.
            if not running.cancel():
                running.exception()

    def open(self, t: int, root_two_before: bytes, i: int, j: int) -> tuple[bytes, list[bytes]]:
        """Leaf and path of an entry; see `Engine`. The last round opened is kept."""
        if self._opened is None or self._opened[0] != (t, root_two_before):
            self._opened = None  # not two rounds in memory
            leaves, seconds = self._product(self._columns(t, root_two_before))
            self._add(product=seconds)
            self._opened = (t, root_two_before), leaves, self._tree(leaves)
        _, leaves, tree = self._opened
        index = self._shape.leaf_index(i, j)
        path = [level[index >> height ^ 1].tobytes() for height, level in enumerate(tree[:-1])]
        return leaves[index].tobytes(), path

    def timings(self) -> Timings:
        """Seconds by part; see `Engine`."""
        return self._timings

    def raw_product(self, seconds: float) -> tuple[int, float]:
        """Products alone for about that long, by the same way: operations, seconds."""
        noise = np.random.default_rng(1).integers(
            0, 128, (self._shape.n, self._shape.depth), np.uint8
        )
        with _errors():
            columns = self._way.operand(noise)
            done, took, start = -1, 0.0, perf_counter()
            while done < 1 or took < seconds:
                for row in range(0, self._shape.n, _PANEL):
                    self._way.run(self._a, columns, row, min(_PANEL, self._shape.n - row))
                if done < 0:
                    start = perf_counter()  # the first one warms up
                done, took = done + 1, perf_counter() - start
        return self._shape.operations * done, took

    def close(self) -> None:
        """End the thread, and give BLAS its threads back; see `Engine`."""
        self._challenge = None
        self._opened = None
        self._pool.shutdown()
        self._limits.restore_original_limits()

    def _columns(self, t: int, root_two_before: bytes) -> Bytes:
        """The columns of B of round t, shape (n, depth)."""
        if self._challenge is None:
            raise EngineError("the engine has no challenge; prepare it first")
        start = perf_counter()
        seed = pog.seed_b(self._challenge, t, root_two_before)
        columns = matrix(seed, self._shape, Side.B, self._hasher)
        self._add(generation=perf_counter() - start)
        return columns

    def _product(self, columns: Bytes) -> tuple[Bytes, float]:
        """The leaves of a round, shape (leaves, 512), and the seconds that they took."""
        start = perf_counter()
        low = np.empty((self._shape.n, self._shape.n), np.uint8)

        def panels() -> Iterator[Bytes]:
            operand = self._way.operand(columns)
            for row in range(0, self._shape.n, _PANEL):
                count = min(_PANEL, self._shape.n - row)
                panel = self._way.low(self._a, operand, row, count)
                low[row : row + _PANEL] = panel
                yield panel

        with _errors():
            if self._unchecked is None:
                deque(panels(), maxlen=0)
            elif not holds(self._unchecked, columns, panels()):
                raise EngineError(f"{self.device} multiplies wrongly; nothing was proven with it")
        self._unchecked = None
        return low.reshape(-1, LEAF_BYTES), perf_counter() - start

    def _tree(self, leaves: Bytes) -> list[Bytes]:
        """The levels of a round's tree, leaves' digests first, each of shape (nodes, 32)."""
        start = perf_counter()
        levels = [self._hasher.digests(leaves)]
        while len(levels[-1]) > 1:
            levels.append(self._hasher.digests(levels[-1].reshape(-1, 64)))
        self._add(hashing=perf_counter() - start)
        return levels

    def _add(self, product: float = 0, generation: float = 0, hashing: float = 0) -> None:
        self._timings = self._timings.plus(product, generation, hashing)


@contextmanager
def _errors() -> Iterator[None]:
    """Failures of a library as one line for a person."""
    try:
        yield
    except RuntimeError as error:  # PyTorch has no narrower one for all of its devices
        raise EngineError(f"the product failed: {brief(error)}") from None


def _memory(shape: Shape) -> int:
    """Bytes that a round takes: A and two of B, three of C in 8 bits, a panel in 32 and more."""
    return 3 * shape.n * shape.depth + 3 * shape.n * shape.n + 12 * _PANEL * shape.n
