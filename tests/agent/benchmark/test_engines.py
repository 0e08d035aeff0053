# SPDX-License-Identifier: Apache-2.0
"""The engines that need no GPU: the published vectors, and agreement with each other."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from provider_agent.prover import cpu
from provider_agent.prover.cpu import CpuEngine
from provider_agent.prover.engine import Engine, make_engine
from provider_agent.prover.proof import Proof
from provider_agent.prover.torch import engine as torch_engine
from teraproof.pog import format as pog
from teraproof.pog.errors import BenchmarkError, EngineError, OpeningError
from teraproof.pog.format import Sample, Shape
from teraproof.pog.opening import verify
from tests.agent.benchmark.products.torch_on_cpu import Torch, rounded
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector
from tests.agent.engines import quick_engine


@pytest.fixture(params=["numpy", "cpu"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = quick_engine(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_roots__published_vectors(engine: Engine, vector: Vector) -> None:
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots


@pytest.mark.parametrize("done", range(5))
def test_roots__go_on_where_they_were_left(engine: Engine, done: int) -> None:
    vector = VECTORS[1]
    engine.prepare(vector.challenge, vector.shape)
    assert next(engine.roots(vector.roots[:done])) == vector.roots[done]


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_openings__published_vectors(engine: Engine, vector: Vector) -> None:
    proof = Proof(vector.challenge, vector.shape, tuple(vector.roots))
    assert proof.commitment == vector.commitment
    assert proof.seeds_b() == vector.seeds_b
    openings = proof.openings(engine, vector.draw, len(vector.openings))
    assert openings == [one.opening for one in vector.openings]


def test_prepare__again_for_another_challenge(engine: Engine) -> None:
    for vector in (VECTORS[0], VECTORS[2], VECTORS[0]):
        engine.prepare(vector.challenge, vector.shape)
        assert next(engine.roots([])) == vector.roots[0]
        one = vector.openings[0]
        opened = engine.open(one.sample.t, one.opening.root_before, one.sample.i, one.sample.j)
        assert opened == (one.opening.leaf, list(one.opening.leaf_path))


@settings(max_examples=8)
@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 3),
    st.integers(1, 4),
    st.binary(min_size=32, max_size=32),
)
def test_engines__agree(challenge: bytes, blocks: int, rounds: int, seed: bytes) -> None:
    shape = Shape(256, blocks)
    samples = pog.samples_of(seed, rounds, shape, 3)
    seen = []
    for device in ("numpy", "cpu"):
        engine = quick_engine(device)
        try:
            engine.prepare(challenge, shape)
            proof = Proof(challenge, shape, tuple(islice(engine.roots([]), rounds)))
            seen.append((proof, proof.open(engine, samples)))
        finally:
            engine.close()
    assert seen[0] == seen[1]
    proof, openings = seen[0]
    for sample, opening in zip(samples, openings, strict=True):
        verify(opening, sample, challenge, shape, rounds, proof.commitment)


def test_timings__every_part_is_counted_since_prepare(engine: Engine) -> None:
    vector = VECTORS[0]
    engine.prepare(vector.challenge, vector.shape)
    next(engine.roots([]))
    timings = engine.timings()
    assert min(timings.product, timings.generation, timings.hashing) > 0
    engine.prepare(vector.challenge, vector.shape)
    assert engine.timings().product == 0


def test_engine__not_prepared(engine: Engine) -> None:
    with pytest.raises(EngineError, match="prepare it first"):
        next(engine.roots([]))
    with pytest.raises(EngineError, match="prepare it first"):
        engine.open(0, pog.ZERO, 0, 0)


def test_engine__challenge_of_another_size(engine: Engine) -> None:
    with pytest.raises(BenchmarkError, match="challenge must be 32 bytes, not 31"):
        engine.prepare(bytes(31), Shape(256, 1))


def test_roots__dropped_iterator_leaves_nothing_running() -> None:
    vector = VECTORS[1]
    engine = CpuEngine()
    engine.prepare(vector.challenge, vector.shape)
    for number, root in enumerate(engine.roots([])):
        assert root == vector.roots[number]
        if number == 1:
            break
    one = vector.openings[0]
    leaf, _ = engine.open(one.sample.t, one.opening.root_before, one.sample.i, one.sample.j)
    assert leaf == one.opening.leaf
    engine.close()


def test_cpu__blas_leaves_a_core_to_the_hashes_until_closed() -> None:
    def threads() -> list[int]:
        return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]

    before = threads()
    assert before
    engine = CpuEngine()
    assert max(threads()) <= max(1, len(os.sched_getaffinity(0)) - 1)
    engine.close()
    assert threads() == before


def test_cpu__rows_in_several_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_PANEL", 96)
    vector, engine = VECTORS[2], CpuEngine()
    engine.prepare(vector.challenge, vector.shape)
    assert next(engine.roots([])) == vector.roots[0]
    engine.close()


def test_prepare__shape_beyond_the_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 16}  # 256 MiB
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    engine.prepare(bytes(32), Shape(256, 1))
    with pytest.raises(EngineError, match=r"needs .* GiB of memory and the machine has 0\.2"):
        engine.prepare(bytes(32), Shape(65_536, 277))


@pytest.mark.parametrize(
    "device",
    ["", "CPU", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cuda:0,0", "cpu:0"]
    + ["torch", "torch:", "torch:cuda:0,1", "torch:abacus", "torch:mps:0", "torch:cuda:0\n"],
)
def test_make_engine__unknown_device(device: str) -> None:
    with pytest.raises(EngineError, match=r"is unknown; use cpu|names a GPU twice"):
        make_engine(device)


def test_make_engine__library_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("provider_agent.prover.cpu")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(EngineError, match="needs numpy, which is missing: install NumPy"):
        make_engine("cpu")


def test_proof__openings_of_another_machine_are_noticed() -> None:
    """Roots that the engine cannot have made: nothing wrong is handed out."""
    vector = VECTORS[1]
    roots = [*vector.roots]
    roots[3] = bytes(32)
    proof = Proof(vector.challenge, vector.shape, tuple(roots))
    engine = CpuEngine()
    with pytest.raises(OpeningError, match="not in the root of round 3"):
        proof.open(engine, [Sample(3, 0, 0)])
    engine.close()


def test_proof__bad_parts() -> None:
    shape = Shape(256, 1)
    with pytest.raises(BenchmarkError, match="challenge must be 32 bytes"):
        Proof(b"", shape, (bytes(32),))
    with pytest.raises(BenchmarkError, match="rounds must be 1"):
        Proof(bytes(32), shape, ())
    with pytest.raises(BenchmarkError, match="root must be 32 bytes"):
        Proof(bytes(32), shape, (bytes(31),))


# ----------------------------------------------------------------- devices that PyTorch drives


@pytest.mark.parametrize("device", ["torch:cuda:1", "torch:xpu", "torch:mps", "torch:cpu"])
@pytest.mark.parametrize("vector", VECTORS[1:], ids=NAMES[1:])
def test_torch__published_vectors(
    device: str, vector: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(torch_engine, "_TRIAL", (256, 256, 480))
    engine = make_engine(device)
    assert engine.device.startswith(f"{device}, ")
    assert "of PyTorch" in engine.device
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots
    proof = Proof(vector.challenge, vector.shape, tuple(vector.roots))
    openings = proof.openings(engine, vector.draw, len(vector.openings))
    assert openings == [one.opening for one in vector.openings]
    assert {place for _, place in torch.calls} == {device.removeprefix("torch:")}
    engine.close()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("device", ["torch:cpu", "cpu"])
def test_torch__published_vectors_with_pytorch_itself(device: str) -> None:
    engine, vector = make_engine(device), VECTORS[2]
    assert "of PyTorch" in engine.device or device == "cpu"
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots
    engine.close()


def test_torch__no_such_device_or_no_exact_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineError, match="needs PyTorch: install the build for it"):
        make_engine("torch:cuda")
    monkeypatch.setitem(sys.modules, "torch", Torch(devices=("cpu",)))
    with pytest.raises(EngineError, match="PyTorch has no device 'xpu:3'"):
        make_engine("torch:xpu:3")
    monkeypatch.setitem(sys.modules, "torch", Torch(rounded(14), None))
    before = threadpool_info()
    with pytest.raises(EngineError, match="has no exact product"):
        make_engine("torch:mps")
    assert threadpool_info() == before


def test_roots__a_device_that_goes_wrong_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel for the size of the proof may add in another way than that of the trial."""
    engine, vector = CpuEngine(), VECTORS[2]
    right = engine.products.way.low

    def wrong(*arguments: Any) -> Any:
        sums = right(*arguments)
        sums[5, 7] ^= 1
        return sums

    monkeypatch.setattr(engine.products.way, "low", wrong)
    engine.prepare(vector.challenge, vector.shape)
    with pytest.raises(EngineError, match="multiplies wrongly"):
        next(engine.roots([]))

    def failing(*_: Any) -> Any:
        raise RuntimeError("out of memory\nand a page about it")

    monkeypatch.setattr(engine.products.way, "low", failing)
    with pytest.raises(EngineError, match=r"^the product failed: out of memory$"):
        next(engine.roots([]))
    engine.close()


def test_raw_product__by_the_way_of_the_proof() -> None:
    engine = CpuEngine()
    engine.prepare(bytes(32), Shape(256, 1))
    operations, seconds = engine.raw_product(0.0)
    assert operations == Shape(256, 1).operations
    assert seconds > 0
    engine.close()
