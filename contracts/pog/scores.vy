# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What proofs are worth
@license AGPL-3.0-only
@notice I-7: a score needs every sample of a commitment verified; it ends SCORE_LIFE
        after its epoch, or with the next failure. What it is good for is bounded by
        stake: the part of it that stake backs is the effective score, which shares
        the epoch's reward; Emissions says how much a TPF backs, by epoch.
@dev Word packed by hand, low bits first:
     result   score 80 | effective 80 | epoch 32 | until 40
     One per provider, overwritten by its next one.
"""

from ..interfaces import IBenchmark
from ..interfaces import IEmissions
from . import bond as bonds
from . import clock
from . import gpu_proof

uses: bonds
uses: clock

# TPF wei of one TPF.
UNIT: constant(uint256) = 10**18
MASK_32: constant(uint256) = 2**32 - 1
MASK_80: constant(uint256) = 2**80 - 1
EFFECTIVE_AT: constant(uint256) = 80
EPOCH_AT: constant(uint256) = 160
UNTIL_AT: constant(uint256) = 192

DEPLOYER: immutable(address)
# Seconds that a score lasts after its epoch.
SCORE_LIFE: public(immutable(uint256))

# Emissions: pays for scores, and says how much score a stake backs.
rewards: public(IEmissions)
results: HashMap[address, uint256]


@deploy
def __init__(score_life: uint256):
    assert (
        score_life > 0 and score_life <= clock.MAX_TIME
    ), "benchmark: score life out of bounds"
    DEPLOYER = msg.sender
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
            bonds._counted(provider, max_value(uint256))[0],
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


@internal
def _set(
    provider: address,
    epoch: uint256,
    rounds: uint256,
    points: uint256,
    backing: uint256,
) -> uint256:
    """
    @dev Stores the score of a proof, and adds what stake backs of it to the epoch's
         total. The proof's backing from now on: of what counts now, so what is taken
         later is never more than the total has of it.
    """
    stake: uint256 = 0
    seized: uint256 = 0
    stake, seized = bonds._counted(provider, backing)
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
    return stake + seized


@internal
def _clear(provider: address):
    self.results[provider] = 0


@internal
def _claim(provider: address) -> bool:
    """
    @dev Has Emissions take and pay the reward. False where Staking does not know it any
         more: then there is nobody to pay.
    """
    rewards: IEmissions = self.rewards
    if not bonds._pays(rewards.address):
        return False
    extcall rewards.claim(provider, skip_contract_check=True)
    return True


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
