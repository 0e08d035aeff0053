# SPDX-License-Identifier: Apache-2.0
"""Deposits: what opens a channel, and what brings nothing in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.channels import MAX_WITHDRAW_DELAY, MIN_WITHDRAW_DELAY, ChannelConfig
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.actions import event, events
from tests.contracts.channels.ground import DEPOSIT, Ground, reverts
from tests.contracts.deploy import USD, Contract, deployer_of


@pytest.fixture
def told(ground: Ground) -> Contract:
    """A collector that brings what a test says, with the payer's allowance."""
    collector = deployer_of("mocks/Collector").deploy()
    ground.token.approve(collector.address, 2**256 - 1, sender=ground.payer.address)
    return collector


def bring(ground: Ground, told: Contract, config: ChannelConfig, amount: int = DEPOSIT) -> None:
    """Deposit by the collector that a test has set."""
    ground.channels.deposit(
        config.abi_tuple(), amount, told.address, b"", sender=ground.stranger.address
    )


@pytest.mark.invariant("I-1")
def test_deposit__first__opens_the_channel_with_the_payers_tokens(ground: Ground) -> None:
    before = ground.balance(ground.payer)
    config = ground.opened()
    created = event(ground.channels, "ChannelCreated")
    assert created["channelId"] == ground.id(config)
    assert ChannelConfig.from_abi(created["config"]) == config
    assert event(ground.channels, "Deposited") == {
        "channelId": ground.id(config),
        "sender": ground.stranger.address,
        "amount": DEPOSIT,
        "newBalance": DEPOSIT,
    }
    assert ground.held(config) == (DEPOSIT, 0)
    assert ground.balance(ground.payer) == before - DEPOSIT
    assert ground.balance(ground.channels) == DEPOSIT
    assert ground.balance(ground.collector) == 0


@pytest.mark.invariant("I-1")
def test_deposit__second__adds_and_opens_nothing(ground: Ground, channel: ChannelConfig) -> None:
    ground.deposit(channel, 3 * USD)
    assert events(ground.channels, "ChannelCreated") == []
    assert event(ground.channels, "Deposited")["newBalance"] == DEPOSIT + 3 * USD
    assert ground.held(channel) == (DEPOSIT + 3 * USD, 0)


def test_deposit__into_a_channel_that_was_claimed_from__does_not_open_it_again(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.claim(ground.row(channel, DEPOSIT))
    ground.deposit(channel)
    assert events(ground.channels, "ChannelCreated") == []
    assert ground.held(channel) == (2 * DEPOSIT, DEPOSIT)


def test_deposit__into_a_channel_that_was_emptied__opens_it_again(
    ground: Ground, channel: ChannelConfig
) -> None:
    ground.channels.refund(channel.abi_tuple(), DEPOSIT, sender=ground.operator.address)
    ground.deposit(channel)
    assert len(events(ground.channels, "ChannelCreated")) == 1


@pytest.mark.parametrize("delay", [MIN_WITHDRAW_DELAY, MAX_WITHDRAW_DELAY])
def test_deposit__delay_at_its_bounds__taken(ground: Ground, delay: int) -> None:
    config = ground.config(withdraw_delay=delay)
    config.check()
    ground.deposit(config)
    assert ground.held(config) == (DEPOSIT, 0)


def test_deposit__payer_without_authorizer__taken(ground: Ground) -> None:
    config = ground.deposit(ground.config(payer_authorizer=ZERO_ADDRESS))
    assert ground.held(config) == (DEPOSIT, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payer": ZERO_ADDRESS}, "channels: zero payer"),
        ({"receiver": ZERO_ADDRESS}, "channels: zero receiver"),
        ({"receiver_authorizer": ZERO_ADDRESS}, "channels: zero receiver authorizer"),
        ({"token": ZERO_ADDRESS}, "channels: zero token"),
        ({"withdraw_delay": 899}, "channels: withdraw delay out of bounds"),
        ({"withdraw_delay": 2_592_001}, "channels: withdraw delay out of bounds"),
    ],
)
def test_deposit__channel_that_may_not_be__refused(
    ground: Ground, told: Contract, changes: dict[str, Any], reason: str
) -> None:
    with reverts(reason):
        bring(ground, told, replace(ground.config(), **changes))


def test_deposit__of_nothing_or_by_nobody__refused(ground: Ground, told: Contract) -> None:
    config = ground.config()
    with reverts("channels: zero deposit"):
        bring(ground, told, config, 0)
    with reverts("channels: zero collector"):
        ground.channels.deposit(config.abi_tuple(), 1, ZERO_ADDRESS, b"")


@pytest.mark.invariant("I-1")
@pytest.mark.parametrize("surplus", [-1, 1, -DEPOSIT])
def test_deposit__collector_brings_less_or_more__refused(
    ground: Ground, told: Contract, channel: ChannelConfig, surplus: int
) -> None:
    told.bring(surplus)
    with reverts("channels: deposit not collected"):
        bring(ground, told, channel)
    assert ground.held(channel) == (DEPOSIT, 0)


@pytest.mark.invariant("I-1")
def test_deposit__tokens_that_lay_there_before__are_nobodys_deposit(
    ground: Ground, told: Contract, channel: ChannelConfig
) -> None:
    """A donation opens no door: the collector must bring the amount in this call."""
    ground.token.mint(ground.channels.address, 50 * USD)
    told.bring(-DEPOSIT)
    with reverts("channels: deposit not collected"):
        bring(ground, told, channel)


def test_deposit__above_what_a_channel_can_hold__refused(ground: Ground, told: Contract) -> None:
    most = 2**128 - 1
    ground.token.mint(ground.payer.address, 2 * most)
    config = ground.config()
    bring(ground, told, config, most)
    assert ground.held(config) == (most, 0)
    with reverts("channels: deposit too large"):
        bring(ground, told, config, 1)


@pytest.mark.parametrize("call", ["deposit", "claim", "settle", "refund", "multicall"])
@pytest.mark.invariant("I-1", "I-12")
def test_deposit__collector_calls_back__is_refused(
    ground: Ground, told: Contract, channel: ChannelConfig, call: str
) -> None:
    """While tokens are on their way, what the channel holds is not there yet."""
    contract = ground.channels
    # The collector is the receiver's side itself.
    config = ground.config(7, receiver=told.address, receiver_authorizer=told.address)
    row = ground.row(config, DEPOSIT).abi_tuple()
    data = {
        "deposit": contract.deposit.prepare_calldata(config.abi_tuple(), 1, told.address, b""),
        "claim": contract.claim.prepare_calldata([row]),
        "settle": contract.settle.prepare_calldata(told.address, config.token),
        "refund": contract.refund.prepare_calldata(config.abi_tuple(), 1),
    }
    data["multicall"] = contract.multicall.prepare_calldata([data["claim"]])
    told.arm(contract.address, data[call])
    bring(ground, told, config)
    assert told.tried() and not told.succeeded()
    assert ground.held(config) == (DEPOSIT, 0)
    assert ground.held(channel) == (DEPOSIT, 0)


def test_deposit__collector_looks__may(ground: Ground, told: Contract) -> None:
    """Views answer during a call, as those of x402's contract do."""
    told.arm(ground.channels.address, ground.channels.channels.prepare_calldata(bytes(32)))
    bring(ground, told, ground.config())
    assert told.tried() and told.succeeded()


# ------------------------------------------------------------------- the collector


def test_collect__by_anybody_else__refused(ground: Ground) -> None:
    """An authorization that is seen on its way is worth nothing to others."""
    config = ground.config()
    data = ground.paper(config, DEPOSIT)
    for sender in (ground.stranger, ground.payer, ground.operator):
        with reverts("collector: caller is not Channels"):
            ground.collector.collect(
                config.payer, config.token, DEPOSIT, ground.id(config), data, sender=sender.address
            )


@pytest.mark.invariant("I-12")
def test_collect__paper_for_another_channel_amount_or_payer__refused(ground: Ground) -> None:
    config = ground.config()
    data = ground.paper(config, DEPOSIT)
    theirs = ground.config(receiver=ground.stranger.address)
    for other, amount in (
        (theirs, DEPOSIT),
        (ground.config(1), DEPOSIT),
        (config, DEPOSIT + 1),
        (ground.config(payer=ground.stranger.address), DEPOSIT),
    ):
        with reverts("payment token: invalid signature"):
            ground.channels.deposit(other.abi_tuple(), amount, ground.collector.address, data)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.collector.address, data)
    assert ground.held(config) == (DEPOSIT, 0)


def test_collect__same_paper_twice__refused(ground: Ground) -> None:
    config = ground.config()
    data = ground.paper(config, DEPOSIT)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.collector.address, data)
    with reverts("payment token: authorization is used or canceled"):
        ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.collector.address, data)


def test_collect__too_early_or_too_late__refused(ground: Ground) -> None:
    config, now = ground.config(), int(boa.env.timestamp)
    late = ground.paper(config, DEPOSIT, valid_before=now)
    with reverts("payment token: authorization is expired"):
        ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.collector.address, late)
    early = ground.paper(config, DEPOSIT, valid_after=now)
    with reverts("payment token: authorization is not yet valid"):
        ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.collector.address, early)


def test_collector__for_no_contract__not_deployed() -> None:
    with reverts("collector: zero channels"):
        deployer_of("testnet/ERC3009DepositCollector").deploy(ZERO_ADDRESS)


def test_collector__serves_the_contract_that_it_names(ground: Ground) -> None:
    assert ground.collector.x402BatchSettlement() == ground.channels.address


def test_deposit__collector_without_code__refused(ground: Ground) -> None:
    config = ground.config()
    with boa.reverts():
        ground.channels.deposit(config.abi_tuple(), DEPOSIT, ground.stranger.address, b"")
    assert ground.held(config) == (0, 0)


def test_deposit__salt_of_a_channel__tells_channels_apart(ground: Ground) -> None:
    one, other = ground.opened(1), ground.opened(2, 2 * DEPOSIT)
    assert ground.id(one) != ground.id(other)
    assert (ground.held(one), ground.held(other)) == ((DEPOSIT, 0), (2 * DEPOSIT, 0))
