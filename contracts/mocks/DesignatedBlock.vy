# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Randomness of designated blocks by itself, for tests
@license AGPL-3.0-only
"""

from ..randomness import designated_block
from ..randomness import header_proof

initializes: designated_block

exports: designated_block.SOURCE


@deploy
def __init__(source: uint256):
    designated_block.__init__(source)


@external
@view
def number() -> uint256:
    """
    @notice Returns the present block, in the chain's own numbers.
    """
    return designated_block._number()


@external
@view
def hash_of(number: uint256) -> bytes32:
    """
    @notice Returns the hash of a block, zero if it cannot be had.
    @param number The block.
    """
    return designated_block._hash_of(number)


@external
@pure
def fields(
    header: Bytes[header_proof.MAX_HEADER],
) -> (uint256, bytes32):
    """
    @notice Returns timestamp and mixHash of a header that nobody has checked.
    @param header RLP.
    """
    return header_proof._fields(header)


@external
@view
def value(
    number: uint256, header: Bytes[header_proof.MAX_HEADER]
) -> (uint256, bytes32):
    """
    @notice Returns timestamp and value of a block.
    @param number The block.
    @param header Its header, RLP.
    """
    return designated_block._value(number, header)


@external
@view
def first_block(
    number: uint256,
    header: Bytes[header_proof.MAX_HEADER],
    parent: Bytes[header_proof.MAX_HEADER],
    time: uint256,
) -> (uint256, bytes32):
    """
    @notice Returns timestamp and value of the first block not before a time.
    @param number The block.
    @param header Its header, RLP.
    @param parent Its parent's header, RLP.
    @param time Unix seconds.
    """
    return designated_block._first_block(number, header, parent, time)
