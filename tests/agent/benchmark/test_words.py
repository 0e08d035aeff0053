# SPDX-License-Identifier: Apache-2.0
"""The batched parts of generation against the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.prover.keccak import BatchKeccak
from provider_agent.prover.squares import chains
from provider_agent.prover.words import Side, entries, matrix, plain
from teraproof.pog import format as pog
from teraproof.pog.format import PRIME, Shape

SEED = bytes(range(32))


@pytest.mark.parametrize("count", [1, 2047, 2048, 4097])
@pytest.mark.parametrize("length", [1, 64, 134, 135, 136, 137, 512])
def test_batch_keccak__same_as_one_by_one(count: int, length: int) -> None:
    messages = np.random.default_rng(length).integers(0, 256, (count, length), np.uint8)
    digests = BatchKeccak().digests(messages)
    assert digests.shape == (count, 32)
    for k in {0, count // 2, count - 1}:
        assert digests[k].tobytes() == pog.keccak(messages[k].tobytes())


def test_batch_keccak__used_again_for_other_sizes() -> None:
    hasher = BatchKeccak()
    for count in (2048, 4096, 2048):
        messages = np.full((count, 64), count % 251, np.uint8)
        assert hasher.digests(messages)[-1].tobytes() == pog.keccak(messages[-1].tobytes())


def _as_words(value: int) -> list[int]:
    return [value >> 64 * k & (1 << 64) - 1 for k in range(4)]


def _chain(value: int, length: int) -> list[int]:
    result = [value]
    for _ in range(length - 1):
        result.append(result[-1] ** 2 % PRIME)
    return result


def _root_of(square: int) -> int | None:
    """A square root modulo the prime, which is 3 modulo 4; None where there is none."""
    root = pow(square, (PRIME + 1) // 4, PRIME)
    return root if root * root % PRIME == square % PRIME else None


# Squares next to the prime and to zero, where the last subtraction decides.
EDGES = [
    root for k in range(1, 400) for root in (_root_of(PRIME - k), _root_of(k)) if root is not None
]


@given(st.lists(st.integers(0, (1 << 256) - 1), min_size=1, max_size=20))
@example([0, 1, PRIME - 1, PRIME, PRIME + 1, (1 << 256) - 1, 1 << 255, (1 << 128) - 1])
@example(EDGES)
@example([PRIME - root for root in EDGES])
def test_chains__same_as_integers(values: list[int]) -> None:
    first = np.array([_as_words(value) for value in values], np.uint64)
    made = chains(first, 4)
    assert made.shape == (len(values), 4, 4)
    for value, chain in zip(values, made.tolist(), strict=True):
        assert chain == [_as_words(one) for one in _chain(value, 4)]


@pytest.mark.parametrize("shape", [Shape(256, 1), Shape(256, 3), Shape(1024, 5)], ids=str)
@pytest.mark.parametrize("side", Side)
def test_matrix__same_as_plain(shape: Shape, side: Side) -> None:
    fast = matrix(SEED, shape, side, BatchKeccak())
    assert fast.shape == (shape.n, shape.depth)
    assert fast.max() == 127
    np.testing.assert_array_equal(fast, plain(SEED, shape, side))


def test_entries__order_of_the_bytes() -> None:
    """Byte p of a word is 3k + s in A and 3(9 - k) + s in B, for lane k and phase s."""
    word = np.arange(128, 160, dtype=np.uint8)  # the highest bit of each byte is dropped
    a, b = entries(word, Side.A), entries(word, Side.B)
    for s in range(3):
        for k in range(10):
            assert a[10 * s + k] == 3 * k + s
            assert b[10 * s + k] == 3 * (9 - k) + s
