# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Proofs: what providers have committed to, and its openings
@license AGPL-3.0-only
@notice A proof is a commitment to rounds of matrix products. The epoch's draw names the
        entries that it must show; each opening is checked by computing its entry again.
        The last one makes the score.
@dev Word packed by hand, low bits first:
     proof    epoch 32 | rounds 32 | verified 8 | settled 8 | bond until 40 |
              backing 128
     Backing is the stake at the commit, from the score on what of it counted then,
     and all that was seized before. A provider's proof and commitment are
     overwritten by its next one.
"""

from ..interfaces import IBenchmark
from . import bond as bonds
from . import clock
from . import gpu_proof
from . import scores

uses: bonds
uses: clock
uses: scores


# What the openings of one transaction have in common.
struct Session:
    proof: uint256
    rounds: uint256
    verified: uint256
    commitment: bytes32
    challenge: bytes32
    seed: bytes32
    root_levels: uint256


MAX_SAMPLES: constant(uint256) = 64
# As many as fit into one transaction.
MAX_OPENINGS: constant(uint256) = 8
MASK_8: constant(uint256) = 2**8 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_120: constant(uint256) = 2**120 - 1
ROUNDS_AT: constant(uint256) = 32
VERIFIED_AT: constant(uint256) = 64
SETTLED: constant(uint256) = 1 << 72
BOND_AT: constant(uint256) = 80
BACKING_AT: constant(uint256) = 120

# Rows and columns of the matrices, a power of two.
N: public(immutable(uint256))
# The depth is 480 times this.
BLOCKS: public(immutable(uint256))
LEAF_LEVELS: immutable(uint256)
SAMPLES: public(immutable(uint256))

proofs: HashMap[address, uint256]
commitments: HashMap[address, bytes32]


@deploy
def __init__(n: uint256, blocks: uint256, samples: uint256):
    assert (
        n >= 256 and n <= 65_536 and n & (n - 1) == 0
    ), "benchmark: n is not a power of two from 256 to 65,536"
    assert (
        blocks >= 1 and blocks <= gpu_proof.MAX_BLOCKS
    ), "benchmark: blocks out of bounds"
    assert (
        samples >= 1 and samples <= MAX_SAMPLES
    ), "benchmark: samples out of bounds"
    N = n
    BLOCKS = blocks
    LEAF_LEVELS = gpu_proof._leaf_levels(n)
    SAMPLES = samples


# ------------------------------------------------------------------- openings


@external
def open_sample(
    provider: address, opening: DynArray[bytes32, gpu_proof.MAX_OPENING]
) -> uint256:
    """
    @notice `open_samples` with one opening, for less gas.
    @param provider The provider's owner address.
    @param opening Format v2.
    @return Samples verified so far.
    """
    session: Session = self._begin(provider, 1)
    t: uint256 = 0
    i: uint256 = 0
    j: uint256 = 0
    t, i, j = gpu_proof._sample(
        session.seed, session.verified, session.rounds, N
    )
    # Not by `_verify`, which would copy the opening once more.
    gpu_proof._check(
        opening,
        session.challenge,
        session.commitment,
        t,
        i,
        j,
        N,
        BLOCKS,
        LEAF_LEVELS,
        session.root_levels,
    )
    return self._end(provider, session, 1)


@external
def open_samples(
    provider: address,
    openings: DynArray[DynArray[bytes32, gpu_proof.MAX_OPENING], MAX_OPENINGS],
) -> uint256:
    """
    @notice Verifies the next samples of a proof, in their order; as many a call as the
            caller likes, by anyone. The last one makes the score.
    @param provider The provider's owner address.
    @param openings One for each sample, Format v2.
    @return Samples verified so far.
    """
    session: Session = self._begin(provider, len(openings))
    for k: uint256 in range(len(openings), bound=MAX_OPENINGS):
        self._verify(session, session.verified + k, openings[k])
    return self._end(provider, session, len(openings))


@internal
@view
def _begin(provider: address, count: uint256) -> Session:
    proof: uint256 = self.proofs[provider]
    epoch: uint256 = proof & MASK_32
    rounds: uint256 = (proof >> ROUNDS_AT) & MASK_32
    verified: uint256 = (proof >> VERIFIED_AT) & MASK_8
    assert rounds > 0 and verified < SAMPLES, "benchmark: no proof to open"
    drawn: bytes32 = clock._draw(epoch)
    assert drawn != empty(bytes32), "benchmark: not drawn"
    assert block.timestamp < clock._ends_at(
        clock._facts(epoch)
    ), "benchmark: epoch has ended"
    assert (
        count > 0 and verified + count <= SAMPLES
    ), "benchmark: number of openings"
    commitment: bytes32 = self.commitments[provider]
    challenge: bytes32 = gpu_proof._challenge(
        epoch, clock._beacon(epoch), provider, N, BLOCKS
    )
    return Session(
        proof=proof,
        rounds=rounds,
        verified=verified,
        commitment=commitment,
        challenge=challenge,
        seed=gpu_proof._draw_seed(drawn, rounds, commitment, challenge),
        root_levels=gpu_proof._levels(rounds),
    )


@internal
@view
def _verify(
    session: Session,
    number: uint256,
    opening: DynArray[bytes32, gpu_proof.MAX_OPENING],
):
    t: uint256 = 0
    i: uint256 = 0
    j: uint256 = 0
    t, i, j = gpu_proof._sample(session.seed, number, session.rounds, N)
    gpu_proof._check(
        opening,
        session.challenge,
        session.commitment,
        t,
        i,
        j,
        N,
        BLOCKS,
        LEAF_LEVELS,
        session.root_levels,
    )


@internal
def _end(provider: address, session: Session, count: uint256) -> uint256:
    verified: uint256 = session.verified + count
    backing: uint256 = session.proof >> BACKING_AT
    if verified == SAMPLES:
        backing = scores._set(
            provider,
            session.proof & MASK_32,
            session.rounds,
            self._points(session.proof),
            backing,
        )
    self.proofs[provider] = (
        (session.proof & ~(MASK_8 << VERIFIED_AT) & MASK_120)
        | (verified << VERIFIED_AT)
        | (backing << BACKING_AT)
    )
    return verified


# ---------------------------------------------------------------------- views


@external
@view
def proof_of(provider: address) -> IBenchmark.Proof:
    """
    @notice Returns a provider's last commitment and its bond.
    @param provider The provider's owner address.
    """
    proof: uint256 = self.proofs[provider]
    return IBenchmark.Proof(
        epoch=proof & MASK_32,
        rounds=(proof >> ROUNDS_AT) & MASK_32,
        commitment=self.commitments[provider],
        verified=(proof >> VERIFIED_AT) & MASK_8,
        stake=bonds._counted(provider, proof >> BACKING_AT)[0],
        bond_until=(proof >> BOND_AT) & MASK_40,
        settled=not self._is_unsettled(proof),
    )


@external
@view
def is_open(provider: address) -> bool:
    """
    @notice Tells whether a proof is committed and neither verified, void, failed nor
            too old to be reported: the bond is bound as long.
    @param provider The provider's owner address.
    """
    return self._is_open(self.proofs[provider])


@external
@view
def challenge(provider: address, epoch: uint256) -> bytes32:
    """
    @notice Returns a provider's challenge in an opened epoch.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    beacon: bytes32 = clock._beacon(epoch)
    assert beacon != empty(bytes32), "benchmark: epoch is not open"
    return gpu_proof._challenge(epoch, beacon, provider, N, BLOCKS)


# ------------------------------------------------------------------ accessors


@internal
@view
def _of(provider: address) -> uint256:
    """
    @dev For the functions below that take a `proof`; zero if there never was one.
    """
    return self.proofs[provider]


@internal
def _commit(
    provider: address,
    epoch: uint256,
    rounds: uint256,
    commitment: bytes32,
    until: uint256,
    backing: uint256,
):
    self.proofs[provider] = (
        epoch
        | (rounds << ROUNDS_AT)
        | (until << BOND_AT)
        | (backing << BACKING_AT)
    )
    self.commitments[provider] = commitment


@internal
def _withdraw(provider: address, proof: uint256):
    """
    @dev What is left has no rounds; it still knows the bond.
    """
    self.proofs[provider] = proof & ~(MASK_32 << ROUNDS_AT)


@internal
def _fail(provider: address, proof: uint256):
    """
    @dev Nothing is left but the epoch.
    """
    self.proofs[provider] = (proof & MASK_32) | SETTLED


@internal
def _settle(provider: address, proof: uint256):
    self.proofs[provider] = proof | SETTLED


@internal
def _forget_bond(provider: address, proof: uint256):
    self.proofs[provider] = proof & ~(MASK_40 << BOND_AT)


@internal
@pure
def _epoch(proof: uint256) -> uint256:
    return proof & MASK_32


@internal
@pure
def _rounds(proof: uint256) -> uint256:
    return (proof >> ROUNDS_AT) & MASK_32


@internal
@pure
def _bond_until(proof: uint256) -> uint256:
    """
    @dev Last second of the bond's lock, 0 if there is none.
    """
    return (proof >> BOND_AT) & MASK_40


@internal
@pure
def _backing(proof: uint256) -> uint256:
    return proof >> BACKING_AT


@internal
@view
def _points(proof: uint256) -> uint256:
    """
    @dev What the rounds of a proof are worth, integer operations per second.
    """
    return gpu_proof._score(
        N, BLOCKS, (proof >> ROUNDS_AT) & MASK_32, clock.WINDOW
    )


@internal
@view
def _is_scored(proof: uint256) -> bool:
    return (proof >> VERIFIED_AT) & MASK_8 == SAMPLES


@internal
@pure
def _is_unsettled(proof: uint256) -> bool:
    """
    @dev Whether stake is held for this proof: committed, and not settled since.
    """
    return (proof >> ROUNDS_AT) & MASK_32 != 0 and proof & SETTLED == 0


@internal
@view
def _is_open(proof: uint256) -> bool:
    """
    @dev Whether this proof can still be opened or fail.
    """
    if (
        not self._is_unsettled(proof)
        or (proof >> VERIFIED_AT) & MASK_8 == SAMPLES
    ):
        return False
    epoch: uint256 = proof & MASK_32
    facts: uint256 = clock._facts(epoch)
    if clock._draw(epoch) == empty(bytes32):
        return clock._can_be_drawn(facts)
    return block.timestamp < clock._ends_at(facts) + bonds.FAULT_PERIOD
