# SPDX-License-Identifier: Apache-2.0
"""pog/gpu_proof.vy function by function, against the vectors and against the agent's Python.

The whole contract is held against the same vectors in `test_benchmark_vectors.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.format import Sample, Shape
from teraproof.pog.opening import Opening, entry, product_entry, verify
from tests.contracts.deploy import CONTRACTS, Contract

pytestmark = pytest.mark.invariant("I-7")

VECTORS = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "proof_of_gpu_v2.json").read_text()
)
NAMES = [f"n{v['n']}-b{v['blocks']}-r{v['rounds']}" for v in VECTORS]

words = st.binary(min_size=32, max_size=32)
sizes = st.sampled_from([2**k for k in range(8, 17)])


@pytest.fixture(scope="module")
def deploy() -> Any:
    return boa.load_partial(str(CONTRACTS / "pog" / "gpu_proof.vy")).deploy


@pytest.fixture(scope="module")
def module(deploy: Any) -> Contract:
    """The library alone; its functions have no state."""
    return deploy().internal


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_challenge__vectors(deploy: Any, vector: Any) -> None:
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


@settings(max_examples=25)
@given(
    chain_id=st.integers(1, 2**64),
    epoch=st.integers(0, 2**32),
    beacon=words,
    provider=st.integers(1, 2**160 - 1),
    n=sizes,
    blocks=st.integers(1, 277),
)
def test_challenge__as_the_agent_computes_it(
    deploy: Any, chain_id: Any, epoch: int, beacon: Any, provider: Any, n: int, blocks: Any
) -> None:
    boa.env.evm.patch.chain_id = chain_id
    module = deploy()
    provider = f"0x{provider:040x}"
    found = module.internal._challenge(epoch, beacon, provider, n, blocks)
    assert found == pog.challenge(
        chain_id, str(module.address), epoch, beacon, provider, Shape(n, blocks)
    )


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_samples__vectors(module: Contract, vector: Any) -> None:
    seed = module._draw_seed(
        bytes.fromhex(vector["draw"]),
        vector["rounds"],
        bytes.fromhex(vector["commitment"]),
        bytes.fromhex(vector["challenge"]),
    )
    for one in vector["openings"]:
        found = module._sample(seed, one["sample"], vector["rounds"], vector["n"])
        assert found == (one["t"], one["i"], one["j"])


@settings(max_examples=100)
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
    module: Contract, draw: Any, rounds: int, commitment: Any, challenge: Any, n: int, number: int
) -> None:
    seed = module._draw_seed(draw, rounds, commitment, challenge)
    assert seed == pog.sample_seed(draw, rounds, commitment, challenge)
    expected = pog.samples(draw, rounds, commitment, challenge, Shape(n, 1), number + 1)[-1]
    assert module._sample(seed, number, rounds, n) == (expected.t, expected.i, expected.j)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_entry__vectors(module: Contract, vector: Any) -> None:
    seed_a = bytes.fromhex(vector["seed_a"])
    for one in vector["openings"]:
        seed_b = bytes.fromhex(vector["seeds_b"][one["t"]])
        found = module._entry(seed_a, seed_b, one["i"], one["j"], vector["blocks"])
        assert found == one["value"] % 2**8


@settings(max_examples=60)
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
def test_entry__as_the_agent_computes_it(
    module: Contract, seed_a: Any, seed_b: Any, i: Any, j: Any, blocks: Any
) -> None:
    expected = product_entry(pog.words(seed_a, i, blocks), pog.words(seed_b, j, blocks))
    assert module._entry(seed_a, seed_b, i, j, blocks) == expected % 2**8


@settings(max_examples=40)
@given(seed_a=words, seed_b=words, blocks=st.integers(1, 3))
def test_entry__as_a_plain_sum_of_products(
    module: Contract, seed_a: Any, seed_b: Any, blocks: Any
) -> None:
    """Entry by entry as the format says it, with no lanes."""
    total = 0
    for a, b in zip(pog.words(seed_a, 5, blocks), pog.words(seed_b, 9, blocks), strict=True):
        for s in range(3):
            for k in range(10):
                total += (a >> 8 * (3 * k + s) & 0x7F) * (b >> 8 * (3 * (9 - k) + s) & 0x7F)
    assert module._entry(seed_a, seed_b, 5, 9, blocks) == total % 2**8


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_score__vectors(module: Contract, vector: Any) -> None:
    found = module._score(vector["n"], vector["blocks"], vector["rounds"], vector["window"])
    assert found == vector["score"]


@settings(max_examples=50)
@given(
    n=sizes,
    blocks=st.integers(1, 277),
    rounds=st.integers(1, 2**24),
    window=st.integers(1, 366 * 86_400),
)
@example(65_536, 277, 2**24, 1)
def test_score__as_the_agent_computes_it(
    module: Contract, n: int, blocks: Any, rounds: int, window: Any
) -> None:
    assert module._score(n, blocks, rounds, window) == pog.score(Shape(n, blocks), rounds, window)


BORDERS = sorted(
    {border for k in range(25) for border in (2**k - 1, 2**k, 2**k + 1) if 1 <= border <= 2**24}
)


def test_levels__at_every_power_of_two(module: Contract) -> None:
    for rounds in BORDERS:
        assert module._levels(rounds) == (rounds - 1).bit_length()


@settings(max_examples=100)
@given(st.integers(1, 2**24))
def test_levels__is_the_least_depth(module: Contract, rounds: int) -> None:
    levels = module._levels(rounds)
    assert 2**levels >= rounds
    assert levels == 0 or 2 ** (levels - 1) < rounds


@pytest.mark.parametrize("n", [2**k for k in range(8, 17)])
def test_leaf_levels__as_the_agent_computes_them(module: Contract, n: Any) -> None:
    assert module._leaf_levels(n) == Shape(n, 1).leaf_path


# ------------------------------------------------------ openings of any dimensions


@dataclass(frozen=True)
class Asked:
    """A sample and its right opening, in trees of which only the paths exist."""

    challenge: bytes
    shape: Shape
    rounds: int
    sample: Sample
    opening: Opening
    commitment: bytes

    def check(self, module: Contract, words: list[bytes]) -> None:
        module._check(
            words,
            self.challenge,
            self.commitment,
            self.sample.t,
            self.sample.i,
            self.sample.j,
            self.shape.n,
            self.shape.blocks,
            self.shape.leaf_path,
            pog.round_path(self.rounds),
        )


def asked(shape: Shape, rounds: int, sample: Sample, noise: bytes) -> Asked:
    """Grow both paths from random siblings; the paths meet where those of t and t - 2 do."""
    numbers = count()

    def random() -> bytes:
        return pog.keccak(noise + pog.word(next(numbers)))

    t, levels = sample.t, pog.round_path(rounds)
    challenge, before = random(), random() if t >= 2 else pog.ZERO
    value = entry(challenge, shape, sample, before) & 0xFF
    leaf = bytearray(b"".join(random() for _ in range(16)))
    leaf[shape.leaf_place(sample.i, sample.j)] = value
    leaf_path = [random() for _ in range(shape.leaf_path)]
    index = shape.leaf_index(sample.i, sample.j)
    root = merkle.climb(pog.keccak(bytes(leaf)), index, leaf_path)

    path = [random() for _ in range(levels)]
    path_before: list[bytes] = []
    if t >= 2:
        own = (t ^ (t - 2)).bit_length()
        path_before = [random() for _ in range(own - 1)]
        path[own - 1] = merkle.climb(before, t - 2, path_before)
        path_before += [merkle.climb(root, t, path[: own - 1]), *path[own:]]
    commitment = merkle.climb(root, t, path)
    opening = Opening(before, root, bytes(leaf), tuple(leaf_path), tuple(path), tuple(path_before))
    return Asked(challenge, shape, rounds, sample, opening, commitment)


def published(vector: Any, one: Any) -> Asked:
    """A sample of a vector and its opening."""
    return Asked(
        challenge=bytes.fromhex(vector["challenge"]),
        shape=Shape(vector["n"], vector["blocks"]),
        rounds=vector["rounds"],
        sample=Sample(one["t"], one["i"], one["j"]),
        opening=Opening(
            root_before=bytes.fromhex(one["root_two_before"]),
            root=bytes.fromhex(one["root"]),
            leaf=bytes.fromhex(one["leaf"]),
            leaf_path=tuple(bytes.fromhex(node) for node in one["path"]),
            root_path=tuple(bytes.fromhex(node) for node in one["root_path"]),
            path_before=tuple(bytes.fromhex(node) for node in one["root_two_before_path"]),
        ),
        commitment=bytes.fromhex(vector["commitment"]),
    )


@st.composite
def questions(draw: Any) -> Any:
    shape = Shape(draw(sizes), draw(st.integers(1, 2)))
    rounds = draw(st.integers(1, 24).flatmap(lambda bits: st.integers(1, 2**bits)))
    edge = st.integers(0, shape.n - 1)
    sample = Sample(draw(st.integers(0, rounds - 1)), draw(edge), draw(edge))
    return asked(shape, rounds, sample, draw(words))


BIG = 2**24
LARGEST = Shape(65_536, 1)


@settings(max_examples=80)
@given(questions())
@example(asked(LARGEST, BIG, Sample(BIG - 1, 65_535, 65_535), b"last"))
@example(asked(LARGEST, BIG, Sample(BIG // 2, 65_535, 0), b"meet at the top"))
@example(asked(LARGEST, BIG, Sample(BIG // 2 + 1, 0, 65_535), b"meet at the top"))
@example(asked(LARGEST, BIG, Sample(0, 0, 0), b"no earlier root"))
@example(asked(LARGEST, BIG // 2 + 1, Sample(BIG // 2, 0, 255), b"padded"))
@example(asked(Shape(256, 277), 3, Sample(2, 255, 255), b"deepest"))
def test_check__openings_of_any_dimensions(module: Contract, question: Any) -> None:
    """The contract takes what the agent takes, up to the largest proof of the format."""
    one = question
    verify(one.opening, one.sample, one.challenge, one.shape, one.rounds, one.commitment)
    one.check(module, one.opening.words())


def test_check__the_longest_opening(module: Contract) -> None:
    """89 words: what the contract's type can hold is what the format needs."""
    one = asked(LARGEST, BIG, Sample(BIG // 2, 1, 2), b"longest")
    assert len(one.opening.words()) == 18 + 23 + 2 * 24
    one.check(module, one.opening.words())


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_check__vectors(module: Contract, vector: Any) -> None:
    for one in vector["openings"]:
        published(vector, one).check(module, published(vector, one).opening.words())


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_check__flipped_bits_of_the_vectors(module: Contract, vector: Any) -> None:
    """Every bit of both roots and of the word with the value, four bits of every other word."""
    one = published(vector, max(vector["openings"], key=lambda one: one["t"]))
    words = one.opening.words()
    value = 2 + one.shape.leaf_place(one.sample.i, one.sample.j) // 32
    for word, old in enumerate(words):
        some = (0, 255, 37 * word % 256, (101 * word + 128) % 256)
        for bit in range(256) if word in (0, 1, value) else some:
            new = (int.from_bytes(old, "big") ^ 1 << bit).to_bytes(32, "big")
            with boa.reverts():
                one.check(module, [*words[:word], new, *words[word + 1 :]])


@settings(max_examples=80)
@given(questions(), st.data())
def test_check__a_flipped_bit_in_any_dimensions(
    module: Contract, question: Any, data: st.DataObject
) -> None:
    words = question.opening.words()
    word, bit = data.draw(st.integers(0, len(words) - 1)), data.draw(st.integers(0, 255))
    words[word] = (int.from_bytes(words[word], "big") ^ 1 << bit).to_bytes(32, "big")
    with boa.reverts():
        question.check(module, words)
