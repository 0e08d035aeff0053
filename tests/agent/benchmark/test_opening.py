# SPDX-License-Identifier: Apache-2.0
"""Openings: the published ones pass, and nothing that differs from them does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import OpeningError
from teraproof.pog.format import ZERO, Sample
from teraproof.pog.opening import Opening, entry, product_entry, verify
from tests.agent.benchmark.vectors import NAMES, VECTORS, Opened, Vector

CASES = [(vector, one) for vector in VECTORS for one in vector.openings]
LATE = next((vector, one) for vector, one in CASES if one.sample.t >= 2)
EARLY = next((vector, one) for vector, one in CASES if one.sample.t < 2 < vector.rounds)

cases = st.sampled_from(CASES)


def check(vector: Vector, opening: Opening, sample: Sample) -> None:
    verify(opening, sample, vector.challenge, vector.shape, vector.rounds, vector.commitment)


def refused(vector: Vector, opening: Opening, sample: Sample, match: str | None = None) -> None:
    with pytest.raises(OpeningError, match=match):
        check(vector, opening, sample)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_verify__published_openings(vector: Vector) -> None:
    for one in vector.openings:
        check(vector, one.opening, one.sample)
        value = entry(vector.challenge, vector.shape, one.sample, one.opening.root_before)
        assert value == one.value


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_encode__decode_is_its_inverse(vector: Vector) -> None:
    for one in vector.openings:
        data = one.opening.encode()
        assert Opening.decode(data, vector.shape, vector.rounds) == one.opening
        assert b"".join(one.opening.words()) == data
        # The earlier path ends where the indices meet: above, the two paths are one.
        meet = (one.sample.t ^ (one.sample.t - 2)).bit_length() if one.sample.t >= 2 else 0
        nodes = vector.shape.leaf_path + pog.round_path(vector.rounds) + meet
        assert len(data) == 64 + 512 + 32 * nodes


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_verify__every_single_flipped_bit(vector: Vector) -> None:
    one = max(vector.openings, key=lambda one: one.sample.t)
    data = one.opening.encode()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        opening = Opening.decode(bytes(flipped), vector.shape, vector.rounds)
        with pytest.raises(OpeningError):
            check(vector, opening, one.sample)


def test_verify__every_single_flipped_bit_of_the_first_rounds_earlier_root() -> None:
    vector, one = EARLY
    for bit in range(256):
        opening = replace(one.opening, root_before=(1 << bit).to_bytes(32, "big"))
        refused(vector, opening, one.sample, "must be zero")


@given(cases, st.data())
def test_verify__flipped_bit_of_challenge_or_commitment(
    case: tuple[Vector, Opened], data: st.DataObject
) -> None:
    vector, one = case
    name = data.draw(st.sampled_from(["challenge", "commitment"]))
    bit = data.draw(st.integers(0, 255))
    value = int.from_bytes(getattr(vector, name), "big") ^ 1 << bit
    changed_field: dict[str, Any] = {name: value.to_bytes(32, "big")}
    other = replace(vector, **changed_field)
    # Another challenge gives another entry, which has the same 8 bits once in 256.
    if name == "challenge":
        changed = entry(other.challenge, other.shape, one.sample, one.opening.root_before)
        assume(changed & 0xFF != one.value & 0xFF)
    refused(other, one.opening, one.sample)


@given(cases, st.data())
def test_verify__another_sample(case: tuple[Vector, Opened], data: st.DataObject) -> None:
    vector, one = case
    edge = st.integers(0, vector.shape.n - 1)
    sample = Sample(data.draw(st.integers(0, vector.rounds - 1)), data.draw(edge), data.draw(edge))
    neighbour = Sample(one.sample.t, one.sample.i, one.sample.j ^ 1)
    for other in (sample, neighbour):
        claimed = one.opening.leaf[vector.shape.leaf_place(other.i, other.j)]
        same_leaf = (other.t, vector.shape.leaf_index(other.i, other.j)) == (
            one.sample.t,
            one.leaf_index,
        )
        if same_leaf:  # the leaf shows 512 entries, and all of them are right
            value = entry(vector.challenge, vector.shape, other, one.opening.root_before)
            assert value & 0xFF == claimed
            check(vector, one.opening, other)
        else:
            refused(vector, one.opening, other)


@pytest.mark.parametrize("sample", [(-1, 0, 0), (5, 0, 0), (0, -1, 0), (0, 512, 0), (0, 0, 512)])
def test_verify__sample_outside_the_proof(sample: tuple[int, int, int]) -> None:
    vector = VECTORS[1]
    assert (vector.rounds, vector.shape.n) == (5, 512)
    refused(vector, vector.openings[0].opening, Sample(*sample), "no entry")


@pytest.mark.parametrize("case", [LATE, EARLY], ids=["late", "early"])
@pytest.mark.parametrize("field", ["leaf_path", "root_path", "path_before"])
def test_verify__paths_of_other_lengths(case: tuple[Vector, Opened], field: str) -> None:
    vector, one = case
    path: tuple[bytes, ...] = getattr(one.opening, field)
    longer: dict[str, Any]
    for other in {path[:-1], path[1:], (*path, ZERO), path + path} - {path}:
        longer = {field: other}
        refused(vector, replace(one.opening, **longer), one.sample, "nodes, not")


def test_verify__a_node_does_not_pass_for_a_leaf() -> None:
    """A path that starts one level up, with the two hashes below it in place of the leaf."""
    vector, one = LATE
    pair = pog.keccak(one.opening.leaf) + one.opening.leaf_path[0]
    opening = replace(one.opening, leaf=pair, leaf_path=one.opening.leaf_path[1:])
    refused(vector, opening, one.sample, "nodes, not")
    refused(vector, replace(one.opening, leaf=pair), one.sample, "512 bytes")


@given(cases, st.sampled_from(["leaf", "root", "root_before"]), st.integers(0, 600))
def test_verify__fields_of_other_sizes(case: tuple[Vector, Opened], field: str, size: int) -> None:
    vector, one = case
    assume(size != len(getattr(one.opening, field)))
    other: dict[str, Any] = {field: bytes(size)}
    refused(vector, replace(one.opening, **other), one.sample, "bytes")


def test_verify__a_wrong_value_under_a_right_tree() -> None:
    """A cheat who guesses an entry and builds honest trees over it is caught by the product."""
    vector, one = VECTORS[0], VECTORS[0].openings[0]
    at = vector.shape.leaf_place(one.sample.i, one.sample.j)
    wrong = bytes([(one.value + 1) & 0xFF])
    leaf = one.opening.leaf[:at] + wrong + one.opening.leaf[at + 1 :]
    root = merkle.climb(pog.keccak(leaf), one.leaf_index, one.opening.leaf_path)
    forged = replace(one.opening, leaf=leaf, root=root)
    assert vector.rounds == 1  # the commitment is the root
    refused(replace(vector, commitment=root), forged, one.sample, "modulo 2\\^8")


def test_verify__another_provider_cannot_use_the_proof() -> None:
    vector, one = LATE
    other = pog.challenge(
        vector.chain_id, vector.contract, vector.epoch, vector.beacon, vector.contract, vector.shape
    )
    refused(replace(vector, challenge=other), one.opening, one.sample, "modulo 2\\^8")


def test_verify__an_earlier_root_of_another_round() -> None:
    vector, one = LATE
    t = one.sample.t - 1  # a root of the same proof, with its right path
    opening = replace(
        one.opening,
        root_before=vector.roots[t],
        path_before=tuple(merkle.root_path(vector.roots, t)),
    )
    refused(vector, opening, one.sample, f"round {one.sample.t - 2} is not in the commitment")


@given(cases, st.integers(0, 3000))
def test_decode__other_lengths(case: tuple[Vector, Opened], size: int) -> None:
    vector, _ = case
    upper = pog.round_path(vector.rounds)
    shortest = 64 + 512 + 32 * (vector.shape.leaf_path + upper)
    assume(size not in {shortest + 32 * own for own in (0, *range(2, upper + 1))})
    with pytest.raises(OpeningError, match="bytes, not"):
        Opening.decode(bytes(size), vector.shape, vector.rounds)


def test_product_entry__largest_entries_do_not_overflow_a_lane() -> None:
    """277 blocks of ones in every bit: each of 480 * 277 products is 127 * 127."""
    ones = [(1 << 256) - 1] * (16 * 277)
    assert product_entry(ones, ones) == 480 * 277 * 127 * 127
