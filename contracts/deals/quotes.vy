# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Signed quotes
@license AGPL-3.0-only
@notice An operator's offer, signed off chain: it binds until it expires, is
        used at most once, and can be cancelled. Nonces are unordered. The upper
        128 bits of a nonce name the consent under which its operator works for
        an owner, so that what it signed under an earlier one is dead.
@dev The using contract owns the message: it passes the EIP-712 struct hash, and
     compares the nonce with the consent in force.
"""

from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator as eip712

uses: eip712


event QuotesCancelled:
    operator: indexed(address)
    word: uint256
    mask: uint256


# operator -> nonce // 256 -> one bit a nonce
_used: HashMap[address, HashMap[uint256, uint256]]


@deploy
def __init__():
    pass


@external
def cancel_quotes(word: uint256, mask: uint256):
    """
    @notice Makes the caller's own quotes unusable.
    @param word Nonce divided by 256.
    @param mask One bit a nonce: bit n stands for word * 256 + n.
    """
    self._used[msg.sender][word] |= mask
    log QuotesCancelled(operator=msg.sender, word=word, mask=mask)


@external
@view
def quote_used(operator: address, nonce: uint256) -> bool:
    """
    @notice Returns whether a quote's nonce was used or cancelled.
    @param operator Who signed.
    @param nonce The quote's nonce.
    """
    return self._used[operator][nonce >> 8] & (1 << (nonce & 255)) != 0


@internal
def _use(
    struct_hash: bytes32,
    signature: Bytes[65],
    operator: address,
    requester: address,
    expires: uint64,
    nonce: uint256,
):
    """
    @dev Uses up a quote for `msg.sender`; reverts if it is not good for it now.
         `requester` zero means anyone.
    """
    assert block.timestamp <= convert(expires, uint256), "quotes: expired"
    assert requester in [
        empty(address), msg.sender
    ], "quotes: for another requester"
    assert (
        self._signer(struct_hash, signature) == operator
    ), "quotes: not the operator's"
    word: uint256 = self._used[operator][nonce >> 8]
    bit: uint256 = 1 << (nonce & 255)
    assert word & bit == 0, "quotes: used or cancelled"
    self._used[operator][nonce >> 8] = word | bit


@internal
@pure
def _consent_of(nonce: uint256) -> uint256:
    """
    @dev The number of the consent that a quote's nonce names.
    """
    return nonce >> 128


@internal
@view
def _signer(struct_hash: bytes32, signature: Bytes[65]) -> address:
    """
    @dev Who signed: 65 bytes, or 64 in the compact form of EIP-2098; zero for any
         other length, and no operator is zero.
    """
    return ecdsa._recover_sig(
        eip712._hash_typed_data_v4(struct_hash), signature
    )
