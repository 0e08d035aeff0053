# SPDX-License-Identifier: Apache-2.0
"""What a challenged device computes, against a second and slow computation of the same."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak

from provider_agent.prover.acceptance.memory import HostMemory
from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import Lease, Seeds, Work
from teraproof.errors import LocalError
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import Shape
from tests.agent.acceptance.rig import CONTRACT, PROVIDER, WORK, lease

SEED, KEY = keccak(b"seed"), keccak(b"key")


def permuted(lanes: list[int]) -> list[int]:
    """Keccak-f[1600] as FIPS 202 writes it; lane x + 5 y."""
    mask, register = 2**64 - 1, 1

    def turned(lane: int, by: int) -> int:
        return (lane << by % 64 | lane >> (64 - by) % 64) & mask if by % 64 else lane

    for _ in range(24):
        parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
                  for x in range(5)]  # fmt: skip
        lanes = [
            lane ^ parity[(n - 1) % 5] ^ turned(parity[(n + 1) % 5], 1)
            for n, lane in enumerate(lanes)
        ]
        moved, x, y = list(lanes), 1, 0
        for t in range(24):
            target = y + 5 * ((2 * x + 3 * y) % 5)
            moved[target] = turned(lanes[x + 5 * y], (t + 1) * (t + 2) // 2)
            x, y = y, (2 * x + 3 * y) % 5
        lanes = [
            moved[n] ^ (~moved[n // 5 * 5 + (n + 1) % 5] & moved[n // 5 * 5 + (n + 2) % 5]) & mask
            for n in range(25)
        ]
        for j in range(7):
            lanes[0] ^= (register & 1) << ((1 << j) - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
    return lanes


def slow_block(seed: bytes, index: int) -> bytes:
    """A block, permutation by permutation: every sixteenth state gives 168 bytes."""
    data = bytearray(200)
    data[:64] = seed + index.to_bytes(32, "big")
    data[64] ^= 0x1F
    data[167] ^= 0x80
    lanes = [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(25)]
    kept = b""
    for number in range(1, 16 * 32 + 1):
        lanes = permuted(lanes)
        if number % 16 == 0:
            kept += b"".join(lane.to_bytes(8, "little") for lane in lanes[:21])
    return kept


def slow_root(digests: list[int]) -> bytes:
    """The root over digests, by recursion from the top."""

    def node(first: int, count: int) -> bytes:
        if count > 1:
            half = count // 2
            return keccak(node(first, half) + node(first + half, half))
        if 512 * first >= len(digests):
            return bytes(32)
        data = b"".join(one.to_bytes(8, "little") for one in digests[512 * first :][:512])
        return keccak(data + bytes(4096 - len(data)))

    count = 1
    while 512 * count < len(digests):
        count *= 2
    return node(0, count)


@pytest.mark.parametrize("index", [0, 1, 2**40])
def test_block__every_sixteenth_permutation_of_the_sponge(index: int) -> None:
    assert fmt.block(SEED, index) == slow_block(SEED, index)
    assert len(fmt.block(SEED, index)) == fmt.BLOCK_BYTES == 5376


@pytest.mark.parametrize("blocks", [1, 2, 511, 512, 513, 1100])
def test_sweep__digests_and_root_by_the_slow_way(blocks: int) -> None:
    memory = HostMemory()
    memory.fill(SEED, blocks, lambda part: None)
    factors = fmt.coefficients(KEY)
    digests = []
    for index in range(blocks):
        kept = fmt.block(SEED, index)
        digests.append(
            sum(
                int.from_bytes(kept[at : at + 8], "little")
                * int.from_bytes(factors[at : at + 8], "little")
                for at in range(0, fmt.BLOCK_BYTES, 8)
            )
            % 2**64
        )
    root = memory.sweep(KEY)
    assert root == slow_root(digests)
    for block in {0, blocks - 1, blocks // 2}:
        leaf, path = memory.open(KEY, block)
        at = block % 512 * 8
        assert int.from_bytes(leaf[at : at + 8], "little") == digests[block]
        assert len(path) == fmt.leaf_path(blocks)
        current, index = keccak(leaf), block // 512
        for sibling in path:
            current = keccak(sibling + current if index % 2 else current + sibling)
            index //= 2
        assert current == root


def test_seeds__every_part_of_what_is_asked_changes_them() -> None:
    work = replace(WORK, devices=2)
    base = lease()
    others = [
        (replace(base, chain_id=1), work, 0, KEY),
        (replace(base, contract=PROVIDER), work, 0, KEY),
        (replace(base, provider=CONTRACT), work, 0, KEY),
        (replace(base, id=KEY), work, 0, KEY),
        (base, replace(work, devices=3), 0, KEY),
        (base, work, 1, KEY),
        (base, work, 0, SEED),
    ]
    known = {(Seeds(base, work, 0, KEY).memory(), Seeds(base, work, 0, KEY).proof(SEED))}
    for one in others:
        seeds = Seeds(*one)
        known.add((seeds.memory(), seeds.proof(SEED)))
    assert len({memory for memory, _ in known}) == len({proof for _, proof in known}) == 8
    seeds = Seeds(base, work, 0, KEY)
    named = [seeds.memory(), seeds.proof(SEED), seeds.proof(KEY), seeds.first_key(SEED, KEY)]
    named += [seeds.first_key(KEY, KEY), seeds.first_key(KEY, SEED), seeds.query(KEY, KEY, [])]
    named += [seeds.query(SEED, KEY, []), seeds.query(KEY, SEED, []), seeds.query(KEY, KEY, [KEY])]
    for changed in (Shape(512, 1), Shape(256, 2)):
        named.append(Seeds(base, replace(work, shape=changed), 0, KEY).proof(SEED))
    named.append(Seeds(base, replace(work, rounds=5), 0, KEY).proof(SEED))
    assert len(set(named)) == len(named)


def test_proof__digest_by_hand() -> None:
    """The layout of the seeds as the page writes it."""
    one = Lease(5, CONTRACT, PROVIDER, SEED)
    word = (5).to_bytes(32, "big")
    base = keccak(
        keccak(b"TERAPROOF-ACCEPTANCE-1")
        + word
        + bytes(12)
        + bytes.fromhex("0a" * 20)
        + bytes(12)
        + bytes.fromhex("0b" * 20)
        + SEED
        + (1).to_bytes(32, "big")
        + bytes(32)
        + KEY
    )
    shape = b"".join(n.to_bytes(32, "big") for n in (256, 1, 4))
    seeds = Seeds(one, WORK, 0, KEY)
    assert seeds.memory() == keccak(base + b"M")
    assert seeds.proof(SEED) == keccak(base + b"P" + SEED + shape)
    assert seeds.first_key(SEED, KEY) == keccak(base + b"S" + SEED + KEY)
    assert seeds.query(SEED, KEY, [KEY, SEED]) == keccak(base + b"Q" + SEED + KEY + KEY + SEED)


def test_queries__spread_over_all_sweeps_and_blocks() -> None:
    drawn = [one for n in range(60) for one in fmt.queries(keccak(bytes([n])), 7, 50)]
    assert len(drawn) == 60 * 64
    assert {one.sweep for one in drawn} == set(range(7))
    assert {one.block for one in drawn} == set(range(50))
    assert fmt.queries(KEY, 7, 0) == []


@pytest.mark.parametrize("false_part", [0.01, 0.05, 0.1, 0.25])
def test_queries__a_false_part_passes_as_often_as_the_formula_says(false_part: float) -> None:
    blocks, tries = 1000, 1500
    false = set(random.Random(1).sample(range(blocks), int(false_part * blocks)))
    passed = sum(
        not any(one.block in false for one in fmt.queries(keccak(n.to_bytes(4, "big")), 3, blocks))
        for n in range(tries)
    )
    expected = (1 - false_part) ** 64
    assert abs(passed / tries - expected) < 4 * (expected * (1 - expected) / tries) ** 0.5 + 0.002


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0},
        {"rounds": 65_537},
        {"devices": 0},
        {"devices": 17},
        {"blocks": -1},
        {"blocks": 2**27 + 1},
        {"sweeps": 0},
        {"sweeps": 1025},
        {"seconds": 0},
        {"seconds": 301},
    ],
)
def test_work__out_of_range__says_the_range(change: dict[str, int]) -> None:
    (name,) = change
    with pytest.raises(BenchmarkError, match=f"^{name} must be"):
        replace(WORK, **change)  # type: ignore[arg-type]


def test_lease__no_address_or_id__error() -> None:
    with pytest.raises(LocalError, match="provider"):
        Lease(1, CONTRACT, "0x12", SEED)
    with pytest.raises(BenchmarkError, match="32 bytes"):
        Lease(1, CONTRACT, PROVIDER, b"short")
    with pytest.raises(BenchmarkError, match="no device 1"):
        Seeds(lease(), WORK, 1, KEY)
    with pytest.raises(BenchmarkError, match="nonce"):
        Seeds(lease(), WORK, 0, b"")
    assert Work(Shape(256, 1), 1, 1, 0, 1, 1).blocks == 0
