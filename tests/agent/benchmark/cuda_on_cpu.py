# SPDX-License-Identifier: Apache-2.0
"""A CUDA device without a GPU: the same kernels built by the C compiler, streams in any order.

Nothing runs when it is queued. Work runs when the host waits, and then the next piece is taken
from any stream that is not held by an event, at random or from a favourite stream first. So an
event that the engine forgot shows as a wrong root, as it would on a GPU on a bad day. Memory is
counted, starts as noise, and is noise again once it was given back.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_agent.prover.cuda.device import (
    Argument,
    Buffer,
    Download,
    Event,
    Kind,
    Region,
    Stream,
)
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.cuda.kernels import SOURCE, THREADS
from provider_agent.prover.products import cuda_ways
from provider_agent.prover.products.choose import Chosen
from teraproof.pog.errors import EngineError
from tests.agent.benchmark.products import torch_on_cpu

HARNESS = Path(__file__).with_name("kernels_on_cpu.c")
BUILD = Path(__file__).resolve().parents[3] / ".build" / "kernels"
ALIGNMENT = 16


@cache
def kernels() -> ctypes.CDLL:
    """kernels.cu as a library of this machine; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a C compiler is needed to run the CUDA kernels on the CPU")
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / f"kernels-{random.SystemRandom().randrange(1 << 32):08x}.so"
    flags = ["-O3", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    try:
        subprocess.run(
            [compiler, *flags, "-fPIC", "-shared", f'-DKERNELS="{SOURCE}"']
            + [f'-DPRODUCTS="{cuda_ways.SOURCE}"', "-x", "c", str(HARNESS), "-o", str(library)],
            check=True,
        )
        return ctypes.CDLL(str(library))
    finally:
        library.unlink(missing_ok=True)  # once loaded it needs no name


@dataclass
class _Mark:
    passed: bool = False
    at: float = 0.0


@dataclass
class _Memory:
    data: np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class _Task:
    run: Callable[[], None] | None = None
    holds: _Mark | None = None
    """The stream goes no further until this mark has passed."""


class _Copy:
    def __init__(self, device: CpuDevice) -> None:
        self.device = device
        self.data = b""
        self.done = _Mark()

    def result(self) -> bytes:
        self.device.run_until(self.done)
        return self.data


@dataclass
class CpuDevice:
    """One such device. `favourite` is the stream that runs first wherever it can, None for none."""

    seed: int = 0
    favourite: Stream | None = None
    memory: int = 64 << 30
    name: str = "a CPU in a GPU's clothes"
    uuid: str = ""
    kinds: tuple[Kind, ...] = (Kind.INT8,)
    """What it can multiply. Engines of `engine_on` use the first."""
    speed: float = 1.0
    adder: torch_on_cpu.Adder = torch_on_cpu.exact
    """How it adds floats."""
    launches: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Kernels and products in the order in which they ran."""
    downloaded: int = 0
    """Bytes that came back to the host."""
    allocated: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queues: dict[Stream, deque[_Task]] = {stream: deque() for stream in Stream}
        self._clock = 0.0

    # ------------------------------------------------------------------------------- the seam

    def free_bytes(self) -> int:
        return self.memory - self.allocated

    def allocate(self, size: int) -> Buffer:
        if size > self.free_bytes():
            raise EngineError("the GPU is out of memory")
        self.allocated += size
        noise = np.random.default_rng(size).integers(0, 256, size + ALIGNMENT, np.uint8)
        return Buffer(_Memory(noise[-noise.ctypes.data % ALIGNMENT :][:size]), size)

    def release(self, buffer: Buffer) -> None:
        assert not any(self._queues.values()), "memory was released under work that may use it"
        self.allocated -= buffer.size
        buffer.handle.data[:] = 0xA5

    def launch(
        self, kernel: str, threads: int, arguments: Sequence[Argument], stream: Stream
    ) -> None:
        plain = [_plain(argument) for argument in arguments]
        blocks = -(-threads // THREADS)
        function = getattr(kernels(), f"grid_{kernel}")
        self.launches.append(kernel)

        def run() -> None:
            function(ctypes.c_uint32(blocks), ctypes.c_uint32(THREADS), *plain)
            self.done.append(kernel)

        self._queues[stream].append(_Task(run))

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
        if kind not in self.kinds:
            raise EngineError(f"this device has no {kind.value}\nand says more")
        if kind is not Kind.INT8:
            self._queues[stream].append(
                _Task(lambda: self._floats(a, b, c, rows, columns, depth, kind))
            )
            return
        for region, size in ((a, rows * depth), (b, columns * depth), (c, 4 * rows * columns)):
            _array(region, size, np.uint8)
        arguments = [_plain(region) for region in (a, b, c)]
        arguments += [ctypes.c_uint32(number) for number in (rows, columns, depth)]

        def run() -> None:
            kernels().int8_product(*arguments)
            self.done.append("product")

        self._queues[stream].append(_Task(run))

    def _floats(
        self, a: Region, b: Region, c: Region, rows: int, columns: int, depth: int, kind: Kind
    ) -> None:
        """Sums in the way of `adder`, rounded to float32."""
        left, right = (
            floats(_array(region, count * depth, np.uint16), kind).reshape(count, depth)
            for region, count in ((a, rows), (b, columns))
        )
        sums = torch_on_cpu._product(left, right.T, self.adder)
        _array(c, rows * columns, np.float32)[:] = sums.ravel()
        self.done.append("product")

    def upload(self, data: np.ndarray[Any, np.dtype[np.uint8]], target: Region) -> None:
        _array(target, data.size, np.uint8)[:] = data.ravel()

    def record(self, stream: Stream) -> Event:
        mark = _Mark()
        self._queues[stream].append(_Task(lambda: self._pass(mark)))
        return Event(mark)

    def wait(self, stream: Stream, event: Event) -> None:
        self._queues[stream].append(_Task(holds=event.handle))

    def elapsed(self, start: Event, end: Event) -> float:
        assert start.handle.passed and end.handle.passed, "these events have not both passed"
        return float(end.handle.at - start.handle.at)

    def download(self, source: Region, size: int, stream: Stream) -> Download:
        copy = _Copy(self)
        self.downloaded += size

        def run() -> None:
            copy.data = _array(source, size, np.uint8).tobytes()
            self._pass(copy.done)

        self._queues[stream].append(_Task(run))
        return copy

    def synchronize(self) -> None:
        while any(self._queues.values()):
            self._step()

    def close(self) -> None:
        assert not any(self._queues.values()), "closed with work under way"
        self.closed = True

    # ------------------------------------------------------------------------------- the order

    def run_until(self, mark: _Mark) -> None:
        while not mark.passed:
            self._step()

    def settle(self, stream: Stream) -> None:
        """Run all of one stream that is not held, and nothing else."""
        queue = self._queues[stream]
        while queue and (queue[0].holds is None or queue[0].holds.passed):
            self._take(stream)

    def _pass(self, mark: _Mark) -> None:
        mark.passed, mark.at = True, self._clock

    def _step(self) -> None:
        ready = [
            stream
            for stream, queue in self._queues.items()
            if queue and (queue[0].holds is None or queue[0].holds.passed)
        ]
        assert ready, "the streams wait for each other"
        stream = self.favourite if self.favourite in ready else self._random.choice(ready)
        assert stream is not None
        self._take(stream)

    def _take(self, stream: Stream) -> None:
        task = self._queues[stream].popleft()
        self._clock += 0.001
        if task.run is not None:
            task.run()


def engine_on(*devices: CpuDevice) -> CudaEngine:
    """An engine that takes each device's word for how it multiplies, and how fast."""
    chosen = [Chosen(cuda_ways.CudaWay(one, one.kinds[0]), one.speed, ()) for one in devices]
    return CudaEngine(devices=devices, chosen=chosen)


def floats(bits: np.ndarray[Any, np.dtype[np.uint16]], kind: Kind) -> np.ndarray[Any, Any]:
    """What 16 bits mean in bf16 or fp16."""
    if kind is Kind.FP16:
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _array(region: Region, count: int, kind: Any) -> np.ndarray[Any, Any]:
    size = count * np.dtype(kind).itemsize
    assert region.offset >= 0 and region.offset + size <= region.buffer.size, "outside of a buffer"
    data: np.ndarray[Any, Any] = region.buffer.handle.data
    return data[region.offset : region.offset + size].view(kind)


def _plain(argument: Any) -> Any:
    if isinstance(argument, Region):
        _array(argument, 1, np.uint8)
        address = argument.buffer.handle.data.ctypes.data + argument.offset
        assert address % ALIGNMENT == 0, "the kernels read and write 16 bytes at a time"
        return ctypes.c_void_p(address)
    if isinstance(argument, np.uint64):
        return ctypes.c_uint64(int(argument))
    assert isinstance(argument, np.uint32), "a kernel's numbers have a fixed width"
    return ctypes.c_uint32(int(argument))
