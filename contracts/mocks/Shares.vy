# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Share arithmetic by itself, for tests
@license AGPL-3.0-only
"""

from ..staking import shares


@external
@pure
def pack(low: uint256, high: uint256) -> (uint256, uint256):
    """
    @notice Packs two numbers and takes them apart again.
    @param low Below 2**128.
    @param high Below 2**128.
    @return The two numbers.
    """
    return shares._unpack(shares._pack(low, high))


@external
@pure
def to_shares(
    assets: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @notice Returns the shares for a deposit.
    @param assets TPF wei that come in.
    @param pool_assets TPF wei in the pool.
    @param pool_shares Shares of the pool.
    """
    return shares._to_shares(assets, pool_assets, pool_shares)


@external
@pure
def divided(pool_assets: uint256, pool_shares: uint256) -> uint256:
    """
    @notice Returns what a slash leaves of all shares.
    @param pool_assets TPF wei that the slash leaves.
    @param pool_shares Shares before it.
    """
    return shares._divided(
        pool_shares, shares._divisions(pool_assets, pool_shares)
    )


@external
@pure
def divisions(pool_assets: uint256, pool_shares: uint256) -> uint256:
    """
    @notice Returns how often a slash divides all shares.
    @param pool_assets TPF wei that the slash leaves.
    @param pool_shares Shares before it.
    """
    return shares._divisions(pool_assets, pool_shares)


@external
@pure
def multiplications(pool_assets: uint256, pool_shares: uint256) -> uint256:
    """
    @notice Returns how often a reward multiplies all shares.
    @param pool_assets TPF wei after the reward.
    @param pool_shares Shares of the pool, not 0.
    """
    return shares._multiplications(pool_assets, pool_shares)
