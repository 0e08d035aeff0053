# SPDX-License-Identifier: Apache-2.0
"""What the check catches, and which way is taken."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from provider_agent.prover.products import check, choose, torch_ways
from provider_agent.prover.products.base import Operand, Sums, Way
from provider_agent.prover.products.blas import Float32Blas, Float64Blas
from teraproof.pog.errors import EngineError
from tests.agent.benchmark.products import torch_on_cpu
from tests.agent.benchmark.products.torch_on_cpu import (
    Adder,
    Torch,
    aligned,
    exact,
    half,
    rounded,
    saturated,
)

SIZE = (32, 32, 480)
DEPTHS = [480, 3840, 7680, 132_960]


@pytest.mark.parametrize("depth", DEPTHS)
def test_patterns__stay_below_the_limit_in_any_order(depth: int) -> None:
    a, b = check.patterns(depth, 1 << 24)
    sizes = np.abs(a.astype(np.int64) - 64)[:-4] @ np.abs(b.astype(np.int64) - 64)[:-4].T
    assert sizes.max() < 1 << 24
    if depth >= 3840:  # they come close
        assert sizes.max() > 0.93 * (1 << 24)
    # Entries as hashes give them are far below, whatever is left out of a sum.
    hashed = (a[-4:].astype(np.int64) - 64) @ (b[-4:].astype(np.int64) - 64).T
    assert np.abs(hashed).max() < 1 << 22


@pytest.mark.parametrize("depth", DEPTHS)
def test_patterns__without_a_limit_the_largest_sum_is_there(depth: int) -> None:
    a, b = check.patterns(depth, None)
    assert (a.astype(np.int64) @ b.astype(np.int64).T).max() == 127 * 127 * depth


# Sums of 24 bits are what float32 promises. Fewer lose something in these products.
@pytest.mark.parametrize(
    ("add", "passes"),
    [
        (exact, True),
        (rounded(24), True),
        (aligned(24), True),
        (rounded(23), False),
        (aligned(23), False),
        (rounded(22), False),
        (rounded(16), False),
        (rounded(14), False),
        (aligned(14), False),
        (rounded(8), False),
        (half, False),
        (saturated(24), False),
        (saturated(16), False),
    ],
    ids=lambda value: getattr(value, "__qualname__", str(value)),
)
def test_check__sums_of_too_few_bits_are_caught(add: Adder, passes: bool) -> None:
    way = torch_ways.ways(Torch(float_adder=add), "cuda")[1]
    assert check.is_exact(way, 64, 64, 3840) is passes
    trial = choose._try(way, SIZE, itertools.count().__next__)
    assert (trial.refused == "") is passes


@pytest.mark.parametrize("bits", [16, 24, 31])
def test_check__integers_that_saturate_are_caught(bits: int) -> None:
    way = torch_ways.ways(Torch(int8_adder=saturated(bits)), "xpu")[0]
    assert not all(check.is_exact(way, 32, 32, depth) for depth in DEPTHS)


def test_check__sums_that_fit_32_bits_pass() -> None:
    assert check.is_exact(
        torch_ways.ways(Torch(int8_adder=saturated(32)), "xpu")[0], 32, 32, 132_960
    )


class Timed(Float64Blas):
    """An exact way that takes a given time, by a clock of the test's own."""

    def __init__(self, name: str, seconds: float, clock: list[float], error: int = 0) -> None:
        self.name, self._seconds, self._clock, self._error = name, seconds, clock, error

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        self._clock[0] += self._seconds
        found = super().product(rows, columns, first, count)
        found[-1, -1] += self._error
        return found


def test_choose__the_fastest_exact_way() -> None:
    clock = [0.0]
    candidates: list[Way] = [
        Timed("slow", 2.0, clock),
        Timed("fast", 0.5, clock),
        Timed("wrong", 0.1, clock, error=1),
    ]
    chosen = choose.choose(candidates, SIZE, lambda: clock[0])
    assert chosen.way.name == "fast"
    assert chosen.rate == 2 * 32 * 32 * 480 / 0.5
    assert [trial.refused for trial in chosen.trials] == ["", "", "its sums are wrong"]
    assert chosen.trials[0].rate == 2 * 32 * 32 * 480 / 2.0


def test_choose__nothing_exact_says_why() -> None:
    torch = Torch(float_adder=rounded(14), int8_adder=None)
    with pytest.raises(EngineError) as caught:
        choose.choose(torch_ways.ways(torch, "cuda"), SIZE)
    text = str(caught.value)
    assert text.startswith("the device has no exact product (int8 of PyTorch: Could not run")
    assert "float32 of PyTorch: its sums are wrong" in text
    assert "More about it" not in text


def test_choose__a_lossy_device_falls_back_to_integers() -> None:
    chosen = choose.choose(torch_ways.ways(Torch(float_adder=half), "cuda"), SIZE)
    assert chosen.way.name == "int8 of PyTorch"


def test_choose__a_card_without_int8_takes_floats() -> None:
    chosen = choose.choose(torch_ways.ways(Torch(int8_adder=None), "cuda"), SIZE)
    assert chosen.way.name in {f"{kind} of PyTorch" for kind in ("bfloat16", "float16", "float32")}


def test_cpu_ways__blas_alone_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [way.name for way in choose.cpu_ways()] == ["float32 BLAS", "float64 BLAS"]
    monkeypatch.setitem(sys.modules, "torch", Torch())
    assert len(choose.cpu_ways()) == 6
    monkeypatch.setitem(sys.modules, "torch", object())  # not the library one thinks of
    assert len(choose.cpu_ways()) == 2


def test_ways__no_such_device() -> None:
    torch = Torch(devices=("cpu",))
    with pytest.raises(
        EngineError, match=r"^PyTorch has no device 'cuda': Torch not compiled .*d$"
    ):
        torch_ways.ways(torch, "cuda")
    assert torch_ways.name_of(torch, "cuda:1") == "A Card 1"
    assert torch_ways.name_of(torch, "xpu") == "xpu"


# --------------------------------------------------------------------------------- whole products


def test_holds__the_right_product_and_no_other() -> None:
    noise = np.random.default_rng(3)
    a, b = (noise.integers(0, 128, (300, 960), np.uint8) for _ in range(2))
    way = Float32Blas()
    sums = way.low(way.operand(a), way.operand(b), 0, 300)
    assert check.holds(a, b, [sums])
    assert check.holds(a, b, [sums[:200], sums[200:]])
    assert not check.holds(a, b, [sums[:200]])
    for i, j, error in ((0, 0, 1), (299, 299, 255), (128, 7, 128)):
        wrong = sums.copy()
        wrong[i, j] ^= error
        assert not check.holds(a, b, [wrong])


def test_stand_in__loses_what_it_says() -> None:
    one = np.ones((1, 32))
    assert torch_on_cpu._product(one * 63, one.T * 63, rounded(8))[0, 0] == 126_976
    assert torch_on_cpu._product(one * 63, one.T * 63, exact)[0, 0] == 127_008
