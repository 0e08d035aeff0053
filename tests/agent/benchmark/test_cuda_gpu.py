# SPDX-License-Identifier: Apache-2.0
"""The CUDA engine on a real GPU, where there is one with CuPy: vectors, large shapes, `bench`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from itertools import islice

import pytest
from click.testing import CliRunner

from provider_agent import devices
from provider_agent.cli import main as cli
from provider_agent.prover.bench import rates
from provider_agent.prover.cuda.device import Kind
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.engine import Engine, make_engine
from provider_agent.prover.products.choose import Chosen
from provider_agent.prover.products.cuda_ways import CudaWay
from provider_agent.prover.proof import Proof
from provider_agent.prover.reference import ReferenceEngine
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    if not devices.gpus():
        pytest.skip("no NVIDIA GPU is here")
    made = make_engine("cuda")
    yield made
    made.close()


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_gpu__published_vectors(engine: Engine, vector: Vector) -> None:
    engine.prepare(vector.challenge, vector.shape)
    assert list(islice(engine.roots([]), vector.rounds)) == vector.roots
    proof = Proof(vector.challenge, vector.shape, tuple(vector.roots))
    openings = proof.openings(engine, vector.draw, len(vector.openings))
    assert openings == [one.opening for one in vector.openings]


def test_gpu__many_rounds_as_the_reference(engine: Engine) -> None:
    shape, challenge = Shape(512, 2), keccak(b"on a GPU")
    engine.prepare(challenge, shape)
    reference = ReferenceEngine()
    reference.prepare(challenge, shape)
    assert list(islice(engine.roots([]), 8)) == list(islice(reference.roots([]), 8))


@pytest.mark.parametrize(
    "shape",
    # The last has operands of more than 2^31 entries.
    [Shape(4096, 277), Shape(16_384, 34), Shape(32_768, 138)],
    ids=str,
)
def test_gpu__large_shapes_pass_the_check_of_the_contract(engine: Engine, shape: Shape) -> None:
    assert isinstance(engine, CudaEngine)
    if engine.devices[0].free_bytes() < 40 << 30 and shape.n > 16_384:
        pytest.skip("the GPU is too small for this shape")
    challenge = keccak(b"large")
    engine.prepare(challenge, shape)
    proof = Proof(challenge, shape, tuple(islice(engine.roots([]), 5)))
    for _ in range(3):
        assert rates.passes(engine, proof)


@pytest.mark.parametrize("kind", list(Kind))
def test_gpu__each_kind_of_product_makes_the_same_proof(engine: Engine, kind: Kind) -> None:
    assert isinstance(engine, CudaEngine)
    device = engine.devices[0]
    (refused,) = [
        trial.refused
        for trial in engine.products[0].trials
        if trial.name == CudaWay(device, kind).name
    ]
    if refused:
        pytest.skip(f"this GPU: {refused}")
    one = CudaEngine(devices=[device], chosen=[Chosen(CudaWay(device, kind), 1.0, ())])
    for vector in VECTORS:
        one.prepare(vector.challenge, vector.shape)
        assert list(islice(one.roots([]), vector.rounds)) == vector.roots
    # The depth of the public plans, whose sums pass the proven depth many times over.
    challenge, shape = keccak(b"deep"), Shape(8192, 68)
    one.prepare(challenge, shape)
    proof = Proof(challenge, shape, tuple(islice(one.roots([]), 4)))
    for _ in range(3):
        assert rates.passes(one, proof)
    one.prepare(keccak(b"small"), Shape(256, 1))  # the device stays open for the others


@pytest.mark.parametrize("name", ["torch:cuda", "torch:xpu", "torch:mps"])
def test_torch__published_vectors_on_a_device(name: str) -> None:
    try:
        made = make_engine(name)
    except EngineError as error:
        pytest.skip(str(error))
    for vector in VECTORS:
        made.prepare(vector.challenge, vector.shape)
        assert list(islice(made.roots([]), vector.rounds)) == vector.roots
    made.close()


def test_gpu__bench(engine: Engine) -> None:
    result = CliRunner().invoke(
        cli.main, ["bench", "--device", "cuda", "--seconds", "3", "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["devices"][0]["kind"] == "cuda"
    assert 0 < found["proven"] <= found["raw"] * 1.05
    assert all(size["checked"] for size in found["sizes"])
    assert found["information"]["fp16"] > 0
