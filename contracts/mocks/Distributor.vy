# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title A later use of the emission, for tests: it shares out what its caller says
@license AGPL-3.0-only
"""

from ..interfaces import IEmissions

EMISSIONS: immutable(IEmissions)


@deploy
def __init__(emissions: IEmissions):
    EMISSIONS = emissions


@external
def share_out(
    epoch: uint256,
    providers: DynArray[address, 8],
    amounts: DynArray[uint256, 8],
):
    """
    @notice Pays rewards of one epoch, all or none.
    @param epoch The epoch.
    @param providers Owner addresses.
    @param amounts TPF wei, one for each provider.
    """
    for k: uint256 in range(len(providers), bound=8):
        extcall EMISSIONS.distribute(providers[k], epoch, amounts[k])
