# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title The count of votes by itself, for tests
@license AGPL-3.0-only
"""

from ..courts import docket
from ..courts import votes

initializes: votes

JOB: constant(bytes32) = empty(bytes32)


@deploy
def __init__():
    votes.__init__()


@external
def tally(
    kinds: DynArray[uint256, 31],
    claims: DynArray[bytes32, 31],
    counts: DynArray[uint256, 31],
    size: uint256,
) -> (uint256, uint256):
    """
    @notice Returns what a jury has found: the kind, and the claim of its majority.
    @param kinds Of each juror's vote, 0 if it was silent.
    @param claims What each vote claims to be attested.
    @param counts How many votes each juror has.
    @param size Votes of the jury.
    """
    jury: DynArray[uint256, 31] = []
    for count: uint256 in counts:
        jury.append((len(jury) + 1) | (count << votes.VOTES_AT))
    votes._sit(JOB, 0, jury)
    word: uint256 = len(jury) << docket.PLACES_AT
    for place: uint256 in range(len(kinds), bound=31):
        votes._write(JOB, 0, place, jury[place], claims[place])
        word |= kinds[place] << (docket.KINDS_AT + 2 * place)
    found: votes.Ruling = votes._tally(JOB, 0, word, size)
    return found.kind, found.claim
