# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What is signed about channels (EIP-712)
@license AGPL-3.0-only
@notice The types are those of x402's batch settlement.
@dev The domain is made from the contract's own address in each call. Nothing of
     it is stored: the code of an instance may stand at another address.
"""

from ..interfaces import IChannels

NAME: constant(String[21]) = "x402 Batch Settlement"
VERSION: constant(String[1]) = "1"

_DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
CHANNEL_CONFIG_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
)
VOUCHER_TYPEHASH: public(constant(bytes32)) = keccak256(
    "Voucher(bytes32 channelId,uint128 maxClaimableAmount)"
)
REFUND_TYPEHASH: public(constant(bytes32)) = keccak256(
    "Refund(bytes32 channelId,uint256 nonce,uint128 amount)"
)
CLAIM_ENTRY_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)
CLAIM_BATCH_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)


@external
@view
@reentrant
def eip712Domain() -> (
    bytes1,
    String[21],
    String[1],
    uint256,
    address,
    bytes32,
    DynArray[uint256, 1],
):
    """
    @notice Returns what the domain is made of (EIP-5267).
    @return Which fields it has, as bits.
    @return Its name.
    @return Its version.
    @return The chain.
    @return This contract.
    @return The salt, which it does not have.
    @return The extensions, of which it has none.
    """
    return (
        0x0F,
        NAME,
        VERSION,
        chain.id,
        self,
        empty(bytes32),
        empty(DynArray[uint256, 1]),
    )


@internal
@view
def _domain() -> bytes32:
    """
    @dev The domain separator of this chain and this address.
    """
    return keccak256(
        abi_encode(
            _DOMAIN_TYPEHASH,
            keccak256(NAME),
            keccak256(VERSION),
            chain.id,
            self,
        )
    )


@internal
@pure
def _digest(domain: bytes32, struct_hash: bytes32) -> bytes32:
    """
    @dev What is signed.
    """
    return keccak256(concat(0x1901, domain, struct_hash))


@internal
@pure
def _channel_id(domain: bytes32, config: IChannels.ChannelConfig) -> bytes32:
    """
    @dev The id of a channel.
    """
    return self._digest(
        domain, keccak256(abi_encode(CHANNEL_CONFIG_TYPEHASH, config))
    )


@internal
@pure
def _voucher(domain: bytes32, channel: bytes32, ceiling: uint256) -> bytes32:
    """
    @dev What a payer signs.
    """
    return self._digest(
        domain, keccak256(abi_encode(VOUCHER_TYPEHASH, channel, ceiling))
    )


@internal
@pure
def _refund(
    domain: bytes32, channel: bytes32, nonce: uint256, amount: uint256
) -> bytes32:
    """
    @dev What a receiver authorizer signs to give back.
    """
    return self._digest(
        domain, keccak256(abi_encode(REFUND_TYPEHASH, channel, nonce, amount))
    )


@internal
@pure
def _entry(channel: bytes32, ceiling: uint256, total: uint256) -> bytes32:
    """
    @dev The hash of one row of a batch of claims.
    """
    return keccak256(abi_encode(CLAIM_ENTRY_TYPEHASH, channel, ceiling, total))


@internal
@pure
def _batch(domain: bytes32, entries_hash: bytes32) -> bytes32:
    """
    @dev What a receiver authorizer signs for a batch of claims.
    """
    return self._digest(
        domain, keccak256(abi_encode(CLAIM_BATCH_TYPEHASH, entries_hash))
    )
