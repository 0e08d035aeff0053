# SPDX-License-Identifier: Apache-2.0
"""A proof: a challenge, its rounds' roots, and the openings that a draw asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from provider_agent.prover.engine import Engine
from teraproof.pog import format as pog
from teraproof.pog.format import Sample, Shape
from teraproof.pog.merkle import RoundTree
from teraproof.pog.opening import Opening, verify


@dataclass(frozen=True)
class Proof:
    """What a provider keeps between its commit and its openings.

    Args:
        challenge: 32 bytes, from `format.challenge`.
        shape: size of the matrices.
        roots: one for each round, in order; 1 to 2^24 of them.

    Raises BenchmarkError when one of them does not fit.
    """

    challenge: bytes
    shape: Shape
    roots: tuple[bytes, ...]

    def __post_init__(self) -> None:
        pog.bytes32("challenge", self.challenge)
        pog.check_rounds(len(self.roots))
        for root in self.roots:
            pog.bytes32("root", root)

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return len(self.roots)

    @cached_property
    def tree(self) -> RoundTree:
        """The tree over the roots."""
        return RoundTree(self.roots)

    @cached_property
    def commitment(self) -> bytes:
        """What `commit` puts on chain."""
        return self.tree.commitment()

    def seeds_b(self) -> list[bytes]:
        """The seed of B of every round."""
        return [
            pog.seed_b(self.challenge, t, pog.two_before(self.roots, t)) for t in range(self.rounds)
        ]

    def samples(self, draw: bytes, count: int) -> list[Sample]:
        """The samples that an epoch's draw asks for, in their order."""
        return pog.samples(draw, self.rounds, self.commitment, self.challenge, self.shape, count)

    def openings(self, engine: Engine, draw: bytes, count: int) -> list[Opening]:
        """The openings for an epoch's draw, in the order of its samples.

        The engine is prepared for this challenge here; it computes each sampled round once more.
        """
        return self.open(engine, self.samples(draw, count))

    def open(self, engine: Engine, samples: Sequence[Sample]) -> list[Opening]:
        """The openings of samples, in their order, each checked as the contract will.

        OpeningError when the engine gives other bytes than those the roots were made of.
        """
        engine.prepare(self.challenge, self.shape)
        found: dict[Sample, Opening] = {}
        # Entries of one round follow each other, so that it is computed once.
        for sample in sorted(set(samples), key=lambda sample: sample.t):
            before = pog.two_before(self.roots, sample.t)
            leaf, leaf_path = engine.open(sample.t, before, sample.i, sample.j)
            opening = Opening(
                root_before=before,
                root=self.roots[sample.t],
                leaf=leaf,
                leaf_path=tuple(leaf_path),
                root_path=tuple(self.tree.path(sample.t)),
                path_before=tuple(self.tree.path(sample.t - 2)) if sample.t >= 2 else (),
            )
            verify(opening, sample, self.challenge, self.shape, self.rounds, self.commitment)
            found[sample] = opening
        return [found[sample] for sample in samples]
