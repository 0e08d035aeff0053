# SPDX-License-Identifier: Apache-2.0
"""The CUDA engine on devices that run its kernels on the CPU, against vectors and reference."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator
from functools import cache
from typing import Any

import pytest

from provider_agent.prover.cuda import plan as cuda_plan
from provider_agent.prover.cuda.device import Stream
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.cuda.plan import Share, Tiles
from provider_agent.prover.engine import Engine
from provider_agent.prover.proof import Proof
from provider_agent.prover.reference import ReferenceEngine
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak, two_before
from teraproof.pog.opening import verify
from tests.agent.benchmark.cuda_on_cpu import CpuDevice, engine_on
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector
from tests.support import budget

FAVOURITES = [None, *Stream]
CHALLENGE = keccak(b"a challenge of the tests")
SMALL = Shape(256, 2)


def rounds(engine: Engine, number: int, done: list[bytes] | None = None) -> list[bytes]:
    return list(itertools.islice(engine.roots(done or []), number))


@cache
def reference(shape: Shape = SMALL) -> ReferenceEngine:
    engine = ReferenceEngine()
    engine.prepare(CHALLENGE, shape)
    return engine


@cache
def reference_roots(shape: Shape, number: int) -> list[bytes]:
    return rounds(reference(shape), number)


@cache
def opened(t: int, i: int, j: int, shape: Shape = SMALL) -> tuple[bytes, list[bytes]]:
    """The reference's leaf and path."""
    return reference(shape).open(t, two_before(reference_roots(shape, 4), t), i, j)


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """Six roots of the challenge by the reference engine."""
    return reference_roots(SMALL, 6)


def prepared(*devices: CpuDevice, shape: Shape = SMALL) -> CudaEngine:
    engine = engine_on(*devices)
    engine.prepare(CHALLENGE, shape)
    return engine


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_engine__vectors(vector: Vector) -> None:
    engine = engine_on(CpuDevice())
    engine.prepare(vector.challenge, vector.shape)
    roots = rounds(engine, vector.rounds)
    assert roots == vector.roots
    proof = Proof(vector.challenge, vector.shape, tuple(roots))
    openings = proof.openings(engine, vector.draw, len(vector.openings))
    assert openings == [one.opening for one in vector.openings]
    engine.close()


@pytest.mark.parametrize("favourite", FAVOURITES)
@pytest.mark.parametrize("seed", range(3))
def test_roots__any_order_of_the_streams(
    favourite: Stream | None, seed: int, expected: list[bytes]
) -> None:
    engine = prepared(CpuDevice(seed, favourite))
    assert rounds(engine, 6) == expected
    engine.close()


@pytest.mark.parametrize(
    "tiles",
    [
        Tiles(256, 256, False),
        Tiles(64, 256, True),
        Tiles(64, 256, False),
        Tiles(128, 256, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("favourite", FAVOURITES)
def test_roots__tiles(
    tiles: Tiles,
    favourite: Stream | None,
    expected: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("provider_agent.prover.cuda.engine.tiles", lambda *_: tiles)
    engine = prepared(CpuDevice(11, favourite))
    assert rounds(engine, 6) == expected
    for i, j in ((0, 0), (63, 255), (64, 7), (255, 255)):
        assert engine.open(3, expected[1], i, j) == opened(3, i, j)
    engine.close()


@pytest.mark.parametrize("favourite", FAVOURITES)
def test_roots__tiles_of_columns(favourite: Stream | None, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, ways = Shape(1024, 1), [Tiles(1024, 512, True), Tiles(256, 512, True)]
    ways.append(Tiles(512, 512, False))
    if favourite is not None and not budget.deep():
        ways = [ways[FAVOURITES.index(favourite) % 3]]
    wanted = reference_roots(shape, 4)
    for tiles in ways:
        monkeypatch.setattr(
            "provider_agent.prover.cuda.engine.tiles", lambda *_, tiles=tiles: tiles
        )
        engine = prepared(CpuDevice(3, favourite), shape=shape)
        assert rounds(engine, 4) == wanted
        assert engine.open(2, wanted[0], 300, 811) == opened(2, 300, 811, shape)
        engine.close()


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8])
def test_roots__several_devices_make_one_proof(number: int, expected: list[bytes]) -> None:
    devices = [CpuDevice(k, FAVOURITES[k % 4]) for k in range(number)]
    engine = prepared(*devices)
    assert rounds(engine, 6) == expected
    for i, j in ((0, 3), (100, 200), (255, 255), (101, 0)):
        assert engine.open(5, expected[3], i, j) == opened(5, i, j)
    assert engine.device.startswith(f"{number} x ")
    engine.close()
    assert all(device.closed and device.allocated == 0 for device in devices)


@pytest.mark.parametrize("done", range(6))
def test_roots__go_on_after_a_restart(done: int, expected: list[bytes]) -> None:
    engine = prepared(CpuDevice(done))
    assert rounds(engine, 6 - done, expected[:done]) == expected[done:]


def test_roots__the_list_may_grow_meanwhile(expected: list[bytes]) -> None:
    found: list[bytes] = []
    for root in prepared(CpuDevice()).roots(found):
        found.append(root)
        if len(found) == 6:
            break
    assert found == expected


def test_roots__a_dropped_iterator_disturbs_nobody(expected: list[bytes]) -> None:
    engine = prepared(CpuDevice(4, Stream.PRODUCT))
    first = engine.roots([])
    assert isinstance(first, Generator)
    next(first)
    first.close()
    assert rounds(engine, 2, expected[:1]) == expected[1:3]
    suspended = engine.roots([])
    assert next(suspended) == expected[0]
    engine.open(4, expected[2], 9, 9)
    assert next(suspended) == expected[1]
    assert next(suspended) == expected[2]


def test_prepare__another_challenge_and_shape(expected: list[bytes]) -> None:
    device = CpuDevice()
    engine = prepared(device)
    rounds(engine, 1)
    other = Shape(512, 1)
    engine.prepare(keccak(b"another"), other)
    reference = ReferenceEngine()
    reference.prepare(keccak(b"another"), other)
    assert rounds(engine, 1) == rounds(reference, 1)
    engine.prepare(CHALLENGE, SMALL)
    assert rounds(engine, 2) == expected[:2]
    engine.close()
    assert device.allocated == 0


def test_prepare__a_stays_on_the_device_and_only_roots_come_back() -> None:
    device = CpuDevice()
    engine = prepared(device)
    roots = engine.roots([])
    next(roots)
    # The first round of a shape also hands a leaf back, to be checked, with its path.
    extra = device.downloaded - 3 * 32
    assert extra == 4 * 512 + 32 * SMALL.leaf_path
    for _ in range(9):
        next(roots)
    # Two more rounds are under way when the tenth root is there.
    assert Counter(device.launches)["generate_a"] == 1
    assert Counter(device.launches)["generate_b"] == 12
    assert device.downloaded == 12 * 32 + extra
    engine.prepare(keccak(b"another"), SMALL)
    next(engine.roots([]))
    assert device.downloaded == 15 * 32 + extra


def test_roots__a_device_that_is_wrong_at_this_size_proves_nothing() -> None:
    class Wrong(CpuDevice):
        def product(self, *arguments: Any) -> None:
            """A kernel that the trial did not meet: it multiplies nothing."""

    devices = [CpuDevice(), Wrong(name="the other one")]
    engine = prepared(*devices)
    with pytest.raises(EngineError, match="the other one multiplies wrongly at this size"):
        next(engine.roots([]))
    engine.close()
    assert devices[1].allocated == 0


def test_roots__next_columns_are_made_while_the_product_runs() -> None:
    device = CpuDevice(favourite=Stream.HASHING)
    engine = prepared(device)
    roots = engine.roots([])
    next(roots)
    # Round 2 is queued: its columns can be made before product 1 is done.
    assert Counter(device.done)["product"] == 1
    device.settle(Stream.GENERATION)
    assert Counter(device.done)["generate_b"] == 3
    assert Counter(device.done)["product"] == 1
    times = engine.timings()
    assert min(times.product, times.generation, times.hashing) > 0


def test_open__a_second_entry_of_a_round_costs_no_product(expected: list[bytes]) -> None:
    devices = [CpuDevice(), CpuDevice()]
    engine = prepared(*devices)
    engine.open(2, expected[0], 1, 1)
    launches = [len(device.launches) for device in devices]
    for i, j in ((1, 200), (200, 1), (127, 255), (128, 0)):
        assert engine.open(2, expected[0], i, j) == opened(2, i, j)
    assert [len(device.launches) for device in devices] == launches
    engine.open(3, expected[1], 1, 1)
    assert [len(device.launches) for device in devices] > launches


def test_open__after_raw_products_computes_again(expected: list[bytes]) -> None:
    engine = prepared(CpuDevice())
    wanted = opened(2, 77, 78)
    assert engine.open(2, expected[0], 77, 78) == wanted
    engine.raw_product(0.0)
    assert engine.open(2, expected[0], 77, 78) == wanted


def test_proof__openings_pass_the_check_of_the_contract() -> None:
    engine = prepared(CpuDevice(), CpuDevice(), CpuDevice())
    proof = Proof(CHALLENGE, SMALL, tuple(rounds(engine, 5)))
    draw = keccak(b"draw")
    for sample, opening in zip(
        proof.samples(draw, 8), proof.openings(engine, draw, 8), strict=True
    ):
        verify(opening, sample, CHALLENGE, SMALL, 5, proof.commitment)


def test_measurements__raw_product_and_stages(expected: list[bytes]) -> None:
    engine = prepared(CpuDevice())
    operations, seconds = engine.raw_product(0.05)
    assert operations % SMALL.operations == 0
    assert operations >= SMALL.operations
    assert seconds >= 0.05
    before = engine.timings()
    alone = engine.stages(2)
    assert min(alone.product, alone.generation, alone.hashing) > 0
    assert engine.timings() == before
    assert rounds(engine, 3) == expected[:3]


def test_errors__not_prepared() -> None:
    engine = engine_on(CpuDevice())
    with pytest.raises(EngineError, match="not prepared"):
        next(engine.roots([]))
    with pytest.raises(EngineError, match="not prepared"):
        engine.open(0, bytes(32), 0, 0)
    engine.prepare(CHALLENGE, SMALL)
    with pytest.raises(EngineError, match="row 256"):
        engine.open(0, bytes(32), 256, 0)


def test_errors__no_room_gives_everything_back() -> None:
    roomy, tight = CpuDevice(), CpuDevice(memory=1 << 20)
    engine = engine_on(roomy, tight)
    with pytest.raises(EngineError, match="GiB are free"):
        engine.prepare(CHALLENGE, SMALL)
    assert roomy.allocated == tight.allocated == 0
    with pytest.raises(EngineError, match="not prepared"):
        next(engine.roots([]))


def test_errors__too_many_devices() -> None:
    with pytest.raises(EngineError, match="use fewer"):
        cuda_plan.shares(SMALL, [1.0] * 17)


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("n", [256, 16_384, 65_536])
def test_shares__cover_all_rows_evenly(devices: int, n: int) -> None:
    found = cuda_plan.shares(Shape(n, 1), [1.0] * devices)
    assert [share.first for share in found] == [
        sum(share.rows for share in found[:k]) for k in range(devices)
    ]
    assert sum(share.rows for share in found) == n
    size = {share.subtree_rows for share in found}
    assert len(size) == 1
    assert size.pop() & (found[0].subtree_rows - 1) == 0
    most = max(share.rows for share in found)
    assert most - min(share.rows for share in found) <= found[0].subtree_rows
    if n > 256:
        assert most <= n / devices + n / 64


def test_tiles__largest_that_fit() -> None:
    shape = Shape(32_768, 277)
    share = Share(0, shape.n, 1)
    whole = cuda_plan.tiles(shape, share, 80 << 30)
    assert whole == Tiles(shape.n, shape.n, True)
    # A card of 20 GB: A and smaller tiles. One of 6 GB: A is made again for every tile.
    medium = cuda_plan.tiles(shape, share, 18 << 30)
    assert medium.keep_a
    assert medium.rows * medium.columns < shape.n**2
    small = cuda_plan.tiles(shape, share, 5 << 30)
    assert not small.keep_a
    for free, plan in ((18 << 30, medium), (5 << 30, small)):
        assert plan.bytes(shape, share.rows) < free
        assert shape.n % plan.columns == 0
        assert share.rows % plan.rows == 0


def test_tiles__no_room_says_how_much_is_needed() -> None:
    with pytest.raises(EngineError, match=r"needs \d+\.\d GiB of GPU memory, 1\.0 GiB are free"):
        cuda_plan.tiles(Shape(65_536, 277), Share(0, 65_536, 1), 1 << 30)
