# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Deposits into Channels by EIP-3009
@license AGPL-3.0-only
@notice Fetches a deposit by the payer's signature, so that a payer needs no gas and
        no allowance. The authorization's nonce is made of the channel: the tokens
        can go into no other.
        On public chains x402's own collector stands at one address. This one is for
        local chains, where it is put at that address.
@dev EIP-3009 sends tokens to whoever calls, so they pass through this contract in
     one call; between calls it holds nothing. It serves one contract alone: another
     caller could keep what it fetches.
"""

from ethereum.ercs import IERC20

from ..interfaces import IDepositCollector
from ..modules import token_flow

implements: IDepositCollector


interface IERC3009:
    def receiveWithAuthorization(
        sender: address,
        receiver: address,
        amount: uint256,
        valid_after: uint256,
        valid_before: uint256,
        nonce: bytes32,
        signature: Bytes[1_024],
    ): nonpayable


x402BatchSettlement: public(immutable(address))


@deploy
def __init__(channels: address):
    """
    @notice Binds the collector to a contract.
    @param channels The contract that deposits go to.
    """
    assert channels != empty(address), "collector: zero channels"
    x402BatchSettlement = channels


@external
def collect(
    payer: address,
    token: address,
    amount: uint256,
    channelId: bytes32,
    collectorData: Bytes[2_048],
):
    """
    @notice Moves `amount` from the payer to Channels, which alone may call.
    @param payer Has signed.
    @param token A token with EIP-3009.
    @param amount Its smallest units.
    @param channelId The channel, part of the authorization's nonce.
    @param collectorData ABI-encoded: valid after, valid before, salt, signature.
    """
    assert (
        msg.sender == x402BatchSettlement
    ), "collector: caller is not Channels"
    valid_after: uint256 = 0
    valid_before: uint256 = 0
    salt: uint256 = 0
    signature: Bytes[1_024] = b""
    valid_after, valid_before, salt, signature = abi_decode(
        collectorData, (uint256, uint256, uint256, Bytes[1_024])
    )
    extcall IERC3009(token).receiveWithAuthorization(
        payer,
        self,
        amount,
        valid_after,
        valid_before,
        keccak256(abi_encode(channelId, salt)),
        signature,
    )
    token_flow._push(IERC20(token), x402BatchSettlement, amount)
