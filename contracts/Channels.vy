# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Channels: pay per request
@license AGPL-3.0-only
@notice A payer puts a deposit into a channel and signs vouchers with a growing sum;
        the receiver claims the sum of the last one, and is paid its claims of all
        channels in one transfer. What is not claimed goes back to the payer: with
        the receiver's consent at once, without it after the channel's delay. A
        voucher reserves nothing until it is claimed: a receiver claims at once when
        a withdrawal begins.
        ABI, types, events and ids are those of x402's batch settlement, whose
        contract stands at one address on every public chain. This one is for local
        chains: it is put at that address, so that unmodified clients pay there.
        Trust model: nobody has a right here but the parties of a channel, each in
        that channel alone. There is no owner, no fee and no pause.

        Rules, numbered as in docs/specification.md:
        I-1  for each token: balances of channels less settled = received - sent;
        I-2  the payer takes out what is unclaimed after `initiateWithdraw` and the
             delay; anyone can `settle` what is claimed; whatever the others do;
        I-9  a voucher is never paid twice; claimed <= deposit;
        I-12 nobody gets richer at another's cost: a claim takes what the payer has
             signed for, a refund what is unclaimed, each from one channel;
        I-15 a receiver that claims before the delay is over has its claims, whatever
             the payer does; a payer whose delay is over takes what is unclaimed,
             whatever the receiver does.
@dev The constructor writes no storage and there are no immutables, so the code of
     an instance works at any address. Views can be called while a call is running,
     as they can on public chains.
"""

from ethereum.ercs import IERC20

from .channels import book
from .channels import claims
from .channels import digests
from .channels import signers
from .interfaces import IChannels
from .interfaces import IDepositCollector
from .modules import token_flow

initializes: book
initializes: claims[book := book]

exports: (
    book.channels,
    book.pendingWithdrawals,
    book.refundNonce,
    book.receivers,
    digests.eip712Domain,
    digests.CHANNEL_CONFIG_TYPEHASH,
    digests.VOUCHER_TYPEHASH,
    digests.REFUND_TYPEHASH,
    digests.CLAIM_ENTRY_TYPEHASH,
    digests.CLAIM_BATCH_TYPEHASH,
)

# ------------------------------------------------------------------ constants

MIN_WITHDRAW_DELAY: public(constant(uint40)) = 900
MAX_WITHDRAW_DELAY: public(constant(uint40)) = 30 * 86_400

# Of one `multicall`.
MAX_CALLS: constant(uint256) = 8
MAX_CALL_BYTES: constant(uint256) = 4_096
MAX_ANSWER_BYTES: constant(uint256) = 64


@deploy
def __init__():
    """
    @notice There is nothing to set.
    """
    book.__init__()


# ------------------------------------------------------------------- deposits


@external
def deposit(
    config: IChannels.ChannelConfig,
    amount: uint128,
    collector: address,
    collectorData: Bytes[2_048],
):
    """
    @notice Puts a deposit into a channel, and opens it. Anyone may send it.
    @param config The channel.
    @param amount Units of the channel's token.
    @param collector Brings the tokens by the payer's word; this contract gets exactly
           `amount` by the call.
    @param collectorData The payer's word, for the collector.
    """
    assert config.payer != empty(address), "channels: zero payer"
    assert config.receiver != empty(address), "channels: zero receiver"
    assert (
        config.receiverAuthorizer != empty(address)
    ), "channels: zero receiver authorizer"
    assert config.token != empty(address), "channels: zero token"
    assert (
        config.withdrawDelay >= MIN_WITHDRAW_DELAY
        and config.withdrawDelay <= MAX_WITHDRAW_DELAY
    ), "channels: withdraw delay out of bounds"
    assert amount != 0, "channels: zero deposit"
    assert collector != empty(address), "channels: zero collector"

    channel: bytes32 = digests._channel_id(digests._domain(), config)
    units: uint256 = convert(amount, uint256)
    balance: uint256 = 0
    is_new: bool = False
    balance, is_new = book._put_in(channel, units)

    token: IERC20 = IERC20(config.token)
    before: uint256 = staticcall token.balanceOf(self)
    extcall IDepositCollector(collector).collect(
        config.payer, config.token, units, channel, collectorData
    )
    assert (
        staticcall token.balanceOf(self) == before + units
    ), "channels: deposit not collected"
    if is_new:
        log IChannels.ChannelCreated(channelId=channel, config=config)
    log IChannels.Deposited(
        channelId=channel,
        sender=msg.sender,
        amount=amount,
        newBalance=convert(balance, uint128),
    )


# ----------------------------------------------------------- claims and payout


@external
def claim(voucherClaims: DynArray[IChannels.VoucherClaim, claims.MAX_CLAIMS]):
    """
    @notice Claims the sums of vouchers. One bad row reverts all; a row that claims no
            more than was claimed before is passed over.
    @param voucherClaims The rows; the caller is the receiver or its authorizer in
           each channel.
    """
    assert len(voucherClaims) != 0, "channels: no claims"
    claims._claim(len(voucherClaims), msg.sender)


@external
def claimWithSignature(
    voucherClaims: DynArray[IChannels.VoucherClaim, claims.MAX_CLAIMS],
    authorizerSignature: Bytes[512],
):
    """
    @notice Claims by the receiver authorizer's signature. Anyone may send it.
    @param voucherClaims The rows, all of one receiver authorizer.
    @param authorizerSignature Its signature over `getClaimBatchDigest(voucherClaims)`.
    """
    assert len(voucherClaims) != 0, "channels: no claims"
    authorizer: address = empty(address)
    digest: bytes32 = empty(bytes32)
    authorizer, digest = claims._batch(len(voucherClaims), True)
    assert signers._is_from(
        authorizer, digest, authorizerSignature
    ), "channels: invalid signature"
    claims._claim(len(voucherClaims), empty(address))


@external
def settle(receiver: address, token: address):
    """
    @notice Pays a receiver all that it has claimed in a token. Anyone may send it;
            with nothing to pay nothing happens.
    @param receiver Is paid.
    @param token The token.
    """
    due: uint256 = book._settle(receiver, token)
    if due == 0:
        return
    token_flow._push(IERC20(token), receiver, due)
    log IChannels.Settled(
        receiver=receiver,
        token=token,
        sender=msg.sender,
        amount=convert(due, uint128),
    )


# ---------------------------------------------------------------- withdrawals


@external
def initiateWithdraw(config: IChannels.ChannelConfig, amount: uint128):
    """
    @notice Announces that the payer takes unclaimed tokens back after the delay. What
            the receiver claims until then is not taken.
    @param config The channel; the caller is its payer or payer authorizer.
    @param amount Units of the channel's token.
    """
    self._only_payer(config)
    assert amount != 0, "channels: zero withdrawal"
    channel: bytes32 = digests._channel_id(digests._domain(), config)
    book._begin_withdrawal(channel, convert(amount, uint256))
    log IChannels.WithdrawInitiated(
        channelId=channel,
        amount=amount,
        finalizeAfter=convert(block.timestamp, uint40) + config.withdrawDelay,
    )


@external
def finalizeWithdraw(config: IChannels.ChannelConfig):
    """
    @notice Pays the payer what was announced, or what of it is still unclaimed.
    @param config The channel; the caller is its payer or payer authorizer.
    """
    self._only_payer(config)
    channel: bytes32 = digests._channel_id(digests._domain(), config)
    taken: uint256 = 0
    is_empty: bool = False
    taken, is_empty = book._end_withdrawal(
        channel, convert(config.withdrawDelay, uint256)
    )
    log IChannels.WithdrawFinalized(
        channelId=channel,
        sender=msg.sender,
        amount=convert(taken, uint128),
    )
    self._pay_back(config, channel, taken, is_empty)


@external
def refund(config: IChannels.ChannelConfig, amount: uint128):
    """
    @notice Gives unclaimed tokens back to the payer at once.
    @param config The channel; the caller is its receiver or receiver authorizer.
    @param amount Units of the channel's token; all that is unclaimed if it is less.
    """
    assert (
        msg.sender in [config.receiver, config.receiverAuthorizer]
    ), "channels: caller is not the receiver's"
    self._refund(config, digests._channel_id(digests._domain(), config), amount)


@external
def refundWithSignature(
    config: IChannels.ChannelConfig,
    amount: uint128,
    nonce: uint256,
    receiverAuthorizerSignature: Bytes[512],
):
    """
    @notice Gives back by the receiver authorizer's signature. Anyone may send it.
    @param config The channel.
    @param amount Units of the channel's token; all that is unclaimed if it is less.
    @param nonce `refundNonce` of the channel.
    @param receiverAuthorizerSignature Over `getRefundDigest(channel, nonce, amount)`.
    """
    domain: bytes32 = digests._domain()
    channel: bytes32 = digests._channel_id(domain, config)
    assert nonce == book._refunds[channel], "channels: not the refund's nonce"
    assert signers._is_from(
        config.receiverAuthorizer,
        digests._refund(domain, channel, nonce, convert(amount, uint256)),
        receiverAuthorizerSignature,
    ), "channels: invalid signature"
    self._refund(config, channel, amount)


# ------------------------------------------------------------- several at once


@external
@reentrant
def multicall(
    data: DynArray[Bytes[MAX_CALL_BYTES], MAX_CALLS]
) -> DynArray[Bytes[MAX_ANSWER_BYTES], MAX_CALLS]:
    """
    @notice Calls this contract several times for the caller; one that fails reverts
            all.
    @param data The calls: at most 8, of at most 4,096 bytes.
    @return What they answer, 64 bytes of each at most.
    """
    results: DynArray[Bytes[MAX_ANSWER_BYTES], MAX_CALLS] = []
    for call: Bytes[MAX_CALL_BYTES] in data:
        # In this contract's own name: the caller of the calls is this call's.
        results.append(
            raw_call(
                self,
                call,
                max_outsize=MAX_ANSWER_BYTES,
                is_delegate_call=True,
            )
        )
    return results


# ---------------------------------------------------------------------- views


@external
@view
@reentrant
def getChannelId(config: IChannels.ChannelConfig) -> bytes32:
    """
    @notice Returns the id of a channel.
    @param config The channel.
    """
    return digests._channel_id(digests._domain(), config)


@external
@view
@reentrant
def getVoucherDigest(
    channelId: bytes32, maxClaimableAmount: uint128
) -> bytes32:
    """
    @notice Returns what a payer signs.
    @param channelId The channel.
    @param maxClaimableAmount The sum, in the token's smallest unit.
    """
    return digests._voucher(
        digests._domain(), channelId, convert(maxClaimableAmount, uint256)
    )


@external
@view
@reentrant
def getRefundDigest(
    channelId: bytes32, nonce: uint256, amount: uint128
) -> bytes32:
    """
    @notice Returns what a receiver authorizer signs to give back.
    @param channelId The channel.
    @param nonce `refundNonce` of the channel.
    @param amount Units of the channel's token.
    """
    return digests._refund(
        digests._domain(), channelId, nonce, convert(amount, uint256)
    )


@external
@view
@reentrant
def getClaimBatchDigest(
    voucherClaims: DynArray[IChannels.VoucherClaim, claims.MAX_CLAIMS]
) -> bytes32:
    """
    @notice Returns what a receiver authorizer signs for a batch of claims.
    @param voucherClaims The rows.
    """
    authorizer: address = empty(address)
    digest: bytes32 = empty(bytes32)
    authorizer, digest = claims._batch(len(voucherClaims), False)
    return digest


# ------------------------------------------------------------------- internal


@internal
@view
def _only_payer(config: IChannels.ChannelConfig):
    """
    @dev Reverts for anybody but the payer and its authorizer.
    """
    assert (
        msg.sender in [config.payer, config.payerAuthorizer]
    ), "channels: caller is not the payer's"


@internal
def _refund(config: IChannels.ChannelConfig, channel: bytes32, amount: uint128):
    """
    @dev Gives back and uses up the nonce, even where nothing is left to give.
    """
    assert amount != 0, "channels: zero refund"
    taken: uint256 = 0
    is_empty: bool = False
    taken, is_empty = book._give_back(channel, convert(amount, uint256))
    if taken == 0:
        return
    log IChannels.Refunded(
        channelId=channel,
        sender=msg.sender,
        amount=convert(taken, uint128),
    )
    self._pay_back(config, channel, taken, is_empty)


@internal
def _pay_back(
    config: IChannels.ChannelConfig,
    channel: bytes32,
    amount: uint256,
    is_empty: bool,
):
    """
    @dev Sends what was taken out of a channel to its payer.
    """
    if is_empty:
        log IChannels.ChannelClosed(channelId=channel, config=config)
    if amount != 0:
        token_flow._push(IERC20(config.token), config.payer, amount)
