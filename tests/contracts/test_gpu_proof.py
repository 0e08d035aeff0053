# SPDX-License-Identifier: Apache-2.0
"""modules/gpu_proof.vy function by function, against the vectors and against the agent's Python.

The whole contract is held against the same vectors in `test_benchmark_vectors.py`.
"""

import json
from pathlib import Path

import boa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from provider_agent.benchmark import format as pog
from provider_agent.benchmark.format import Shape
from provider_agent.benchmark.opening import product_entry
from tests.contracts.deploy import CONTRACTS

VECTORS = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "proof_of_gpu_v1.json").read_text()
)
NAMES = [f"n{v['n']}-b{v['blocks']}-r{v['rounds']}" for v in VECTORS]

words = st.binary(min_size=32, max_size=32)
sizes = st.sampled_from([2**k for k in range(8, 17)])


@pytest.fixture(scope="module")
def deploy():
    return boa.load_partial(str(CONTRACTS / "modules" / "gpu_proof.vy")).deploy


@pytest.fixture(scope="module")
def module(deploy):
    """The library alone; its functions have no state."""
    return deploy().internal


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_challenge__vectors(deploy, vector):
    boa.env.evm.patch.chain_id = vector["chain_id"]
    module = deploy(override_address=vector["contract"]).internal
    found = module._challenge(
        vector["epoch"],
        bytes.fromhex(vector["beacon"]),
        vector["provider"],
        vector["n"],
        vector["blocks"],
    )
    assert found.hex() == vector["challenge"]


@settings(deadline=None, max_examples=25)
@given(
    chain_id=st.integers(1, 2**64),
    epoch=st.integers(0, 2**32),
    beacon=words,
    provider=st.integers(1, 2**160 - 1),
    n=sizes,
    blocks=st.integers(1, 277),
)
def test_challenge__as_the_agent_computes_it(deploy, chain_id, epoch, beacon, provider, n, blocks):
    boa.env.evm.patch.chain_id = chain_id
    module = deploy()
    provider = f"0x{provider:040x}"
    found = module.internal._challenge(epoch, beacon, provider, n, blocks)
    assert found == pog.challenge(
        chain_id, str(module.address), epoch, beacon, provider, Shape(n, blocks)
    )


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_samples__vectors(module, vector):
    seed = module._draw_seed(
        bytes.fromhex(vector["draw"]),
        vector["rounds"],
        bytes.fromhex(vector["commitment"]),
        bytes.fromhex(vector["challenge"]),
    )
    for one in vector["openings"]:
        found = module._sample(seed, one["sample"], vector["rounds"], vector["n"])
        assert found == (one["t"], one["i"], one["j"])


@settings(deadline=None, max_examples=100)
@given(
    draw=words,
    rounds=st.integers(1, 2**24),
    commitment=words,
    challenge=words,
    n=sizes,
    number=st.integers(0, 63),
)
@example(bytes(32), 1, bytes(32), bytes(32), 256, 0)
@example(b"\xff" * 32, 2**24, b"\xff" * 32, b"\xff" * 32, 65_536, 63)
def test_samples__as_the_agent_computes_them(
    module, draw, rounds, commitment, challenge, n, number
):
    seed = module._draw_seed(draw, rounds, commitment, challenge)
    assert seed == pog.sample_seed(draw, rounds, commitment, challenge)
    expected = pog.samples(draw, rounds, commitment, challenge, Shape(n, 1), number + 1)[-1]
    assert module._sample(seed, number, rounds, n) == (expected.t, expected.i, expected.j)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_entry__vectors(module, vector):
    seed_a = bytes.fromhex(vector["seed_a"])
    for one in vector["openings"]:
        seed_b = bytes.fromhex(vector["seeds_b"][one["t"]])
        found = module._entry(seed_a, seed_b, one["i"], one["j"], vector["blocks"])
        assert found == one["value"]


@settings(deadline=None, max_examples=60)
@given(
    seed_a=words,
    seed_b=words,
    i=st.integers(0, 65_535),
    j=st.integers(0, 65_535),
    blocks=st.integers(1, 8),
)
@example(bytes(32), b"\xff" * 32, 65_535, 65_535, 34)
@example(b"\x01" * 32, b"\x02" * 32, 0, 65_535, 136)
@example(b"\x03" * 32, b"\x04" * 32, 65_535, 0, 277)
def test_entry__as_the_agent_computes_it(module, seed_a, seed_b, i, j, blocks):
    expected = product_entry(pog.words(seed_a, i, blocks), pog.words(seed_b, j, blocks))
    assert module._entry(seed_a, seed_b, i, j, blocks) == expected


@settings(deadline=None, max_examples=40)
@given(seed_a=words, seed_b=words, blocks=st.integers(1, 3))
def test_entry__as_a_plain_sum_of_products(module, seed_a, seed_b, blocks):
    """Entry by entry as the format says it, with no lanes."""
    total = 0
    for a, b in zip(pog.words(seed_a, 5, blocks), pog.words(seed_b, 9, blocks), strict=True):
        for s in range(3):
            for k in range(10):
                total += (a >> 8 * (3 * k + s) & 0x7F) * (b >> 8 * (3 * (9 - k) + s) & 0x7F)
    assert module._entry(seed_a, seed_b, 5, 9, blocks) == total


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_score__vectors(module, vector):
    found = module._score(vector["n"], vector["blocks"], vector["rounds"], vector["window"])
    assert found == vector["score"]


@settings(deadline=None, max_examples=50)
@given(
    n=sizes,
    blocks=st.integers(1, 277),
    rounds=st.integers(1, 2**24),
    window=st.integers(1, 366 * 86_400),
)
@example(65_536, 277, 2**24, 1)
def test_score__as_the_agent_computes_it(module, n, blocks, rounds, window):
    assert module._score(n, blocks, rounds, window) == pog.score(Shape(n, blocks), rounds, window)


BORDERS = sorted(
    {count for k in range(25) for count in (2**k - 1, 2**k, 2**k + 1) if 1 <= count <= 2**24}
)


def test_levels__at_every_power_of_two(module):
    for count in BORDERS:
        assert module._levels(count) == (count - 1).bit_length()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2**24))
def test_levels__is_the_least_depth(module, count):
    levels = module._levels(count)
    assert 2**levels >= count
    assert levels == 0 or 2 ** (levels - 1) < count
