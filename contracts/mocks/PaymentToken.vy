# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Payment token for local chains and test nets
@license AGPL-3.0-only
@notice A dollar with 6 decimals that anyone may mint. It is worth nothing, and
        the deployment plan refuses it on a chain that is not a test net.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: erc20[ownable := ownable]

exports: (
    erc20.IERC20,
    erc20.IERC20Detailed,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
)


@deploy
def __init__():
    ownable.__init__()
    erc20.__init__("Test Dollar", "tUSD", 6, "Test Dollar", "1")


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Creates tokens for anyone.
    @param receiver Receives the tokens.
    @param amount Units of 1/1,000,000 dollar.
    """
    erc20._mint(receiver, amount)
