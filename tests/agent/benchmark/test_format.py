# SPDX-License-Identifier: Apache-2.0
"""Format v2: every published value, and every parameter out of its range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import Shape
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector

CONTRACT = "0x" + "11" * 20
WORD = bytes(range(32))

shapes = st.builds(Shape, st.sampled_from([256 << k for k in range(9)]), st.integers(1, 277))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_vectors__challenge_seeds_words_commitment_samples_score(vector: Vector) -> None:
    shape = vector.shape
    assert vector.challenge == pog.challenge(
        vector.chain_id, vector.contract, vector.epoch, vector.beacon, vector.provider, shape
    )
    assert pog.seed_a(vector.challenge) == vector.seed_a
    assert [
        pog.seed_b(vector.challenge, t, pog.two_before(vector.roots, t))
        for t in range(vector.rounds)
    ] == vector.seeds_b
    words = pog.words(vector.seed_a, 0, shape.blocks)
    assert words[: len(vector.first_words)] == vector.first_words
    assert len(words) == shape.words
    assert merkle.commitment(vector.roots) == vector.commitment
    assert pog.score(shape, vector.rounds, vector.window) == vector.score
    assert [one.sample for one in vector.openings] == pog.samples(
        vector.draw, vector.rounds, vector.commitment, vector.challenge, shape, len(vector.openings)
    )
    for one in vector.openings:
        assert shape.leaf_index(one.sample.i, one.sample.j) == one.leaf_index


def test_challenge__depends_on_every_field() -> None:
    fields = (1, CONTRACT, 2, WORD, "0x" + "22" * 20, Shape(256, 1))
    other = (2, "0x" + "12" * 20, 3, WORD[::-1], CONTRACT, Shape(512, 1))
    seen = {pog.challenge(*fields)}
    for k, value in enumerate(other):
        changed = [*fields]
        changed[k] = value
        seen.add(pog.challenge(*changed))  # type: ignore[arg-type]  # one field exchanged for its like
    seen.add(pog.challenge(*fields[:5], Shape(256, 2)))
    assert len(seen) == 8
    assert pog.challenge(*fields) == pog.challenge(
        1, CONTRACT.upper().replace("X", "x"), *fields[2:]
    )


@given(shapes)
def test_shape__derived_sizes(shape: Shape) -> None:
    assert shape.depth == 480 * shape.blocks == 30 * shape.words
    assert shape.operations == 2 * shape.n**2 * shape.depth
    assert shape.leaves * 512 == shape.n**2
    assert 1 << shape.leaf_path == shape.leaves
    assert shape.leaf_index(shape.n - 1, shape.n - 1) == shape.leaves - 1
    assert shape.leaf_place(shape.n - 1, shape.n - 1) == 511
    assert shape.depth * 127 * 127 < 1 << 31  # a sum fits a signed 32-bit integer


@pytest.mark.parametrize("n", [-256, 0, 1, 128, 255, 257, 300, 768, 65_535, 131_072])
def test_shape__size_out_of_range(n: int) -> None:
    with pytest.raises(BenchmarkError, match="power of two from 256 to 65536"):
        Shape(n, 1)


@pytest.mark.parametrize("blocks", [-1, 0, 278, 1 << 40])
def test_shape__blocks_out_of_range(blocks: int) -> None:
    with pytest.raises(BenchmarkError, match="1 to 277"):
        Shape(256, blocks)


@pytest.mark.parametrize(
    ("rounds", "length"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 24, 24)]
)
def test_round_path__ceiling_of_the_logarithm(rounds: int, length: int) -> None:
    assert pog.round_path(rounds) == length


@given(st.integers().filter(lambda rounds: not 1 <= rounds <= 1 << 24))
def test_rounds__out_of_range(rounds: int) -> None:
    for call in (pog.check_rounds, pog.round_path, lambda r: pog.score(Shape(256, 1), r, 300)):
        with pytest.raises(BenchmarkError, match="rounds must be 1 to 16777216"):
            call(rounds)


@given(st.binary(max_size=80).filter(lambda value: len(value) != 32))
def test_hashes__other_lengths_than_32_bytes(value: bytes) -> None:
    calls = (
        lambda: pog.seed_a(value),
        lambda: pog.seed_b(value, 0, WORD),
        lambda: pog.seed_b(WORD, 0, value),
        lambda: pog.challenge(1, CONTRACT, 0, value, CONTRACT, Shape(256, 1)),
        lambda: pog.sample_seed(value, 1, WORD, WORD),
        lambda: pog.sample_seed(WORD, 1, value, WORD),
        lambda: pog.sample_seed(WORD, 1, WORD, value),
        lambda: pog.samples_of(value, 1, Shape(256, 1), 1),
    )
    for call in calls:
        with pytest.raises(BenchmarkError, match=f"32 bytes, not {len(value)}"):
            call()


@pytest.mark.parametrize(
    "address", ["", "0x", "0x1", CONTRACT + "0", CONTRACT[:-1] + "g", " " + CONTRACT]
)
def test_challenge__not_an_address(address: str) -> None:
    with pytest.raises(BenchmarkError, match=r"contract .* is not an address"):
        pog.challenge(1, address, 0, WORD, CONTRACT, Shape(256, 1))
    with pytest.raises(BenchmarkError, match=r"provider .* is not an address"):
        pog.challenge(1, CONTRACT, 0, WORD, address, Shape(256, 1))


@pytest.mark.parametrize("value", [-1, 1 << 256])
def test_challenge__number_does_not_fit_a_word(value: int) -> None:
    with pytest.raises(BenchmarkError, match="not an unsigned 256-bit integer"):
        pog.challenge(value, CONTRACT, 0, WORD, CONTRACT, Shape(256, 1))
    with pytest.raises(BenchmarkError, match="not an unsigned 256-bit integer"):
        pog.challenge(1, CONTRACT, value, WORD, CONTRACT, Shape(256, 1))


@given(st.binary(min_size=32, max_size=32), st.integers(1, 1 << 24), shapes, st.integers(1, 16))
def test_samples__in_range_and_a_longer_list_begins_with_the_shorter(
    seed: bytes, rounds: int, shape: Shape, count: int
) -> None:
    samples = pog.samples_of(seed, rounds, shape, count)
    assert len(samples) == count
    assert all(
        0 <= one.t < rounds and 0 <= one.i < shape.n and 0 <= one.j < shape.n for one in samples
    )
    assert pog.samples_of(seed, rounds, shape, count + 1)[:count] == samples


@pytest.mark.parametrize("count", [-1, 0, 257])
def test_samples__number_out_of_range(count: int) -> None:
    with pytest.raises(BenchmarkError, match="samples must be 1 to 256"):
        pog.samples_of(WORD, 1, Shape(256, 1), count)


@pytest.mark.parametrize("window", [0, -1])
def test_score__no_window(window: int) -> None:
    with pytest.raises(BenchmarkError, match="at least one second"):
        pog.score(Shape(256, 1), 1, window)
