# SPDX-License-Identifier: Apache-2.0
"""Claims by vouchers, and the payout of what is claimed."""

from __future__ import annotations

from dataclasses import replace

import boa
import pytest

from teraproof.protocol.channels import ChannelConfig, Voucher
from teraproof.protocol.messages import sign
from tests.contracts.actions import event, events
from tests.contracts.channels.ground import DEPOSIT, Claim, Ground, reverts
from tests.contracts.deploy import DAY, USD, deployer_of

ORDER_OF_CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.invariant("I-1", "I-9")
def test_claim__part_of_the_deposit__is_the_receivers(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    claim(ground.row(channel, 4 * USD))
    told = event(ground.channels, "Claimed")
    assert told["channelId"] == ground.id(channel)
    assert told["sender"] in (ground.operator.address, ground.stranger.address)
    assert (told["claimAmount"], told["newTotalClaimed"]) == (4 * USD, 4 * USD)
    assert ground.held(channel) == (DEPOSIT, 4 * USD)
    assert ground.received() == (4 * USD, 0)
    # Nothing has moved yet.
    assert ground.balance(ground.channels) == DEPOSIT


@pytest.mark.invariant("I-9")
def test_claim__growing_vouchers__each_brings_the_difference(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    for total, brought in ((1 * USD, 1 * USD), (4 * USD, 3 * USD), (DEPOSIT, 6 * USD)):
        claim(ground.row(channel, total))
        assert event(ground.channels, "Claimed")["claimAmount"] == brought
    assert ground.received() == (DEPOSIT, 0)


@pytest.mark.invariant("I-9")
def test_claim__less_than_the_voucher__the_rest_can_be_claimed_later_by_the_same(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    claim(ground.row(channel, 2 * USD, ceiling=5 * USD))
    claim(ground.row(channel, 5 * USD, ceiling=5 * USD))
    assert ground.held(channel) == (DEPOSIT, 5 * USD)


@pytest.mark.invariant("I-9")
@pytest.mark.parametrize("total", [4 * USD, 3 * USD, 0])
def test_claim__the_same_voucher_or_an_older_one__takes_nothing(
    ground: Ground, channel: ChannelConfig, claim: Claim, total: int
) -> None:
    claim(ground.row(channel, 4 * USD))
    claim(ground.row(channel, total))
    assert events(ground.channels, "Claimed") == []
    assert ground.held(channel) == (DEPOSIT, 4 * USD)
    assert ground.received() == (4 * USD, 0)


@pytest.mark.invariant("I-9")
def test_claim__the_same_row_twice_in_a_batch__counts_once(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    row = ground.row(channel, 4 * USD)
    claim(row, row, ground.row(channel, 3 * USD))
    assert ground.received() == (4 * USD, 0)


@pytest.mark.invariant("I-1", "I-9")
def test_claim__many_channels_at_once(ground: Ground, claim: Claim) -> None:
    configs = [ground.opened(number) for number in range(10)]
    claim(*(ground.row(config, (n + 1) * USD // 2) for n, config in enumerate(configs)))
    assert [ground.held(config)[1] for config in configs] == [(n + 1) * USD // 2 for n in range(10)]
    assert ground.received() == (55 * USD // 2, 0)


@pytest.mark.invariant("I-1", "I-12")
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 0, 1), (2, 0, 3, 1)])
def test_claim__rows_of_several_receivers_and_tokens__each_has_its_own(
    ground: Ground, order: tuple[int, ...]
) -> None:
    """Whoever is paid by one row and claims for others in the next is not paid for them."""
    other = deployer_of("testnet/PaymentToken").deploy()
    other.mint(ground.payer.address, 2 * DEPOSIT)
    claimer = ground.receiver.address
    mine = ground.config(0), ground.config(1, token=other.address)
    theirs = [
        replace(one, receiver=ground.stranger.address, receiver_authorizer=claimer) for one in mine
    ]
    configs = [ground.deposit(mine[0]), mine[1], ground.deposit(theirs[0]), theirs[1]]
    collector = deployer_of("mocks/Collector").deploy()
    other.approve(collector.address, 2 * DEPOSIT, sender=ground.payer.address)
    for config in configs[1::2]:
        ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
    # Each place in the batch has a sum of its own; a channel that comes twice brings the highest.
    ground.claim(
        *(ground.row(configs[number], (place + 1) * USD) for place, number in enumerate(order)),
        by=ground.receiver,
    )
    for number, config in enumerate(configs):
        due = max(((n + 1) * USD for n, one in enumerate(order) if one == number), default=0)
        assert ground.held(config) == (DEPOSIT, due)
        assert ground.channels.receivers(config.receiver, config.token) == (due, 0)


@pytest.mark.invariant("I-9")
def test_claim__above_the_voucher__refused(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    with reverts("channels: claim exceeds the voucher"):
        claim(ground.row(channel, 4 * USD + 1, ceiling=4 * USD))


@pytest.mark.invariant("I-9")
def test_claim__above_the_deposit__refused_though_the_payer_has_signed(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    with reverts("channels: claim exceeds the balance"):
        claim(ground.row(channel, DEPOSIT + 1))
    claim(ground.row(channel, DEPOSIT, ceiling=DEPOSIT + 1))
    assert ground.held(channel) == (DEPOSIT, DEPOSIT)


def spoiled(ground: Ground, channel: ChannelConfig) -> dict[str, bytes]:
    """Signatures that are not the payer authorizer's over this voucher."""
    good = ground.row(channel, 4 * USD).signature
    other = ground.row(ground.config(1), 4 * USD).signature
    s = ORDER_OF_CURVE - int.from_bytes(good[32:64], "big")
    compact = bytearray(good[:64])
    compact[32] |= (good[64] - 27) << 7
    elsewhere = replace(ground.domain, chain_id=2)
    return {
        "empty": b"",
        "short": good[:64],
        "long": good + b"\0",
        "compact": bytes(compact),
        "v of another kind": good[:64] + bytes([good[64] - 27]),
        "twin": good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]]),
        "zeros": bytes(65),
        "payer's own": ground.row(channel, 4 * USD, signer=ground.payer).signature,
        "receiver's": ground.row(channel, 4 * USD, signer=ground.operator).signature,
        "lower voucher's": ground.row(channel, 3 * USD).signature,
        "other channel's": other,
        "other chain's": sign(elsewhere, Voucher(ground.id(channel), 4 * USD), ground.payer_key),
    }


KINDS = (
    "empty",
    "short",
    "long",
    "compact",
    "v of another kind",
    "twin",
    "zeros",
    "payer's own",
    "receiver's",
    "lower voucher's",
    "other channel's",
    "other chain's",
)


@pytest.mark.invariant("I-9", "I-12")
@pytest.mark.parametrize("kind", KINDS)
def test_claim__not_signed_by_the_payers_key__refused(
    ground: Ground, channel: ChannelConfig, claim: Claim, kind: str
) -> None:
    row = replace(ground.row(channel, 4 * USD), signature=spoiled(ground, channel)[kind])
    with reverts("channels: invalid signature"):
        claim(row)
    assert ground.held(channel) == (DEPOSIT, 0)


def test_claim__one_bad_row__reverts_all(
    ground: Ground, channel: ChannelConfig, claim: Claim
) -> None:
    second = ground.opened(1)
    good = ground.row(channel, USD)
    for bad in (
        replace(ground.row(second, USD), signature=b"\x01" * 65),
        ground.row(second, DEPOSIT + 1),
        ground.row(ground.config(2), USD),
    ):
        with boa.reverts():
            claim(good, bad)
    assert ground.held(channel) == (DEPOSIT, 0)


def test_claim__no_rows__refused(ground: Ground, claim: Claim) -> None:
    with reverts("channels: no claims"):
        claim()


def test_claim__as_many_rows_as_there_may_be(ground: Ground, channel: ChannelConfig) -> None:
    row = ground.row(channel, USD)
    ground.claim(*[row] * 100)
    assert ground.held(channel) == (DEPOSIT, USD)
    with boa.reverts():
        ground.claim(*[ground.row(channel, 2 * USD)] * 101)


def test_claim__by_the_receiver_itself__taken(ground: Ground, channel: ChannelConfig) -> None:
    ground.claim(ground.row(channel, USD), by=ground.receiver)
    assert ground.received() == (USD, 0)


@pytest.mark.invariant("I-12")
def test_claim__by_anybody_else__refused(ground: Ground, channel: ChannelConfig) -> None:
    """Also of a row that would take nothing, and among rows that are the caller's."""
    theirs = ground.deposit(ground.config(5, receiver=ground.stranger.address))
    row = ground.row(channel, USD)
    for sender in (ground.stranger, ground.payer, ground.payer_key):
        with reverts("channels: caller is not the receiver's"):
            ground.claim(row, by=sender)
        with reverts("channels: caller is not the receiver's"):
            ground.claim(ground.row(channel, 0), by=sender)
    with reverts("channels: caller is not the receiver's"):
        ground.claim(ground.row(theirs, USD), row, by=ground.stranger)


@pytest.mark.invariant("I-12")
def test_claim_with_signature__not_the_authorizers__refused(
    ground: Ground, channel: ChannelConfig
) -> None:
    rows = [ground.row(channel, USD)]
    given = [row.abi_tuple() for row in rows]
    good = ground.word_over(rows)
    for bad in (
        ground.word_over(rows, ground.receiver),
        ground.word_over(rows, ground.payer_key),
        ground.word_over([*rows, *rows]),
        ground.word_over([ground.row(channel, 2 * USD)]),
        b"",
        good[:64],
    ):
        with reverts("channels: invalid signature"):
            ground.channels.claimWithSignature(given, bad)
    ground.channels.claimWithSignature(given, good)
    # A second time it is as good, and takes nothing.
    ground.channels.claimWithSignature(given, good)
    assert ground.received() == (USD, 0)


@pytest.mark.invariant("I-12")
def test_claim_with_signature__rows_of_several_authorizers__refused(
    ground: Ground, channel: ChannelConfig
) -> None:
    other = ground.deposit(ground.config(1, receiver_authorizer=ground.stranger.address))
    rows = [ground.row(channel, USD), ground.row(other, USD)]
    with reverts("channels: several receiver authorizers"):
        ground.channels.claimWithSignature(
            [row.abi_tuple() for row in rows], ground.word_over(rows)
        )


# ----------------------------------------------------------------------- payout


@pytest.mark.invariant("I-1", "I-2")
def test_settle__by_anybody__pays_the_receiver_all_its_claims(ground: Ground) -> None:
    configs = [ground.opened(number) for number in range(3)]
    ground.claim(*(ground.row(config, USD) for config in configs))
    ground.channels.settle(
        ground.receiver.address, ground.token.address, sender=ground.stranger.address
    )
    assert event(ground.channels, "Settled") == {
        "receiver": ground.receiver.address,
        "token": ground.token.address,
        "sender": ground.stranger.address,
        "amount": 3 * USD,
    }
    assert ground.balance(ground.receiver) == 3 * USD
    assert ground.received() == (3 * USD, 3 * USD)
    assert ground.balance(ground.channels) == 3 * DEPOSIT - 3 * USD


@pytest.mark.invariant("I-9")
def test_settle__again__pays_only_what_was_claimed_since(
    ground: Ground, channel: ChannelConfig
) -> None:
    for total in (USD, 3 * USD):
        ground.claim(ground.row(channel, total))
        for _ in range(2):
            ground.channels.settle(ground.receiver.address, ground.token.address)
        assert ground.balance(ground.receiver) == total
    assert ground.received() == (3 * USD, 3 * USD)


def test_settle__nothing_claimed__does_nothing(ground: Ground, channel: ChannelConfig) -> None:
    ground.channels.settle(ground.receiver.address, ground.token.address)
    assert events(ground.channels, "Settled") == []
    ground.channels.settle(ground.receiver.address, ground.stranger.address)  # not even a token
    assert ground.balance(ground.channels) == DEPOSIT


@pytest.mark.invariant("I-12")
def test_settle__of_one_receiver__leaves_the_others(ground: Ground, channel: ChannelConfig) -> None:
    other = ground.deposit(ground.config(1, receiver=ground.stranger.address))
    ground.claim(ground.row(channel, USD), ground.row(other, 2 * USD))
    ground.channels.settle(ground.receiver.address, ground.token.address)
    assert ground.balance(ground.receiver) == USD
    assert ground.balance(ground.stranger) == 0
    assert ground.channels.receivers(ground.stranger.address, ground.token.address) == (
        2 * USD,
        0,
    )


@pytest.mark.invariant("I-1", "I-12")
def test_settle__token_that_calls_back__pays_once(ground: Ground) -> None:
    token = deployer_of("mocks/ReentrantToken").deploy()
    collector = deployer_of("mocks/Collector").deploy()
    token.mint(ground.payer.address, DEPOSIT)
    config = ground.config(token=token.address)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
    ground.claim(ground.row(config, USD))
    again = ground.channels.settle.prepare_calldata(ground.receiver.address, token.address)
    token.arm(ground.channels.address, again)
    ground.channels.settle(ground.receiver.address, token.address)
    assert token.tried() and not token.succeeded()
    assert token.balanceOf(ground.receiver.address) == USD


def test_claims__more_units_than_a_receiver_can_have__refused(ground: Ground) -> None:
    """Only a token that prints without end has as many; what was settled stays what it is."""
    most = 2**128 - 1
    ground.token.mint(ground.payer.address, 2 * most)
    big, small = ground.opened(1, most), ground.opened(2, DEPOSIT)
    ground.claim(ground.row(big, most))
    ground.channels.settle(ground.receiver.address, ground.token.address)
    with reverts("channels: claims too large"):
        ground.claim(ground.row(small, 1))
    assert ground.received() == (most, most)


def test_claim__delay_over_and_withdrawn__the_voucher_is_worth_nothing(
    ground: Ground, channel: ChannelConfig
) -> None:
    """What a receiver must know: a voucher reserves nothing until it is claimed."""
    row = ground.row(channel, USD)
    ground.withdraw(channel, DEPOSIT)
    boa.env.time_travel(seconds=DAY)
    ground.channels.finalizeWithdraw(channel.abi_tuple(), sender=ground.payer.address)
    with reverts("channels: claim exceeds the balance"):
        ground.claim(row)
