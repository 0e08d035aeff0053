# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A price that rises
@license AGPL-3.0-only
@notice From a start to a maximum in a straight line; then it stays. The first who takes
        it ends it, so one transaction finds the price.
"""


@internal
@pure
def _price(
    start: uint256, highest: uint256, seconds: uint256, elapsed: uint256
) -> uint256:
    """
    @dev The price when `elapsed` seconds were not paused, rounded down.
    """
    if elapsed >= seconds:
        return highest
    return start + (highest - start) * elapsed // seconds
