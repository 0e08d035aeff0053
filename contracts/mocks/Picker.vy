# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A cheat that reads an epoch's draw only when it likes it, for tests
@license AGPL-3.0-only
@notice It has claimed more rounds than it has done. It draws, works its own samples out
        and takes the draw back unless all of them fall into rounds that it has done.
        Where the caller's block decided the draw, such a contract passed five epochs
        of six at 1.2 times its work.
"""

from ..interfaces import IBenchmark
from ..pog import gpu_proof
from ..randomness import header_proof


interface Benchmark:
    def close(epoch: uint256): nonpayable
    def draw(epoch: uint256, header: Bytes[header_proof.MAX_HEADER]): nonpayable
    def challenge(provider: address, epoch: uint256) -> bytes32: view
    def epoch_of(epoch: uint256) -> IBenchmark.Epoch: view
    def proof_of(provider: address) -> IBenchmark.Proof: view
    def SAMPLES() -> uint256: view
    def N() -> uint256: view


BENCHMARK: immutable(Benchmark)


@deploy
def __init__(benchmark: Benchmark):
    """
    @notice Fixes what to cheat.
    @param benchmark Benchmark.
    """
    BENCHMARK = benchmark


@external
def draw(
    provider: address,
    header: Bytes[header_proof.MAX_HEADER],
    done: uint256,
):
    """
    @notice Draws the provider's epoch, but only a draw that asks for no round that it
            has not done.
    @param provider The cheat's owner address.
    @param header RLP header of the named block.
    @param done Rounds that it has done.
    """
    epoch: uint256 = (staticcall BENCHMARK.proof_of(provider)).epoch
    extcall BENCHMARK.draw(epoch, header)
    self._check(provider, done)


@external
def close_and_draw(
    provider: address,
    header: Bytes[header_proof.MAX_HEADER],
    done: uint256,
):
    """
    @notice Names the block only if it can be read now, and is liked.
    @param provider The cheat's owner address.
    @param header RLP header of some block.
    @param done Rounds that it has done.
    """
    epoch: uint256 = (staticcall BENCHMARK.proof_of(provider)).epoch
    extcall BENCHMARK.close(epoch)
    extcall BENCHMARK.draw(epoch, header)
    self._check(provider, done)


@internal
@view
def _check(provider: address, done: uint256):
    proof: IBenchmark.Proof = staticcall BENCHMARK.proof_of(provider)
    seed: bytes32 = gpu_proof._draw_seed(
        (staticcall BENCHMARK.epoch_of(proof.epoch)).draw,
        proof.rounds,
        proof.commitment,
        staticcall BENCHMARK.challenge(provider, proof.epoch),
    )
    n: uint256 = staticcall BENCHMARK.N()
    for number: uint256 in range(staticcall BENCHMARK.SAMPLES(), bound=64):
        t: uint256 = 0
        i: uint256 = 0
        j: uint256 = 0
        t, i, j = gpu_proof._sample(seed, number, proof.rounds, n)
        assert t < done, "picker: not this draw"
