# SPDX-License-Identifier: Apache-2.0
"""Exact products of matrices with entries 0..127 on the CPU: by float32 BLAS, or by PyTorch's int8.

Float32 holds every integer up to 2^24, and 960 * 127 * 127 is below that: a product of two blocks'
depth is exact whatever the order of its additions. PyTorch's int8 product is faster where the CPU
has instructions for it (VNNI, AMX) and far slower where it has not, so both are tried.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from provider_agent.benchmark.format import ENTRIES_PER_BLOCK
from provider_agent.benchmark.keccak import Bytes

_EXACT_DEPTH = 2 * ENTRIES_PER_BLOCK
_TRIAL_ROWS = 256

Product = Callable[[Bytes, Bytes], npt.NDArray[np.int32]]
"""Rows of A and columns of B, both (count, depth) of uint8, to (rows, columns) of int32."""


def blas(rows: Bytes, columns: Bytes) -> npt.NDArray[np.int32]:
    """The product by float32 over chunks of 960 entries, summed as integers."""
    total = np.zeros((len(rows), len(columns)), np.int32)
    for start in range(0, rows.shape[1], _EXACT_DEPTH):
        part = slice(start, start + _EXACT_DEPTH)
        total += (rows[:, part].astype(np.float32) @ columns[:, part].astype(np.float32).T).astype(
            np.int32
        )
    return total


def int8(torch: Any) -> Product:
    """The product by `torch._int_mm`, which sums in int32."""

    def product(rows: Bytes, columns: Bytes) -> npt.NDArray[np.int32]:
        left = torch.from_numpy(rows.view(np.int8))
        right = torch.from_numpy(columns.view(np.int8)).t()
        result: npt.NDArray[np.int32] = torch._int_mm(left, right).numpy()
        return result

    return product


def fastest() -> tuple[Product, str]:
    """The faster of the products that this machine has, and its name."""
    try:
        torch = importlib.import_module("torch")
        torch._int_mm  # noqa: B018 - a name of PyTorch's own, absent from old releases
    except (ImportError, AttributeError):
        return blas, "float32 BLAS"
    other = int8(torch)
    trial = np.full((_TRIAL_ROWS, _EXACT_DEPTH), 127, np.uint8)
    if not np.array_equal(other(trial, trial), blas(trial, trial)):
        return blas, "float32 BLAS"
    if _seconds(other, trial) < _seconds(blas, trial):
        return other, "int8 of PyTorch"
    return blas, "float32 BLAS"


def _seconds(product: Product, trial: Bytes) -> float:
    """The best time of three, after the call that `fastest` has made already."""
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        product(trial, trial)
        best = min(best, perf_counter() - start)
    return best
