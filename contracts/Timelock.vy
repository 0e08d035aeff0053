# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy off
"""
@title Timelock
@license AGPL-3.0-only
@notice Owner of every contract of the suite. A proposal waits at least the
        minimum delay, in which everybody can read it and leave. It administers
        itself: no account keeps a right that skips the delay (I-11).
@dev Re-entrancy protection is off because a proposal may call this contract
     itself, to change its delay or its roles.
"""

from snekmate.auth import access_control
from snekmate.governance import timelock_controller

initializes: access_control
initializes: timelock_controller[access_control := access_control]

exports: timelock_controller.__interface__


@deploy
@payable
def __init__(
    minimum_delay: uint256,
    proposers: DynArray[address, max_value(uint8)],
    executors: DynArray[address, max_value(uint8)],
):
    """
    @notice Sets the delay and the roles; there is no admin but itself.
    @param minimum_delay Seconds between a proposal and its execution.
    @param proposers Accounts that may propose and cancel.
    @param executors Accounts that may execute; the zero address means anyone.
    """
    access_control.__init__()
    timelock_controller.__init__(
        minimum_delay, proposers, executors, empty(address)
    )
