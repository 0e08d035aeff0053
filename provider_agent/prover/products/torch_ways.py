# SPDX-License-Identifier: Apache-2.0
"""Products by PyTorch on any device that it drives: CUDA, ROCm (called cuda too), XPU, MPS, CPU.

PyTorch is not a dependency; whoever has it, has these ways. Which of them a device knows is found
by trying: an operator that is missing, or that answers in another type, fails the check.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from provider_agent.prover.keccak import Bytes
from provider_agent.prover.products.base import CENTRE, PROVEN_DEPTH, SUM_LIMIT, Operand, Sums, Way
from teraproof.pog.errors import EngineError, brief


class _TorchWay:
    """What the ways of one device share. Operands stay on the device."""

    name: str
    sum_limit: int | None = None

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._device = device

    def _place(self, entries: Bytes) -> Any:
        # Bytes cross to the device; wider types are made there.
        return self._torch.from_numpy(entries.view(np.int8)).to(self._device)

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """See `Way`."""
        result: Sums = self._sums(rows, columns, first, count).cpu().numpy()
        return result

    def low(self, rows: Operand, columns: Operand, first: int, count: int) -> Bytes:
        """See `Way`; a quarter of the sums crosses to the host."""
        sums = self._sums(rows, columns, first, count)
        result: Bytes = (sums & 0xFF).to(self._torch.uint8).cpu().numpy()
        return result

    def run(self, rows: Operand, columns: Operand, first: int, count: int) -> None:
        """See `Way`."""
        sums = self._sums(rows, columns, first, count)
        sums[-1:, -1:].cpu()  # the one way to wait that all devices know

    def release(self) -> None:
        """See `Way`; PyTorch frees what nobody holds."""

    def _sums(self, rows: Operand, columns: Operand, first: int, count: int) -> Any:
        """The sums as a tensor of the device."""
        raise NotImplementedError


class Int8(_TorchWay):
    """`torch._int_mm`: int8 with sums in int32; exact by definition."""

    name = "int8 of PyTorch"

    def operand(self, entries: Bytes) -> Operand:
        """The bytes on the device."""
        return Operand(self._place(entries))

    def _sums(self, rows: Operand, columns: Operand, first: int, count: int) -> Any:
        left = rows.values[first : first + count]
        return self._torch._int_mm(left, columns.values.t())


class Centred(_TorchWay):
    """Entries less 64 in a floating-point type, sums in float32."""

    def __init__(self, torch: Any, device: Any, kind: str) -> None:
        """`kind` is a type's name of PyTorch: `bfloat16`, `float16` or `float32`."""
        super().__init__(torch, device)
        self.name = f"{kind} of PyTorch"
        self._type = getattr(torch, kind)
        # A piece costs a pass over the sums. That is little compared with a float32 product.
        self._piece = PROVEN_DEPTH if kind == "float32" else None
        self.sum_limit = None if self._piece else SUM_LIMIT

    def operand(self, entries: Bytes) -> Operand:
        """Centred on the device, with the sums of the original entries."""
        values = self._place(entries)
        sums = values.sum(dim=1, dtype=self._torch.int32)
        return Operand((values - CENTRE).to(self._type), sums)

    def _sums(self, rows: Operand, columns: Operand, first: int, count: int) -> Any:
        taken = slice(first, first + count)
        left, right = rows.values[taken], columns.values
        depth = left.shape[1]
        # In this order nothing passes 32 bits on the way.
        total = (CENTRE * (rows.sums[taken] - CENTRE * depth))[:, None]
        total = total + (CENTRE * columns.sums)[None, :]
        for start in range(0, depth, self._piece or depth):
            part = slice(start, start + (self._piece or depth))
            total += self._multiply(left[:, part], right[:, part].t()).to(self._torch.int32)
        return total

    def _multiply(self, left: Any, right: Any) -> Any:
        if self._type is self._torch.float32:
            return self._torch.mm(left, right)
        # Without the type of the result these would be rounded to their own few bits.
        return self._torch.mm(left, right, out_dtype=self._torch.float32)


def load() -> Any:
    """PyTorch. EngineError where it is missing."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise EngineError(
            f"this device needs PyTorch: install the build for it, see pytorch.org ({brief(error)})"
        ) from None


def ways(torch: Any, device: str) -> Sequence[Way]:
    """The ways to try on a device, named as PyTorch names it. EngineError where it is not there."""
    try:
        opened = torch.device(device)
        torch.zeros(1, device=opened)
        if device == "cpu":
            # One core is left to the hashes, as BLAS leaves it; see `cpu`.
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    except (RuntimeError, AssertionError, AttributeError, ValueError, NotImplementedError) as error:
        raise EngineError(f"PyTorch has no device {device!r}: {brief(error)}") from None
    return [
        Int8(torch, opened),
        Centred(torch, opened, "bfloat16"),
        Centred(torch, opened, "float16"),
        Centred(torch, opened, "float32"),
    ]


def name_of(torch: Any, device: str) -> str:
    """What the device is called: the card's name where PyTorch tells."""
    kind, _, number = device.partition(":")
    library = getattr(torch, kind, None)
    try:
        name: str = library.get_device_name(int(number or 0)) if library else device
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError):
        return device
    return name
