# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Headers of blocks
@license AGPL-3.0-only
@notice Reads timestamp and prevrandao out of a block's RLP header. Who knows
        the block's hash knows with it that these are the block's own.
@dev The fields that come first have one length each, on every fork. Those that follow
     are integers with no leading zero. What is behind prevrandao is not looked at, so
     headers that later forks make longer are read as well.
"""

# Bytes. Ethereum's are below 700; longer extra data is found on other chains.
MAX_HEADER: constant(uint256) = 1024
# Where parentHash begins: behind the list's head of three bytes and its own of one.
PARENT: constant(uint256) = 4
# Where difficulty begins: behind the list's head, five hashes and an address with a head
# of one byte each, and the logs' bloom filter with one of three.
DIFFICULTY: constant(uint256) = 3 + 5 * 33 + 21 + 3 + 256


@internal
@pure
def _fields(header: Bytes[MAX_HEADER]) -> (uint256, bytes32):
    """
    @dev Timestamp (unix seconds), and mixHash, which is prevrandao. The caller has
         compared the header's hash; a header of another make is refused all the same,
         and not misread (without a reason: no chain has one, and reasons take room).
    """
    # A list of 257 to 65,535 bytes, all of them there.
    assert (
        convert(extract32(header, 0), uint256) >> 232
        == (249 << 16) + len(header) - 3
    )
    at: uint256 = DIFFICULTY
    timestamp: uint256 = 0
    # difficulty, number, gasLimit, gasUsed, timestamp: the last one stays.
    for _: uint256 in range(5):
        word: uint256 = convert(extract32(header, at), uint256)
        timestamp = word >> 248
        at += 1
        if timestamp >= 128:
            size: uint256 = timestamp - 128
            assert size <= 31
            # Shifted by 256 where there is no byte: zero.
            timestamp = (word << 8) >> (256 - (size << 3))
            at += size
        # extraData: at most 32 bytes on Ethereum, 255 are read.


    extra: uint256 = convert(extract32(header, at), uint256) >> 240
    at += 1
    if extra >> 8 == 184:
        at += 1 + (extra & 255)
    elif extra >> 8 >= 128:
        assert extra >> 8 < 184
        at += (extra >> 8) - 128
    assert (convert(extract32(header, at), uint256) >> 248 == 160)
    return timestamp, extract32(header, at + 1)
