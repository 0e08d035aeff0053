# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Jurors and how they are drawn, by themselves, for tests of many draws
@license AGPL-3.0-only
"""

from ..courts import jurors
from ..courts import sum_tree
from ..interfaces import IDisputes
from ..interfaces import IStaking

initializes: sum_tree
initializes: jurors[sum_tree := sum_tree]

exports: (jurors.enlist, jurors.leaf_of)


@deploy
def __init__(staking: IStaking, period: uint256):
    sum_tree.__init__(period)
    jurors.__init__(staking, 10**19, 400 * 86_400, 86_400)


@external
@view
def pick(
    case: IDisputes.Case,
    seed: bytes32,
    votes: uint256,
    sat: DynArray[uint256, 62],
) -> DynArray[uint256, 31]:
    """
    @notice Returns the jury that a seed draws now.
    @param case The case.
    @param seed What draws.
    @param votes How many votes it has.
    @param sat Leaves that sat before.
    """
    return jurors._pick(case, sum_tree._period(), seed, votes, sat)


@external
@view
def pick_many(
    case: IDisputes.Case,
    first: uint256,
    count: uint256,
    votes: uint256,
    sat: DynArray[uint256, 62],
) -> (DynArray[uint256, 128], uint256):
    """
    @notice Returns how many votes each leaf gets, by its number, in many juries, and how
            many of the juries came to nothing.
    @param case The case.
    @param first The first seed; the next ones follow it.
    @param count How many juries.
    @param votes How many votes each has.
    @param sat Leaves that sat before.
    """
    drawn: DynArray[uint256, 128] = []
    for _: uint256 in range(128):
        drawn.append(0)
    failed: uint256 = 0
    for number: uint256 in range(count, bound=100_000):
        jury: DynArray[uint256, 31] = jurors._pick(
            case,
            sum_tree._period(),
            keccak256(convert(first + number, bytes32)),
            votes,
            sat,
        )
        if len(jury) == 0:
            failed += 1
        for juror: uint256 in jury:
            drawn[juror & jurors.LEAF_MASK] += juror // jurors.ONE_VOTE
    return drawn, failed
