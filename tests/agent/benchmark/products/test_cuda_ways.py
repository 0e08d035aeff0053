# SPDX-License-Identifier: Apache-2.0
"""Centred products in the CUDA engine, on devices that run its kernels on the CPU."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest

from provider_agent.prover.cuda import engine as cuda
from provider_agent.prover.cuda import plan as cuda_plan
from provider_agent.prover.cuda.device import Kind, Stream
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.cuda.plan import Share, Tiles
from provider_agent.prover.engine import make_engine
from provider_agent.prover.products import choose, cuda_ways
from provider_agent.prover.proof import Proof
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape
from tests.agent.benchmark import cupy_on_cpu
from tests.agent.benchmark.cuda_on_cpu import CpuDevice, engine_on, floats
from tests.agent.benchmark.products.torch_on_cpu import aligned, half, rounded
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector
from tests.support import budget

CENTRED = [Kind.BF16, Kind.FP16]
SIZE = (32, 32, 480)


def assert_proof(engine: CudaEngine, vector: Vector) -> None:
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots
    proof = Proof(vector.challenge, vector.shape, tuple(vector.roots))
    openings = proof.openings(engine, vector.draw, len(vector.openings))
    assert openings == [one.opening for one in vector.openings]


@pytest.mark.parametrize("kind", CENTRED)
@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_engine__vectors(vector: Vector, kind: Kind) -> None:
    device = CpuDevice(5, kinds=(kind,))
    engine = engine_on(device)
    assert_proof(engine, vector)
    assert f"{kind.value} of cuBLAS" in engine.device
    engine.close()
    assert device.allocated == 0


@pytest.mark.parametrize("favourite", [None, *Stream])
def test_engine__any_order_in_tiles_and_small_stages(
    favourite: Stream | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = next(one for one in VECTORS if one.shape.n == 512)
    monkeypatch.setattr(cuda_ways, "_STAGE_BYTES", 100 * vector.shape.depth)
    ways = [Tiles(512, 512, True), Tiles(128, 512, True), Tiles(128, 512, False)]
    if favourite is not None and not budget.deep():
        ways = [ways[list(Stream).index(favourite) % 3]]
    for tiles in ways:
        monkeypatch.setattr(cuda, "tiles", lambda *_, tiles=tiles: tiles)
        engine = engine_on(CpuDevice(7, favourite, kinds=(Kind.BF16,)))
        engine.prepare(vector.challenge, vector.shape)
        assert list(islice(engine.roots([]), vector.rounds)) == vector.roots


def test_engine__unlike_devices_make_one_proof() -> None:
    """By kind of product and by speed; the slowest is not worth a piece."""
    devices = [
        CpuDevice(1, kinds=(Kind.INT8,), speed=7.0),
        CpuDevice(2, Stream.PRODUCT, kinds=(Kind.FP16,), speed=2.0),
        CpuDevice(3, Stream.HASHING, kinds=(Kind.BF16,), speed=1.0, name="another"),
        CpuDevice(4, kinds=(Kind.BF16,), speed=0.01),
    ]
    engine = engine_on(*devices)
    assert "int8 of cuBLAS, fp16 of cuBLAS, bf16 of cuBLAS" in engine.device
    for vector in VECTORS:
        assert_proof(engine, vector)
        rows = [part.rows for _, part, _, _ in engine.plans(vector.shape)]
        assert len(rows) == 3
        assert sum(rows) == vector.shape.n
        assert rows[0] > rows[1] > rows[2]
    assert devices[3].launches == []
    assert "left out" in engine.device
    engine.close()


# -------------------------------------------------------------------------------------- shares


@pytest.mark.parametrize("n", [4096, 16_384, 65_536])
@pytest.mark.parametrize(
    "speeds", [[2.0, 1.0], [1.4e15, 1.2e14], [5.0, 3.0, 2.0], [9.0, 1.0, 1.0, 1.0], [1.0, 1.07]]
)
def test_shares__by_speed(speeds: list[float], n: int) -> None:
    found = cuda_plan.shares(Shape(n, 1), speeds)
    assert sum(share.rows for share in found) == n
    assert [share.first for share in found] == [
        sum(share.rows for share in found[:k]) for k in range(len(found))
    ]
    (piece,) = {share.subtree_rows for share in found}
    assert piece & (piece - 1) == 0
    # Nobody takes longer than with rows in proportion to speed, but for a piece.
    even = n / sum(speeds)
    for share, speed in zip(found, speeds, strict=True):
        assert share.rows / speed <= even + piece / min(speeds)
    # And a split by heads would take longer, were they not about alike.
    if max(speeds) > 1.1 * min(speeds):
        slowest = max(share.rows / speed for share, speed in zip(found, speeds, strict=True))
        assert slowest < n / len(speeds) / min(speeds)


def test_shares__about_alike_is_alike() -> None:
    assert cuda_plan.shares(Shape(4096, 1), [1.0, 1.04]) == [
        Share(0, 2048, 1),
        Share(2048, 2048, 1),
    ]


def test_shares__too_slow_for_a_piece() -> None:
    found = cuda_plan.shares(Shape(4096, 1), [1.0, 1e-4])
    assert found == [Share(0, 4096, 128), Share(4096, 0, 0)]


def test_tiles__centred_operands_need_more_memory() -> None:
    shape, share = Shape(16_384, 68), Share(0, 16_384, 1)
    bytes_of = {kind: Tiles(16_384, 16_384, True).bytes(shape, share.rows, kind) for kind in Kind}
    operands = 3 * 16_384 * shape.depth
    assert bytes_of[Kind.BF16] == bytes_of[Kind.FP16]
    assert operands < bytes_of[Kind.BF16] - bytes_of[Kind.INT8] < 1.1 * operands
    free = bytes_of[Kind.INT8] + (1 << 30)
    assert cuda_plan.tiles(shape, share, free) == Tiles(16_384, 16_384, True)
    assert cuda_plan.tiles(shape, share, free, Kind.BF16) != Tiles(16_384, 16_384, True)


# -------------------------------------------------------------------------------------- choice


def choice(device: CpuDevice, size: tuple[int, int, int] = SIZE) -> choose.Chosen[Any]:
    try:
        return choose.choose(cuda_ways.ways(device), size)
    finally:
        assert device.allocated == 0, "the trial kept memory"


def test_choice__all_kinds_are_exact() -> None:
    found = choice(CpuDevice(kinds=tuple(Kind)), (64, 96, 960))
    assert [trial.refused for trial in found.trials] == ["", "", ""]
    assert found.rate == max(trial.rate for trial in found.trials)


@pytest.mark.parametrize("adder", [rounded(14), aligned(23), half], ids=["14", "23", "half"])
def test_choice__a_device_that_adds_badly_takes_integers(adder: Any) -> None:
    found = choice(CpuDevice(kinds=tuple(Kind), adder=adder))
    assert found.way.kind is Kind.INT8
    assert [trial.refused for trial in found.trials][1:] == ["its sums are wrong"] * 2
    with pytest.raises(EngineError, match="no exact product"):
        choice(CpuDevice(kinds=(Kind.BF16,), adder=adder))


def test_choice__a_card_without_int8() -> None:
    found = choice(CpuDevice(kinds=(Kind.FP16,)))  # as a V100
    assert found.way.name == "fp16 of cuBLAS"
    assert found.trials[0].refused == "this device has no int8"


def test_engine__opens_with_a_trial_and_closes_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda, "_TRIAL", SIZE)
    engine = CudaEngine(devices=[CpuDevice(kinds=(Kind.FP16, Kind.BF16))])
    assert engine.products[0].rate > 0
    assert_proof(engine, VECTORS[0])
    bad = CpuDevice(kinds=(Kind.FP16,), adder=half)
    with pytest.raises(EngineError, match="no exact product"):
        CudaEngine(devices=[CpuDevice(), bad])
    assert bad.closed


@pytest.mark.parametrize("kind", CENTRED)
def test_cupy__cards_without_int8(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    state = cupy_on_cpu.State()
    cupy_on_cpu.install(monkeypatch, state)
    monkeypatch.setattr(cuda, "_TRIAL", SIZE)
    other = cupy_on_cpu.BF16 if kind is Kind.FP16 else cupy_on_cpu.FP16
    state.refused = {cupy_on_cpu.INT8, other}
    free = state.free
    engine = make_engine("cuda:1")
    assert isinstance(engine, CudaEngine)
    assert f"{kind.value} of cuBLAS" in engine.device
    assert_proof(engine, VECTORS[0])
    engine.close()
    assert state.free == free
    sys.modules.pop("provider_agent.prover.cuda.cupy_device", None)


# ------------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("kind", CENTRED)
def test_kernels__every_entry_and_its_sums(kind: Kind) -> None:
    device = CpuDevice(kinds=(kind,))
    noise = np.random.default_rng(2)
    entries = noise.integers(0, 128, (5, 1440), np.uint8)
    entries[0, :128], entries[1], entries[2] = np.arange(128), 127, 0
    way = cuda_ways.CudaWay(device, kind)
    operand = way.operand(entries)
    device.synchronize()
    bits = operand.values[0].handle.data.view(np.uint16)
    assert np.array_equal(floats(bits, kind).reshape(5, 1440), entries.astype(np.float64) - 64)
    assert list(operand.sums.handle.data.view(np.int32)) == list(entries.sum(axis=1, dtype=int))
    way.release()


def test_kernels__sums_at_both_ends_of_32_bits() -> None:
    device, depth = CpuDevice(), 132_960
    c, of_rows, of_columns = (device.allocate(size) for size in (32, 8, 16))
    sums, rows, columns = (
        buffer.handle.data.view(kind)
        for buffer, kind in ((c, np.float32), (of_rows, np.int32), (of_columns, np.int32))
    )
    rows[:], columns[:] = [0, 127 * depth], [0, 127 * depth, 5, 127 * depth]
    wanted = np.array([[0, 0, 0, 0], [0, 127 * 127 * depth, 0, 127 * 127 * depth]], np.int64)
    centred = wanted - 64 * (rows[:, None].astype(np.int64) + columns) + 4096 * depth
    sums[:] = centred.ravel()
    exact = sums.astype(np.int64).reshape(2, 4)  # float32 rounds some of these; take what it holds
    regions = (c.at(0), of_rows.at(0), of_columns.at(0))
    cuda_ways.restore(device, *regions, 2, 4, depth, Stream.PRODUCT)
    device.synchronize()
    found = c.handle.data.view(np.int32).reshape(2, 4)
    assert np.array_equal(
        found, (exact + 64 * (rows[:, None].astype(np.int64) + columns) - 4096 * depth)
    )
