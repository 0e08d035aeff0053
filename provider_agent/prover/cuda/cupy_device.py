# SPDX-License-Identifier: Apache-2.0
"""A GPU through CuPy: NVRTC compiles the kernels, cuBLAS multiplies."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import cupy
import numpy as np
from cupy.cuda import runtime
from cupy_backends.cuda.libs import cublas

from provider_agent.prover.cuda import kernels as cuda_kernels
from provider_agent.prover.cuda.device import (
    ENTRY_BYTES,
    Argument,
    Buffer,
    Download,
    Event,
    Kind,
    Region,
    Stream,
)
from provider_agent.prover.cuda.kernels import THREADS
from provider_agent.prover.products import cuda_ways
from teraproof.pog.errors import EngineError

# Values of cudaDataType_t and cudaMemcpyKind; CuPy does not name all of them.
_R_8I, _R_32I, _R_32F, _R_16F, _R_16BF = 3, 10, 0, 2, 14
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
# Kernels may count elements of a matrix in 32-bit integers, so a call's operands stay below that.
_MAX_ELEMENTS = (1 << 31) - 1


def count() -> int:
    """GPUs that CUDA lets this process use. EngineError without a driver."""
    with _errors("CUDA"):
        return int(runtime.getDeviceCount())


class CupyDevice:
    """A `CudaDevice` by its CUDA number."""

    def __init__(self, number: int) -> None:
        """Open the GPU and compile the kernels. EngineError when that cannot be done."""
        self._number = number
        if number >= count():
            raise EngineError(f"there is no GPU {number}; CUDA sees {count()} (numbers from 0)")
        with self._use():
            properties = runtime.getDeviceProperties(number)
            self._name = _text(properties["name"])
            self._uuid = _uuid(properties.get("uuid", b""))
            self._kernels: dict[str, Any] = {}
            for source, names in (
                (cuda_kernels.SOURCE, cuda_kernels.NAMES),
                (cuda_ways.SOURCE, cuda_ways.NAMES),
            ):
                module = cupy.RawModule(code=source.read_text("utf-8"), backend="nvrtc")
                self._kernels |= {name: module.get_function(name) for name in names}
            # Hashes and entries hold up the next product, so they go first where both could run.
            self._streams = {
                Stream.PRODUCT: cupy.cuda.Stream(non_blocking=True, priority=0),
                Stream.GENERATION: cupy.cuda.Stream(non_blocking=True, priority=-1),
                Stream.HASHING: cupy.cuda.Stream(non_blocking=True, priority=-1),
            }
            self._blas = cublas.create()
        integers, floats = np.array([0, 1], np.int32), np.array([0, 1], np.float32)
        self._kinds = {
            Kind.INT8: (_R_8I, _R_32I, cublas.CUBLAS_COMPUTE_32I, integers),
            Kind.BF16: (_R_16BF, _R_32F, cublas.CUBLAS_COMPUTE_32F, floats),
            Kind.FP16: (_R_16F, _R_32F, cublas.CUBLAS_COMPUTE_32F, floats),
        }

    @property
    def name(self) -> str:
        """The product name."""
        return self._name

    @property
    def uuid(self) -> str:
        """As NVML writes it, or the beginning of it: all that CuPy tells."""
        return self._uuid

    def free_bytes(self) -> int:
        """Memory that no process holds."""
        with self._use():
            return int(runtime.memGetInfo()[0])

    def allocate(self, size: int) -> Buffer:
        """Memory straight from CUDA: it is freed at once when released."""
        with self._use():
            return Buffer(_Memory(cupy.cuda.Memory(size)), size)

    def release(self, buffer: Buffer) -> None:
        """Free it now, whoever still holds the buffer."""
        with self._use():
            buffer.handle.memory = None

    def launch(
        self, kernel: str, threads: int, arguments: Sequence[Argument], stream: Stream
    ) -> None:
        """Queue a kernel over at least that many threads."""
        blocks = -(-threads // THREADS)
        plain = tuple(
            np.uint64(_address(one)) if isinstance(one, Region) else one for one in arguments
        )
        with self._use(), self._streams[stream]:
            self._kernels[kernel]((blocks,), (THREADS,), plain)

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
        """C = A B. What the card cannot multiply is cuBLAS's to say.

        cuBLAS counts by columns: it sees C transposed, `columns` x `rows`, as the transpose of B's
        memory (depth x columns) times A's (depth x rows): the layout of int8 tensor cores.
        """
        entry, result, compute, scale = self._kinds[kind]
        size, one = ENTRY_BYTES[kind], scale.ctypes.data + scale.itemsize
        for column, width in _pieces(columns, depth):
            for row, height in _pieces(rows, depth):
                with self._use(), self._streams[stream]:
                    cublas.gemmEx(
                        self._blas,
                        cublas.CUBLAS_OP_T,
                        cublas.CUBLAS_OP_N,
                        width,
                        height,
                        depth,
                        one,
                        _address(b) + column * depth * size,
                        entry,
                        depth,
                        _address(a) + row * depth * size,
                        entry,
                        depth,
                        scale.ctypes.data,
                        _address(c) + 4 * (row * columns + column),
                        result,
                        columns,
                        compute,
                        cublas.CUBLAS_GEMM_DEFAULT,
                    )

    def record(self, stream: Stream) -> Event:
        """A mark that also keeps the time."""
        with self._use():
            event = cupy.cuda.Event()
            event.record(self._streams[stream])
            return Event(event)

    def wait(self, stream: Stream, event: Event) -> None:
        """Hold a stream until the event has passed."""
        with self._use():
            self._streams[stream].wait_event(event.handle)

    def elapsed(self, start: Event, end: Event) -> float:
        """Seconds between two events that have passed."""
        with self._use():
            return float(cupy.cuda.get_elapsed_time(start.handle, end.handle)) / 1000

    def download(self, source: Region, size: int, stream: Stream) -> Download:
        """Copy into pinned memory, so that the host need not wait."""
        with self._use():
            target = cupy.cuda.alloc_pinned_memory(size)
            runtime.memcpyAsync(
                target.ptr, _address(source), size, _TO_HOST, self._streams[stream].ptr
            )
            # The host sleeps until then; it would keep a core busy otherwise.
            done = cupy.cuda.Event(block=True, disable_timing=True)
            done.record(self._streams[stream])
        return _Download(self, target, size, Event(done))

    def upload(self, data: np.ndarray[Any, np.dtype[np.uint8]], target: Region) -> None:
        """Copy from the host, on the stream of the products."""
        with self._use():
            stream = self._streams[Stream.PRODUCT]
            runtime.memcpyAsync(
                _address(target), data.ctypes.data, data.nbytes, _TO_DEVICE, stream.ptr
            )
            stream.synchronize()

    def wait_for(self, event: Event) -> None:
        """Hold the host until the event has passed."""
        with self._use():
            event.handle.synchronize()

    def synchronize(self) -> None:
        """Hold the host until all streams are empty."""
        with self._use():
            for stream in self._streams.values():
                stream.synchronize()

    def close(self) -> None:
        """Give cuBLAS's workspace and CuPy's own memory back; the streams end with this object."""
        blas, self._blas = self._blas, 0
        if blas:
            with self._use():
                cublas.destroy(blas)
                cupy.get_default_memory_pool().free_all_blocks()

    # ------------------------------------------------------------------- rates, for information

    def float_rate(self, kind: str, side: int, repeats: int) -> float:
        """Operations per second of square products of `fp16` or `bf16`, sums in float32."""
        one, zero = np.array([1], np.float32), np.array([0], np.float32)
        code, exponent = {"fp16": (_R_16F, 0x3C00), "bf16": (_R_16BF, 0x3F80)}[kind]
        # Values from 1 to 2 whose bits differ: products of zeros would be faster than real ones.
        noise = np.random.default_rng(1).integers(0, 1 << 7, (side, side), np.uint16) | exponent
        size = noise.nbytes
        operand, result = self.allocate(size), self.allocate(size)
        try:
            with self._use(), self._streams[Stream.PRODUCT]:
                source, target = _address(operand.at(0)), _address(result.at(0))
                runtime.memcpy(source, noise.ctypes.data, size, _TO_DEVICE)

                def multiply() -> None:
                    cublas.gemmEx(
                        self._blas,
                        cublas.CUBLAS_OP_T,
                        cublas.CUBLAS_OP_N,
                        side,
                        side,
                        side,
                        one.ctypes.data,
                        source,
                        code,
                        side,
                        source,
                        code,
                        side,
                        zero.ctypes.data,
                        target,
                        code,
                        side,
                        cublas.CUBLAS_COMPUTE_32F,
                        cublas.CUBLAS_GEMM_DEFAULT,
                    )

                multiply()
                seconds = self._time(multiply, repeats)
        finally:
            self.synchronize()
            self.release(operand)
            self.release(result)
        return 2 * side**3 * repeats / seconds

    def bandwidth(self, size: int, repeats: int) -> float:
        """Bytes per second, read and written, of copies of `size` bytes within the device."""
        source, target = self.allocate(size), self.allocate(size)
        try:
            with self._use():
                stream = self._streams[Stream.PRODUCT]

                def copy() -> None:
                    runtime.memcpyAsync(
                        _address(target.at(0)), _address(source.at(0)), size, _ON_DEVICE, stream.ptr
                    )

                copy()
                seconds = self._time(copy, repeats)
        finally:
            self.synchronize()
            self.release(source)
            self.release(target)
        return 2 * size * repeats / seconds

    def _time(self, work: Callable[[], None], repeats: int) -> float:
        start = self.record(Stream.PRODUCT)
        for _ in range(repeats):
            work()
        end = self.record(Stream.PRODUCT)
        self.wait_for(end)
        return self.elapsed(start, end)

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Make this the current device, and failures of CUDA one line for a person."""
        with _errors(f"GPU {self._number}"), cupy.cuda.Device(self._number):
            yield


class _Memory:
    """Holds memory so that it can be given up while the buffer lives."""

    def __init__(self, memory: Any) -> None:
        self.memory: Any | None = memory


class _Download:
    """A copy into pinned memory that an event ends."""

    def __init__(self, device: CupyDevice, target: Any, size: int, done: Event) -> None:
        self._device = device
        self._target = target
        self._size = size
        self._done = done

    def result(self) -> bytes:
        self._device.wait_for(self._done)
        return ctypes.string_at(self._target.ptr, self._size)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError:
        raise EngineError(
            f"{what} is out of memory; stop other work on it or use a smaller shape"
        ) from None
    except (
        runtime.CUDARuntimeError,
        cupy.cuda.driver.CUDADriverError,
        cupy.cuda.compiler.CompileException,
        cublas.CUBLASError,
        cupy.cuda.nvrtc.NVRTCError,
    ) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{what}: {line}") from None


def _address(region: Region) -> int:
    return int(region.buffer.handle.memory.ptr) + region.offset


def _pieces(length: int, depth: int) -> list[tuple[int, int]]:
    """Starts and lengths of even parts of a side whose operand stays below the limit."""
    parts = 1
    while length // parts * depth > _MAX_ELEMENTS or length % parts:
        parts += 1
    size = length // parts
    return [(start, size) for start in range(0, length, size)]


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _uuid(raw: bytes) -> str:
    """The runtime's 16 bytes as NVML writes them: GPU-8-4-4-4-12 hex digits.

    CuPy ends them at the first zero byte, so that what comes out may be only the beginning.
    """
    digits = bytes(raw).hex()
    cuts = (0, 8, 12, 16, 20, 32)
    parts = [digits[start:end] for start, end in pairwise(cuts)]
    return "GPU-" + "-".join(part for part in parts if part)
