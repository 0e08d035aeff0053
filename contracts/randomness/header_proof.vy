# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Headers of blocks
@license AGPL-3.0-only
@notice Reads number, timestamp and prevrandao out of a block's RLP header. Who knows
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
def _fields(header: Bytes[MAX_HEADER]) -> (uint256, uint256, bytes32):
    """
    @dev Number, timestamp (unix seconds), and mixHash, which is prevrandao. The caller
         has compared the header's hash; a header of another make is refused all the
         same, and not misread.
    """
    # A list of 257 to 65,535 bytes, all of them there.
    assert (
        len(header) > DIFFICULTY
        and convert(slice(header, 0, 3), uint256)
        == (249 << 16) + len(header) - 3
    ), "header: not a list"
    at: uint256 = DIFFICULTY
    number: uint256 = 0
    timestamp: uint256 = 0
    # difficulty, number, gasLimit, gasUsed, timestamp
    for field: uint256 in range(5):
        word: uint256 = convert(extract32(header, at), uint256)
        head: uint256 = word >> 248
        at += 1
        value: uint256 = head
        if head >= 128:
            size: uint256 = head - 128
            assert size <= 31, "header: not an integer"
            # Shifted by 256 where there is no byte: zero.
            value = (word << 8) >> (256 - (size << 3))
            at += size
        if field == 1:
            number = value
        elif field == 4:
            timestamp = value
        # extraData: at most 32 bytes on Ethereum, 255 are read.
    extra: uint256 = convert(extract32(header, at), uint256) >> 240
    at += 1
    if extra >> 8 == 184:
        at += 1 + (extra & 255)
    elif extra >> 8 >= 128:
        assert extra >> 8 < 184, "header: extra data too long"
        at += (extra >> 8) - 128
    assert (
        convert(extract32(header, at), uint256) >> 248 == 160
    ), "header: no mixHash"
    return number, timestamp, extract32(header, at + 1)
