# SPDX-License-Identifier: Apache-2.0
"""The count of votes against the economics model, for each way in which a jury can be divided."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from eth_utils.crypto import keccak

from benchmarks.courts.rules import Ruling, ruling
from tests.contracts.revm import Handle, Revm
from tests.contracts.stateful.trial import CODES, RIGHT, WITHHELD, WRONG
from tests.contracts.stateful.world import STARTED

ONE, OTHER = keccak(text="one seal"), keccak(text="another seal")
# What a vote can be: its kind, and what it claims.
VOTES = ((RIGHT, ONE), (WRONG, ONE), (WRONG, OTHER), (WITHHELD, bytes(32)), (0, bytes(32)))


@pytest.fixture(scope="module")
def ballots() -> Handle:
    return Revm(STARTED).deploy("mocks/Ballots")


def divided(size: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a size as a sum of that many numbers, in order."""
    for bars in combinations(range(size + parts - 1), parts - 1):
        ends = (-1, *bars, size + parts - 1)
        yield tuple(high - low - 1 for low, high in pairwise(ends))


def modelled(counts: Sequence[int], size: int) -> int:
    """The ruling by the model, from the votes for each of VOTES."""
    right, first, second, withheld = (np.array([count]) for count in counts[:4])
    most, strays = np.maximum(first, second), np.minimum(first, second)
    found = ruling(right, most, withheld, size, strays)
    return CODES[Ruling(int(found[0]))]


def majority(counts: Sequence[int]) -> int:
    """What is kept of the claim of the larger group."""
    claim = ONE if counts[1] >= counts[2] else OTHER
    return int.from_bytes(claim, "big") >> 32 << 32


@pytest.mark.parametrize("size", [3, 5, 9, 11])
def test_tally__each_way_to_divide_a_jury__as_the_model_says(ballots: Handle, size: int) -> None:
    seen: Counter[int] = Counter()
    for counts in divided(size, len(VOTES)):
        said = [vote for vote, count in zip(VOTES, counts, strict=True) for _ in range(count)]
        random.Random(str(counts)).shuffle(said)
        kinds, claims = [kind for kind, _ in said], [claim for _, claim in said]
        kind, claim = ballots.tally(kinds, claims, [1] * size, size)
        assert kind == modelled(counts, size), counts
        assert claim == (majority(counts) if kind == WRONG else 0), counts
        seen[kind] += 1
    assert set(seen) == set(CODES.values())


@pytest.mark.parametrize("seed", range(60))
def test_tally__jurors_with_several_votes__count_as_often(ballots: Handle, seed: int) -> None:
    """And votes of jurors that have sat before are nobody's, but belong to the jury."""
    chosen = random.Random(seed)
    size = chosen.choice((5, 9, 11))
    counts: list[int] = []
    while sum(counts) < size and not (counts and chosen.random() < 0.1):
        counts.append(chosen.randint(1, min(4, size - sum(counts))))
    said = [chosen.choices(VOTES, (4, 3, 2, 3, 1))[0] for _ in counts]
    votes = [
        sum(count for vote, count in zip(said, counts, strict=True) if vote == wanted)
        for wanted in VOTES
    ]
    kind, _ = ballots.tally([k for k, _ in said], [c for _, c in said], counts, size)
    assert kind == modelled(votes, size), (said, counts)
