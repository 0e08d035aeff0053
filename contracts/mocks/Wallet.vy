# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Contract wallet (ERC-1271), for tests
@license AGPL-3.0-only
"""

from snekmate.utils import ecdsa

owner: public(address)


@deploy
def __init__(owner: address):
    self.owner = owner


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[65]) -> bytes4:
    """
    @notice Answers the ERC-1271 magic value if the owner signed.
    @param digest What was signed.
    @param signature The owner's signature.
    """
    if ecdsa._recover_sig(digest, signature) == self.owner:
        return 0x1626BA7E
    return 0xFFFFFFFF


@external
@payable
def execute(target: address, data: Bytes[4_096]) -> Bytes[1_024]:
    """
    @notice Calls a contract for the owner.
    @param target The contract.
    @param data Calldata.
    """
    assert msg.sender == self.owner, "wallet: caller is not the owner"
    return raw_call(target, data, max_outsize=1_024, value=msg.value)
