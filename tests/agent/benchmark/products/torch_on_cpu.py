# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the part of PyTorch that the ways call, over NumPy, with devices that add badly.

Every device multiplies step by step, 16 entries at a time like a tensor core, and keeps its sums
in the way that its `Adder` says.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_STEP = 16

Adder = Callable[[Array, Array], Array]
"""Sums so far, and the products of one step, (rows, columns, step): the next sums, float64."""


def exact(sums: Array, products: Array) -> Array:
    total: Array = sums + products.sum(axis=-1)
    return total


def rounded(bits: int) -> Adder:
    """Sums that keep `bits` significant bits after every step."""

    def add(sums: Array, products: Array) -> Array:
        total = exact(sums, products)
        unit = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(np.abs(total), 1))) + 1 - bits, 0)
        kept: Array = np.trunc(total / unit) * unit
        return kept

    return add


def aligned(bits: int) -> Adder:
    """Summands lined up by the largest one; what is below `bits` bits is dropped."""

    def add(sums: Array, products: Array) -> Array:
        both = np.concatenate([sums[..., None], products], axis=-1)
        most = np.maximum(np.abs(both).max(axis=-1, keepdims=True), 1)
        unit = 2.0 ** np.maximum(np.floor(np.log2(most)) + 1 - bits, 0)
        kept: Array = (np.trunc(both / unit) * unit).sum(axis=-1)
        return kept

    return add


def half(sums: Array, products: Array) -> Array:
    """Sums in fp16."""
    with np.errstate(over="ignore", invalid="ignore"):
        return exact(sums, products).astype(np.float16).astype(np.float64)


def saturated(bits: int) -> Adder:
    """Sums that stop at the largest integer of `bits` bits."""
    most = 2.0 ** (bits - 1)
    return lambda sums, products: np.clip(exact(sums, products), -most, most - 1)


def _product(left: Array, right: Array, add: Adder) -> Array:
    if add is exact:
        return left.astype(np.float64) @ right.astype(np.float64)
    sums = np.zeros((left.shape[0], right.shape[1]))
    for start in range(0, left.shape[1], _STEP):
        a = left[:, start : start + _STEP].astype(np.float64)
        b = right[start : start + _STEP].astype(np.float64)
        sums = add(sums, a[:, None, :] * b.T[None, :, :])
    return sums


class Tensor:
    """As much of one as is used. `device` is checked: operands must be where products are made."""

    def __init__(self, array: Any, device: str = "cpu") -> None:
        self.array = np.asarray(array)
        self.device = device

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def to(self, target: Any) -> Tensor:
        if isinstance(target, str):
            return Tensor(self.array, target)
        with np.errstate(invalid="ignore"):  # sums that a bad device made infinite
            return Tensor(self.array.astype(target), self.device)

    def t(self) -> Tensor:
        return Tensor(self.array.T, self.device)

    def sum(self, dim: int, dtype: Any) -> Tensor:
        return Tensor(self.array.sum(axis=dim, dtype=dtype), self.device)

    def cpu(self) -> Tensor:
        return Tensor(self.array)

    def numpy(self) -> Array:
        assert self.device == "cpu", "NumPy cannot look into a device"
        return self.array

    def __getitem__(self, key: Any) -> Tensor:
        return Tensor(self.array[key], self.device)

    def __add__(self, other: Tensor) -> Tensor:
        assert self.device == other.device
        assert self.array.dtype == other.array.dtype == np.int32
        return Tensor(self.array + other.array, self.device)

    __iadd__ = __add__

    def __and__(self, number: int) -> Tensor:
        return Tensor(self.array & number, self.device)

    def __sub__(self, number: int) -> Tensor:
        result = self.array.astype(np.int64) - number
        assert np.array_equal(result.astype(self.array.dtype), result)
        return Tensor(result.astype(self.array.dtype), self.device)

    def __rmul__(self, number: int) -> Tensor:
        result = self.array.astype(np.int64) * number
        assert np.array_equal(result.astype(self.array.dtype), result)
        return Tensor(result.astype(self.array.dtype), self.device)


class Torch:
    """The module. `float_adder` and `int8_adder` say how the device adds; None: it cannot."""

    uint8, int32, float16, float32 = np.uint8, np.int32, np.float16, np.float32
    # NumPy has no bf16; what is put into it is checked instead of rounded.
    bfloat16 = np.dtype(np.float32)

    def __init__(
        self,
        float_adder: Adder | None = exact,
        int8_adder: Adder | None = exact,
        devices: tuple[str, ...] = ("cpu", "cuda", "xpu", "mps"),
        card: str = "A Card",
    ) -> None:
        self._float, self._int8, self._devices = float_adder, int8_adder, devices
        self.calls: list[tuple[str, str]] = []
        """The operator and the device of every product."""
        self.cuda = SimpleNamespace(get_device_name=lambda number: f"{card} {number}")

    def set_num_threads(self, number: int) -> None:
        assert number >= 1

    def device(self, name: str) -> str:
        return name

    def zeros(self, count: int, device: str) -> Tensor:
        if device.partition(":")[0] not in self._devices:
            raise AssertionError(f"Torch not compiled with {device.upper()} enabled\nand more")
        return Tensor(np.zeros(count), device)

    def from_numpy(self, array: Array) -> Tensor:
        return Tensor(array)

    def _int_mm(self, left: Tensor, right: Tensor) -> Tensor:
        if self._int8 is None:
            raise NotImplementedError("Could not run '_int_mm' with this backend. More about it.")
        assert left.array.dtype == right.array.dtype == np.int8
        return self._made("_int_mm", left, right, self._int8, np.int32)

    def mm(self, left: Tensor, right: Tensor, out_dtype: Any = None) -> Tensor:
        kind = left.array.dtype
        assert kind == right.array.dtype
        if out_dtype is None:
            assert kind == np.float32, "a result in the operands' own type would be rounded"
        if self._float is None:
            raise RuntimeError("no products of floats here")
        return self._made(f"mm {kind}", left, right, self._float, np.float32)

    def _made(self, name: str, left: Tensor, right: Tensor, add: Adder, kind: Any) -> Tensor:
        assert left.device == right.device
        self.calls.append((name, left.device))
        sums = _product(left.array, right.array, add)
        with np.errstate(over="ignore", invalid="ignore"):
            return Tensor(sums.astype(kind), left.device)
