# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Share arithmetic of stake pools
@license AGPL-3.0-only
@notice Assets and shares convert with `VIRTUAL_SHARES` shares and one asset that
        nobody owns. They keep a first depositor from inflating the price of a
        share: an attacker loses `VIRTUAL_SHARES` times what it can make the next
        depositor lose. All conversions round against who moves, so the rest of
        the pool never pays for it.
@dev Two 128-bit halves to a word: Vyper packs nothing by itself.
"""

VIRTUAL_SHARES: constant(uint256) = 1_000
# A pool that a slash leaves with more shares than this for a wei of assets is
# rebased: all its shares are divided, until they fit in their 128 bits again.
MAX_RATIO: constant(uint256) = 10**10
REBASE: constant(uint256) = 10**6
# So many generations later nothing is left of any 128-bit number of shares.
WIPED: constant(uint256) = 8
# With so many shares the virtual ones keep a millionth of a reward at most.
MIN_REWARDED: constant(uint256) = VIRTUAL_SHARES * 10**6
MASK: constant(uint256) = 2**128 - 1


@internal
@pure
def _pack(low: uint256, high: uint256) -> uint256:
    """
    @dev Packs two numbers below 2**128.
    """
    assert low <= MASK and high <= MASK, "shares: number above 128 bits"
    return low | (high << 128)


@internal
@pure
def _unpack(word: uint256) -> (uint256, uint256):
    """
    @dev Returns the low and the high half of a word.
    """
    return word & MASK, word >> 128


@internal
@pure
def _to_shares(
    assets: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Shares for a deposit, rounded down.
    """
    return assets * (pool_shares + VIRTUAL_SHARES) // (pool_assets + 1)


@internal
@pure
def _to_assets(
    amount: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Assets behind a number of shares, rounded down.
    """
    return amount * (pool_assets + 1) // (pool_shares + VIRTUAL_SHARES)


@internal
@pure
def _to_burn(
    assets: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Shares that must go for `assets` to leave, rounded up.
    """
    divisor: uint256 = pool_assets + 1
    return (assets * (pool_shares + VIRTUAL_SHARES) + divisor - 1) // divisor


@internal
@pure
def _rebase(pool_assets: uint256, pool_shares: uint256) -> (uint256, uint256):
    """
    @dev What a slash does to the number of shares: the divisor for all of them,
         and by how many generations they get older.
    """
    if pool_shares == 0:
        return 1, 0
    if pool_assets == 0:
        return max_value(uint256), WIPED
    divisor: uint256 = 1
    generations: uint256 = 0
    for _: uint256 in range(WIPED):
        if pool_shares // divisor <= pool_assets * MAX_RATIO:
            break
        divisor *= REBASE
        generations += 1
    return divisor, generations


@internal
@pure
def _carry(amount: uint256, generations: uint256) -> uint256:
    """
    @dev What shares written down so many generations ago are now. The sum over
         all holders never exceeds the pool's own number: all round down.
    """
    if generations >= WIPED:
        return 0
    return amount // 10**(6 * generations)
