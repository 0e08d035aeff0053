# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Rewards
@license AGPL-3.0-only
@notice Mints TPF by a schedule that halves, and pays it into stake pools. The
        capacity's part of an epoch is shared by proven score; what a provider
        gets is capped by its part of the stake, and what the cap leaves is never
        minted. Other uses have contracts of their own, which share out their
        parts. Claims never end.

        Rules, numbered as in docs/specification.md:
        I-8  minted <= schedule to date <= cap: an epoch mints at most its
             emission, only after its end, and each part of it once;
        I-7  no reward without a score verified in that epoch;
        I-11 only the timelock adds uses and sets weights, which sum up to 100 % at
             most and are in force from the next epoch on.
@dev Words packed by hand, low bits first:
     checkpoint  first epoch 32 | twelve weights 16 each | its number 32
     claimed     a bit for each of 256 epochs
"""

from snekmate.auth import ownable

from .interfaces import IBenchmarkV1 as IBenchmark
from .interfaces import IEmissions
from .interfaces import IMintable
from .interfaces import IStaking

implements: IEmissions

initializes: ownable

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: ownable.owner

# ------------------------------------------------------------------ constants

MAX_BPS: constant(uint256) = 10_000
MAX_STAKE_CAP: constant(uint256) = 100 * MAX_BPS
MAX_USES: constant(uint256) = 12
# Epochs in one claim.
MAX_EPOCHS: constant(uint256) = 64
# The number of the use that pays proven capacity.
CAPACITY: constant(uint256) = 0
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1

# ----------------------------------------------------------------- immutables

TOKEN: public(immutable(IMintable))
STAKING: public(immutable(IStaking))
BENCHMARK: public(immutable(IBenchmark))
# TPF wei of each of the first HALVING_EPOCHS epochs.
INITIAL_EMISSION: public(immutable(uint256))
HALVING_EPOCHS: public(immutable(uint256))
# A reward is at most this many times (in 1/10,000) the part of the stake.
STAKE_CAP_BPS: public(immutable(uint256))
# TPF wei that was minted before there was a minter.
MINTED_BEFORE: immutable(uint256)

# -------------------------------------------------------------------- storage

# Contracts of the uses; number 0, capacity, is this one.
distributor_of: public(HashMap[uint256, address])
number_of: HashMap[address, uint256]
use_count: public(uint256)
# The newest checkpoint, and the ones before it by their numbers.
newest: uint256
checkpoints: HashMap[uint256, uint256]
# provider -> epoch // 256
claims: HashMap[address, HashMap[uint256, uint256]]
# use -> epoch -> TPF wei
distributed: public(HashMap[uint256, HashMap[uint256, uint256]])

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    token: IMintable,
    staking: IStaking,
    benchmark: IBenchmark,
    owner: address,
    initial_emission: uint256,
    halving_epochs: uint256,
    stake_cap_bps: uint256,
    capacity_bps: uint256,
):
    """
    @notice Wires the contract. The token must name it as its minter, and Staking
            as a manager that pays rewards.
    @param token TPF.
    @param staking The stake pools.
    @param benchmark The scores and the epochs.
    @param owner The timelock.
    @param initial_emission TPF wei of an epoch before the first halving.
    @param halving_epochs Epochs from one halving to the next.
    @param stake_cap_bps Most times its part of the stake that a provider's part of
           the emission can be, in 1/10,000, 100 % to 10,000 %.
    @param capacity_bps The capacity's part of the emission in 1/10,000.
    """
    assert token.address != empty(address), "emissions: zero token"
    assert staking.address != empty(address), "emissions: zero staking"
    assert benchmark.address != empty(address), "emissions: zero benchmark"
    assert owner != empty(address), "emissions: zero owner"
    assert (
        halving_epochs > 0 and halving_epochs <= MASK_32
    ), "emissions: halving out of bounds"
    # Twice the first period is more than all periods together. A cap has 96 bits at
    # most, so no product below can overflow.
    assert (
        2 * initial_emission * halving_epochs
        <= staticcall token.CAP() - staticcall token.total_minted()
    ), "emissions: schedule above the cap"
    assert (
        stake_cap_bps >= MAX_BPS and stake_cap_bps <= MAX_STAKE_CAP
    ), "emissions: stake cap out of bounds"
    assert capacity_bps <= MAX_BPS, "emissions: weights above 100 %"
    ownable.__init__()
    ownable._transfer_ownership(owner)
    TOKEN = token
    STAKING = staking
    BENCHMARK = benchmark
    INITIAL_EMISSION = initial_emission
    HALVING_EPOCHS = halving_epochs
    STAKE_CAP_BPS = stake_cap_bps
    MINTED_BEFORE = staticcall token.total_minted()
    self.distributor_of[CAPACITY] = self
    self.use_count = 1
    self.newest = capacity_bps << 32
    log IEmissions.WeightsChanged(from_epoch=0, weights=[capacity_bps])


# --------------------------------------------------------------------- claims


@external
def claim(provider: address, epochs: DynArray[uint256, MAX_EPOCHS]) -> uint256:
    """
    @notice Mints a provider's rewards of ended epochs and pays them into its pool,
            after the commission in force at each epoch's end. Anyone may call it;
            epochs that pay nothing, or have paid, are passed over.
    @param provider The provider's owner address.
    @param epochs Ended epochs in any order.
    @return TPF wei.
    """
    current: uint256 = staticcall BENCHMARK.current_epoch()
    total: uint256 = 0
    amounts: DynArray[uint256, MAX_EPOCHS] = []
    for epoch: uint256 in epochs:
        assert epoch < current, "emissions: epoch has not ended"
        amount: uint256 = 0
        if not self._is_claimed(provider, epoch):
            amount = self._reward_of(provider, epoch)
        if amount > 0:
            self.claims[provider][epoch >> 8] |= 1 << (epoch & 255)
            log IEmissions.Claimed(
                provider=provider, epoch=epoch, amount=amount
            )
        total += amount
        amounts.append(amount)
    assert total > 0, "emissions: nothing to claim"
    extcall TOKEN.mint(STAKING.address, total)
    for k: uint256 in range(len(epochs), bound=MAX_EPOCHS):
        if amounts[k] > 0:
            self._pay(provider, epochs[k], amounts[k])
    return total


@external
def distribute(provider: address, epoch: uint256, amount: uint256):
    """
    @notice Mints a reward of another use and pays it into a pool (the contract of
            that use only), within the use's part of the epoch's emission.
    @param provider The provider's owner address.
    @param epoch An ended epoch.
    @param amount TPF wei.
    """
    use: uint256 = self.number_of[msg.sender]
    assert use != 0, "emissions: caller is no distributor"
    assert (
        epoch < staticcall BENCHMARK.current_epoch()
    ), "emissions: epoch has not ended"
    assert amount > 0, "emissions: zero amount"
    spent: uint256 = self.distributed[use][epoch] + amount
    assert spent <= self._part(epoch, use), "emissions: above the use's part"
    self.distributed[use][epoch] = spent
    log IEmissions.Distributed(
        use=use, provider=provider, epoch=epoch, amount=amount
    )
    extcall TOKEN.mint(STAKING.address, amount)
    self._pay(provider, epoch, amount)


# ----------------------------------------------------------------- parameters


@external
def add_use(distributor: address) -> uint256:
    """
    @notice Adds a use, without weight yet (owner only). A use is never removed:
            without weight it gets nothing of the epochs that follow, and can still
            share out what is left of its parts of earlier ones.
    @param distributor The contract that shares out its part.
    @return Number of the use, its place among the weights.
    """
    ownable._check_owner()
    assert distributor != empty(address), "emissions: zero distributor"
    assert self.number_of[distributor] == 0, "emissions: use exists"
    number: uint256 = self.use_count
    assert number < MAX_USES, "emissions: too many uses"
    self.use_count = number + 1
    self.distributor_of[number] = distributor
    self.number_of[distributor] = number
    log IEmissions.UseAdded(number=number, distributor=distributor)
    return number


@external
def set_weights(weights: DynArray[uint256, MAX_USES]):
    """
    @notice Sets each use's part of the emission, from the next epoch on (owner
            only). What is left of 100 % is not minted.
    @param weights In 1/10,000, in the order of the uses; capacity is the first.
    """
    ownable._check_owner()
    assert len(weights) <= self.use_count, "emissions: weight of no use"
    from_epoch: uint256 = staticcall BENCHMARK.current_epoch() + 1
    word: uint256 = from_epoch
    total: uint256 = 0
    position: uint256 = 32
    for weight: uint256 in weights:
        total += weight
        assert total <= MAX_BPS, "emissions: weights above 100 %"
        word |= weight << position
        position += 16
    newest: uint256 = self.newest
    number: uint256 = newest >> 224
    # Weights not yet in force are replaced.
    if newest & MASK_32 != from_epoch:
        self.checkpoints[number] = newest
        number += 1
    self.newest = word | (number << 224)
    log IEmissions.WeightsChanged(from_epoch=from_epoch, weights=weights)


# ---------------------------------------------------------------------- views


@external
@view
def emission(epoch: uint256) -> uint256:
    """
    @notice Returns the TPF wei that an epoch may mint: the initial emission, halved
            every HALVING_EPOCHS epochs.
    @param epoch The epoch.
    """
    return self._emission(epoch)


@external
@view
def minted() -> uint256:
    """
    @notice Returns the TPF wei that this contract has minted: all since it became
            the minter.
    """
    return staticcall TOKEN.total_minted() - MINTED_BEFORE


@external
@view
def scheduled(epoch: uint256) -> uint256:
    """
    @notice Returns the TPF wei that epochs 0 to `epoch` may mint together.
    @param epoch The last epoch that counts.
    """
    total: uint256 = 0
    left: uint256 = epoch + 1
    amount: uint256 = INITIAL_EMISSION
    for _: uint256 in range(129):
        total += min(left, HALVING_EPOCHS) * amount
        if left <= HALVING_EPOCHS or amount == 0:
            break
        left -= HALVING_EPOCHS
        amount >>= 1
    return total


@external
@view
def weights_at(epoch: uint256) -> DynArray[uint256, MAX_USES]:
    """
    @notice Returns the weights in force in an epoch, in 1/10,000.
    @param epoch The epoch.
    """
    word: uint256 = self._checkpoint(epoch)
    weights: DynArray[uint256, MAX_USES] = []
    for use: uint256 in range(self.use_count, bound=MAX_USES):
        weights.append(self._weight(word, use))
    return weights


@external
@view
def part_of(use: uint256, epoch: uint256) -> uint256:
    """
    @notice Returns a use's part of an epoch's emission in TPF wei.
    @param use Its number; 0 is capacity.
    @param epoch The epoch.
    """
    return self._part(epoch, use)


@external
@view
def reward_of(provider: address, epoch: uint256) -> uint256:
    """
    @notice Returns a provider's reward of an epoch in TPF wei, claimed or not; final
            when the epoch has ended.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    return self._reward_of(provider, epoch)


@external
@view
def claimed(provider: address, epoch: uint256) -> bool:
    """
    @notice Tells whether a provider's reward of an epoch has been paid.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    return self._is_claimed(provider, epoch)


# ------------------------------------------------------------------- internal


@internal
@view
def _is_claimed(provider: address, epoch: uint256) -> bool:
    return (self.claims[provider][epoch >> 8] >> (epoch & 255)) & 1 == 1


@internal
@view
def _emission(epoch: uint256) -> uint256:
    halvings: uint256 = epoch // HALVING_EPOCHS
    if halvings > 255:
        return 0
    return INITIAL_EMISSION >> halvings


@internal
@view
def _part(epoch: uint256, use: uint256) -> uint256:
    return (
        self._emission(epoch)
        * self._weight(self._checkpoint(epoch), use) // MAX_BPS
    )


@internal
@pure
def _weight(word: uint256, use: uint256) -> uint256:
    return (word >> (32 + 16 * use)) & MASK_16


@internal
@view
def _checkpoint(epoch: uint256) -> uint256:
    """
    @dev The last checkpoint that begins at the epoch or before, by bisection.
    """
    word: uint256 = self.newest
    if word & MASK_32 <= epoch:
        return word
    # The first one begins at epoch 0.
    low: uint256 = 0
    high: uint256 = word >> 224
    for _: uint256 in range(32):
        if high - low <= 1:
            break
        middle: uint256 = (low + high) // 2
        if self.checkpoints[middle] & MASK_32 <= epoch:
            low = middle
        else:
            high = middle
    return self.checkpoints[low]


@internal
@view
def _reward_of(provider: address, epoch: uint256) -> uint256:
    score: uint256 = 0
    stake: uint256 = 0
    scores: uint256 = 0
    stakes: uint256 = 0
    score, stake, scores, stakes = staticcall BENCHMARK.share_of(
        provider, epoch
    )
    if score == 0 or stake == 0:
        return 0
    part: uint256 = self._part(epoch, CAPACITY)
    return min(
        part * score // scores,
        part * STAKE_CAP_BPS * stake // (MAX_BPS * stakes),
    )


@internal
def _pay(provider: address, epoch: uint256, amount: uint256):
    extcall STAKING.reward_minted(
        provider, amount, staticcall BENCHMARK.epoch_start(epoch + 1)
    )
