# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Claims, row by row
@license AGPL-3.0-only
@notice A row is a voucher with its signature, and the sum that is taken by it.
@dev Rows are read where they stand, in calldata. The compiler has checked them on
     the way in, and copied them to memory; but a variable behind its copy costs
     memory for as many rows as there may be (22,000 gas), so the external functions
     have none, and give only the count to this module.
"""

from ..interfaces import IChannels
from . import book
from . import digests
from . import signers

uses: book

MAX_CLAIMS: constant(uint256) = 100
# Of a row: payer, payer authorizer, receiver, receiver authorizer, token, delay, salt;
# the voucher's sum, where in the row its signature is, the sum to be claimed.
_WORDS: constant(uint256) = 10
# Of the longest signature, 512 bytes.
_SIGNATURE_WORDS: constant(uint256) = 16


@internal
def _claim(count: uint256, sender: address):
    """
    @dev Claims `count` rows, the first argument of the call, if `sender` is the
         receiver or its authorizer in each; zero stands for whoever may claim all of
         them. A row that takes nothing more is passed over, so that the same claim
         may be sent twice.
    """
    domain: bytes32 = digests._domain()
    first: uint256 = self._first()
    # Rows of one receiver are mostly one after the other: its account is written once.
    receiver: uint256 = 0
    token: uint256 = 0
    claimed: uint256 = 0
    for number: uint256 in range(count, bound=MAX_CLAIMS):
        at: uint256 = first + convert(
            slice(msg.data, first + unsafe_mul(32, number), 32), uint256
        )
        row: uint256[_WORDS] = abi_decode(
            slice(msg.data, at, 320), uint256[_WORDS]
        )
        if sender != empty(address):
            assert (
                convert(sender, uint256) == row[3]
                or convert(sender, uint256) == row[2]
            ), "channels: caller is not the receiver's"
        channel: bytes32 = digests._digest(domain, self._struct_hash(row))
        more: uint256 = book._raise(channel, row[9])
        if more == 0:
            continue
        assert row[9] <= row[7], "channels: claim exceeds the voucher"
        digest: bytes32 = digests._voucher(domain, channel, row[7])
        good: bool = False
        if row[1] == 0:
            good = signers._is_from(
                self._address(row[0]), digest, self._bytes(at + row[8])
            )
        elif convert(slice(msg.data, at + row[8], 32), uint256) == 65:
            # r, s, v.
            signature: uint256[3] = abi_decode(
                slice(msg.data, at + row[8] + 32, 96), uint256[3]
            )
            good = signers._is_from_key(
                self._address(row[1]),
                digest,
                signature[0],
                signature[1],
                signature[2] >> 248,
            )
        assert good, "channels: invalid signature"
        if row[2] != receiver or row[4] != token:
            book._credit(self._address(receiver), self._address(token), claimed)
            receiver = row[2]
            token = row[4]
            claimed = 0
        claimed += more
        log IChannels.Claimed(
            channelId=channel,
            sender=msg.sender,
            claimAmount=convert(more, uint128),
            newTotalClaimed=convert(row[9], uint128),
        )
    book._credit(self._address(receiver), self._address(token), claimed)


@internal
@view
def _batch(count: uint256, one: bool) -> (address, bytes32):
    """
    @dev The first row's receiver authorizer, and what it signs so that anybody may
         claim the rows of the call. `one` demands that it is every row's.
    """
    domain: bytes32 = digests._domain()
    first: uint256 = self._first()
    authorizer: uint256 = 0
    entries: DynArray[bytes32, MAX_CLAIMS] = []
    for number: uint256 in range(count, bound=MAX_CLAIMS):
        at: uint256 = first + convert(
            slice(msg.data, first + unsafe_mul(32, number), 32), uint256
        )
        row: uint256[_WORDS] = abi_decode(
            slice(msg.data, at, 320), uint256[_WORDS]
        )
        if number == 0:
            authorizer = row[3]
        assert (
            not one or row[3] == authorizer
        ), "channels: several receiver authorizers"
        channel: bytes32 = digests._digest(domain, self._struct_hash(row))
        entries.append(digests._entry(channel, row[7], row[9]))
    rows: bytes32 = keccak256(
        slice(abi_encode(entries), 64, unsafe_mul(32, len(entries)))
    )
    return (self._address(authorizer), digests._batch(domain, rows))


@internal
@pure
def _struct_hash(row: uint256[_WORDS]) -> bytes32:
    """
    @dev The hash of a row's configuration.
    """
    return keccak256(
        abi_encode(
            digests.CHANNEL_CONFIG_TYPEHASH,
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            row[5],
            row[6],
        )
    )


@internal
@view
def _first() -> uint256:
    """
    @dev Where the places of the rows are: behind the number of rows of the array that
         is the first argument. A row's place is counted from here.
    """
    return convert(slice(msg.data, 4, 32), uint256) + 36


@internal
@view
def _bytes(at: uint256) -> Bytes[576]:
    """
    @dev Bytes of calldata: their number, and they themselves, in whole words.
    """
    words: DynArray[bytes32, _SIGNATURE_WORDS] = []
    length: uint256 = convert(slice(msg.data, at, 32), uint256)
    for number: uint256 in range((length + 31) // 32, bound=_SIGNATURE_WORDS):
        words.append(
            convert(slice(msg.data, at + 32 + 32 * number, 32), bytes32)
        )
    return slice(abi_encode(words), 64, length)


@internal
@pure
def _address(word: uint256) -> address:
    return convert(convert(word, uint160), address)
