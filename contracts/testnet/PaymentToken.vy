# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Payment token for local chains and test nets
@license AGPL-3.0-only
@notice A dollar with 6 decimals that anyone may mint. It is worth nothing, and
        the deployment plan refuses it on a chain that is not a test net. Like the
        dollars of public networks it takes EIP-2612 permits and EIP-3009
        authorizations, so that what is tried with it works with those.
@dev EIP-3009 has every authorization twice: with the signature as v, r and s, and
     as bytes. Vyper knows no overloads, so the second form is read in the default
     function; it is not in the ABI. A signature has 65 bytes: contract signers
     (ERC-1271) are not known here.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator as eip712

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: erc20[ownable := ownable]
uses: eip712

exports: (
    erc20.IERC20,
    erc20.IERC20Detailed,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
)


# A holder's word that tokens may move.
struct Authorization:
    sender: address
    receiver: address
    amount: uint256
    valid_after: uint256
    valid_before: uint256
    nonce: bytes32


event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


TRANSFER_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
RECEIVE_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "CancelAuthorization(address authorizer,bytes32 nonce)"
)

# authorizer -> nonce -> used or cancelled
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])


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


@external
def transferWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice Moves tokens by the word of their holder. Anyone may send it.
    @param sender The holder, who signed.
    @param receiver Receives the tokens.
    @param amount Units of 1/1,000,000 dollar.
    @param valid_after The authorization is accepted after this time (unix seconds).
    @param valid_before And before this one.
    @param nonce Free choice of the holder, used once.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    self._transfer_by(
        TRANSFER_WITH_AUTHORIZATION_TYPEHASH,
        Authorization(
            sender=sender,
            receiver=receiver,
            amount=amount,
            valid_after=valid_after,
            valid_before=valid_before,
            nonce=nonce,
        ),
        self._joined(v, r, s),
    )


@external
def receiveWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice `transferWithAuthorization` that only its receiver may send, so that
            nobody can take it out of a larger call of the receiver.
    @param sender The holder, who signed.
    @param receiver Receives the tokens: the caller.
    @param amount Units of 1/1,000,000 dollar.
    @param valid_after The authorization is accepted after this time (unix seconds).
    @param valid_before And before this one.
    @param nonce Free choice of the holder, used once.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    self._receive_by(
        Authorization(
            sender=sender,
            receiver=receiver,
            amount=amount,
            valid_after=valid_after,
            valid_before=valid_before,
            nonce=nonce,
        ),
        self._joined(v, r, s),
    )


@external
def cancelAuthorization(
    authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice Makes an authorization unusable. Anyone may send it.
    @param authorizer The holder, who signed.
    @param nonce Of the authorization.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    self._cancel(authorizer, nonce, self._joined(v, r, s))


@external
def __default__():
    """
    @notice The three calls above with the signature as bytes.
    """
    method: bytes4 = convert(slice(msg.data, 0, 4), bytes4)
    signature: Bytes[65] = b""
    if method == method_id(
        "cancelAuthorization(address,bytes32,bytes)", output_type=bytes4
    ):
        authorizer: address = empty(address)
        nonce: bytes32 = empty(bytes32)
        authorizer, nonce, signature = abi_decode(
            slice(msg.data, 4, 224), (address, bytes32, Bytes[65])
        )
        self._cancel(authorizer, nonce, signature)
        return

    receives: bool = method == method_id(
        "receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
        output_type=bytes4,
    )
    assert receives or method == method_id(
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
        output_type=bytes4,
    ), "payment token: unknown method"
    authorization: Authorization = empty(Authorization)
    authorization, signature = abi_decode(
        slice(msg.data, 4, 352), (Authorization, Bytes[65])
    )
    if receives:
        self._receive_by(authorization, signature)
    else:
        self._transfer_by(
            TRANSFER_WITH_AUTHORIZATION_TYPEHASH, authorization, signature
        )


@internal
def _receive_by(authorization: Authorization, signature: Bytes[65]):
    """
    @dev A transfer that its receiver sends.
    """
    assert (
        authorization.receiver == msg.sender
    ), "payment token: caller is not the receiver"
    self._transfer_by(
        RECEIVE_WITH_AUTHORIZATION_TYPEHASH, authorization, signature
    )


@internal
def _transfer_by(
    type_hash: bytes32, authorization: Authorization, signature: Bytes[65]
):
    """
    @dev Checks the holder's word, uses it up, and moves the tokens.
    """
    assert (
        block.timestamp > authorization.valid_after
    ), "payment token: authorization is not yet valid"
    assert (
        block.timestamp < authorization.valid_before
    ), "payment token: authorization is expired"
    self._use(
        authorization.sender,
        authorization.nonce,
        keccak256(abi_encode(type_hash, authorization)),
        signature,
    )
    log AuthorizationUsed(
        authorizer=authorization.sender, nonce=authorization.nonce
    )
    erc20._transfer(
        authorization.sender, authorization.receiver, authorization.amount
    )


@internal
def _cancel(authorizer: address, nonce: bytes32, signature: Bytes[65]):
    """
    @dev Checks the holder's word and uses its nonce up.
    """
    self._use(
        authorizer,
        nonce,
        keccak256(abi_encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)),
        signature,
    )
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@internal
def _use(
    authorizer: address,
    nonce: bytes32,
    struct_hash: bytes32,
    signature: Bytes[65],
):
    """
    @dev Uses up a nonce of its signer.
    """
    assert not self.authorizationState[authorizer][
        nonce
    ], "payment token: authorization is used or canceled"
    signer: address = ecdsa._recover_sig(
        eip712._hash_typed_data_v4(struct_hash), signature
    )
    # No key signs for the zero address, and a bad signature recovers to it.
    assert (
        signer == authorizer and signer != empty(address)
    ), "payment token: invalid signature"
    self.authorizationState[authorizer][nonce] = True


@internal
@pure
def _joined(v: uint8, r: bytes32, s: bytes32) -> Bytes[65]:
    """
    @dev The parts of a signature as its bytes.
    """
    return concat(r, s, convert(v, bytes1))
