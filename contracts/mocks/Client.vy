# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A client of the court without any money, for tests
@license AGPL-3.0-only
"""

from ..interfaces import ICourt
from ..interfaces import IDisputes

COURT: immutable(ICourt)


@deploy
def __init__(court: ICourt):
    COURT = court


@external
def open(
    job: bytes32,
    provider: address,
    requester: address,
    capability: bytes32,
    result: bytes32,
    price: uint256,
    duration: uint256,
) -> uint256:
    """
    @notice Opens a dispute; returns the bond.
    """
    return extcall COURT.open(
        job, provider, requester, capability, result, price, duration
    )


@external
def appeal(case: IDisputes.Case) -> uint256:
    """
    @notice Appeals for the caller; returns the bond.
    """
    return extcall COURT.appeal(case, msg.sender)


@external
def close(case: IDisputes.Case) -> IDisputes.Verdict:
    """
    @notice Ends a dispute; returns who gets what.
    """
    return extcall COURT.close(case)
