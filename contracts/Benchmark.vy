# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Proof-of-GPU
@license AGPL-3.0-only
@notice Proves on chain how many exact integer operations a second a provider's
        GPUs do. Once an epoch a beacon is stored; in one window that is the same
        for all, providers commit to as many rounds of matrix products as they
        can do; one draw for all then names the entries that each must show, and
        the contract computes those entries itself. Nobody is trusted: no owner,
        no parameter that can change, no pause.

        Rules, numbered as in docs/specification.md:
        I-7  a score needs a commitment in the window and every sample verified;
             it ends SCORE_LIFE epochs after its own, or with the next failure;
        I-2  a bond is a lock in Staking with an expiry: its owner releases it
             when no proof is open, anyone when it has expired;
        I-4  a proof that is committed and not opened costs BOND, a slash;
        I-10 an epoch is opened, committed to, drawn and verified in periods of
             fixed length; without a draw it is void, and nobody loses anything.
@dev Words packed by hand, low bits first:
     times    opened at 40 | drawn at 40
     proof    epoch 32 | rounds 32 | verified 16 | bond until 40 | backing 128
     result   score 128 | stake 128, of a provider in an epoch; sums likewise
     latest   score 128 | epoch 32
     Backing is the stake at the commit and all that was seized before. A
     provider's proof and commitment are overwritten by its next one.
"""

from .interfaces import IBenchmarkV1 as IBenchmark
from .interfaces import IScores
from .interfaces import IStaking
from .modules import randomness
from .pog import gpu_proof
from .staking import shares

implements: IBenchmark
implements: IScores

initializes: randomness

exports: randomness.RANDOMNESS


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

MAX_TIME: constant(uint256) = 366 * 86_400
MAX_SAMPLES: constant(uint256) = 64
# So many openings fit into one transaction.
MAX_OPENINGS: constant(uint256) = 8
BOND_ID: public(constant(bytes32)) = empty(bytes32)
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_128: constant(uint256) = 2**128 - 1

# ----------------------------------------------------------------- immutables

STAKING: public(immutable(IStaking))
# Rows and columns of the matrices, a power of two.
N: public(immutable(uint256))
# The depth is 480 times this.
BLOCKS: public(immutable(uint256))
LEAF_LEVELS: immutable(uint256)
SAMPLES: public(immutable(uint256))
# TPF wei
BOND: public(immutable(uint256))
# Unix seconds at which epoch 0 begins.
GENESIS: public(immutable(uint256))
# Seconds, all of them.
EPOCH: public(immutable(uint256))
OPEN_PERIOD: public(immutable(uint256))
WINDOW: public(immutable(uint256))
DRAW_DELAY: public(immutable(uint256))
DRAW_PERIOD: public(immutable(uint256))
FAULT_PERIOD: public(immutable(uint256))
BOND_LIFE: public(immutable(uint256))
# Epochs that a score lasts after its own.
SCORE_LIFE: public(immutable(uint256))

# -------------------------------------------------------------------- storage

beacons: HashMap[uint256, bytes32]
draws: HashMap[uint256, bytes32]
times: HashMap[uint256, uint256]
# epoch -> sum of scores 128 | sum of stakes 128
sums: HashMap[uint256, uint256]
# provider -> epoch -> score 128 | stake 128
results: HashMap[address, HashMap[uint256, uint256]]
proofs: HashMap[address, uint256]
commitments: HashMap[address, bytes32]
latest: HashMap[address, uint256]

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    staking: IStaking,
    n: uint256,
    blocks: uint256,
    samples: uint256,
    bond: uint256,
    genesis: uint256,
    epoch: uint256,
    open_period: uint256,
    window: uint256,
    draw_delay: uint256,
    draw_period: uint256,
    fault_period: uint256,
    bond_life: uint256,
    score_life: uint256,
    randomness_source: uint256,
):
    """
    @notice Wires the contract and fixes every parameter.
    @param staking Where bonds are locked and slashed.
    @param n Rows and columns, a power of two from 256 to 65,536.
    @param blocks Depth in blocks of 480, 1 to 277.
    @param samples Entries that a proof must show, 1 to 64.
    @param bond TPF wei.
    @param genesis Unix seconds at which epoch 0 begins; 0 = now.
    @param epoch Seconds of an epoch.
    @param open_period Seconds from the start of an epoch in which it can be opened.
    @param window Seconds from the opening in which commits count.
    @param draw_delay Seconds from the window's end to the first draw: at least the
           time in which a block builder knows the randomness beforehand.
    @param draw_period Seconds in which the draw can be made.
    @param fault_period Seconds after the epoch in which a failure can be reported.
    @param bond_life Seconds that a bond stays locked.
    @param score_life Epochs that a score lasts after its own.
    @param randomness_source 0 prevrandao, 1 previous hash, 2 Arbitrum.
    """
    assert staking.address != empty(address), "benchmark: zero staking"
    assert (
        n >= 256 and n <= 65_536 and n & (n - 1) == 0
    ), "benchmark: n is not a power of two from 256 to 65,536"
    assert (
        blocks >= 1 and blocks <= gpu_proof.MAX_BLOCKS
    ), "benchmark: blocks out of bounds"
    assert (
        samples >= 1 and samples <= MAX_SAMPLES
    ), "benchmark: samples out of bounds"
    assert bond > 0 and bond <= MASK_128, "benchmark: bond out of bounds"
    assert (
        epoch > 0 and epoch <= MAX_TIME and fault_period <= MAX_TIME
    ), "benchmark: time out of bounds"
    assert (
        open_period > 0
        and window > 0
        and draw_delay > 0
        and draw_period > 0
        and fault_period > 0
    ), "benchmark: zero time"
    # Samples are opened until the epoch ends, and then its sums are final.
    assert (
        open_period + window + draw_delay + draw_period < epoch
    ), "benchmark: epoch too short"
    # Stake that backs a proof cannot leave before a failure is reported.
    assert (
        epoch + fault_period <= staticcall staking.UNBONDING()
    ), "benchmark: faults outlast the unbonding"
    assert bond_life <= staticcall staking.MAX_LOCK() and (
        bond_life >= epoch + fault_period
    ), "benchmark: bond life out of bounds"
    assert score_life <= MASK_16, "benchmark: score life out of bounds"
    assert (
        genesis == 0 or genesis >= block.timestamp
    ), "benchmark: genesis is past"
    randomness.__init__(randomness_source)
    STAKING = staking
    N = n
    BLOCKS = blocks
    LEAF_LEVELS = gpu_proof._leaf_levels(n)
    SAMPLES = samples
    BOND = bond
    GENESIS = block.timestamp if genesis == 0 else genesis
    EPOCH = epoch
    OPEN_PERIOD = open_period
    WINDOW = window
    DRAW_DELAY = draw_delay
    DRAW_PERIOD = draw_period
    FAULT_PERIOD = fault_period
    BOND_LIFE = bond_life
    SCORE_LIFE = score_life


# ---------------------------------------------------------------------- epoch


@external
def open(epoch: uint256):
    """
    @notice Opens the window of the current epoch: stores the beacon. Anyone, in
            the first OPEN_PERIOD seconds of the epoch, once.
    @param epoch The current epoch.
    """
    start: uint256 = self._start(epoch)
    assert (
        block.timestamp >= start and block.timestamp < start + OPEN_PERIOD
    ), "benchmark: not the time to open the epoch"
    assert self.times[epoch] == 0, "benchmark: epoch is open"
    beacon: bytes32 = randomness._now()
    self.beacons[epoch] = beacon
    self.times[epoch] = block.timestamp
    log IBenchmark.Opened(epoch=epoch, beacon=beacon, opened_at=block.timestamp)


@external
def draw(epoch: uint256):
    """
    @notice Draws the samples of everybody. Anyone, in the DRAW_PERIOD that begins
            DRAW_DELAY after the window, once; if nobody does, the epoch is void.
    @param epoch The epoch.
    """
    times: uint256 = self.times[epoch]
    assert times != 0, "benchmark: epoch is not open"
    assert times >> 40 == 0, "benchmark: already drawn"
    first: uint256 = times + WINDOW + DRAW_DELAY
    assert block.timestamp >= first, "benchmark: too early to draw"
    assert (
        block.timestamp <= first + DRAW_PERIOD
    ), "benchmark: too late to draw"
    word: bytes32 = randomness._now()
    self.draws[epoch] = word
    self.times[epoch] = times | (block.timestamp << 40)
    log IBenchmark.Drawn(epoch=epoch, draw=word)


# --------------------------------------------------------------------- proofs


@external
def commit(epoch: uint256, rounds: uint256, commitment: bytes32):
    """
    @notice Commits the caller's provider to its rounds of this epoch; again only
            with more rounds, and then the new commitment counts. Locks the bond if
            none is locked that lasts long enough.
    @param epoch The epoch, open, with its window not yet over.
    @param rounds Rounds done, 1 to 2**24.
    @param commitment Root over the roots of the rounds.
    """
    times: uint256 = self.times[epoch]
    assert times != 0, "benchmark: epoch is not open"
    assert (
        block.timestamp < (times & MASK_40) + WINDOW
    ), "benchmark: window is over"
    assert (
        rounds >= 1 and rounds <= gpu_proof.MAX_ROUNDS
    ), "benchmark: rounds out of bounds"
    provider: address = staticcall STAKING.provider_of(msg.sender)
    assert provider != empty(address), "benchmark: unknown operator"
    stake: uint256 = 0
    seized: uint256 = 0
    stake, seized = staticcall STAKING.stake_of(provider)
    assert stake >= BOND, "benchmark: stake below the bond"

    proof: uint256 = self.proofs[provider]
    if proof & MASK_32 == epoch and (proof >> 32) & MASK_32 > 0:
        assert (
            rounds > (proof >> 32) & MASK_32
        ), "benchmark: not more rounds than before"
    else:
        assert not self._is_open(proof), "benchmark: an earlier proof is open"
    until: uint256 = (proof >> 80) & MASK_40
    # Not later than the end of the epoch, however late the draw is.
    if until < self._start(epoch + 1) + FAULT_PERIOD:
        until = self._lock_bond(provider, until)
    self.proofs[provider] = (
        epoch | (rounds << 32) | (until << 80) | ((stake + seized) << 120)
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
    @notice Takes the caller's commitment back while the window lasts (the owner),
            so that a stolen operator key cannot bind the bond to rounds that
            nobody has done. A new operator can commit again.
    """
    proof: uint256 = self.proofs[msg.sender]
    epoch: uint256 = proof & MASK_32
    assert (proof >> 32) & MASK_32 > 0, "benchmark: no proof to withdraw"
    assert (
        block.timestamp < (self.times[epoch] & MASK_40) + WINDOW
    ), "benchmark: window is over"
    self.proofs[msg.sender] = proof & ~(MASK_32 << 32)
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
    self._verify(session, session.verified, opening)
    return self._end(provider, session, 1)


@external
def open_samples(
    provider: address,
    openings: DynArray[DynArray[bytes32, gpu_proof.MAX_OPENING], MAX_OPENINGS],
) -> uint256:
    """
    @notice Verifies the next samples of a proof, in their order; as many a call as
            the caller likes, by anyone. The last one makes the score.
    @param provider The provider's owner address.
    @param openings One for each sample, format v2.
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
            FAULT_PERIOD after the opening period.
    @param provider The provider's owner address.
    """
    proof: uint256 = self.proofs[provider]
    epoch: uint256 = proof & MASK_32
    assert (
        self._is_open(proof) and self.draws[epoch] != empty(bytes32)
    ), "benchmark: no proof to fail"
    assert block.timestamp >= self._start(
        epoch + 1
    ), "benchmark: opening period is not over"
    self.proofs[provider] = epoch
    self.latest[provider] = 0
    slashed: uint256 = extcall STAKING.slash(provider, BOND_ID, BOND)
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
        msg.sender == provider
        or msg.sender == staticcall STAKING.operator_of(provider)
    ), "benchmark: caller is not the provider"
    proof: uint256 = self.proofs[provider]
    assert not self._is_open(proof), "benchmark: a proof is open"
    assert (proof >> 80) & MASK_40 != 0, "benchmark: no bond"
    self.proofs[provider] = proof & ~(MASK_40 << 80)
    extcall STAKING.unlock(provider, BOND_ID)
    log IBenchmark.BondReleased(provider=provider)


# ---------------------------------------------------------------------- views


@external
@view
def score(provider: address) -> uint256:
    """
    @notice Returns what a provider has proven last, while that is valid.
    @param provider The provider's owner address.
    @return Integer operations per second, a product and a sum counted as two.
    """
    word: uint256 = self.latest[provider]
    if (
        word == 0
        or self._epoch_at(block.timestamp) > (word >> 128) + SCORE_LIFE
    ):
        return 0
    return word & MASK_128


@external
@view
def current_epoch() -> uint256:
    """
    @notice Returns the number of the current epoch; reverts before genesis.
    """
    return self._epoch_at(block.timestamp)


@external
@view
def epoch_start(epoch: uint256) -> uint256:
    """
    @notice Returns when an epoch begins, unix seconds.
    @param epoch The epoch.
    """
    return self._start(epoch)


@external
@view
def epoch_of(epoch: uint256) -> (bytes32, uint256, bytes32, uint256):
    """
    @notice Returns what is known of an epoch.
    @param epoch The epoch.
    @return Beacon, time of opening, draw, time of the draw; zeros for what is not yet.
    """
    times: uint256 = self.times[epoch]
    return (
        self.beacons[epoch], times & MASK_40, self.draws[epoch], times >> 40
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
        rounds=(proof >> 32) & MASK_32,
        commitment=self.commitments[provider],
        verified=(proof >> 64) & MASK_16,
        stake=self._counted(provider, proof),
        bond_until=(proof >> 80) & MASK_40,
    )


@external
@view
def is_open(provider: address) -> bool:
    """
    @notice Tells whether a proof is committed and neither verified, void, failed
            nor too old to be reported: the bond is bound as long.
    @param provider The provider's owner address.
    """
    return self._is_open(self.proofs[provider])


@external
@view
def share_of(
    provider: address, epoch: uint256
) -> (uint256, uint256, uint256, uint256):
    """
    @notice Returns a provider's part of an epoch; final when the epoch has ended.
    @param provider The provider's owner address.
    @param epoch The epoch.
    @return Score and stake (TPF wei), and the sums of both over all providers.
    """
    result: uint256 = self.results[provider][epoch]
    sums: uint256 = self.sums[epoch]
    return result & MASK_128, result >> 128, sums & MASK_128, sums >> 128


@external
@view
def challenge(provider: address, epoch: uint256) -> bytes32:
    """
    @notice Returns a provider's challenge in an open epoch.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    assert self.times[epoch] != 0, "benchmark: epoch is not open"
    return gpu_proof._challenge(epoch, self.beacons[epoch], provider, N, BLOCKS)


# ------------------------------------------------------------------- internal


@internal
@view
def _start(epoch: uint256) -> uint256:
    return GENESIS + epoch * EPOCH


@internal
@view
def _epoch_at(time: uint256) -> uint256:
    assert time >= GENESIS, "benchmark: before genesis"
    return (time - GENESIS) // EPOCH


@internal
@view
def _is_open(proof: uint256) -> bool:
    if (proof >> 32) & MASK_32 == 0 or (proof >> 64) & MASK_16 == SAMPLES:
        return False
    times: uint256 = self.times[proof & MASK_32]
    if times >> 40 == 0:
        return (block.timestamp <= times + WINDOW + DRAW_DELAY + DRAW_PERIOD)
    return block.timestamp < self._start((proof & MASK_32) + 1) + FAULT_PERIOD


@internal
def _lock_bond(provider: address, before: uint256) -> uint256:
    until: uint256 = block.timestamp + BOND_LIFE
    if before != 0:
        extcall STAKING.unlock(provider, BOND_ID)
    extcall STAKING.lock(msg.sender, BOND_ID, BOND, until, 0)
    log IBenchmark.BondLocked(provider=provider, until=until)
    return until


@internal
@view
def _begin(provider: address, count: uint256) -> Session:
    proof: uint256 = self.proofs[provider]
    epoch: uint256 = proof & MASK_32
    rounds: uint256 = (proof >> 32) & MASK_32
    verified: uint256 = (proof >> 64) & MASK_16
    assert rounds > 0 and verified < SAMPLES, "benchmark: no proof to open"
    drawn: bytes32 = self.draws[epoch]
    assert drawn != empty(bytes32), "benchmark: not drawn"
    assert block.timestamp < self._start(
        epoch + 1
    ), "benchmark: opening period is over"
    assert (
        count > 0 and verified + count <= SAMPLES
    ), "benchmark: wrong number of openings"
    commitment: bytes32 = self.commitments[provider]
    challenge: bytes32 = gpu_proof._challenge(
        epoch, self.beacons[epoch], provider, N, BLOCKS
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
    self.proofs[provider] = (session.proof & ~(MASK_16 << 64)) | (
        verified << 64
    )
    if verified == SAMPLES:
        self._score(provider, session.proof, session.rounds)
    return verified


@internal
@view
def _counted(provider: address, proof: uint256) -> uint256:
    # Stake that has left since the commit earns nothing, nor does what came back
    # after a seizure: it may have counted elsewhere meanwhile.
    active: uint256 = 0
    seized: uint256 = 0
    active, seized = staticcall STAKING.stake_of(provider)
    backing: uint256 = proof >> 120
    return min(active, backing - min(backing, seized))


@internal
def _score(provider: address, proof: uint256, rounds: uint256):
    epoch: uint256 = proof & MASK_32
    stake: uint256 = self._counted(provider, proof)
    points: uint256 = gpu_proof._score(N, BLOCKS, rounds, WINDOW)
    self.results[provider][epoch] = shares._pack(points, stake)
    scores: uint256 = 0
    stakes: uint256 = 0
    scores, stakes = shares._unpack(self.sums[epoch])
    self.sums[epoch] = shares._pack(scores + points, stakes + stake)
    self.latest[provider] = shares._pack(points, epoch)
    log IBenchmark.Scored(
        epoch=epoch,
        provider=provider,
        rounds=rounds,
        score=points,
        stake=stake,
    )
