# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Proof-of-GPU
@license AGPL-3.0-only
@notice Proves on chain how many exact integer operations a second a provider's GPUs
        do. Windows come unannounced: a block that chance picks opens one and gives
        the beacon. In the window, the same for all, providers commit to as many rounds
        of matrix products as they can do; a block that is named after it draws the
        entries that each must show, and the contract computes those entries itself.
        Nobody is trusted: no owner, no parameter that can change, no pause.

        Rules, numbered as in docs/specification.md:
        I-7  a score needs a commitment in the window and every sample verified;
             it ends SCORE_LIFE after its epoch, or with the next failure;
        I-2  a bond is a lock in Staking with an expiry: its owner releases it
             when no proof is open, anyone when it has expired;
        I-4  a proof that is committed and not opened costs BOND, a slash;
        I-10 an epoch is opened, committed to, drawn and verified in periods of
             fixed length; without a draw it is void, and nobody loses anything;
        I-13 a provider's stake is held from its first commit until the epoch is
             settled: claimed, failed, withdrawn, or ended with nothing due;
        I-14 beacon, lottery and draw are of blocks that nobody can choose.
@dev Words packed by hand, low bits first:
     proof    epoch 32 | rounds 32 | verified 8 | settled 8 | bond until 40 |
              backing 128
     result   score 80 | effective 80 | epoch 32 | until 40
     Backing is the stake at the commit and all that was seized before. A provider's
     proof, commitment and result are overwritten by its next ones.
"""

from .interfaces import IBenchmark
from .interfaces import IEmissions
from .interfaces import IScores
from .interfaces import IStaking
from .pog import gpu_proof
from .pog import bond as bonds
from .pog import clock
from .randomness import designated_block
from .randomness import header_proof

implements: IBenchmark
implements: IScores

initializes: bonds
initializes: clock[designated_block := designated_block]
initializes: designated_block

exports: (
    bonds.BOND,
    bonds.BOND_ID,
    bonds.BOND_LIFE,
    bonds.FAULT_PERIOD,
    bonds.STAKING,
    clock.CHANCE_PPM,
    clock.DRAW_DELAY,
    clock.DRAW_PERIOD,
    clock.GENESIS,
    clock.LENGTH,
    clock.OPENING_PERIOD,
    clock.OPEN_PERIOD,
    clock.REACH,
    clock.SLOT,
    clock.SPACING,
    clock.WINDOW,
    clock.close,
    clock.current_epoch,
    clock.draw,
    clock.epoch_of,
    clock.next_window_from,
    clock.wins,
    designated_block.SOURCE,
)


# What the openings of one transaction have in common.
struct Session:
    proof: uint256
    rounds: uint256
    verified: uint256
    commitment: bytes32
    challenge: bytes32
    seed: bytes32
    root_levels: uint256


# ------------------------------------------------------------------ constants

MAX_SAMPLES: constant(uint256) = 64
# So many openings fit into one transaction.
MAX_OPENINGS: constant(uint256) = 8
# TPF wei of one TPF.
UNIT: constant(uint256) = 10**18
MASK_8: constant(uint256) = 2**8 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_80: constant(uint256) = 2**80 - 1
ROUNDS_AT: constant(uint256) = 32
VERIFIED_AT: constant(uint256) = 64
SETTLED_AT: constant(uint256) = 72
SETTLED: constant(uint256) = 1 << SETTLED_AT
BOND_AT: constant(uint256) = 80
BACKING_AT: constant(uint256) = 120
EFFECTIVE_AT: constant(uint256) = 80
EPOCH_AT: constant(uint256) = 160
UNTIL_AT: constant(uint256) = 192

# ----------------------------------------------------------------- immutables

DEPLOYER: immutable(address)
# Rows and columns of the matrices, a power of two.
N: public(immutable(uint256))
# The depth is 480 times this.
BLOCKS: public(immutable(uint256))
LEAF_LEVELS: immutable(uint256)
SAMPLES: public(immutable(uint256))
# Seconds that a score lasts after its epoch.
SCORE_LIFE: public(immutable(uint256))

# -------------------------------------------------------------------- storage

# Emissions: pays for scores, and says how much score a stake backs.
rewards: public(IEmissions)
proofs: HashMap[address, uint256]
commitments: HashMap[address, bytes32]
results: HashMap[address, uint256]

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    staking: IStaking,
    n: uint256,
    blocks: uint256,
    samples: uint256,
    bond: uint256,
    genesis: uint256,
    slot: uint256,
    chance_ppm: uint256,
    spacing: uint256,
    open_period: uint256,
    window: uint256,
    draw_period: uint256,
    draw_delay: uint256,
    reach: uint256,
    opening_period: uint256,
    fault_period: uint256,
    bond_life: uint256,
    score_life: uint256,
    randomness_source: uint256,
):
    """
    @notice Wires the contract and fixes every parameter; periods are in seconds.
    @param staking Where bonds are locked and slashed, and stake is held.
    @param n Rows and columns, a power of two from 256 to 65,536.
    @param blocks Depth in blocks of 480, 1 to 277.
    @param samples Entries that a proof must show, 1 to 64.
    @param bond TPF wei.
    @param genesis Unix seconds of the first boundary; 0 = now.
    @param slot From one boundary to the next.
    @param chance_ppm How many of a million boundaries open a window.
    @param spacing From the opening of a window to that of the next, at least.
    @param open_period From a boundary in which its block can be presented.
    @param window From the opening block's timestamp in which commits count.
    @param draw_period After the window in which the draw's block can be named.
    @param draw_delay Blocks from the naming to the block that is named.
    @param reach After the draw period in which that block can still be read.
    @param opening_period After that in which samples can be opened.
    @param fault_period After the epoch in which a failure can be reported.
    @param bond_life That a bond stays locked.
    @param score_life That a score lasts after its epoch.
    @param randomness_source 0 prevrandao, 1 block hash, 2 Arbitrum's block hash.
    """
    assert (
        n >= 256 and n <= 65_536 and n & (n - 1) == 0
    ), "benchmark: n is not a power of two from 256 to 65,536"
    assert (
        blocks >= 1 and blocks <= gpu_proof.MAX_BLOCKS
    ), "benchmark: blocks out of bounds"
    assert (
        samples >= 1 and samples <= MAX_SAMPLES
    ), "benchmark: samples out of bounds"
    assert (
        score_life > 0 and score_life <= clock.MAX_TIME
    ), "benchmark: score life out of bounds"
    designated_block.__init__(randomness_source)
    clock.__init__(
        genesis,
        slot,
        chance_ppm,
        spacing,
        open_period,
        window,
        draw_period,
        draw_delay,
        reach,
        opening_period,
    )
    bonds.__init__(staking, bond, bond_life, fault_period, clock.LENGTH)
    DEPLOYER = msg.sender
    N = n
    BLOCKS = blocks
    LEAF_LEVELS = gpu_proof._leaf_levels(n)
    SAMPLES = samples
    SCORE_LIFE = score_life


@external
def setup_rewards(rewards: IEmissions):
    """
    @notice Names Emissions (the deployer, once); it is deployed after this contract,
            and no window opens before.
    @param rewards Emissions.
    """
    assert (
        msg.sender == DEPLOYER and self.rewards.address == empty(address)
    ), "benchmark: not the deployer"
    self.rewards = rewards


# ---------------------------------------------------------------------- epochs


@external
def open(
    number: uint256,
    header: Bytes[header_proof.MAX_HEADER],
    parent: Bytes[header_proof.MAX_HEADER],
):
    """
    @notice Presents the present boundary's block, which opens a window if it wins:
            stores the beacon. Anyone, within OPEN_PERIOD after the boundary. The window
            runs from the block's timestamp, whenever it is presented.
    @param number The block.
    @param header Its RLP header.
    @param parent The RLP header of the block before, which shows that it is the first.
    """
    assert self.rewards.address != empty(address), "benchmark: no rewards yet"
    clock._open(number, header, parent)


# --------------------------------------------------------------------- proofs


@external
def commit(epoch: uint256, rounds: uint256, commitment: bytes32):
    """
    @notice Commits the caller's provider to its rounds of this epoch; again only with
            more rounds, and then the new commitment counts. Settles an earlier epoch
            first. Locks the bond if none is locked that lasts long enough.
    @param epoch The epoch, open, with its window not yet over.
    @param rounds Rounds done, 1 to 2**24.
    @param commitment Root over the roots of the rounds.
    """
    facts: uint256 = clock._facts_in_window(epoch)
    assert (
        rounds >= 1 and rounds <= gpu_proof.MAX_ROUNDS
    ), "benchmark: rounds out of bounds"
    # Asked before `hold`, which takes note of today's commission: the earlier epoch's
    # reward is shared by the one noted then.
    provider: address = bonds._provider_of(msg.sender)
    assert provider != empty(address), "benchmark: unknown operator"
    proof: uint256 = self.proofs[provider]
    if proof & MASK_32 == epoch:
        # None if the owner has withdrawn it.
        assert (
            rounds > (proof >> ROUNDS_AT) & MASK_32
        ), "benchmark: not more rounds"
    elif self._is_unsettled(proof):
        # Stake that nothing is due for stays held, for this epoch from now on.
        self._settle(provider, proof)
    stake: uint256 = 0
    seized: uint256 = 0
    provider, stake, seized = bonds._hold(msg.sender)
    assert stake >= bonds.BOND, "benchmark: stake below the bond"
    until: uint256 = (proof >> BOND_AT) & MASK_40
    if until < clock._ends_at(facts) + bonds.FAULT_PERIOD:
        until = bonds._lock(msg.sender, provider)
    self.proofs[provider] = (
        epoch
        | (rounds << ROUNDS_AT)
        | (until << BOND_AT)
        | ((stake + seized) << BACKING_AT)
    )
    self.commitments[provider] = commitment
    log IBenchmark.Committed(
        epoch=epoch,
        provider=provider,
        rounds=rounds,
        commitment=commitment,
        stake=stake,
    )


@external
def withdraw_proof():
    """
    @notice Takes the caller's commitment back while the window lasts (the owner), so
            that a stolen operator key cannot bind the bond to rounds that nobody has
            done. A new operator can commit again.
    """
    proof: uint256 = self.proofs[msg.sender]
    epoch: uint256 = proof & MASK_32
    assert self._is_unsettled(proof), "benchmark: no proof to withdraw"
    facts: uint256 = clock._facts_in_window(epoch)
    self.proofs[msg.sender] = proof & ~(MASK_32 << ROUNDS_AT)
    bonds._free(msg.sender)
    log IBenchmark.Withdrawn(epoch=epoch, provider=msg.sender)


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


@external
def fail(provider: address):
    """
    @notice Reports a proof that was committed and not opened in time: the bond is
            unlocked and as much is slashed, the score is lost. Anyone, within
            FAULT_PERIOD after the epoch.
    @param provider The provider's owner address.
    """
    proof: uint256 = self.proofs[provider]
    epoch: uint256 = proof & MASK_32
    assert self._is_open(proof) and (
        clock._draw(epoch) != empty(bytes32)
    ), "benchmark: no proof to fail"
    facts: uint256 = clock._facts_of_ended(epoch)
    self.proofs[provider] = epoch | SETTLED
    self.results[provider] = 0
    slashed: uint256 = bonds._slash(provider)
    log IBenchmark.Failed(
        epoch=epoch, provider=provider, slashed=slashed, reporter=msg.sender
    )


@external
def release_bond(provider: address):
    """
    @notice Unlocks the bond when no proof is open (the owner or its operator). An
            expired bond is released by anyone, in Staking.
    @param provider The provider's owner address.
    """
    assert (
        msg.sender == provider or msg.sender == bonds._operator_of(provider)
    ), "benchmark: not the provider"
    proof: uint256 = self.proofs[provider]
    assert not self._is_open(proof), "benchmark: a proof is open"
    assert (proof >> BOND_AT) & MASK_40 != 0, "benchmark: no bond"
    self.proofs[provider] = proof & ~(MASK_40 << BOND_AT)
    bonds._unlock(provider)
    log IBenchmark.BondReleased(provider=provider)


# ---------------------------------------------------------------- settlements


@external
def settle(provider: address):
    """
    @notice Settles a provider's last epoch, so that stake can enter its pool again:
            claims the reward, or frees the stake where nothing is due (the epoch is
            void, or nobody has reported the failure in time). Anyone; Staking calls it
            before it lets stake in or out.
    @param provider The provider's owner address.
    """
    proof: uint256 = self.proofs[provider]
    assert self._is_unsettled(proof), "benchmark: nothing to settle"
    if self._settle(provider, proof):
        bonds._free(provider)


@external
@reentrant
def take(provider: address) -> (uint256, uint256, uint256):
    """
    @notice Hands a provider's part of its last epoch to Emissions (only), once it has
            ended, and once only.
    @dev Reentrant: `commit` and `settle` call Emissions, which calls this. They have
         changed nothing by then, and of what this changes they use nothing after.
    @param provider The provider's owner address.
    @return The epoch; the provider's effective score with the stake that still counts,
            and the sum of the effective scores, integer operations per second.
    """
    rewards: IEmissions = self.rewards
    assert msg.sender == rewards.address, "benchmark: not the rewards"
    proof: uint256 = self.proofs[provider]
    assert (
        self._is_unsettled(proof) and (proof >> VERIFIED_AT) & MASK_8 == SAMPLES
    ), "benchmark: nothing to take"
    epoch: uint256 = proof & MASK_32
    facts: uint256 = clock._facts_of_ended(epoch)
    self._mark_settled(provider, proof)
    return (
        epoch,
        min(
            (self.results[provider] >> EFFECTIVE_AT) & MASK_80,
            self._backed(bonds._counted(provider, proof >> BACKING_AT), epoch),
        ),
        clock._total(facts),
    )


# ---------------------------------------------------------------------- views


@external
@view
def score(provider: address) -> uint256:
    """
    @notice Returns what a provider has proven last, while that is valid and as far as
            its stake of now backs it.
    @param provider The provider's owner address.
    @return Integer operations per second, a product and a sum counted as two.
    """
    result: uint256 = self.results[provider]
    if block.timestamp > result >> UNTIL_AT:
        return 0
    return min(
        result & MASK_80,
        self._backed(
            bonds._counted(provider, max_value(uint256)),
            (result >> EPOCH_AT) & MASK_32,
        ),
    )


@external
@view
def proven(provider: address) -> (uint256, uint256, uint256):
    """
    @notice Returns a provider's last score, whatever backs it and however old it is.
    @param provider The provider's owner address.
    @return Integer operations per second; the epoch; the last second at which the score
            is valid.
    """
    result: uint256 = self.results[provider]
    return (
        result & MASK_80, (result >> EPOCH_AT) & MASK_32, result >> UNTIL_AT
    )


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
        stake=bonds._counted(provider, proof >> BACKING_AT),
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
def share_of(provider: address, epoch: uint256) -> (uint256, uint256, uint256):
    """
    @notice Returns a provider's part of an epoch; final when the epoch has ended.
            Known of the provider's last score only.
    @param provider The provider's owner address.
    @param epoch The epoch.
    @return Score, the effective part of it at the last opening, and the sum of the
            latter over all providers; integer operations per second.
    """
    total: uint256 = clock._total(clock._facts(epoch))
    result: uint256 = self.results[provider]
    if (result >> EPOCH_AT) & MASK_32 != epoch:
        return 0, 0, total
    return result & MASK_80, (result >> EFFECTIVE_AT) & MASK_80, total


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


# ------------------------------------------------------------------- internal


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


@internal
def _settle(provider: address, proof: uint256) -> bool:
    """
    @dev Settles a proof that is not. Emissions does it through `take`; where Staking
         does not know Emissions any more there is nobody to pay, and the stake must
         not wait for ever. Tells whether the stake is still held.
    """
    is_scored: bool = (proof >> VERIFIED_AT) & MASK_8 == SAMPLES
    is_over: bool = not self._is_open(proof)
    if is_scored:
        is_over = block.timestamp >= clock._ends_at(
            clock._facts(proof & MASK_32)
        )
    assert is_over, "benchmark: not yet settled"
    if is_scored and bonds._pays(self.rewards.address):
        extcall self.rewards.claim(provider, skip_contract_check=True)
        return False
    self._mark_settled(provider, proof)
    return True


@internal
def _mark_settled(provider: address, proof: uint256):
    self.proofs[provider] = proof | SETTLED
    log IBenchmark.Settled(epoch=proof & MASK_32, provider=provider)


@internal
@view
def _backed(stake: uint256, epoch: uint256) -> uint256:
    """
    @dev Integer operations per second that a stake (TPF wei) backs in an epoch.
    """
    ops_per_tpf: uint256 = staticcall self.rewards.ops_per_tpf(
        epoch, skip_contract_check=True
    )
    return stake * ops_per_tpf // UNIT


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
    self.proofs[provider] = (session.proof & ~(MASK_8 << VERIFIED_AT)) | (
        verified << VERIFIED_AT
    )
    if verified == SAMPLES:
        self._score(provider, session.proof, session.rounds)
    return verified


@internal
def _score(provider: address, proof: uint256, rounds: uint256):
    epoch: uint256 = proof & MASK_32
    stake: uint256 = bonds._counted(provider, proof >> BACKING_AT)
    points: uint256 = gpu_proof._score(N, BLOCKS, rounds, clock.WINDOW)
    effective: uint256 = min(points, self._backed(stake, epoch))
    until: uint256 = clock._ends_at(clock._facts(epoch)) + SCORE_LIFE
    self.results[provider] = (
        points
        | (effective << EFFECTIVE_AT)
        | (epoch << EPOCH_AT)
        | (until << UNTIL_AT)
    )
    clock._add_to_total(epoch, effective)
    log IBenchmark.Scored(
        epoch=epoch,
        provider=provider,
        rounds=rounds,
        score=points,
        stake=stake,
        effective=effective,
    )
