# SPDX-License-Identifier: Apache-2.0
"""The ABI of x402's batch settlement, its digests, several calls at once, and strange calldata."""

from __future__ import annotations

from random import Random
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from x402.mechanisms.evm.batch_settlement.abi import BATCH_SETTLEMENT_ABI

from teraproof.protocol.channels import (
    ChannelConfig,
    Refund,
    Voucher,
    VoucherClaim,
    channels_domain,
    claim_batch,
)
from teraproof.protocol.messages import digest
from tests.contracts.actions import CHAIN_ID, event
from tests.contracts.channels.ground import DEPOSIT, Ground, reverts
from tests.contracts.deploy import USD, compiled_by_boa, deployer_of

# The events, written out as x402's contract declares them.
CONFIG = "(address,address,address,address,address,uint40,bytes32)"
EVENTS = {
    "ChannelCreated": (["bytes32"], [CONFIG]),
    "ChannelClosed": (["bytes32"], [CONFIG]),
    "Deposited": (["bytes32", "address"], ["uint128", "uint128"]),
    "Claimed": (["bytes32", "address"], ["uint128", "uint128"]),
    "Settled": (["address", "address", "address"], ["uint128"]),
    "Refunded": (["bytes32", "address"], ["uint128"]),
    "WithdrawInitiated": (["bytes32"], ["uint128", "uint40"]),
    "WithdrawFinalized": (["bytes32", "address"], ["uint128"]),
}


def ours() -> list[dict[str, Any]]:
    from vyper.compiler.output import build_abi_output

    found: list[dict[str, Any]] = build_abi_output(compiled_by_boa("Channels").compiler_data)
    return found


def shape(entry: dict[str, Any]) -> dict[str, Any]:
    """What of an ABI's entry decides about calldata, topics and names of arguments."""

    def members(parts: list[dict[str, Any]], *, named: bool) -> list[Any]:
        return [
            (
                part["name"] if named else "",
                part["type"],
                part.get("indexed", False),
                members(part.get("components", []), named=named),
            )
            for part in parts
        ]

    return {
        "name": entry["name"],
        "type": entry["type"],
        "state": entry.get("stateMutability"),
        "inputs": members(entry["inputs"], named=True),
        # Vyper names no values of a pair.
        "outputs": members(entry.get("outputs", []), named=False),
    }


def test_abi__holds_all_that_the_sdk_knows() -> None:
    found = {
        (entry["type"], entry.get("name")): shape(entry) for entry in ours() if "name" in entry
    }
    for entry in BATCH_SETTLEMENT_ABI:
        assert found[entry["type"], entry["name"]] == shape(entry)


def test_abi__events__are_those_of_x402() -> None:
    found = {}
    for entry in ours():
        if entry["type"] == "event":
            kinds: tuple[list[str], list[str]] = ([], [])
            for part in entry["inputs"]:
                inner = ",".join(one["type"] for one in part.get("components", []))
                kinds[not part["indexed"]].append(f"({inner})" if inner else part["type"])
            found[entry["name"]] = kinds
    assert found == EVENTS


def test_views__constants_and_domain__are_those_of_x402(ground: Ground) -> None:
    contract = ground.channels
    assert (contract.MIN_WITHDRAW_DELAY(), contract.MAX_WITHDRAW_DELAY()) == (900, 2_592_000)
    types = {
        "VOUCHER": "Voucher(bytes32 channelId,uint128 maxClaimableAmount)",
        "REFUND": "Refund(bytes32 channelId,uint256 nonce,uint128 amount)",
        "CLAIM_ENTRY": (
            "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
        ),
        "CHANNEL_CONFIG": (
            "ChannelConfig(address payer,address payerAuthorizer,address receiver,"
            "address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
        ),
    }
    types["CLAIM_BATCH"] = "ClaimBatch(ClaimEntry[] claims)" + types["CLAIM_ENTRY"]
    for name, text in types.items():
        assert getattr(contract, f"{name}_TYPEHASH")() == keccak(text=text)
    assert contract.eip712Domain() == (
        b"\x0f",
        "x402 Batch Settlement",
        "1",
        CHAIN_ID,
        contract.address,
        bytes(32),
        [],
    )


def some_config(random: Random) -> ChannelConfig:
    values: list[Any] = ["0x" + random.randbytes(20).hex() for _ in range(5)]
    return ChannelConfig.from_abi([*values, random.getrandbits(40), random.randbytes(32)])


def test_digests__random_ones__equal_those_made_off_chain(ground: Ground) -> None:
    random, contract = Random(21), ground.channels
    for _ in range(50):
        config = some_config(random)
        channel = ground.id(config)
        assert contract.getChannelId(config.abi_tuple()) == channel
        amount, nonce = random.getrandbits(128), random.getrandbits(256)
        assert contract.getVoucherDigest(channel, amount) == digest(
            ground.domain, Voucher(channel, amount)
        )
        assert contract.getRefundDigest(channel, nonce, amount) == digest(
            ground.domain, Refund(channel, nonce, amount)
        )


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_digests__batch_of_claims__equals_the_one_made_off_chain(
    ground: Ground, count: int
) -> None:
    random = Random(count)
    rows = [
        VoucherClaim(
            some_config(random),
            random.getrandbits(128),
            random.randbytes(random.choice((0, 65, 200))),
            random.getrandbits(128),
        )
        for _ in range(count)
    ]
    batch = claim_batch(CHAIN_ID, rows, str(ground.channels.address))
    found = ground.channels.getClaimBatchDigest([row.abi_tuple() for row in rows])
    assert found == digest(ground.domain, batch)


def test_domain__code_at_another_address__is_that_addresss(ground: Ground) -> None:
    """Nothing of an instance depends on where it was made."""
    place = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
    boa.env.set_code(place, boa.env.get_code(ground.channels.address))
    placed = deployer_of("Channels").at(place)
    config = some_config(Random(3))
    assert placed.getChannelId(config.abi_tuple()) == digest(channels_domain(CHAIN_ID), config)


# ------------------------------------------------------------------ several at once


def test_multicall__claim_and_refund__as_the_sdks_facilitator_sends_them(
    ground: Ground, channel: ChannelConfig
) -> None:
    rows, contract = [ground.row(channel, 4 * USD)], ground.channels
    calls = [
        contract.claimWithSignature.prepare_calldata(
            [row.abi_tuple() for row in rows], ground.word_over(rows)
        ),
        contract.refundWithSignature.prepare_calldata(
            channel.abi_tuple(), DEPOSIT, 0, ground.refund_word(channel, DEPOSIT, 0)
        ),
    ]
    assert contract.multicall(calls, sender=ground.stranger.address) == [b"", b""]
    assert ground.held(channel) == (4 * USD, 4 * USD)


def test_multicall__caller_stays_the_caller(ground: Ground, channel: ChannelConfig) -> None:
    contract = ground.channels
    claim = contract.claim.prepare_calldata([ground.row(channel, USD).abi_tuple()])
    settle = contract.settle.prepare_calldata(ground.receiver.address, ground.token.address)
    contract.multicall([claim, settle], sender=ground.operator.address)
    assert event(contract, "Claimed")["sender"] == ground.operator.address
    assert event(contract, "Settled")["sender"] == ground.operator.address
    assert ground.balance(ground.receiver) == USD
    with reverts("channels: caller is not the receiver's"):
        contract.multicall([claim], sender=ground.stranger.address)


def test_multicall__one_fails__nothing_happens(ground: Ground, channel: ChannelConfig) -> None:
    contract = ground.channels
    claim = contract.claim.prepare_calldata([ground.row(channel, USD).abi_tuple()])
    bad = contract.claim.prepare_calldata([ground.row(channel, DEPOSIT + 1).abi_tuple()])
    with reverts("channels: claim exceeds the balance"):
        contract.multicall([claim, bad], sender=ground.operator.address)
    assert ground.held(channel) == (DEPOSIT, 0)


def test_multicall__views__answer_as_by_themselves(ground: Ground, channel: ChannelConfig) -> None:
    contract = ground.channels
    calls = [
        contract.channels.prepare_calldata(ground.id(channel)),
        contract.getChannelId.prepare_calldata(channel.abi_tuple()),
    ]
    assert contract.multicall(calls) == [
        encode(["uint128", "uint128"], [DEPOSIT, 0]),
        ground.id(channel),
    ]
    assert contract.multicall([]) == []


def test_multicall__long_answer__is_cut_at_64_bytes(ground: Ground) -> None:
    """As many as it promises, no less and no more: no answer that a payment needs is longer."""
    domain = ground.channels.eip712Domain.prepare_calldata()
    (answer,) = ground.channels.multicall([domain])
    whole = boa.env.execute_code(to_address=ground.channels.address, data=domain).output
    assert len(whole) > len(answer) == 64
    assert answer == whole[:64]


def test_multicall__more_calls_or_longer_ones_than_there_may_be__refused(ground: Ground) -> None:
    view = ground.channels.MIN_WITHDRAW_DELAY.prepare_calldata()
    assert len(ground.channels.multicall([view] * 8)) == 8
    for calls in ([view] * 9, [view + bytes(4_093)]):
        with boa.reverts():
            ground.channels.multicall(calls)


# ---------------------------------------------------------------------- calldata


def sent(ground: Ground, data: bytes) -> bool:
    """Send raw calldata as the operator; whether it went through."""
    result = boa.env.execute_code(
        to_address=ground.channels.address, sender=ground.operator.address, data=data
    )
    return not result.is_error


HEAD = 4 + 32 + 32 + 32  # selector, place of the array, number of rows, place of the row


@pytest.mark.parametrize("word", range(10))
def test_claim__dirty_words__refused(ground: Ground, channel: ChannelConfig, word: int) -> None:
    """A row is read as it stands, so no word may say more than its type."""
    row = ground.row(channel, USD)
    data = bytearray(ground.channels.claim.prepare_calldata([row.abi_tuple()]))
    at = HEAD + 32 * word
    data[at] |= 0x80
    assert not sent(ground, bytes(data))
    assert ground.held(channel) == (DEPOSIT, 0)


def test_claim__places_that_no_encoder_writes__name_the_same_row_or_none(
    ground: Ground, channel: ChannelConfig
) -> None:
    """What the compiler has checked is what is read: both follow the same places."""
    row = ground.row(channel, USD)
    whole = ground.channels.claim.prepare_calldata([row.abi_tuple()])
    selector, array = whole[:4], whole[36:]

    def word(value: int) -> bytes:
        return value.to_bytes(32, "big")

    # The array further behind, with another valid row in front of it.
    decoy = ground.row(channel, 2 * USD, signer=ground.stranger)
    front = ground.channels.claim.prepare_calldata([decoy.abi_tuple()])[36:]
    with boa.env.anchor():
        assert sent(ground, selector + word(32 + len(front)) + front + array)
        assert ground.held(channel) == (DEPOSIT, USD)
    # Two heads that name one row.
    body = array[64:]
    twice = selector + word(32) + word(2) + word(64) + word(64) + body
    with boa.env.anchor():
        assert sent(ground, twice)
        assert ground.held(channel) == (DEPOSIT, USD)
    # A signature that begins inside the row itself, or far outside.
    for place in (0, 2**255, 2**256 - 32, 10_000):
        moved = bytearray(whole)
        moved[HEAD + 32 * 8 : HEAD + 32 * 9] = word(place)
        assert not sent(ground, bytes(moved))
    # An array or a row that begins outside.
    for place in (2**256 - 4, 2**255, 10_000):
        assert not sent(ground, selector + word(place) + array)
        moved = bytearray(whole)
        moved[HEAD - 32 : HEAD] = word(place)
        assert not sent(ground, bytes(moved))
    # Cut short, anywhere: nothing is claimed by what is not there.
    for length in range(4, len(whole), 16):
        with boa.env.anchor():
            if sent(ground, whole[:length]):
                assert length > len(whole) - 32
                assert ground.held(channel)[1] in (0, USD)
    assert ground.held(channel) == (DEPOSIT, 0)
