# SPDX-License-Identifier: Apache-2.0
"""What the CUDA engine needs of a device: memory, streams, kernels, products.

`cuda_cupy` gives it on a GPU. The seam is this thin so that the tests can put a device under the
engine that runs the very same kernels on the CPU and its streams in any order CUDA would allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np


class Stream(Enum):
    """Queues of a device; work of one runs in order, work of two in any, but for `wait`."""

    PRODUCT = "product"
    GENERATION = "generation"
    HASHING = "hashing"


class Kind(Enum):
    """What a product is made of: bytes with int32 sums, or centred floats with float32 sums."""

    INT8 = "int8"
    BF16 = "bf16"
    FP16 = "fp16"


ENTRY_BYTES = {Kind.INT8: 1, Kind.BF16: 2, Kind.FP16: 2}
"""Memory of an entry in an operand."""


@dataclass(frozen=True)
class Buffer:
    """Memory of a device; `handle` is the device's own."""

    handle: Any
    size: int

    def at(self, offset: int) -> Region:
        """The memory from a byte on."""
        return Region(self, offset)


@dataclass(frozen=True)
class Region:
    """A place in a device's memory: `offset` bytes into a buffer."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True)
class Event:
    """A mark in a stream; `handle` is the device's own."""

    handle: Any


class Download(Protocol):
    """Bytes on their way to the host."""

    def result(self) -> bytes:
        """The bytes, once they are there."""


Argument = np.uint32 | np.uint64 | Region


class CudaDevice(Protocol):
    """One GPU. Calls only queue work, unless they say that they wait. All raise EngineError."""

    @property
    def name(self) -> str:
        """The product name."""

    @property
    def uuid(self) -> str:
        """What NVML calls the device, or the beginning of that."""

    def free_bytes(self) -> int:
        """Memory that can still be had."""

    def allocate(self, size: int) -> Buffer:
        """Memory of that many bytes, with anything in it."""

    def release(self, buffer: Buffer) -> None:
        """Give memory back; the caller has waited for the work that uses it."""

    def launch(
        self, kernel: str, threads: int, arguments: Sequence[Argument], stream: Stream
    ) -> None:
        """Run a kernel of `kernels.cu` over at least that many threads."""

    def product(
        self,
        a: Region,
        b: Region,
        c: Region,
        rows: int,
        columns: int,
        depth: int,
        stream: Stream,
        kind: Kind = Kind.INT8,
    ) -> None:
        """C = A B. A is [rows][depth], B [columns][depth], C [rows][columns] with 4 bytes a sum."""

    def record(self, stream: Stream) -> Event:
        """A mark after all work that is in the stream now."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Later work of the stream starts after the event."""

    def elapsed(self, start: Event, end: Event) -> float:
        """Seconds between two events that have passed."""

    def download(self, source: Region, size: int, stream: Stream) -> Download:
        """Copy to the host, in order with the stream."""

    def upload(self, data: np.ndarray[Any, np.dtype[np.uint8]], target: Region) -> None:
        """Copy from the host; done when it returns."""

    def synchronize(self) -> None:
        """Wait until all streams are empty."""

    def close(self) -> None:
        """Give everything back."""
