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
# Of the longest signature, 512 bytes.
_SIGNATURE_WORDS: constant(uint256) = 16
# A row's own part: a channel's configuration, ceiling, place of the signature, sum.
_WORDS: constant(uint256) = 10
_CONFIG_BYTES: constant(uint256) = 224


@internal
def _claim_for(sender: address, count: uint256):
    """
    @dev Claims `count` rows, the first argument of the call, for `sender`, who must
         be the receiver or its authorizer in each.
    """
    assert count != 0, "channels: no claims"
    domain: bytes32 = digests._domain()
    for number: uint256 in range(count, bound=MAX_CLAIMS):
        at: uint256 = self._place(number)
        row: uint256[_WORDS] = self._row(at)
        assert (
            convert(sender, uint256) in [row[2], row[3]]
        ), "channels: caller is not the receiver's"
        self._claim(domain, at, row, self._channel(domain, at))


@internal
def _claim_by(count: uint256) -> (address, bytes32):
    """
    @dev Claims `count` rows of one receiver authorizer. Returns who must have
         signed what; until that is checked nothing is good.
    """
    assert count != 0, "channels: no claims"
    domain: bytes32 = digests._domain()
    entries: DynArray[bytes32, MAX_CLAIMS] = []
    authorizer: uint256 = 0
    for number: uint256 in range(count, bound=MAX_CLAIMS):
        at: uint256 = self._place(number)
        row: uint256[_WORDS] = self._row(at)
        if number == 0:
            authorizer = row[3]
        assert row[3] == authorizer, "channels: several receiver authorizers"
        channel: bytes32 = self._channel(domain, at)
        entries.append(digests._entry(channel, row[7], row[9]))
        self._claim(domain, at, row, channel)
    return (
        convert(convert(authorizer, uint160), address),
        digests._batch(domain, self._hash(entries)),
    )


@internal
@view
def _batch_digest(count: uint256) -> bytes32:
    """
    @dev What a receiver authorizer signs for the rows of the call.
    """
    domain: bytes32 = digests._domain()
    entries: DynArray[bytes32, MAX_CLAIMS] = []
    for number: uint256 in range(count, bound=MAX_CLAIMS):
        at: uint256 = self._place(number)
        row: uint256[_WORDS] = self._row(at)
        entries.append(
            digests._entry(self._channel(domain, at), row[7], row[9])
        )
    return digests._batch(domain, self._hash(entries))


@internal
def _claim(
    domain: bytes32, at: uint256, row: uint256[_WORDS], channel: bytes32
):
    """
    @dev Claims one row. One that takes nothing more is passed over, so that the
         same claim may be sent twice.
    """
    total: uint256 = row[9]
    if total <= book._claimed(channel):
        return
    assert total <= row[7], "channels: claim exceeds the voucher"
    claimed: uint256 = book._claim(
        channel, self._address(row[2]), self._address(row[4]), total
    )
    digest: bytes32 = digests._voucher(domain, channel, row[7])
    signature: uint256 = at + row[8]
    good: bool = False
    if row[1] == 0:
        good = signers._is_from(
            self._address(row[0]), digest, self._bytes(signature)
        )
    elif self._word(signature) == 65:
        good = signers._is_from_key(
            self._address(row[1]),
            digest,
            self._word(signature + 32),
            self._word(signature + 64),
            convert(slice(msg.data, signature + 96, 1), uint256),
        )
    assert good, "channels: invalid signature"
    log IChannels.Claimed(
        channelId=channel,
        sender=msg.sender,
        claimAmount=convert(claimed, uint128),
        newTotalClaimed=convert(total, uint128),
    )


@internal
@pure
def _hash(entries: DynArray[bytes32, MAX_CLAIMS]) -> bytes32:
    """
    @dev The hash of the entries one after the other.
    """
    return keccak256(
        slice(abi_encode(entries), 64, unsafe_mul(32, len(entries)))
    )


# --------------------------------------------------------------------- calldata


@internal
@view
def _word(at: uint256) -> uint256:
    """
    @dev A word of calldata.
    """
    return convert(slice(msg.data, at, 32), uint256)


@internal
@view
def _place(number: uint256) -> uint256:
    """
    @dev Where a row begins, of the array that is the first argument.
    """
    first: uint256 = self._word(4) + 36
    return first + self._word(first + 32 * number)


@internal
@view
def _row(at: uint256) -> uint256[_WORDS]:
    """
    @dev The words of a row: payer, payer authorizer, receiver, receiver authorizer,
         token, delay, salt; ceiling; place of the signature in the row; sum.
    """
    return abi_decode(slice(msg.data, at, 320), uint256[_WORDS])


@internal
@view
def _channel(domain: bytes32, at: uint256) -> bytes32:
    """
    @dev The id of a row's channel.
    """
    return digests._digest(
        domain,
        keccak256(
            concat(
                digests.CHANNEL_CONFIG_TYPEHASH,
                slice(msg.data, at, _CONFIG_BYTES),
            )
        ),
    )


@internal
@view
def _bytes(at: uint256) -> Bytes[576]:
    """
    @dev Bytes of calldata: their number, and they themselves, in whole words.
    """
    words: DynArray[bytes32, _SIGNATURE_WORDS] = []
    length: uint256 = self._word(at)
    for number: uint256 in range((length + 31) // 32, bound=_SIGNATURE_WORDS):
        words.append(
            convert(slice(msg.data, at + 32 + 32 * number, 32), bytes32)
        )
    return slice(abi_encode(words), 64, length)


@internal
@pure
def _address(word: uint256) -> address:
    return convert(convert(word, uint160), address)
