# SPDX-License-Identifier: Apache-2.0
"""The calls of CuPy that the engine makes, against a stand-in that holds them to the documents."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from provider_agent.prover.bench import rates
from provider_agent.prover.cuda import engine as cuda
from provider_agent.prover.cuda.device import Stream
from provider_agent.prover.cuda.engine import CudaEngine, visible
from provider_agent.prover.engine import make_engine
from provider_agent.prover.products import choose
from provider_agent.prover.proof import Proof
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak
from tests.agent.benchmark import cupy_on_cpu
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector

CHECKS = {name: getattr(choose, name) for name in ("_CHECKED", "_DEEP")}


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[cupy_on_cpu.State]:
    standing_in = cupy_on_cpu.State()
    cupy_on_cpu.install(monkeypatch, standing_in)
    monkeypatch.setattr(cuda, "_TRIAL", (32, 32, 480))
    # What is checked of each way, small; test_engine__its_ways_are_held_to_all_checks is whole.
    monkeypatch.setattr(choose, "_CHECKED", choose._CHECKED[:1])
    monkeypatch.setattr(choose, "_DEEP", (24, 24, 1920))
    yield standing_in
    sys.modules.pop("provider_agent.prover.cuda.cupy_device", None)


def device(number: int = 0) -> Any:
    from provider_agent.prover.cuda.cupy_device import CupyDevice

    return CupyDevice(number)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "cuda:1,0"])
@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_engine__vectors(name: str, vector: Vector, state: cupy_on_cpu.State) -> None:
    free = state.free
    engine = make_engine(name)
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots
    proof = Proof(vector.challenge, vector.shape, tuple(vector.roots))
    assert proof.openings(engine, vector.draw, 2) == [one.opening for one in vector.openings[:2]]
    assert min(engine.timings().product, engine.timings().hashing) > 0
    engine.close()
    assert (state.free, state.handles) == (free, 0)
    assert not state.devices
    assert not state.streams


def test_engine__its_ways_are_held_to_all_checks(
    state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, whole in CHECKS.items():
        monkeypatch.setattr(choose, name, whole)
    make_engine("cuda").close()
    depths = {choose._DEEP[2], *(depth for _, _, depth in choose._CHECKED)}
    assert depths <= {depth for _, _, depth in state.products}


def test_product__in_pieces_below_the_limit(
    state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = device()
    from provider_agent.prover.cuda import cupy_device as cuda_cupy

    monkeypatch.setattr(cuda_cupy, "_MAX_ELEMENTS", 480 * 100)
    rows, columns, depth = 384, 256, 480
    noise = np.random.default_rng(7)
    a = noise.integers(0, 128, (rows, depth), np.int8)
    b = noise.integers(0, 128, (columns, depth), np.int8)
    buffers = [gpu.allocate(size) for size in (a.nbytes, b.nbytes, 4 * rows * columns)]
    for buffer, data in zip(buffers, (a, b), strict=False):
        cupy_on_cpu._view(buffer.handle.memory.ptr, data.size, np.int8)[:] = data.ravel()
    gpu.product(*(buffer.at(0) for buffer in buffers), rows, columns, depth, Stream.PRODUCT)
    found = np.frombuffer(
        gpu.download(buffers[2].at(0), 4 * rows * columns, Stream.PRODUCT).result(), np.int32
    )
    assert np.array_equal(found.reshape(rows, columns), a.astype(np.int32) @ b.T.astype(np.int32))
    # 384 rows in four pieces of 96, 256 columns in four of 64.
    assert state.products == [(64, 96, 480)] * 16


def test_product__the_largest_shape_stays_below_the_limit(state: cupy_on_cpu.State) -> None:
    device()
    from provider_agent.prover.cuda.cupy_device import _pieces

    for side in (65_536, 32_768, 21_504, 1024):
        pieces = _pieces(side, 132_960)
        assert sum(size for _, size in pieces) == side
        assert pieces[-1][0] + pieces[-1][1] == side
        assert max(size for _, size in pieces) * 132_960 < 2**31


def test_streams__hashes_and_entries_go_first(state: cupy_on_cpu.State) -> None:
    device()
    assert state.priorities == [0, -1, -1]  # product, generation, hashing; lower goes first


def test_uuid__as_nvml_writes_it(state: cupy_on_cpu.State) -> None:
    assert device(1).uuid == "GPU-01010101-0101-0101-0101-010101010101"
    assert device(1).name == "Stand-in"
    from provider_agent.prover.cuda.cupy_device import _uuid

    assert _uuid(bytes(range(0xA1, 0xA7))) == "GPU-a1a2a3a4-a5a6"  # ended by a zero byte
    assert _uuid(b"") == "GPU-"


def test_information__rates_of_a_gpu(
    state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_FLOAT_SIDE", 64)
    monkeypatch.setattr(rates, "_GPU_COPY_BYTES", 1 << 16)
    engine = make_engine("cuda")
    found = rates.information(engine)
    assert min(found.bandwidth, found.fp16 or 0, found.bf16 or 0) > 0
    assert found.fp8 is None
    state.fail_next_product = True
    assert rates.information(engine).fp16 is None
    engine.close()


def test_row__of_a_gpu(state: cupy_on_cpu.State) -> None:
    engine = make_engine("cuda:0,1")
    found = rates.row(engine, Shape(256, 1), 0.05, lambda part: None)
    assert found.checked
    assert found.alone
    assert found.joules is None  # NVML knows no such GPU
    engine.close()


def test_visible__what_cuda_shows(
    state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible() == 2
    state.gpus = -1
    assert visible() == 0  # no driver
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "provider_agent.prover.cuda.cupy_device")
    assert visible() == 0  # no CuPy
    with pytest.raises(EngineError, match="CUDA needs CuPy and its libraries"):
        make_engine("cuda")


def test_errors__one_line_each(state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="no GPU 2; CUDA sees 2"):
        make_engine("cuda:0,2")
    assert state.handles == 0  # the first one was closed again
    state.refused = {cupy_on_cpu.INT8, cupy_on_cpu.BF16, cupy_on_cpu.FP16}
    with pytest.raises(
        EngineError, match=r"no exact product.*bf16 of cuBLAS: GPU 0: CUBLAS_STATUS"
    ):
        make_engine("cuda")
    assert state.handles == 0
    state.refused = set()

    engine = make_engine("cuda")
    engine.prepare(keccak(b"x"), Shape(256, 1))
    state.fail_next_product = True
    with pytest.raises(EngineError, match=r"^GPU 0: CUBLAS_STATUS_NOT_SUPPORTED$"):
        next(engine.roots([]))
    assert not state.devices
    assert not state.streams
    assert next(engine.roots([]))

    state.free = 100 << 20
    with pytest.raises(EngineError, match="GiB are free"):
        engine.prepare(keccak(b"x"), Shape(512, 1))
    with pytest.raises(EngineError, match="not prepared"):
        next(engine.roots([]))
    engine.close()


def test_errors__memory_goes_between_plan_and_use(
    state: cupy_on_cpu.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine("cuda")
    assert isinstance(engine, CudaEngine)
    monkeypatch.setattr(type(engine.devices[0]), "free_bytes", lambda self: 8 << 30)
    free, state.free = state.free, 1 << 20
    with pytest.raises(EngineError, match="GPU 0 is out of memory"):
        engine.prepare(keccak(b"x"), Shape(512, 8))
    assert state.free == 1 << 20
    state.free = free
    engine.close()
