# SPDX-License-Identifier: Apache-2.0
"""The choice of a size: by memory, rate and time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.prover.bench import sizes
from teraproof.pog.errors import EngineError
from teraproof.pog.format import MAX_ROUNDS, Shape

GIB = 1 << 30
rates = st.floats(1e6, 1e17)
times = st.floats(0.1, 3600)


@given(rates, times)
def test_rounds_within__fill_the_time(rate: float, seconds: float) -> None:
    shape = Shape(1024, 4)
    rounds = sizes.rounds_within(shape, rate, seconds)
    assert 0 <= rounds <= MAX_ROUNDS
    if rounds < MAX_ROUNDS:
        assert rounds * shape.operations <= rate * seconds * (1 + 1e-9)
        assert (rounds + 1) * shape.operations >= rate * seconds * (1 - 1e-9)


def test_choose__a_large_gpu_takes_the_largest_shape() -> None:
    # 80 GB, 1.4e15 operations per second, a minute: 73 rounds of the largest shape there is.
    shape, rounds = sizes.choose(sizes.fits_gpus([79 * GIB]), 1.4e15, 60)
    assert (shape, rounds) == (Shape(65_536, 277), 73)


def test_choose__less_memory_smaller_shape() -> None:
    found = [
        sizes.choose(sizes.fits_gpus([free * GIB]), 1.4e15, 60)[0] for free in (8, 16, 24, 48, 80)
    ]
    assert all(one.operations <= two.operations for one, two in pairwise(found))
    assert found[0].operations < found[-1].operations
    # Two cards hold half of A and C each, but all of B.
    pair, _ = sizes.choose(sizes.fits_gpus([24 * GIB] * 2), 1.4e15, 60)
    single, _ = sizes.choose(sizes.fits_gpus([24 * GIB]), 1.4e15, 60)
    assert pair.operations >= single.operations


@given(st.integers(1, 100), rates, times)
@settings(max_examples=40)
def test_choose__fits_memory_and_time(free: int, rate: float, seconds: float) -> None:
    fits = sizes.fits_gpus([free * GIB])
    shape, rounds = sizes.choose(fits, rate, seconds)
    assert rounds >= 1
    if rounds >= 32:
        assert fits(shape)
        assert rounds * shape.operations <= rate * seconds * (1 + 1e-9)
    else:
        assert shape == Shape(256, 1)


def test_overhead__falls_with_both_sides() -> None:
    base = sizes.overhead(Shape(8192, 34))
    assert sizes.overhead(Shape(16_384, 34)) < base
    assert sizes.overhead(Shape(8192, 68)) < base
    # By hand: 5 hashes for 512 results of 2 * 480 operations, and 1.9 for a block of 256 columns.
    expected = (5 * 128 + 1.9 * 256) / (2 * 256 * 256 * 480)
    assert sizes.overhead(Shape(256, 1)) == pytest.approx(expected)


@pytest.mark.parametrize("main", [Shape(256, 1), Shape(512, 3), Shape(65_536, 277)])
def test_ladder__leads_up_to_the_main_shape(main: Shape) -> None:
    steps = sizes.ladder(main, lambda shape: True)
    assert steps[-1] == main
    assert len(steps) <= 5
    for one, two in pairwise(steps):
        assert one.n < two.n
        assert one.blocks <= two.blocks


def test_ladder__leaves_out_what_does_not_fit() -> None:
    steps = sizes.ladder(Shape(4096, 34), lambda shape: shape.n != 1024)
    assert 1024 not in [step.n for step in steps]


def test_plans__say_what_is_missing() -> None:
    with pytest.raises(EngineError, match="GiB of GPU memory"):
        sizes.plans(Shape(65_536, 277), [1 * GIB])
    assert len(sizes.plans(Shape(16_384, 34), [16 * GIB] * 3)) == 3


def test_fits_machine__half_of_the_memory() -> None:
    assert sizes.fits_machine(4 * GIB)(Shape(4096, 34))
    assert not sizes.fits_machine(4 * GIB)(Shape(32_768, 34))
