# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Share arithmetic of stake pools
@license AGPL-3.0-only
@notice Assets and shares convert with `VIRTUAL_SHARES` shares and one wei of
        assets that nobody owns. All conversions round against who moves, so the
        rest of the pool never pays for it (I-12).

        A pool has at least as many shares as wei, virtual ones counted on both
        sides: it begins so, every rounding keeps it so, and a reward that would
        end it multiplies the shares first. So one share costs at most one wei, at
        all times, and no deposit of a wei or more is too small.
@dev Two 128-bit halves to a word: Vyper packs nothing by itself.
"""

VIRTUAL_SHARES: constant(uint256) = 1_000
# A rebase multiplies or divides all shares of a pool by this.
REBASE: constant(uint256) = 10**6
# A pool that a slash leaves with more shares than this for a wei is rebased.
MAX_RATIO: constant(uint256) = 10**10
# A pool that gets a reward has at least this many shares: the virtual ones would
# take a millionth of it at most.
MIN_SHARES: constant(uint256) = VIRTUAL_SHARES * 10**6
# This number of divisions leaves nothing of any 128-bit number of shares, and fewer
# multiplications lift one share above any 128-bit number of wei.
WIPED: constant(uint256) = 8
MASK: constant(uint256) = 2**128 - 1


@internal
@pure
def _pack(low: uint256, high: uint256) -> uint256:
    """
    @dev Packs two numbers below 2**128.
    @param low The low half.
    @param high The high half.
    @return The word.
    """
    assert low <= MASK and high <= MASK, "shares: number above 128 bits"
    return low | (high << 128)


@internal
@pure
def _unpack(word: uint256) -> (uint256, uint256):
    """
    @dev Takes a word apart.
    @param word Two packed numbers.
    @return The low and the high half.
    """
    return word & MASK, word >> 128


@internal
@pure
def _to_shares(
    assets: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Shares for a deposit, rounded down.
    @param assets TPF wei that come in.
    @param pool_assets TPF wei in the pool.
    @param pool_shares Shares of the pool.
    @return Shares.
    """
    return assets * (pool_shares + VIRTUAL_SHARES) // (pool_assets + 1)


@internal
@pure
def _to_assets(
    amount: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Assets behind a number of shares, rounded down.
    @param amount Shares.
    @param pool_assets TPF wei in the pool.
    @param pool_shares Shares of the pool.
    @return TPF wei.
    """
    return amount * (pool_assets + 1) // (pool_shares + VIRTUAL_SHARES)


@internal
@pure
def _to_burn(
    assets: uint256, pool_assets: uint256, pool_shares: uint256
) -> uint256:
    """
    @dev Shares that must go for `assets` to leave, rounded up.
    @param assets TPF wei that go out.
    @param pool_assets TPF wei in the pool.
    @param pool_shares Shares of the pool.
    @return Shares.
    """
    divisor: uint256 = pool_assets + 1
    return (assets * (pool_shares + VIRTUAL_SHARES) + divisor - 1) // divisor


@internal
@pure
def _divisions(pool_assets: uint256, pool_shares: uint256) -> uint256:
    """
    @dev How often a slash divides all shares by REBASE: until they are not too
         many for what is left, and until none is left when nothing is.
    @param pool_assets TPF wei that the slash leaves.
    @param pool_shares Shares of the pool.
    @return Divisions, at most WIPED.
    """
    if pool_shares == 0:
        return 0
    if pool_assets == 0:
        return WIPED
    left: uint256 = pool_shares
    for count: uint256 in range(WIPED):
        if left <= pool_assets * MAX_RATIO:
            return count
        left //= REBASE
    return WIPED


@internal
@pure
def _multiplications(pool_assets: uint256, pool_shares: uint256) -> uint256:
    """
    @dev How often a reward multiplies all shares by REBASE: until they are
         neither few nor coarse. The question is asked of shares and wei together,
         so it has no cliff that the price of a share could move.
    @param pool_assets TPF wei after the reward.
    @param pool_shares Shares of the pool, not 0.
    @return Multiplications, less than WIPED.
    """
    enough: uint256 = max(pool_assets, MIN_SHARES)
    grown: uint256 = pool_shares
    for count: uint256 in range(WIPED):
        if grown >= enough:
            return count
        grown *= REBASE
    return WIPED


@internal
@pure
def _divided(amount: uint256, times: uint256) -> uint256:
    """
    @dev What `times` divisions by REBASE leave of a number of shares. Dividing
         once by the product gives the same as dividing step by step.
    @param amount Shares.
    @param times Divisions.
    @return Shares, rounded down: the sum over all holders never exceeds the pool's.
    """
    if times >= WIPED:
        return 0
    return amount // 10**(6 * times)
