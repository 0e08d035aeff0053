# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the part of CuPy that the engine calls, over the memory of the host.

It shows that the calls fit together: which device is current, on which stream a product is queued,
how cuBLAS's column-major arguments describe our row-major matrices. Kernels are the real ones,
built by the C compiler. Everything runs at once; order is the business of `cuda_on_cpu`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.agent.benchmark.cuda_on_cpu import kernels

INT8, INT32, FP32, FP16, BF16 = 3, 10, 0, 2, 14
COMPUTE_32F, COMPUTE_32I = 68, 72


class CudaError(Exception):
    """Any of CuPy's errors."""


class OutOfMemoryError(CudaError):
    pass


class State:
    """What a test may look at or change."""

    def __init__(self, gpus: int = 2) -> None:
        self.gpus = gpus
        self.free = 8 << 30
        self.refused: set[int] = set()
        """Types of entries that cuBLAS does not multiply."""
        self.devices: list[int] = []
        self.streams: list[Stream] = []
        self.products: list[tuple[int, int, int]] = []
        self.priorities: list[int] = []
        self.handles = 0
        self.fail_next_product = False

    @property
    def current(self) -> int:
        return self.devices[-1] if self.devices else 0


class Stream:
    def __init__(self, state: State, non_blocking: bool, priority: int) -> None:
        assert non_blocking
        self.state, self.device, self.ptr = state, state.current, 1
        state.priorities.append(priority)

    def __enter__(self) -> None:
        assert self.state.current == self.device, "a stream of another device"
        self.state.streams.append(self)

    def __exit__(self, *_: object) -> None:
        self.state.streams.pop()

    def wait_event(self, event: Event) -> None:
        assert event.recorded
        assert self.state.current == self.device

    def synchronize(self) -> None:
        assert self.state.current == self.device


class Event:
    count = 0

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self.recorded = 0
        self.timed = not disable_timing

    def record(self, stream: Stream) -> None:
        assert stream.state.current == stream.device
        Event.count += 1
        self.recorded = Event.count

    def synchronize(self) -> None:
        assert self.recorded


class Memory:
    """CuPy frees it when the last reference goes."""

    def __init__(self, state: State, size: int) -> None:
        if size > state.free:
            raise OutOfMemoryError("Out of memory allocating")
        self.state, self.size = state, size
        self.data = np.full(size + 16, 0xA5, np.uint8)
        self.ptr = self.data.ctypes.data + -self.data.ctypes.data % 16
        state.free -= size

    def __del__(self) -> None:
        if hasattr(self, "data"):
            self.state.free += self.size


def _view(address: int, count: int, kind: Any) -> np.ndarray[Any, Any]:
    size = count * np.dtype(kind).itemsize
    raw = memoryview((ctypes.c_uint8 * size).from_address(address))
    found: np.ndarray[Any, Any] = np.frombuffer(raw, kind)
    return found


def _matrix(address: int, code: int, rows: int, columns: int, lead: int) -> np.ndarray[Any, Any]:
    """A column-major matrix of that many rows and columns, `lead` from one column to the next."""
    kind = {
        INT8: np.int8,
        INT32: np.int32,
        FP32: np.float32,
        FP16: np.float16,
        BF16: np.uint16,
    }[code]
    flat = _view(address, lead * (columns - 1) + rows, kind)
    steps = (flat.itemsize, lead * flat.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), steps)


def _numbers(matrix: np.ndarray[Any, Any], code: int) -> np.ndarray[Any, Any]:
    if code == BF16:
        return (matrix.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return matrix.astype(np.float64)


def _gemm(
    state: State,
    handle: int,
    transa: int,
    transb: int,
    m: int,
    n: int,
    k: int,
    alpha: int,
    a: int,
    a_code: int,
    lda: int,
    b: int,
    b_code: int,
    ldb: int,
    beta: int,
    c: int,
    c_code: int,
    ldc: int,
    compute: int,
    algorithm: int,
) -> None:
    """C = A' B, all column-major, as cublasGemmEx documents it."""
    if state.fail_next_product:
        state.fail_next_product = False
        raise CudaError("CUBLAS_STATUS_NOT_SUPPORTED")
    if a_code in state.refused:
        raise CudaError("CUBLAS_STATUS_ARCH_MISMATCH")
    assert state.streams, "a product outside of a stream"
    assert handle == 100 + state.current, "a handle of another device"
    assert (transa, transb, algorithm) == (1, 0, -1)
    assert compute == (COMPUTE_32I if c_code == INT32 else COMPUTE_32F)
    scale = np.int32 if compute == COMPUTE_32I else np.float32
    assert _view(alpha, 1, scale)[0] == 1
    assert _view(beta, 1, scale)[0] == 0
    # What the int8 tensor cores ask for.
    assert not any(value % 4 for value in (m, n, k, lda, ldb, ldc))
    assert not any(address % 16 for address in (a, b, c))
    left = _numbers(_matrix(a, a_code, k, m, lda), a_code).T
    right = _numbers(_matrix(b, b_code, k, n, ldb), b_code)
    result = left @ right
    if c_code == BF16:
        result = result.astype(np.float32).view(np.uint32) >> 16
    _matrix(c, c_code, m, n, ldc)[:] = result
    state.products.append((m, n, k))


def _kernel(name: str) -> Callable[..., None]:
    function = getattr(kernels(), f"grid_{name}")

    def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        wide = {np.uint32: ctypes.c_uint32, np.uint64: ctypes.c_uint64}
        plain = [wide[type(argument)](int(argument)) for argument in arguments]
        function(ctypes.c_uint32(*grid), ctypes.c_uint32(*block), *plain)

    return launch


def install(patch: pytest.MonkeyPatch, state: State) -> None:
    """Put it in CuPy's place for a test."""

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            state.devices.append(self.number)

        def __exit__(self, *_: object) -> None:
            state.devices.pop()

    def copy(target: int, source: int, size: int, kind: int, stream: int = 1) -> None:
        assert kind in (1, 2, 3)
        assert stream == 1
        ctypes.memmove(target, source, size)

    def elapsed(start: Event, end: Event) -> float:
        assert start.timed and end.timed
        return float(end.recorded - start.recorded)

    def gpus() -> int:
        if state.gpus < 0:
            raise CudaError("cudaErrorInsufficientDriver: the driver is too old")
        return state.gpus

    def create() -> int:
        state.handles += 1
        return 100 + state.current

    def destroy(handle: int) -> None:
        assert handle == 100 + state.current
        state.handles -= 1

    runtime = SimpleNamespace(
        CUDARuntimeError=CudaError,
        getDeviceCount=gpus,
        getDeviceProperties=lambda number: {
            "name": b"Stand-in",
            "uuid": bytes([number] * 16),
        },
        memGetInfo=lambda: (state.free, 16 << 30),
        memcpy=copy,
        memcpyAsync=copy,
    )
    cuda = ModuleType("cupy.cuda")
    cuda.__dict__.update(
        runtime=runtime,
        Device=Device,
        Event=Event,
        Memory=lambda size: Memory(state, size),
        Stream=lambda non_blocking, priority: Stream(state, non_blocking, priority),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=CudaError),
        compiler=SimpleNamespace(CompileException=CudaError),
        nvrtc=SimpleNamespace(NVRTCError=CudaError),
        alloc_pinned_memory=lambda size: Memory(State(), size),
        get_elapsed_time=elapsed,
    )
    cupy = ModuleType("cupy")
    cupy.__dict__.update(
        cuda=cuda,
        RawModule=lambda code, backend: SimpleNamespace(get_function=_kernel),
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
    )
    cublas = SimpleNamespace(
        CUBLASError=CudaError,
        CUBLAS_OP_N=0,
        CUBLAS_OP_T=1,
        CUBLAS_COMPUTE_32I=COMPUTE_32I,
        CUBLAS_COMPUTE_32F=COMPUTE_32F,
        CUBLAS_GEMM_DEFAULT=-1,
        create=create,
        destroy=destroy,
        gemmEx=lambda *arguments: _gemm(state, *arguments),
    )
    libraries = ModuleType("cupy_backends.cuda.libs")
    libraries.__dict__.update(cublas=cublas)
    for name, module in {
        "cupy": cupy,
        "cupy.cuda": cuda,
        "cupy_backends": ModuleType("cupy_backends"),
        "cupy_backends.cuda": ModuleType("cupy_backends.cuda"),
        "cupy_backends.cuda.libs": libraries,
    }.items():
        patch.setitem(sys.modules, name, module)
    patch.delitem(sys.modules, "provider_agent.prover.cuda.cupy_device", raising=False)
