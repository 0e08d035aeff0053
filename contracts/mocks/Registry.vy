# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A registry of providers that locks nothing, for tests of juries
@license AGPL-3.0-only
@notice A key works for the owner that was named for it, else for itself.
"""

_owners: HashMap[address, address]
_payouts: HashMap[address, address]


@external
def set_keys(owner: address, operator: address, payout: address):
    """
    @notice Names the keys of an owner.
    @param owner The owner.
    @param operator Its operator.
    @param payout Its payout address.
    """
    self._owners[operator] = owner
    self._payouts[owner] = payout


@external
@view
def MAX_LOCK() -> uint256:
    """
    @notice As long as anybody likes.
    """
    return 2**64 - 1


@external
@view
def provider_of(operator: address) -> address:
    """
    @notice Returns whom a key works for.
    @param operator The key.
    """
    owner: address = self._owners[operator]
    return operator if owner == empty(address) else owner


@external
@view
def payout_of(owner: address) -> address:
    """
    @notice Returns where an owner is paid.
    @param owner The owner.
    """
    payout: address = self._payouts[owner]
    return owner if payout == empty(address) else payout


@external
def lock(
    operator: address,
    id: bytes32,
    amount: uint256,
    expires_at: uint256,
    min_stake: uint256,
) -> (address, uint256):
    """
    @notice Locks nothing.
    """
    return operator, 0
