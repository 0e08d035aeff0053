# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title The provider's collateral of a deal
@license AGPL-3.0-only
@notice A deal locks TPF of the owner's own stake in Staking until nothing can
        happen to it any more, and a margin. What is seized goes to the harmed
        tenant first, a bounty to the stranger who proved the fault, the rest is
        burned; the split is fixed at deployment.
        I-3 a seizure never takes more than its lock.
@dev Nothing is stored here: Staking keeps the locks.
"""

from ..interfaces import IStaking

MAX_BPS: constant(uint256) = 10_000

STAKING: public(immutable(IStaking))
# Time after the latest settlement in which a collateral can still be seized.
LOCK_MARGIN: public(immutable(uint256))
# Split of a seized collateral: the tenant's part, and the bounty's part of the rest.
VICTIM_BPS: public(immutable(uint256))
BOUNTY_BPS: public(immutable(uint256))
_MAX_LOCK: immutable(uint256)


@deploy
def __init__(
    staking: IStaking,
    lock_margin: uint256,
    victim_bps: uint256,
    bounty_bps: uint256,
    longest_window: uint256,
):
    assert staking.address != empty(address), "collateral: zero staking"
    assert lock_margin > 0, "collateral: zero lock margin"
    assert victim_bps <= MAX_BPS, "collateral: victim share above 100 %"
    assert bounty_bps <= MAX_BPS // 2, "collateral: bounty above half"
    STAKING = staking
    LOCK_MARGIN = lock_margin
    VICTIM_BPS = victim_bps
    BOUNTY_BPS = bounty_bps
    _MAX_LOCK = staticcall staking.MAX_LOCK()
    assert (
        longest_window + lock_margin < _MAX_LOCK
    ), "collateral: locks too short"


@internal
@view
def _fits(seconds: uint256) -> bool:
    """
    @dev Whether a lock can cover a deal that may last so long: one that none can
         cover could never be taken.
    """
    return seconds + LOCK_MARGIN <= _MAX_LOCK


@internal
def _lock(
    operator: address,
    id: bytes32,
    amount: uint256,
    seconds: uint256,
    min_stake: uint256,
) -> (address, uint256):
    """
    @dev Locks for a deal that may last `duration` seconds from now. Returns the
         provider behind the operator, and the consent that binds them.
    """
    return extcall STAKING.lock(
        operator, id, amount, block.timestamp + seconds + LOCK_MARGIN, min_stake
    )


@internal
def _unlock(provider: address, id: bytes32) -> address:
    """
    @dev Ends a lock; returns where the provider is paid.
    """
    return extcall STAKING.unlock(provider, id)


@internal
def _seize(
    provider: address, id: bytes32, victim: address, hunter: address
) -> uint256:
    """
    @dev Takes a collateral for a fault; returns how much there was.
    """
    return extcall STAKING.seize(
        provider, id, victim, hunter, VICTIM_BPS, BOUNTY_BPS
    )


@internal
def _burn(provider: address, id: bytes32, victim: address) -> uint256:
    """
    @dev Takes a collateral and burns it whole; returns how much there was.
    """
    return extcall STAKING.seize(provider, id, victim, victim, 0, 0)


@internal
@view
def _operator_of(provider: address) -> address:
    """
    @dev The key that speaks for a provider now.
    """
    return staticcall STAKING.operator_of(provider)


@internal
@view
def _payout_of(provider: address) -> address:
    """
    @dev Where a provider is paid.
    """
    return staticcall STAKING.payout_of(provider)


@internal
@view
def _spoke_for(
    key: address, provider: address, since: uint256, until: uint256
) -> bool:
    """
    @dev Whether a key spoke for a provider at any moment of a time, in unix seconds.
    """
    return staticcall STAKING.spoke_for(key, provider, since, until)
