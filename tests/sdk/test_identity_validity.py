# SPDX-License-Identifier: Apache-2.0
"""A host that breaks schemas falls below a clean one, within a stated number of answers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.gateway.identity.validity import (
    Validity,
    answers_until_below,
    falls_below,
    wilson,
)

counts = st.integers(0, 500)


@pytest.mark.parametrize(
    ("clean", "answers"),
    [(0.0, 90), (0.002, 108), (0.005, 137), (0.01, 198)],
)
def test_five_percent_broken__falls_below_within_the_stated_number(
    clean: float, answers: int
) -> None:
    assert answers_until_below(clean, 0.05) == answers
    rng = random.Random(5)
    below = 0
    for _ in range(2000):
        good, bad = Validity(), Validity()
        for _ in range(answers):
            good.observe(rng.random() >= clean)
            bad.observe(rng.random() >= 0.05)
        below += bad.rank(good) < good.rank(bad)
    low, high = wilson(below, 2000, z=3.3)
    assert low <= falls_below(clean, 0.05, answers) <= high
    assert below >= 0.98 * 2000


def test_clean_host__formula_is_that_of_one_broken_answer() -> None:
    assert falls_below(0, 0.05, 90) == pytest.approx(1 - 0.95**90)


def test_no_difference__is_never_shown() -> None:
    with pytest.raises(ValueError, match=r"^1000 answers do not show a difference of this size$"):
        answers_until_below(0.05, 0.05, longest=1000)


@given(counts, counts)
def test_new_host__starts_where_its_peers_are(valid: int, broken: int) -> None:
    peers = Validity(valid, broken)
    assert Validity().rank(peers) == pytest.approx(peers.rate)


@given(counts, counts, counts, counts)
def test_rank__falls_with_each_broken_answer_and_rises_with_each_valid_one(
    valid: int, broken: int, peer_valid: int, peer_broken: int
) -> None:
    peers = Validity(peer_valid, peer_broken)
    rank = Validity(valid, broken).rank(peers)
    assert 0 < rank < 1
    assert Validity(valid, broken + 1).rank(peers) < rank < Validity(valid + 1, broken).rank(peers)


@given(counts, counts)
def test_wilson__holds_the_rate_within_zero_and_one(hits: int, misses: int) -> None:
    low, high = wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low <= hits / (hits + misses) + 1e-12 and hits / (hits + misses) <= high + 1e-12


def test_wilson__known_interval() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(95, 100)
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
    assert Validity(95, 5).interval() == (low, high)
