# SPDX-License-Identifier: Apache-2.0
"""The published vectors through the whole contract: its address, chain, beacon and draw are theirs.

tests/vectors/proof_of_gpu_v2.json comes from an implementation that shares no code with this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boa
import pytest

from teraproof.pog import format as pog
from teraproof.pog.opening import Opening
from tests.contracts import proofs
from tests.contracts.actions import consent, delegate, event, go_to, now
from tests.contracts.deploy import (
    LOCK,
    SLASH,
    TPF,
    Contract,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_benchmark,
    deploy_suite,
    deployer_of,
)

VECTORS = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "proof_of_gpu_v2.json").read_text()
)
NAMES = [f"n{v['n']}-b{v['blocks']}-r{v['rounds']}" for v in VECTORS]
# The first account of every local node; its first contract has the vectors' address.
CREATOR = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def hexes(values: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(value) for value in values)


def force(benchmark: Contract, what: str, epoch: int, word: int) -> None:
    """Write what is known of an epoch into the storage.

    A beacon and a draw are hashes, so no block can be made that gives those of a vector.
    """
    layout = deployer_of("Benchmark").compiler_data.storage_layout["storage_layout"]
    slot = layout["clock"][what]["slot"]
    place = pog.keccak(pog.word(slot) + pog.word(epoch))
    boa.env.set_storage(benchmark.address, int.from_bytes(place, "big"), word)


def scale() -> Contract:
    """In the place of Emissions: a TPF backs any score."""
    return boa.loads(
        """
@external
@view
def ops_per_tpf(epoch: uint256) -> uint256:
    return 10**18
"""
    )


@dataclass
class Drawn:
    """A vector that is committed and drawn on chain."""

    vector: dict[str, Any]
    suite: Suite
    benchmark: Contract
    openings: list[list[bytes]]


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Staking knows the vectors' contract, which is not there yet."""
    return deploy_suite(managers={VECTORS[0]["contract"]: LOCK | SLASH})


@pytest.fixture(params=VECTORS, ids=NAMES)
def drawn(suite: Suite, request: pytest.FixtureRequest) -> Drawn:
    vector = request.param
    p = Parameters(
        n=vector["n"],
        blocks=vector["blocks"],
        samples=len(vector["openings"]),
        window=vector["window"],
    )
    with boa.env.prank(CREATOR):
        benchmark = deploy_benchmark(suite.staking, p)
    assert benchmark.address == vector["contract"]
    suite = replace(suite, parameters=p, benchmark=benchmark)

    owner, operator = vector["provider"], account_of("operator")
    suite.staking.register(
        operator.address,
        address_of("payout"),
        0,
        p.bond,
        p.bond,
        "",
        *consent(suite.staking, owner, operator),
        sender=owner,
    )
    delegate(suite, owner, owner, 5_000 * TPF)
    benchmark.setup_rewards(scale().address, sender=CREATOR)

    boa.env.evm.patch.chain_id = vector["chain_id"]
    force(benchmark, "facts", vector["epoch"], now())
    force(benchmark, "beacons", vector["epoch"], int(vector["beacon"], 16))
    benchmark.commit(
        vector["epoch"],
        vector["rounds"],
        bytes.fromhex(vector["commitment"]),
        sender=operator.address,
    )
    go_to(now() + p.window)
    force(benchmark, "draws", vector["epoch"], int(vector["draw"], 16))
    openings = [
        Opening(
            root_before=bytes.fromhex(one["root_two_before"]),
            root=bytes.fromhex(one["root"]),
            leaf=bytes.fromhex(one["leaf"]),
            leaf_path=hexes(one["path"]),
            root_path=hexes(one["root_path"]),
            path_before=hexes(one["root_two_before_path"]),
        ).words()
        for one in vector["openings"]
    ]
    return Drawn(vector, suite, benchmark, openings)


def assert_scored(drawn: Drawn) -> None:
    """The last call made the vector's score."""
    vector, benchmark = drawn.vector, drawn.benchmark
    assert event(benchmark, "Scored") == {
        "epoch": vector["epoch"],
        "provider": vector["provider"],
        "rounds": vector["rounds"],
        "score": vector["score"],
        "stake": 5_000 * TPF,
        "effective": vector["score"],
    }
    assert benchmark.score(vector["provider"]) == vector["score"]
    share = benchmark.share_of(vector["provider"], vector["epoch"])
    assert share == (vector["score"],) * 3


def test_challenge__is_the_vectors(drawn: Drawn) -> None:
    found = drawn.benchmark.challenge(drawn.vector["provider"], drawn.vector["epoch"])
    assert found.hex() == drawn.vector["challenge"]


def test_open_samples__all_in_one_transaction(drawn: Drawn) -> None:
    count = len(drawn.openings)
    assert drawn.benchmark.open_samples(drawn.vector["provider"], drawn.openings) == count
    assert_scored(drawn)


def test_open_sample__one_a_transaction(drawn: Drawn) -> None:
    provider = drawn.vector["provider"]
    for number, opening in enumerate(drawn.openings):
        assert drawn.benchmark.score(provider) == 0
        assert drawn.benchmark.open_sample(provider, opening) == number + 1
    assert_scored(drawn)


def test_open_samples__in_two_transactions(drawn: Drawn) -> None:
    provider, count = drawn.vector["provider"], len(drawn.openings)
    for first in range(1, count):
        with boa.env.anchor():
            assert drawn.benchmark.open_samples(provider, drawn.openings[:first]) == first
            assert drawn.benchmark.proof_of(provider).verified == first
            assert drawn.benchmark.open_samples(provider, drawn.openings[first:]) == count
            assert_scored(drawn)


def test_prover_of_the_tests__makes_the_same_bytes(drawn: Drawn) -> None:
    """What the other tests prove with is held against the vectors too."""
    vector = drawn.vector
    shape = proofs.shape_of(drawn.suite)
    done = proofs.work(bytes.fromhex(vector["challenge"]), shape, vector["rounds"])
    assert [root.hex() for root in done.roots] == vector["roots"]
    assert done.commitment.hex() == vector["commitment"]
    draw = bytes.fromhex(vector["draw"])
    assert done.openings(draw, len(drawn.openings)) == drawn.openings
