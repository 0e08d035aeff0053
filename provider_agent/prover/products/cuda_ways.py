# SPDX-License-Identifier: Apache-2.0
"""Products on a CUDA device: int8 tensor cores, or centred bf16 and fp16 with float32 sums.

cuBLAS multiplies; the kernels of `centred.cu` make its operands from entries and the sums of the
format from its result. New cards drop int8 (B300) and old ones have it slow (V100, P100), so what
is fastest is measured and never looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from provider_agent.prover.cuda.device import ENTRY_BYTES, Buffer, CudaDevice, Kind, Region, Stream
from provider_agent.prover.keccak import Bytes
from provider_agent.prover.products.base import SUM_LIMIT, Operand, Sums
from teraproof.pog.format import ENTRIES_PER_BLOCK

SOURCE = Path(__file__).with_name("centred.cu")
NAMES = ("centre_bf16", "centre_fp16", "add_blocks", "add_rows", "restore")
_SUM_BYTES = 4
_STAGE_BYTES = 64 << 20
_ENTRIES_OF_A_THREAD, _SUMS_OF_A_THREAD = 16, 4


def stage_rows(kind: Kind, depth: int, rows: int) -> int:
    """Rows whose entries are in memory as bytes at once, before they are centred; 0 for int8."""
    return 0 if kind is Kind.INT8 else min(rows, max(1, _STAGE_BYTES // depth))


def stage_bytes(kind: Kind, depth: int, rows: int) -> int:
    """Memory that these take, with the sums of their blocks."""
    return stage_rows(kind, depth, rows) * (depth + depth // ENTRIES_PER_BLOCK * _SUM_BYTES)


def centre(
    device: CudaDevice,
    kind: Kind,
    stage: Region,
    part: Region,
    out: Region,
    sums: Region,
    rows: int,
    depth: int,
    stream: Stream,
) -> None:
    """Queue what makes an operand of a centred product.

    From int8[rows][depth] at `stage` to 16-bit floats at `out` and int32[rows] at `sums`. `part` is
    scratch, int32 a block.
    """
    threads = rows * depth // _ENTRIES_OF_A_THREAD
    device.launch(f"centre_{kind.value}", threads, [stage, out, np.uint32(threads)], stream)
    blocks = depth // ENTRIES_PER_BLOCK
    device.launch("add_blocks", rows * blocks, [stage, part, np.uint32(rows * blocks)], stream)
    device.launch("add_rows", rows, [part, sums, np.uint32(blocks), np.uint32(rows)], stream)


def restore(
    device: CudaDevice,
    c: Region,
    of_rows: Region,
    of_columns: Region,
    rows: int,
    columns: int,
    depth: int,
    stream: Stream,
) -> None:
    """Queue the way back: float32[rows][columns] at `c` becomes the int32 sums of the format."""
    across = columns // _SUMS_OF_A_THREAD
    numbers = (np.uint32(across), np.uint32(depth), np.uint32(rows * across))
    device.launch("restore", rows * across, [c, of_rows, of_columns, *numbers], stream)


class CudaWay:
    """One kind of product on one device, as a `Way`: for the check and the choice."""

    def __init__(self, device: CudaDevice, kind: Kind) -> None:
        self.kind = kind
        self.name = f"{kind.value} of cuBLAS"
        self.sum_limit = None if kind is Kind.INT8 else SUM_LIMIT
        self._device = device
        self._held: list[Buffer] = []

    def operand(self, entries: Bytes) -> Operand:
        """Upload, and centre there."""
        rows, depth = entries.shape
        raw = self._take(entries.nbytes)
        self._device.upload(np.ascontiguousarray(entries), raw.at(0))
        if self.kind is Kind.INT8:
            return Operand((raw, rows, depth))
        values = self._take(entries.nbytes * ENTRY_BYTES[self.kind])
        part = self._take(rows * depth // ENTRIES_PER_BLOCK * _SUM_BYTES)
        sums = self._take(rows * _SUM_BYTES)
        places = (raw.at(0), part.at(0), values.at(0), sums.at(0))
        centre(self._device, self.kind, *places, rows, depth, Stream.PRODUCT)
        return Operand((values, rows, depth), sums)

    def product(self, rows: Operand, columns: Operand, first: int, count: int) -> Sums:
        """See `Way`."""
        c = self._multiply(rows, columns, first, count)
        width = columns.values[1]
        data = self._device.download(c.at(0), c.size, Stream.PRODUCT).result()
        self._give_back(c)
        return np.frombuffer(data, np.int32).reshape(count, width)

    def low(self, rows: Operand, columns: Operand, first: int, count: int) -> Bytes:
        """See `Way`."""
        return (self.product(rows, columns, first, count) & 0xFF).astype(np.uint8)

    def run(self, rows: Operand, columns: Operand, first: int, count: int) -> None:
        """See `Way`."""
        c = self._multiply(rows, columns, first, count)
        self._give_back(c)

    def release(self) -> None:
        """See `Way`."""
        self._device.synchronize()
        while self._held:
            self._device.release(self._held.pop())

    def _multiply(self, rows: Operand, columns: Operand, first: int, count: int) -> Buffer:
        a, _, depth = rows.values
        b, width, _ = columns.values
        c = self._take(count * width * _SUM_BYTES)
        start = a.at(first * depth * ENTRY_BYTES[self.kind])
        self._device.product(
            start, b.at(0), c.at(0), count, width, depth, Stream.PRODUCT, self.kind
        )
        if self.kind is not Kind.INT8:
            sums = rows.sums.at(first * _SUM_BYTES), columns.sums.at(0)
            restore(self._device, c.at(0), *sums, count, width, depth, Stream.PRODUCT)
        return c

    def _take(self, size: int) -> Buffer:
        buffer = self._device.allocate(size)
        self._held.append(buffer)
        return buffer

    def _give_back(self, buffer: Buffer) -> None:
        self._device.synchronize()
        self._held = [one for one in self._held if one is not buffer]
        self._device.release(buffer)


def ways(device: CudaDevice) -> Sequence[CudaWay]:
    """All kinds, to be tried."""
    return [CudaWay(device, kind) for kind in Kind]
