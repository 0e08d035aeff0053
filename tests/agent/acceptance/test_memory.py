# SPDX-License-Identifier: Apache-2.0
"""Memory of a GPU gives the same bytes as that of the host; the kernels run on the CPU here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

import pytest

from provider_agent import devices
from provider_agent.prover.acceptance.memories import open_memory
from provider_agent.prover.acceptance.memory import HostMemory, Memory, NoMemory
from provider_agent.prover.cuda.memory import CudaMemory
from provider_agent.prover.engine import Engine, make_engine
from teraproof.acceptance.checks import Promise, Reason
from teraproof.acceptance.examiner import Subject, examine
from teraproof.acceptance.format import BLOCK_BYTES
from teraproof.acceptance.policy import plan
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak
from tests.agent.acceptance.rig import Lasting, Provider, challenged, lease
from tests.agent.benchmark.cuda_on_cpu import CpuDevice, engine_on

SEED, KEY, OTHER = keccak(b"seed"), keccak(b"key"), keccak(b"other")
MIB = 1 << 20


def silent(_: float) -> None:
    pass


@pytest.mark.parametrize("blocks", [1, 31, 33, 512, 513, 1030])
def test_gpu_memory__roots_leaves_and_paths_of_the_host(blocks: int) -> None:
    device = CpuDevice(seed=blocks)
    found: list[Memory] = [HostMemory(), CudaMemory(device)]
    for memory in found:
        memory.fill(SEED, blocks, silent)
    host, gpu = found
    roots = [(memory.sweep(KEY), memory.sweep(OTHER)) for memory in found]
    assert roots[0] == roots[1] and roots[0][0] != roots[0][1]
    for key in (KEY, OTHER):
        for block in {0, blocks // 2, blocks - 1}:
            leaf, path = gpu.open(key, block)
            assert (leaf, path) == host.open(key, block)
    gpu.close()
    assert device.allocated == 0


def test_gpu_memory__filled_again__the_old_is_given_back() -> None:
    device = CpuDevice()
    memory = CudaMemory(device)
    memory.fill(SEED, 40, silent)
    first, taken = memory.sweep(KEY), device.allocated
    memory.fill(OTHER, 40, silent)
    assert memory.sweep(KEY) != first and device.allocated == taken


def test_gpu_memory__what_is_there__fits_and_no_more() -> None:
    device = CpuDevice(memory=257 * MIB)
    memory = CudaMemory(device)
    blocks = memory.room()
    assert 0 < MIB - blocks * BLOCK_BYTES < 20 * BLOCK_BYTES
    memory.fill(SEED, blocks, silent)
    memory.close()
    device.memory = 8 * MIB
    assert memory.room() == 0
    with pytest.raises(EngineError, match="out of memory"):
        memory.fill(SEED, 8 * MIB // BLOCK_BYTES, silent)
    assert device.allocated == 0


def test_gpu_memory__only_what_is_opened_crosses_the_bus() -> None:
    device = CpuDevice()
    memory = CudaMemory(device)
    memory.fill(SEED, 600, silent)
    assert device.downloaded == 0
    memory.sweep(KEY)
    assert device.downloaded == 32
    memory.open(KEY, 599)
    assert device.downloaded == 32 + 4096 + 32


@pytest.mark.parametrize("memory", [HostMemory(), CudaMemory(CpuDevice()), NoMemory()])
def test_not_filled__error(memory: Memory) -> None:
    with pytest.raises(EngineError, match="not filled"):
        memory.sweep(KEY)
    with pytest.raises(EngineError, match="not filled"):
        memory.open(KEY, 0)
    memory.close()


def test_engine_for_cuda__passes_with_the_memory_of_its_gpu() -> None:
    device = CpuDevice(memory=1 << 30)
    engine = Lasting(engine_on(device))
    provider = Provider(engine, lease(), memory=lambda: open_memory(engine._engine, "cuda:0"))
    assert challenged(provider).passed
    assert "sweep_memory" in device.done
    provider.devices[0]._memory = None
    engine._engine.close()
    assert device.allocated == 0


def test_engine_of_two_gpus__no_device_of_a_lease() -> None:
    engine = engine_on(CpuDevice(), CpuDevice())
    with pytest.raises(EngineError, match="several GPUs"):
        open_memory(engine, "cuda:0,1")
    engine.close()


def test_device_of_pytorch__shows_no_memory() -> None:
    engine = make_engine("numpy")
    assert isinstance(open_memory(engine, "torch:xpu"), NoMemory)
    assert isinstance(open_memory(engine, "torch:cpu"), HostMemory)
    provider = Provider(Lasting(engine), lease(), memory=NoMemory)
    assert challenged(provider).reason is Reason.MEMORY_SHORT


# ---------------------------------------------------------------------- a real GPU


@pytest.fixture(scope="module")
def gpu() -> Iterator[Engine]:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    if not devices.gpus():
        pytest.skip("no NVIDIA GPU is here")
    made = make_engine("cuda")
    yield made
    made.close()


@pytest.mark.gpu
def test_gpu__memory_of_the_host(gpu: Engine) -> None:
    found = [HostMemory(), open_memory(gpu, "cuda")]
    for memory in found:
        memory.fill(SEED, 2000, silent)
    host, card = found
    assert host.sweep(KEY) == card.sweep(KEY)
    assert host.open(KEY, 1999) == card.open(KEY, 1999)
    card.close()


@pytest.mark.gpu
def test_gpu__most_of_its_memory__passes(gpu: Engine) -> None:
    """By the clock of the machine: a promise that any card keeps."""
    shape = Shape(8192, 8)
    gpu.prepare(bytes(32), shape)
    memory = open_memory(gpu, "cuda")
    promise = Promise(10**12, memory.room() * BLOCK_BYTES * 9 // 10, 10**9)
    work = replace(plan(promise, 1, shape), sweeps=4)
    provider = Provider(Lasting(gpu), lease(), work, memory=lambda: open_memory(gpu, "cuda"))
    (verdict,) = examine([Subject(lease(), work, promise, provider)])
    assert verdict.passed, verdict.line
