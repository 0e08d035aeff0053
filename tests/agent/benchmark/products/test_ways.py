# SPDX-License-Identifier: Apache-2.0
"""Every way against 64-bit integers, at all depths; PyTorch's where it is installed, and faked."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from provider_agent.prover.products import torch_ways
from provider_agent.prover.products.base import PROVEN_DEPTH, Way
from provider_agent.prover.products.blas import Float32Blas, Float64Blas
from teraproof.pog.format import MAX_BLOCKS
from tests.agent.benchmark.products.torch_on_cpu import Array, Torch

BLOCKS = [1, 2, 8, 9, MAX_BLOCKS]


def factors(rows: int, columns: int, depth: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(depth)
    a = random.integers(0, 128, (rows, depth), np.uint8)
    b = random.integers(0, 128, (columns, depth), np.uint8)
    return a, b, a.astype(np.int64) @ b.astype(np.int64).T


def all_of(torch: object) -> list[Way]:
    return [Float32Blas(), Float64Blas(), *torch_ways.ways(torch, "cpu")]


def assert_exact(way: Way, blocks: int) -> None:
    a, b, right = factors(40, 24, 480 * blocks)
    if way.sum_limit is None:
        a[0], b[0] = 127, 127  # the largest sum of the format
        right = a.astype(np.int64) @ b.astype(np.int64).T
    rows, columns = way.operand(a), way.operand(b)
    for first, count in ((0, 40), (8, 16)):
        found = way.product(rows, columns, first, count)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, right[first : first + count])
        low = way.low(rows, columns, first, count)
        assert low.dtype == np.uint8
        np.testing.assert_array_equal(low, right[first : first + count] & 0xFF)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("way", all_of(Torch()), ids=lambda way: way.name)
def test_product__exact(way: Way, blocks: int) -> None:
    assert_exact(way, blocks)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("place", [0, 3])
def test_product__exact_with_pytorch_itself(place: int, blocks: int) -> None:
    """int8 and float32; the others need a GPU."""
    assert_exact(torch_ways.ways(torch_ways.load(), "cpu")[place], blocks)


def test_proven_depth__worst_entries_reach_the_limit_and_no_more() -> None:
    # 64 * 64 a term; 3,840 terms are below 2^24, and so is every sum of some of them.
    assert PROVEN_DEPTH == 3840
    assert PROVEN_DEPTH * 64 * 64 <= 2**24 < (PROVEN_DEPTH + 480) * 64 * 64


@pytest.mark.parametrize("worst", [0, 127])
def test_float32__worst_entries_at_the_largest_depth(worst: int) -> None:
    """Sums far beyond 2^24: exact because they are cut."""
    entries = np.full((17, 480 * MAX_BLOCKS), worst, np.uint8)
    for way in (Float32Blas(), torch_ways.ways(Torch(), "cpu")[3]):
        found = way.product(way.operand(entries), way.operand(entries), 0, 17)
        assert (found == worst * worst * 480 * MAX_BLOCKS).all()


@pytest.mark.parametrize("device", ["cuda:1", "xpu", "mps", "cpu"])
def test_torch__products_are_made_on_the_device(device: str) -> None:
    torch = Torch()
    a, b, right = factors(32, 48, 960)
    for way in torch_ways.ways(torch, device):
        found = way.product(way.operand(a), way.operand(b), 0, 32)
        np.testing.assert_array_equal(found, right)
    assert {place for _, place in torch.calls} == {device}
    assert [name for name, _ in torch.calls] == [
        "_int_mm",
        "mm float32",
        "mm float16",
        "mm float32",
    ]
