# SPDX-License-Identifier: Apache-2.0
"""The trees: paths lead to their root, padding is zero words, wrong sizes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.pog import merkle
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import ZERO, keccak, round_path

hashes = st.binary(min_size=32, max_size=32)


@given(st.lists(hashes, min_size=1, max_size=20), st.data())
def test_root_path__leads_to_the_commitment(roots: list[bytes], data: st.DataObject) -> None:
    t = data.draw(st.integers(0, len(roots) - 1))
    path = merkle.root_path(roots, t)
    assert len(path) == round_path(len(roots))
    assert merkle.climb(roots[t], t, path) == merkle.commitment(roots)


@given(st.lists(hashes, min_size=1, max_size=40))
def test_round_tree__grown_round_by_round_is_the_padded_tree(roots: list[bytes]) -> None:
    tree = merkle.RoundTree()
    for number, root in enumerate(roots, 1):
        tree.append(root)
        padded = [*roots[:number], *[ZERO] * ((1 << round_path(number)) - number)]
        whole = merkle.levels(padded)
        assert len(tree) == number
        assert tree.commitment() == whole[-1][0]
        for t in {0, number // 2, number - 1}:
            assert tree.path(t) == merkle.path(whole, t)


def test_round_tree__no_such_round() -> None:
    tree = merkle.RoundTree([ZERO] * 3)
    for t in (-1, 3):
        with pytest.raises(BenchmarkError, match=f"no round {t}"):
            tree.path(t)


def test_commitment__by_hand() -> None:
    a, b, c = (bytes([k]) * 32 for k in (1, 2, 3))
    assert merkle.commitment([a]) == a
    assert merkle.root_path([a], 0) == []
    assert merkle.commitment([a, b]) == keccak(a + b)
    padded = keccak(keccak(a + b) + keccak(c + ZERO))
    assert merkle.commitment([a, b, c]) == padded
    assert merkle.root_path([a, b, c], 2) == [ZERO, keccak(a + b)]


@pytest.mark.parametrize("count", [0, 3, 5, 6, 7, 9])
def test_levels__not_a_power_of_two(count: int) -> None:
    with pytest.raises(BenchmarkError, match="power of two"):
        merkle.levels([ZERO] * count)


@pytest.mark.parametrize("index", [-1, 4])
def test_path__no_such_node(index: int) -> None:
    with pytest.raises(BenchmarkError, match="no node"):
        merkle.path(merkle.levels([ZERO] * 4), index)


def test_commitment__no_rounds() -> None:
    with pytest.raises(BenchmarkError, match="rounds must be 1"):
        merkle.commitment([])
