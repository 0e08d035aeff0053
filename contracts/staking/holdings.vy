# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What can be read of stake pools
@license AGPL-3.0-only
@notice Pools, the stake of accounts, and their tickets, as they are now.
"""

from . import pools

uses: pools


@deploy
def __init__():
    pass


@external
@view
@reentrant
def stake_of(provider: address) -> (uint256, uint256):
    """
    @notice Returns the active TPF wei behind a provider, and how much was ever
            seized from it. A seizure, unlike all else, moves stake at once.
            Reentrant: managers read it while they settle.
    @param provider The provider's owner address.
    @return Active TPF wei, TPF wei seized so far.
    """
    return pools._stake_of(provider)


@external
@view
def pool(
    provider: address,
) -> (uint256, uint256, uint256, uint256, uint256, uint256):
    """
    @notice Returns a pool.
    @param provider The provider's owner address.
    @return Active, locked, active shares, owner's shares, unbonding, unbonding shares.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = pools._read(provider)
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = pools._leaving(provider)
    return active, locked, total, owned, leaving, leaving_shares


@external
@view
def owner_assets(provider: address) -> uint256:
    """
    @notice Returns the owner's own active stake in TPF wei.
    @param provider The provider's owner address.
    """
    return pools._assets_of(provider, provider)


@external
@view
def shares_of(provider: address, account: address) -> uint256:
    """
    @notice Returns the active shares of an account.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return pools._shares_of(provider, account)


@external
@view
def assets_of(provider: address, account: address) -> uint256:
    """
    @notice Returns the active stake of an account in TPF wei.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return pools._assets_of(provider, account)


@external
@view
def ticket_count(provider: address, account: address) -> uint256:
    """
    @notice Returns how many tickets an account ever had with a provider.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return pools._ticket_count(provider, account)


@external
@view
def ticket(
    provider: address, account: address, number: uint256
) -> (uint256, uint256, uint256):
    """
    @notice Returns an unbonding ticket.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @param number 0 to `ticket_count` - 1.
    @return Unbonding shares, TPF wei they are worth now, time from which they pay.
    """
    return pools._ticket(provider, account, number)
