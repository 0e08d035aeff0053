# SPDX-License-Identifier: Apache-2.0
"""One device's answers to an acceptance challenge, with the engines that prove.

The device belongs to the lease: nobody else may prove on it meanwhile, which is for the caller to
see to. The engine takes its memory before the fill, so that what is filled is what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from provider_agent.prover.acceptance.memory import Memory, Progress
from provider_agent.prover.engine import Engine
from provider_agent.prover.proof import Proof
from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import Lease, Seeds, Work
from teraproof.acceptance.messages import Digest, Openings
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import ZERO


def _silent(_: float) -> None:
    """Nobody wants to know how far it is."""


class Respondent:
    """Answers the steps in their order; BenchmarkError for any other."""

    def __init__(
        self,
        lease: Lease,
        work: Work,
        device: int,
        engine: Engine,
        memory: Callable[[], Memory],
        progress: Progress = _silent,
    ) -> None:
        """`device` is its number in the lease; `memory` opens that of the engine's device."""
        self._lease, self._work, self._device = lease, work, device
        self._engine, self._open_memory, self._progress = engine, memory, progress
        self._memory: Memory | None = None
        self._seeds: Seeds | None = None
        self._proof: Proof | None = None
        self._keys: list[bytes] | None = None
        self._roots: list[bytes] = []
        self._filled = 0
        self._coming: Iterator[bytes] | None = None

    def fill(self, nonce: bytes) -> int:
        """Make the device ready, fill its memory; how many blocks were filled."""
        if self._seeds is not None:
            raise _disorder()
        seeds = Seeds(self._lease, self._work, self._device, nonce)
        # A round of no use: what the first one has to load and to allocate, the others need not.
        self._engine.prepare(ZERO, self._work.shape)
        self._rounds(1)
        self._halt()
        if self._work.blocks:
            self._memory = self._open_memory()
            self._filled = min(self._work.blocks, self._memory.room())
        if self._memory is not None and self._filled:
            self._memory.fill(seeds.memory(), self._filled, self._progress)
        self._seeds = seeds
        return self._filled

    def work(self, nonce: bytes) -> bytes:
        """Do the rounds; the commitment to them."""
        if self._seeds is None or self._proof is not None:
            raise _disorder()
        challenge = self._seeds.proof(nonce)
        self._engine.prepare(challenge, self._work.shape)
        self._proof = Proof(challenge, self._work.shape, self._rounds(self._work.rounds))
        return self._proof.commitment

    def sweep(self, nonce: bytes) -> list[bytes]:
        """Read the memory as often as asked; a root for each time, none without memory."""
        if self._seeds is None or self._proof is None or self._keys is not None:
            raise _disorder()
        self._halt()
        keys = [self._seeds.first_key(nonce, self._proof.commitment)]
        if self._memory is not None and self._filled:
            for number in range(self._work.sweeps):
                self._roots.append(self._memory.sweep(keys[-1]))
                keys.append(fmt.next_key(keys[-1], self._roots[-1]))
                self._progress((number + 1) / self._work.sweeps)
        self._keys = keys
        return list(self._roots)

    def open(self, nonce: bytes) -> Openings:
        """Open what the nonce draws."""
        if self._seeds is None or self._proof is None or self._keys is None:
            raise _disorder()
        query = self._seeds.query(nonce, self._proof.commitment, self._roots)
        digests: dict[fmt.Query, Digest] = {}
        asked = fmt.queries(query, self._work.sweeps, self._filled)
        if self._memory is not None:
            for one in sorted(set(asked), key=lambda one: one.sweep):
                leaf, path = self._memory.open(self._keys[one.sweep], one.block)
                digests[one] = Digest(leaf, tuple(path))
            self._memory.close()  # before rounds are done again, which takes a while
        drawn = fmt.entries(query, self._work, self._proof.commitment, self._proof.challenge)
        entries = self._proof.open(self._engine, drawn)
        return Openings(
            tuple(entry.encode() for entry in entries), tuple(digests[one] for one in asked)
        )

    def close(self) -> None:
        """Give the device back."""
        self._halt()
        if self._memory is not None:
            self._memory.close()
        self._engine.close()

    def _rounds(self, count: int) -> tuple[bytes, ...]:
        self._coming = self._engine.roots(())
        roots = []
        for root in islice(self._coming, count):
            roots.append(root)
            self._progress(len(roots) / count)
        return tuple(roots)

    def _halt(self) -> None:
        """End the rounds that are under way: after the answer, which does not wait for them."""
        close = getattr(self._coming, "close", None)
        self._coming = None
        if close is not None:
            close()


def _disorder() -> BenchmarkError:
    return BenchmarkError("the steps of a challenge come in their order, each once")
