# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A schedule that accrues by the second, and halves
@license AGPL-3.0-only
@notice RATE per second until the first halving, half of it until the second, and so on:
        together at most twice the first period.
"""

MAX_TIME: constant(uint256) = 100 * 366 * 86_400

# Unix seconds at which the schedule begins.
START: public(immutable(uint256))
# TPF wei per second before the first halving.
RATE: public(immutable(uint256))
# Seconds from one halving to the next.
HALVING: public(immutable(uint256))
# TPF wei that accrue in total.
WHOLE: immutable(uint256)


@deploy
def __init__(start: uint256, rate: uint256, halving: uint256, most: uint256):
    """
    @notice Fixes the schedule.
    @param start Unix seconds.
    @param rate TPF wei per second before the first halving.
    @param halving Seconds from one halving to the next.
    @param most TPF wei that the whole schedule must not exceed, below 2**96: so no
           product of the rate can overflow.
    """
    assert (
        halving > 0 and halving <= MAX_TIME
    ), "emissions: halving out of bounds"
    assert rate <= most // (2 * halving), "emissions: schedule above the cap"
    START = start
    RATE = rate
    HALVING = halving
    WHOLE = 2 * rate * halving


@internal
@view
def _accrued(time: uint256) -> uint256:
    """
    @dev TPF wei to date. What is still to come halves with each period and falls in a
         line within one: a single shift. Rounded up; never above the whole.
    """
    if time <= START:
        return 0
    elapsed: uint256 = time - START
    return WHOLE - (
        (WHOLE - RATE * (elapsed % HALVING)) >> (elapsed // HALVING)
    )
