# SPDX-License-Identifier: Apache-2.0
"""The proofs that `make gas` sends are what their description says."""

from __future__ import annotations

import pytest

from benchmarks import openings
from benchmarks.openings import SAMPLES, SHAPES, Proof
from teraproof.pog import format as pog
from teraproof.pog.opening import Opening, verify


@pytest.mark.parametrize("name", SHAPES)
def test_read__every_opening_is_that_of_its_sample(name: str) -> None:
    partly, claimed = openings.read(name)
    assert (partly.rounds, len(partly.openings)) == (1, SAMPLES)
    assert (claimed.rounds, len(claimed.openings)) == (openings.MANY_ROUNDS, 1)
    check(name, partly)
    check(name, claimed)


def check(name: str, proof: Proof) -> None:
    shape = SHAPES[name]
    challenge = openings.challenge_of(name, proof.epoch, proof.beacon)
    wanted = pog.samples(
        proof.draw, proof.rounds, proof.commitment, challenge, shape, len(proof.openings)
    )
    for sample, words in zip(wanted, proof.openings, strict=True):
        opening = Opening.decode(b"".join(words), shape, proof.rounds)
        verify(opening, sample, challenge, shape, proof.rounds, proof.commitment)


@pytest.mark.parametrize("name", SHAPES)
def test_claimed__first_sample_is_as_long_as_an_honest_one(name: str) -> None:
    """Paths of a leaf, of the round, and three nodes of the earlier round's own."""
    _, claimed = openings.read(name)
    (opening,) = claimed.openings
    shape = SHAPES[name]
    assert len(opening) == 2 + 16 + shape.leaf_path + pog.round_path(claimed.rounds) + 3
