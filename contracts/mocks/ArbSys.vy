# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Arbitrum's block numbers and hashes set by hand, for tests
@license AGPL-3.0-only
"""

arbBlockNumber: public(uint256)
arbBlockHash: public(HashMap[uint256, bytes32])


@external
def set_block(number: uint256, hash_before: bytes32):
    """
    @notice Sets the present block and the hash of the one before it.
    @param number The present block.
    @param hash_before Hash of block `number - 1`.
    """
    self.arbBlockNumber = number
    self.arbBlockHash[number - 1] = hash_before
