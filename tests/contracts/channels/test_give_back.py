# SPDX-License-Identifier: Apache-2.0
"""What the payer gets back: by the clock without the receiver, at once with its consent."""

from __future__ import annotations

from dataclasses import replace

import boa
import pytest

from teraproof.protocol.channels import ChannelConfig
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.actions import event, events, now, pass_time
from tests.contracts.channels.ground import DEPOSIT, Ground, reverts
from tests.contracts.deploy import DAY, USD, deployer_of


def finish(ground: Ground, config: ChannelConfig) -> None:
    """The payer's authorizer ends the withdrawal."""
    ground.channels.finalizeWithdraw(config.abi_tuple(), sender=ground.payer_key.address)


# ------------------------------------------------------------------- withdrawals


@pytest.mark.invariant("I-1", "I-2")
def test_withdraw__after_the_delay__the_payer_has_its_tokens(
    ground: Ground, channel: ChannelConfig
) -> None:
    before = ground.balance(ground.payer)
    ground.withdraw(channel, DEPOSIT)
    since = now()
    assert event(ground.channels, "WithdrawInitiated") == {
        "channelId": ground.id(channel),
        "amount": DEPOSIT,
        "finalizeAfter": since + DAY,
    }
    assert ground.pending(channel) == (DEPOSIT, since)
    pass_time(DAY)
    finish(ground, channel)
    assert event(ground.channels, "WithdrawFinalized") == {
        "channelId": ground.id(channel),
        "sender": ground.payer_key.address,
        "amount": DEPOSIT,
    }
    closed = event(ground.channels, "ChannelClosed")
    assert ChannelConfig.from_abi(closed["config"]) == channel
    assert ground.balance(ground.payer) == before + DEPOSIT
    assert ground.held(channel) == (0, 0)
    assert ground.pending(channel) == (0, 0)


@pytest.mark.invariant("I-15")
def test_withdraw__one_second_before_the_delay_is_over__refused(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.withdraw(channel, DEPOSIT)
    pass_time(DAY - 1)
    with reverts("channels: withdraw delay not over"):
        finish(ground, channel)
    pass_time(1)
    finish(ground, channel)


@pytest.mark.invariant("I-9", "I-15")
def test_withdraw__receiver_claims_in_time__has_its_claim_and_the_payer_the_rest(
    ground: Ground, channel: ChannelConfig
) -> None:
    """A receiver that is awake within the delay loses nothing, whatever the payer does."""
    before = ground.balance(ground.payer)
    ground.withdraw(channel, DEPOSIT)
    pass_time(DAY)
    ground.claim(ground.row(channel, 7 * USD))
    finish(ground, channel)
    assert ground.balance(ground.payer) == before + 3 * USD
    assert ground.held(channel) == (7 * USD, 7 * USD)
    assert events(ground.channels, "ChannelClosed") == []
    ground.channels.settle(ground.receiver.address, ground.token.address)
    assert ground.balance(ground.receiver) == 7 * USD
    assert ground.balance(ground.channels) == 0


@pytest.mark.invariant("I-2", "I-15")
def test_withdraw__everybody_else_is_dead__the_payer_needs_nobody(
    ground: Ground, channel: ChannelConfig
) -> None:
    """No call of the receiver, of its operator or of anybody else is between the payer's two."""
    before = ground.balance(ground.payer)
    ground.claim(ground.row(channel, USD))
    ground.channels.initiateWithdraw(channel.abi_tuple(), 9 * USD, sender=ground.payer.address)
    pass_time(DAY)
    ground.channels.finalizeWithdraw(channel.abi_tuple(), sender=ground.payer.address)
    assert ground.balance(ground.payer) == before + 9 * USD


def test_withdraw__part__leaves_the_rest(ground: Ground, channel: ChannelConfig) -> None:
    ground.withdraw(channel, 4 * USD)
    pass_time(DAY)
    finish(ground, channel)
    assert ground.held(channel) == (6 * USD, 0)
    assert events(ground.channels, "ChannelClosed") == []
    # And another one after it.
    ground.withdraw(channel, 6 * USD)
    assert ground.pending(channel) == (6 * USD, now())


def test_withdraw__all_of_it_claimed_meanwhile__ends_with_nothing(
    ground: Ground, channel: ChannelConfig
) -> None:
    before = ground.balance(ground.payer)
    ground.withdraw(channel, DEPOSIT)
    ground.claim(ground.row(channel, DEPOSIT))
    pass_time(DAY)
    finish(ground, channel)
    assert event(ground.channels, "WithdrawFinalized")["amount"] == 0
    assert ground.balance(ground.payer) == before
    assert ground.pending(channel) == (0, 0)


def test_withdraw__deposit_after_the_announcement__stays(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.withdraw(channel, DEPOSIT)
    ground.deposit(channel, 5 * USD)
    pass_time(DAY)
    finish(ground, channel)
    assert ground.held(channel) == (5 * USD, 0)


@pytest.mark.invariant("I-9")
def test_withdraw__more_than_is_unclaimed__refused(ground: Ground, channel: ChannelConfig) -> None:
    ground.claim(ground.row(channel, 4 * USD))
    with reverts("channels: withdrawal exceeds the unclaimed"):
        ground.withdraw(channel, 6 * USD + 1)
    ground.withdraw(channel, 6 * USD)
    with reverts("channels: withdrawal exceeds the unclaimed"):
        ground.withdraw(ground.config(9), 1)


@pytest.mark.invariant("I-15")
def test_withdraw__while_one_is_pending__refused(ground: Ground, channel: ChannelConfig) -> None:
    """No second announcement shortens or restarts the first."""
    ground.withdraw(channel, 1)
    with reverts("channels: withdrawal already pending"):
        ground.withdraw(channel, 1)


def test_withdraw__nothing__refused(ground: Ground, channel: ChannelConfig) -> None:
    with reverts("channels: zero withdrawal"):
        ground.withdraw(channel, 0)


def test_finalize__without_an_announcement__refused(ground: Ground, channel: ChannelConfig) -> None:
    with reverts("channels: no withdrawal pending"):
        finish(ground, channel)
    ground.withdraw(channel, 1)
    pass_time(DAY)
    finish(ground, channel)
    with reverts("channels: no withdrawal pending"):
        finish(ground, channel)


@pytest.mark.invariant("I-12")
def test_withdraw__by_anybody_else__refused(ground: Ground, channel: ChannelConfig) -> None:
    for sender in (ground.stranger, ground.receiver, ground.operator):
        with reverts("channels: caller is not the payer's"):
            ground.channels.initiateWithdraw(channel.abi_tuple(), 1, sender=sender.address)
    ground.withdraw(channel, DEPOSIT)
    pass_time(DAY)
    for sender in (ground.stranger, ground.receiver, ground.operator):
        with reverts("channels: caller is not the payer's"):
            ground.channels.finalizeWithdraw(channel.abi_tuple(), sender=sender.address)


@pytest.mark.invariant("I-12")
def test_withdraw__by_the_payers_authorizer__pays_the_payer(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.channels.initiateWithdraw(channel.abi_tuple(), DEPOSIT, sender=ground.payer_key.address)
    pass_time(DAY)
    finish(ground, channel)
    assert ground.balance(ground.payer_key) == 0


@pytest.mark.invariant("I-12", "I-15")
def test_withdraw__a_shorter_delay_than_the_channels__is_another_channel(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.withdraw(channel, DEPOSIT)
    hasty = replace(channel, withdraw_delay=900)
    pass_time(900)
    with reverts("channels: no withdrawal pending"):
        finish(ground, hasty)


@pytest.mark.invariant("I-12")
def test_withdraw__payer_without_authorizer__zero_is_nobodys_name(ground: Ground) -> None:
    config = ground.deposit(ground.config(payer_authorizer=ZERO_ADDRESS))
    ground.withdraw(config, DEPOSIT)
    pass_time(DAY)
    ground.channels.finalizeWithdraw(config.abi_tuple(), sender=ground.payer.address)


# ----------------------------------------------------------------------- refunds


@pytest.mark.invariant("I-1", "I-12")
def test_refund__by_the_receivers_side__at_once(ground: Ground, channel: ChannelConfig) -> None:
    before = ground.balance(ground.payer)
    ground.claim(ground.row(channel, 4 * USD))
    for sender, amount in ((ground.operator, USD), (ground.receiver, 2 * USD)):
        ground.channels.refund(channel.abi_tuple(), amount, sender=sender.address)
        assert event(ground.channels, "Refunded") == {
            "channelId": ground.id(channel),
            "sender": sender.address,
            "amount": amount,
        }
    assert ground.held(channel) == (7 * USD, 4 * USD)
    assert ground.balance(ground.payer) == before + 3 * USD
    assert ground.channels.refundNonce(ground.id(channel)) == 2


@pytest.mark.invariant("I-9")
def test_refund__more_than_is_unclaimed__gives_what_there_is(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.claim(ground.row(channel, 4 * USD))
    ground.channels.refund(channel.abi_tuple(), 2**128 - 1, sender=ground.operator.address)
    assert event(ground.channels, "Refunded")["amount"] == 6 * USD
    assert events(ground.channels, "ChannelClosed") == []
    assert ground.held(channel) == (4 * USD, 4 * USD)
    # Nothing is left: the nonce is used up all the same.
    ground.channels.refund(channel.abi_tuple(), 1, sender=ground.operator.address)
    assert events(ground.channels, "Refunded") == []
    assert ground.channels.refundNonce(ground.id(channel)) == 2


def test_refund__all_of_a_channel_never_claimed_from__closes_it(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.channels.refund(channel.abi_tuple(), DEPOSIT, sender=ground.operator.address)
    assert event(ground.channels, "ChannelClosed")["channelId"] == ground.id(channel)


@pytest.mark.parametrize(
    ("refunded", "left"), [(USD, 5 * USD), (6 * USD, 0), (7 * USD, 0), (DEPOSIT, 0)]
)
def test_refund__counts_for_a_pending_withdrawal(
    ground: Ground, channel: ChannelConfig, refunded: int, left: int
) -> None:
    ground.withdraw(channel, 6 * USD)
    since = now()
    pass_time(100)
    ground.channels.refund(channel.abi_tuple(), refunded, sender=ground.operator.address)
    assert ground.pending(channel) == ((left, since) if left else (0, 0))
    assert ground.held(channel) == (DEPOSIT - refunded, 0)


def test_refund__nothing__refused_and_uses_nothing_up(
    ground: Ground, channel: ChannelConfig
) -> None:
    with reverts("channels: zero refund"):
        ground.channels.refund(channel.abi_tuple(), 0, sender=ground.operator.address)
    with reverts("channels: zero refund"):
        ground.channels.refundWithSignature(
            channel.abi_tuple(), 0, 0, ground.refund_word(channel, 0, 0)
        )
    assert ground.channels.refundNonce(ground.id(channel)) == 0


@pytest.mark.invariant("I-12")
def test_refund__by_anybody_else__refused(ground: Ground, channel: ChannelConfig) -> None:
    """Not by the payer either: it has the clock."""
    for sender in (ground.stranger, ground.payer, ground.payer_key):
        with reverts("channels: caller is not the receiver's"):
            ground.channels.refund(channel.abi_tuple(), 1, sender=sender.address)


@pytest.mark.invariant("I-12")
def test_refund_with_signature__by_anybody__pays_the_payer(
    ground: Ground, channel: ChannelConfig
) -> None:
    before = ground.balance(ground.payer)
    for nonce in range(2):
        word = ground.refund_word(channel, USD, nonce)
        ground.channels.refundWithSignature(
            channel.abi_tuple(), USD, nonce, word, sender=ground.stranger.address
        )
        with reverts("channels: not the refund's nonce"):
            ground.channels.refundWithSignature(channel.abi_tuple(), USD, nonce, word)
    assert ground.balance(ground.payer) == before + 2 * USD
    assert ground.balance(ground.stranger) == 0


def test_refund_with_signature__a_refund_came_first__the_word_is_dead(
    ground: Ground, channel: ChannelConfig
) -> None:
    word = ground.refund_word(channel, USD, 0)
    ground.channels.refund(channel.abi_tuple(), USD, sender=ground.operator.address)
    with reverts("channels: not the refund's nonce"):
        ground.channels.refundWithSignature(channel.abi_tuple(), USD, 0, word)
    with reverts("channels: invalid signature"):
        ground.channels.refundWithSignature(channel.abi_tuple(), USD, 1, word)


@pytest.mark.invariant("I-12")
def test_refund_with_signature__not_the_authorizers_word__refused(
    ground: Ground, channel: ChannelConfig
) -> None:
    other = ground.opened(1)
    for word in (
        ground.refund_word(channel, USD, 0, ground.receiver),
        ground.refund_word(channel, USD, 0, ground.payer),
        ground.refund_word(channel, 2 * USD, 0),
        ground.refund_word(channel, USD, 1),
        ground.refund_word(other, USD, 0),
        b"",
    ):
        with reverts("channels: invalid signature"):
            ground.channels.refundWithSignature(channel.abi_tuple(), USD, 0, word)


def test_refund_with_signature__authorizer_is_a_contract__it_decides(ground: Ground) -> None:
    wallet = deployer_of("mocks/Wallet").deploy(ground.stranger.address)
    config = ground.deposit(ground.config(receiver_authorizer=wallet.address))
    with reverts("channels: invalid signature"):
        ground.channels.refundWithSignature(
            config.abi_tuple(), USD, 0, ground.refund_word(config, USD, 0)
        )
    word = ground.refund_word(config, USD, 0, ground.stranger)
    ground.channels.refundWithSignature(config.abi_tuple(), USD, 0, word)
    assert ground.held(config) == (DEPOSIT - USD, 0)


@pytest.mark.invariant("I-1", "I-12")
def test_refund__token_that_calls_back__pays_once(ground: Ground) -> None:
    """The same for a withdrawal: what is paid is written off before the token is called."""
    token = deployer_of("mocks/ReentrantToken").deploy()
    collector = deployer_of("mocks/Collector").deploy()
    token.mint(ground.payer.address, DEPOSIT)
    config = ground.config(token=token.address, receiver_authorizer=token.address)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
    again = ground.channels.refund.prepare_calldata(config.abi_tuple(), USD)
    token.arm(ground.channels.address, again)
    ground.channels.refund(config.abi_tuple(), USD, sender=ground.receiver.address)
    assert token.tried() and not token.succeeded()
    assert token.balanceOf(ground.payer.address) == USD
    ground.withdraw(config, 2 * USD)
    pass_time(DAY)
    ground.channels.finalizeWithdraw(config.abi_tuple(), sender=ground.payer.address)
    assert not token.succeeded()
    assert token.balanceOf(ground.payer.address) == 3 * USD


@pytest.mark.invariant("I-2")
def test_exits__of_other_channels__do_not_depend_on_a_token_that_fails(ground: Ground) -> None:
    """A token that stops stops its own channels alone."""
    token = deployer_of("mocks/ReentrantToken").deploy()
    collector = deployer_of("mocks/Collector").deploy()
    token.mint(ground.payer.address, DEPOSIT)
    bad = ground.config(token=token.address)
    ground.channels.deposit(bad.abi_tuple(), DEPOSIT, collector.address, b"")
    good = ground.opened()
    ground.claim(ground.row(bad, USD), ground.row(good, USD))
    with boa.env.prank(ground.channels.address):
        token.transfer(ground.stranger.address, DEPOSIT)  # its tokens are gone
    with boa.reverts():
        ground.channels.settle(ground.receiver.address, token.address)
    ground.channels.settle(ground.receiver.address, ground.token.address)
    assert ground.balance(ground.receiver) == USD
    ground.channels.refund(good.abi_tuple(), DEPOSIT, sender=ground.operator.address)
    assert ground.balance(ground.channels) == 0
