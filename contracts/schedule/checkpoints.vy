# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Values by epoch
@license AGPL-3.0-only
@notice Series of values of 192 bits. A checkpoint holds from its first epoch until the
        next one begins, so what was in force in an epoch can be read without end.
@dev Checkpoint, low bits first: first epoch 32 | values 192 | its number 32
"""

MASK_32: constant(uint256) = 2**32 - 1
MASK_192: constant(uint256) = 2**192 - 1

# series -> its newest checkpoint, and the ones before it by their numbers
newest: HashMap[uint256, uint256]
earlier: HashMap[uint256, HashMap[uint256, uint256]]


@internal
def _set(series: uint256, from_epoch: uint256, values: uint256):
    """
    @dev Adds a checkpoint; one that was set for the same epoch is replaced. The first
         one must be set from epoch 0 on, and none before the newest.
    """
    newest: uint256 = self.newest[series]
    number: uint256 = newest >> 224
    if newest & MASK_32 != from_epoch:
        self.earlier[series][number] = newest
        number += 1
    self.newest[series] = from_epoch | (values << 32) | (number << 224)


@internal
@view
def _at(series: uint256, epoch: uint256) -> uint256:
    """
    @dev The values in force in an epoch: mostly the newest, else found by bisection.
    """
    word: uint256 = self.newest[series]
    if word & MASK_32 > epoch:
        low: uint256 = 0
        high: uint256 = word >> 224
        for _: uint256 in range(32):
            if high - low <= 1:
                break
            middle: uint256 = (low + high) // 2
            if self.earlier[series][middle] & MASK_32 <= epoch:
                low = middle
            else:
                high = middle
        word = self.earlier[series][low]
    return (word >> 32) & MASK_192
