# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
# pragma optimize codesize
"""
@title Proof-of-GPU
@license AGPL-3.0-only
@notice Proves on chain how many exact integer operations per second a provider's
        GPUs do. Windows come unannounced: a block that chance picks opens one and gives
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
@dev This file wires the rooms under pog/, each of which writes its own storage alone,
     and has what concerns several of them: commits, faults and settlements.
"""

from .interfaces import IBenchmark
from .interfaces import IEmissions
from .interfaces import IScores
from .interfaces import IStaking
from .pog import bond as bonds
from .pog import clock
from .pog import gpu_proof
from .pog import proofs
from .pog import scores
from .randomness import designated_block
from .randomness import header_proof

implements: IBenchmark
implements: IScores

initializes: bonds
initializes: clock[designated_block := designated_block]
initializes: designated_block
initializes: proofs[bonds := bonds, clock := clock, scores := scores]
initializes: scores[bonds := bonds, clock := clock]

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
    proofs.BLOCKS,
    proofs.N,
    proofs.SAMPLES,
    proofs.challenge,
    proofs.is_open,
    proofs.open_sample,
    proofs.open_samples,
    proofs.proof_of,
    scores.SCORE_LIFE,
    scores.proven,
    scores.rewards,
    scores.score,
    scores.setup_rewards,
    scores.share_of,
)


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
    scores.__init__(score_life)
    proofs.__init__(n, blocks, samples)


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
    assert scores.rewards.address != empty(address), "benchmark: no rewards yet"
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
    proof: uint256 = proofs._of(provider)
    if proofs._epoch(proof) == epoch:
        # None if the owner has withdrawn it.
        assert rounds > proofs._rounds(proof), "benchmark: not more rounds"
    elif proofs._is_unsettled(proof):
        # Stake that nothing is due for stays held, for this epoch from now on.
        self._settle(provider, proof)
    stake: uint256 = 0
    seized: uint256 = 0
    provider, stake, seized = bonds._hold(msg.sender)
    assert stake >= bonds.BOND, "benchmark: stake below the bond"
    until: uint256 = proofs._bond_until(proof)
    if until < clock._ends_at(facts) + bonds.FAULT_PERIOD:
        until = bonds._lock(msg.sender, provider)
    proofs._commit(provider, epoch, rounds, commitment, until, stake + seized)
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
    proof: uint256 = proofs._of(msg.sender)
    epoch: uint256 = proofs._epoch(proof)
    assert proofs._is_unsettled(proof), "benchmark: no proof to withdraw"
    facts: uint256 = clock._facts_in_window(epoch)
    proofs._withdraw(msg.sender, proof)
    bonds._free(msg.sender)
    log IBenchmark.Withdrawn(epoch=epoch, provider=msg.sender)


@external
def fail(provider: address):
    """
    @notice Reports a proof that was committed and not opened in time: the bond is
            unlocked and as much is slashed, the score is lost. Anyone, within
            FAULT_PERIOD after the epoch.
    @param provider The provider's owner address.
    """
    proof: uint256 = proofs._of(provider)
    epoch: uint256 = proofs._epoch(proof)
    assert proofs._is_open(proof) and (
        clock._draw(epoch) != empty(bytes32)
    ), "benchmark: no proof to fail"
    facts: uint256 = clock._facts_of_ended(epoch)
    proofs._fail(provider, proof)
    scores._clear(provider)
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
    proof: uint256 = proofs._of(provider)
    assert not proofs._is_open(proof), "benchmark: a proof is open"
    assert proofs._bond_until(proof) != 0, "benchmark: no bond"
    proofs._forget_bond(provider, proof)
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
    proof: uint256 = proofs._of(provider)
    assert proofs._is_unsettled(proof), "benchmark: nothing to settle"
    if self._settle(provider, proof):
        bonds._free(provider)


@external
@reentrant
def take(provider: address) -> IBenchmark.Due:
    """
    @notice Hands a provider's part of its last epoch to Emissions (only), once it has
            ended, and once only.
    @dev Reentrant: `commit` and `settle` call Emissions, which calls this. They have
         changed nothing by then, and of what this changes they use nothing after.
    @param provider The provider's owner address.
    @return The epoch, the score and the stake that still counts, the sum of all
            effective scores, and when this epoch and the one before were opened.
    """
    assert msg.sender == scores.rewards.address, "benchmark: not the rewards"
    proof: uint256 = proofs._of(provider)
    assert (
        proofs._is_unsettled(proof) and proofs._is_scored(proof)
    ), "benchmark: nothing to take"
    epoch: uint256 = proofs._epoch(proof)
    facts: uint256 = clock._facts_of_ended(epoch)
    proofs._settle(provider, proof)
    return IBenchmark.Due(
        epoch=epoch,
        score=proofs._points(proof),
        stake=bonds._counted(provider, proofs._backing(proof))[0],
        total=clock._total(facts),
        opened_at=clock._opened_at(facts),
        opened_before=clock._opened_before(facts),
    )


# ------------------------------------------------------------------- internal


@internal
def _settle(provider: address, proof: uint256) -> bool:
    """
    @dev Settles a proof that is not. Emissions does it through `take`; where Staking
         does not know Emissions any more there is nobody to pay, and the stake must
         not wait without end. Tells whether the stake is still held.
    """
    is_scored: bool = proofs._is_scored(proof)
    is_over: bool = not proofs._is_open(proof)
    if is_scored:
        is_over = block.timestamp >= clock._ends_at(
            clock._facts(proofs._epoch(proof))
        )
    assert is_over, "benchmark: not yet settled"
    if is_scored and scores._claim(provider):
        return False
    proofs._settle(provider, proof)
    log IBenchmark.Settled(epoch=proofs._epoch(proof), provider=provider)
    return True
