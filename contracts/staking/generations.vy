# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Generations: what rebases have done to the shares of a pool
@license AGPL-3.0-only
@notice A rebase multiplies or divides the shares of a whole pool and starts a
        generation. Active shares are multiplied or divided, and a bit says which.
        Unbonding shares are only ever divided, so a count of their generations is
        enough.
@dev The word `ages` of a pool, low bits first:
     seized 128 | active generation 32 | unbonding generation 32
     What was ever seized stands here, since a seizure and a rebase write the same
     word. The pools read the words where they are, and do not write them.
"""

from . import shares

MAX_GENERATIONS: constant(uint256) = 65_536
MASK_32: constant(uint256) = 2**32 - 1

ages: HashMap[address, uint256]
# provider -> generation // 256 -> a bit each: shares were multiplied, not divided
multiplied: HashMap[address, HashMap[uint256, uint256]]


@deploy
def __init__():
    pass


@internal
def _multiply(provider: address, times: uint256):
    """
    @dev Starts generations in which active shares are multiplied.
    @param provider The provider's owner address.
    @param times How many, not 0.
    """
    first: uint256 = (self.ages[provider] >> 128) & MASK_32
    for generation: uint256 in range(first, first + times, bound=shares.WIPED):
        self.multiplied[provider][generation // 256] |= 1 << (generation % 256)
    self._begin(provider, times, 0)


@internal
def _begin(provider: address, active: uint256, unbonding: uint256):
    """
    @dev Starts generations, if there are any to start. Where no bit was set before,
         active shares are divided.
    @param provider The provider's owner address.
    @param active Generations of the active shares.
    @param unbonding Generations of the unbonding shares.
    """
    if active + unbonding == 0:
        return
    word: uint256 = self.ages[provider] + (active << 128) + (unbonding << 160)
    assert (
        word >> 128
    ) & MASK_32 <= MAX_GENERATIONS, "staking: too many rebases"
    self.ages[provider] = word


@internal
def _add_seized(provider: address, taken: uint256):
    """
    @dev Counts what was seized.
    @param provider The provider's owner address.
    @param taken TPF wei.
    """
    # The low half: all that was ever minted is far below 128 bits.
    self.ages[provider] += taken


@internal
@view
def _unbonding(provider: address, word: uint256) -> uint256:
    """
    @dev Unbonding shares of a ticket in the present generation.
    @param provider The provider's owner address.
    @param word The ticket; one that is missing has no shares.
    @return Shares.
    """
    return shares._divided(
        word & shares.MASK,
        (self.ages[provider] >> 160) - ((word >> 128) & MASK_32),
    )
