# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Signatures of keys and of contracts
@license AGPL-3.0-only
@notice A key's signature is 65 bytes r, s, v with v 27 or 28 and s in the lower
        half: each has one form. A contract's (ERC-1271) is whatever it takes.
"""

# Half of the order of secp256k1.
_MAX_S: constant(uint256) = (
    57_896_044_618_658_097_711_785_492_504_343_953_926_418_782_139_537_452_191_302_581_570_759_080_747_168
)
_ERC1271: constant(bytes4) = method_id(
    "isValidSignature(bytes32,bytes)", output_type=bytes4
)


@internal
@view
def _is_from(signer: address, digest: bytes32, signature: Bytes[576]) -> bool:
    """
    @dev Whether an account, key or contract, has signed.
    """
    if signer.is_contract:
        return self._is_from_contract(signer, digest, signature)
    if len(signature) != 65:
        return False
    return self._is_from_key(
        signer,
        digest,
        extract32(signature, 0, output_type=uint256),
        extract32(signature, 32, output_type=uint256),
        convert(slice(signature, 64, 1), uint256),
    )


@internal
@pure
def _is_from_key(
    signer: address, digest: bytes32, r: uint256, s: uint256, v: uint256
) -> bool:
    """
    @dev Whether a key has signed. No key signs for the zero address, and to it a
         bad signature recovers.
    """
    return (
        s <= _MAX_S
        and signer != empty(address)
        and ecrecover(digest, v, r, s) == signer
    )


@internal
@view
def _is_from_contract(
    signer: address, digest: bytes32, signature: Bytes[576]
) -> bool:
    """
    @dev Whether a contract takes the signature for its own. It is asked without
         the right to change anything, and what fails is a no.
    """
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        signer,
        abi_encode(
            digest,
            signature,
            method_id=method_id("isValidSignature(bytes32,bytes)"),
        ),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(answer) != 32:
        return False
    return convert(answer, bytes32) == convert(_ERC1271, bytes32)
