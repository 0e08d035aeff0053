# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Rewards
@license AGPL-3.0-only
@notice Mints TPF by a schedule that halves. An epoch has what has accrued since the
        last one that was opened, and at most MAX_ACCRUAL of it; what is beyond
        that is never minted. The capacity's part is shared by effective score,
        which is the proven score as far as the provider's stake backs it. As long
        as all together have less than the target, each gets its part of the
        target, and the rest is never minted. Other uses have contracts of their
        own, which share out their parts. Claims never end.

        Rules, numbered as in docs/specification.md:
        I-8  minted <= accrued to date <= cap: an epoch mints at most its
             emission, only after its end, and each part of it once;
        I-7  no reward without a score verified in that epoch;
        I-11 only the timelock adds uses, sets weights (100 % at most together) and
             the scale, and never for an epoch that has begun.
@dev Values by epoch, low bits first:
     scale    of capacity, all that a claim needs (see schedule/scale.vy)
     weights  of the other uses, 16 bits each, by their numbers; the lowest 16 are zero
"""

from snekmate.auth import ownable

from .interfaces import IBenchmark
from .interfaces import IEmissions
from .interfaces import IMintable
from .interfaces import IStaking
from .schedule import checkpoints
from .schedule import halving as schedule
from .schedule import scale as scales

implements: IEmissions

initializes: checkpoints
initializes: ownable
initializes: schedule

# Left out: `transfer_ownership` and `renounce_ownership`; the timelock stays.
exports: (
    ownable.owner,
    schedule.HALVING,
    schedule.RATE,
    schedule.START,
)

# ------------------------------------------------------------------ constants

MAX_BPS: constant(uint256) = 10_000
MAX_USES: constant(uint256) = 12
MAX_TIME: constant(uint256) = 366 * 86_400
# The number of the use that pays proven capacity.
CAPACITY: constant(uint256) = 0
# The two series of values by epoch.
WEIGHTS: constant(uint256) = 0
SCALE: constant(uint256) = 1
MASK_16: constant(uint256) = 2**16 - 1

# ----------------------------------------------------------------- immutables

TOKEN: public(immutable(IMintable))
STAKING: public(immutable(IStaking))
BENCHMARK: public(immutable(IBenchmark))
# Seconds of the schedule that an epoch has at most.
MAX_ACCRUAL: public(immutable(uint256))
# TPF wei that was minted before there was a minter.
MINTED_BEFORE: immutable(uint256)

# -------------------------------------------------------------------- storage

# Contracts of the uses; number 0, capacity, is this one.
distributor_of: public(HashMap[uint256, address])
number_of: HashMap[address, uint256]
use_count: public(uint256)
# use -> epoch -> TPF wei
distributed: public(HashMap[uint256, HashMap[uint256, uint256]])

# ---------------------------------------------------------------- constructor


@deploy
def __init__(
    token: IMintable,
    staking: IStaking,
    benchmark: IBenchmark,
    owner: address,
    rate: uint256,
    halving: uint256,
    max_accrual: uint256,
    ops_per_tpf: uint256,
    target: uint256,
    capacity_bps: uint256,
):
    """
    @notice Wires the contract. The token must name it as its minter, Staking as a
            manager that pays rewards, and Benchmark as its rewards.
    @param token TPF.
    @param staking The stake pools.
    @param benchmark The scores and the epochs; the schedule begins at its genesis.
    @param owner The timelock.
    @param rate TPF wei per second before the first halving.
    @param halving Seconds from one halving to the next.
    @param max_accrual Seconds of the schedule that an epoch has at most.
    @param ops_per_tpf Integer operations per second that a TPF of stake backs.
    @param target Integer operations per second that all must prove together before
           the whole of the capacity's part is minted.
    @param capacity_bps The capacity's part of the emission in 1/10,000.
    """
    assert token.address != empty(address), "emissions: zero token"
    assert staking.address != empty(address), "emissions: zero staking"
    assert benchmark.address != empty(address), "emissions: zero benchmark"
    assert owner != empty(address), "emissions: zero owner"
    assert (
        max_accrual > 0 and max_accrual <= MAX_TIME
    ), "emissions: accrual out of bounds"
    assert capacity_bps <= MAX_BPS, "emissions: weights above 100 %"
    minted: uint256 = staticcall token.total_minted()
    schedule.__init__(
        staticcall benchmark.GENESIS(),
        rate,
        halving,
        staticcall token.CAP() - minted,
    )
    ownable.__init__()
    ownable._transfer_ownership(owner)
    TOKEN = token
    STAKING = staking
    BENCHMARK = benchmark
    MAX_ACCRUAL = max_accrual
    MINTED_BEFORE = minted
    self.distributor_of[CAPACITY] = self
    self.use_count = 1
    checkpoints._set(WEIGHTS, 0, 0)
    checkpoints._set(
        SCALE,
        0,
        scales._pack(ops_per_tpf, target, capacity_bps),
    )
    log IEmissions.WeightsChanged(from_epoch=0, weights=[capacity_bps])
    log IEmissions.ScaleChanged(
        from_epoch=0, ops_per_tpf=ops_per_tpf, target=target
    )


# --------------------------------------------------------------------- claims


@external
def claim(provider: address) -> uint256:
    """
    @notice Mints a provider's reward of its last scored epoch, once that has ended,
            and pays it into its pool. Settles the epoch also where nothing is due.
            Anyone may call it, at any time.
    @param provider The provider's owner address.
    @return TPF wei.
    """
    due: IBenchmark.Due = extcall BENCHMARK.take(
        provider, skip_contract_check=True
    )
    scale: uint256 = checkpoints._at(SCALE, due.epoch)
    amount: uint256 = self._reward(
        self._accrued_between(due.opened_before, due.opened_at),
        scale,
        min(due.score, scales._backed(due.stake, scale)),
        due.total,
    )
    log IEmissions.Claimed(provider=provider, epoch=due.epoch, amount=amount)
    self._mint(amount)
    extcall STAKING.reward(provider, amount, skip_contract_check=True)
    return amount


@external
def distribute(provider: address, epoch: uint256, amount: uint256):
    """
    @notice Mints a reward of another use to a provider's payout address (the contract
            of that use only), within the use's part of the epoch's emission.
    @param provider The provider's owner address.
    @param epoch An ended epoch.
    @param amount TPF wei.
    """
    use: uint256 = self.number_of[msg.sender]
    assert use != 0, "emissions: caller is no distributor"
    # An epoch that was never opened has no emission, so it fails below.
    assert (
        block.timestamp >= (staticcall BENCHMARK.epoch_of(epoch)).ends_at
    ), "emissions: epoch has not ended"
    assert amount > 0, "emissions: zero amount"
    spent: uint256 = self.distributed[use][epoch] + amount
    assert spent <= self._part(epoch, use), "emissions: above the use's part"
    self.distributed[use][epoch] = spent
    log IEmissions.Distributed(
        use=use, provider=provider, epoch=epoch, amount=amount
    )
    self._mint(amount)
    extcall STAKING.credit(provider, amount, skip_contract_check=True)


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
    @notice Sets each use's part of the emission (owner only), for epochs that have not
            begun. What is left of 100 % is not minted.
    @param weights In 1/10,000, in the order of the uses; capacity is the first.
    """
    ownable._check_owner()
    assert len(weights) <= self.use_count, "emissions: weight of no use"
    values: uint256 = 0
    total: uint256 = 0
    position: uint256 = 0
    for weight: uint256 in weights:
        total += weight
        assert total <= MAX_BPS, "emissions: weights above 100 %"
        values |= weight << position
        position += 16
    from_epoch: uint256 = self._first_to_come()
    # The rest of the newest scale stays as it is.
    scale: uint256 = checkpoints._at(SCALE, from_epoch)
    checkpoints._set(
        SCALE, from_epoch, scales._with_weight(scale, values & MASK_16)
    )
    checkpoints._set(WEIGHTS, from_epoch, values & ~MASK_16)
    log IEmissions.WeightsChanged(from_epoch=from_epoch, weights=weights)


@external
def set_scale(ops_per_tpf: uint256, target: uint256):
    """
    @notice Sets how much score a TPF backs, and from which sum of scores on the whole
            part of capacity is minted (owner only), for epochs that have not begun;
            each is at most doubled and at least halved from one epoch to the next.
    @param ops_per_tpf Integer operations per second that a TPF of stake backs.
    @param target Integer operations per second of all providers together.
    """
    ownable._check_owner()
    from_epoch: uint256 = self._first_to_come()
    newest: uint256 = checkpoints._at(SCALE, from_epoch)
    values: uint256 = scales._pack(ops_per_tpf, target, scales._weight(newest))
    # Not against values that this call replaces: two calls could double twice.
    before: uint256 = checkpoints._at(SCALE, from_epoch - 1)
    assert scales._is_near(
        ops_per_tpf, scales._ops_per_tpf(before)
    ) and scales._is_near(
        target, scales._target(before)
    ), "emissions: more than doubled or halved"
    checkpoints._set(SCALE, from_epoch, values)
    log IEmissions.ScaleChanged(
        from_epoch=from_epoch, ops_per_tpf=ops_per_tpf, target=target
    )


# ---------------------------------------------------------------------- views


@external
@view
def ops_per_tpf(epoch: uint256) -> uint256:
    """
    @notice Returns the integer operations per second that a TPF of stake backs in an
            epoch.
    @param epoch The epoch.
    """
    return scales._ops_per_tpf(checkpoints._at(SCALE, epoch))


@external
@view
def target(epoch: uint256) -> uint256:
    """
    @notice Returns the sum of effective scores, integer operations per second, from which
            on an epoch mints the whole of the capacity's part.
    @param epoch The epoch.
    """
    return scales._target(checkpoints._at(SCALE, epoch))


@external
@view
def accrued(time: uint256) -> uint256:
    """
    @notice Returns the schedule to date: the most that may have been minted by then, in
            TPF wei. Before the first halving it grows by RATE a second, then by half of
            that, and so on; it never exceeds twice the first period.
    @param time Unix seconds.
    """
    return schedule._accrued(time)


@external
@view
def emission(epoch: uint256) -> uint256:
    """
    @notice Returns the TPF wei that an epoch may mint: what accrued between the opening of
            the epoch before and its own, at most of the last MAX_ACCRUAL seconds.
    @param epoch The epoch; zero for one that was not opened.
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
def weights_at(epoch: uint256) -> DynArray[uint256, MAX_USES]:
    """
    @notice Returns the weights in force in an epoch, in 1/10,000.
    @param epoch The epoch.
    """
    weights: DynArray[uint256, MAX_USES] = []
    for use: uint256 in range(self.use_count, bound=MAX_USES):
        weights.append(self._weight(epoch, use))
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
    @notice Returns what a provider's last scored epoch would pay with the stake and the
            scores of now, in TPF wei; zero for any other epoch and when it is settled.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    proof: IBenchmark.Proof = staticcall BENCHMARK.proof_of(provider)
    if proof.epoch != epoch or proof.settled:
        return 0
    score: uint256 = 0
    effective: uint256 = 0
    total: uint256 = 0
    score, effective, total = staticcall BENCHMARK.share_of(provider, epoch)
    scale: uint256 = checkpoints._at(SCALE, epoch)
    return self._reward(
        self._emission(epoch),
        scale,
        min(effective, scales._backed(proof.stake, scale)),
        total,
    )


# ------------------------------------------------------------------- internal


@internal
def _mint(amount: uint256):
    """
    @dev Mints into Staking, which finds it there in this transaction. Whatever the
         numbers of Benchmark are, no more than the schedule has (I-8).
    """
    if amount == 0:
        return
    minted: uint256 = extcall TOKEN.mint(
        STAKING.address, amount, skip_contract_check=True
    )
    assert minted - MINTED_BEFORE <= schedule._accrued(
        block.timestamp
    ), "emissions: above the schedule"


@internal
@view
def _emission(epoch: uint256) -> uint256:
    """
    @dev TPF wei of an opened epoch, 0 of any other.
    """
    if epoch == 0:
        return 0
    opened_at: uint256 = (staticcall BENCHMARK.epoch_of(epoch)).opened_at
    if opened_at == 0:
        return 0
    since: uint256 = schedule.START
    if epoch > 1:
        since = (staticcall BENCHMARK.epoch_of(epoch - 1)).opened_at
    return self._accrued_between(since, opened_at)


@internal
@view
def _accrued_between(since: uint256, opened_at: uint256) -> uint256:
    """
    @dev TPF wei of an epoch that was opened then, the one before at `since`.
    """
    return schedule._accrued(opened_at) - schedule._accrued(
        opened_at - min(opened_at - since, MAX_ACCRUAL)
    )


@internal
@view
def _part(epoch: uint256, use: uint256) -> uint256:
    """
    @dev TPF wei of an epoch for a use; 0 for a number that is not one.
    """
    return self._emission(epoch) * self._weight(epoch, use) // MAX_BPS


@internal
@pure
def _reward(
    emission: uint256, scale: uint256, effective: uint256, total: uint256
) -> uint256:
    """
    @dev A provider's part, in TPF wei: the target stands in for a smaller sum.
    """
    return (
        emission
        * scales._weight(scale) // MAX_BPS
        * effective // max(total, scales._target(scale))
    )


@internal
@view
def _weight(epoch: uint256, use: uint256) -> uint256:
    """
    @dev In 1/10,000; 0 for a number that is not a use, however large.
    """
    if use == CAPACITY:
        return scales._weight(checkpoints._at(SCALE, epoch))
    if use >= MAX_USES:
        return 0
    return (checkpoints._at(WEIGHTS, epoch) >> (16 * use)) & MASK_16


@internal
@view
def _first_to_come() -> uint256:
    """
    @dev The first epoch that has not begun for sure: the next one may have, if its
         block is out and nobody has shown it yet.
    """
    return staticcall BENCHMARK.current_epoch() + 2
