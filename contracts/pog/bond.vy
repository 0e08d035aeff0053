# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title What a proof puts at stake
@license AGPL-3.0-only
@notice The bond: a lock in Staking that its owner can end when no proof is open, and
        anyone when it has expired. And the hold: while a provider has an unsettled
        epoch, stake that comes in waits outside its pool, so that nobody joins for a
        reward already earned, or pays for a fault already done.
"""

from ..interfaces import IBenchmark
from ..interfaces import IStaking

# One bond a provider.
BOND_ID: public(constant(bytes32)) = empty(bytes32)
MAX_BOND: constant(uint256) = 2**128 - 1

# Has code: the constructor has called it, so no later call looks again.
STAKING: public(immutable(IStaking))
# TPF wei
BOND: public(immutable(uint256))
# Seconds that a bond stays locked.
BOND_LIFE: public(immutable(uint256))
# Seconds after an epoch in which a failure can be reported.
FAULT_PERIOD: public(immutable(uint256))


@deploy
def __init__(
    staking: IStaking,
    bond: uint256,
    bond_life: uint256,
    fault_period: uint256,
    length: uint256,
):
    assert staking.address != empty(address), "benchmark: zero staking"
    assert bond > 0 and bond <= MAX_BOND, "benchmark: bond out of bounds"
    assert fault_period > 0, "benchmark: zero time"
    # Stake that backs a proof cannot leave before a failure is reported.
    unbonding: uint256 = staticcall staking.UNBONDING()
    assert (
        fault_period <= unbonding and length <= unbonding - fault_period
    ), "benchmark: faults outlast the unbonding"
    assert bond_life <= staticcall staking.MAX_LOCK() and (
        bond_life >= length + fault_period
    ), "benchmark: bond life out of bounds"
    STAKING = staking
    BOND = bond
    BOND_LIFE = bond_life
    FAULT_PERIOD = fault_period


@internal
def _lock(operator: address, provider: address) -> uint256:
    """
    @dev Locks the bond again; the last second of the lock.
    """
    until: uint256 = block.timestamp + BOND_LIFE
    # Does nothing where there is none, or anyone has released an expired one.
    self._unlock(provider)
    extcall STAKING.lock(
        operator, BOND_ID, BOND, until, 0, skip_contract_check=True
    )
    log IBenchmark.BondLocked(provider=provider, until=until)
    return until


@internal
def _unlock(provider: address):
    extcall STAKING.unlock(provider, BOND_ID, skip_contract_check=True)


@internal
def _slash(provider: address) -> uint256:
    """
    @dev Ends the lock and the hold, and burns as much as the bond from the whole pool.
    """
    return extcall STAKING.slash(
        provider, BOND_ID, BOND, skip_contract_check=True
    )


@internal
def _hold(operator: address) -> (address, uint256, uint256):
    """
    @dev The operator's provider, its active stake and all that was seized from it.
    """
    return extcall STAKING.hold(operator, skip_contract_check=True)


@internal
def _free(provider: address):
    extcall STAKING.free(provider, skip_contract_check=True)


@internal
@view
def _provider_of(operator: address) -> address:
    return staticcall STAKING.provider_of(operator, skip_contract_check=True)


@internal
@view
def _operator_of(provider: address) -> address:
    return staticcall STAKING.operator_of(provider, skip_contract_check=True)


@internal
@view
def _pays(rewards: address) -> bool:
    """
    @dev Whether Staking takes rewards from this contract: it is listed as a manager.
    """
    permissions: IStaking.Permission = empty(IStaking.Permission)
    active_from: uint256 = 0
    removed_at: uint256 = 0
    permissions, active_from, removed_at = staticcall STAKING.manager_of(
        rewards, skip_contract_check=True
    )
    return (
        IStaking.Permission.REWARD in permissions
        and block.timestamp >= active_from
    )


@internal
@view
def _counted(provider: address, backing: uint256) -> (uint256, uint256):
    """
    @dev Stake behind a proof that counts now, and all that was ever seized. What has
         left since the commit does not count, nor does what came back after a seizure:
         it may have counted elsewhere meanwhile. `backing` is the stake of the commit
         and all seized before.
    """
    active: uint256 = 0
    seized: uint256 = 0
    active, seized = staticcall STAKING.stake_of(
        provider, skip_contract_check=True
    )
    return min(active, backing - min(backing, seized)), seized
