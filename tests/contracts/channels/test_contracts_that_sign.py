# SPDX-License-Identifier: Apache-2.0
"""Claims where a contract signs instead of a key: it decides, and what fails is a no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.channels import ChannelConfig
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.channels.ground import DEPOSIT, Claim, Ground, reverts
from tests.contracts.deploy import USD, Contract, address_of, deployer_of

LISTENER = """
# pragma version 0.4.3
digest: bytes32
signature: Bytes[600]

@external
def expect(digest: bytes32, signature: Bytes[600]):
    self.digest = digest
    self.signature = signature

@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[600]) -> bytes4:
    if digest == self.digest and signature == self.signature:
        return 0x1626BA7E
    return 0xFFFFFFFF

@external
def execute(target: address, data: Bytes[4_096]) -> Bytes[1_024]:
    return raw_call(target, data, max_outsize=1_024)
"""


@pytest.fixture
def wallet(ground: Ground) -> Contract:
    """A contract wallet whose owner is the payer's key."""
    return deployer_of("mocks/Wallet").deploy(ground.payer_key.address)


def funded(ground: Ground, wallet: Contract, **changes: Any) -> ChannelConfig:
    """A channel whose payer is the wallet, with a deposit against its allowance."""
    config = ground.config(payer=wallet.address, payer_authorizer=ZERO_ADDRESS, **changes)
    collector = deployer_of("mocks/Collector").deploy()
    ground.token.mint(wallet.address, DEPOSIT)
    approve = ground.token.approve.prepare_calldata(collector.address, DEPOSIT)
    wallet.execute(ground.token.address, approve, sender=ground.payer_key.address)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
    return config


@pytest.mark.invariant("I-9")
def test_claim__payer_is_a_contract__it_decides(
    ground: Ground, wallet: Contract, claim: Claim
) -> None:
    config = funded(ground, wallet)
    with reverts("channels: invalid signature"):
        claim(ground.row(config, USD, signer=ground.payer))
    claim(ground.row(config, USD))
    assert ground.held(config) == (DEPOSIT, USD)


def test_claim__payer_without_authorizer_is_a_key__it_signs(ground: Ground, claim: Claim) -> None:
    config = ground.deposit(ground.config(payer_authorizer=ZERO_ADDRESS))
    with reverts("channels: invalid signature"):
        claim(ground.row(config, USD))
    claim(ground.row(config, USD, signer=ground.payer))
    assert ground.held(config) == (DEPOSIT, USD)


def test_claim__payer_is_a_contract_that_knows_no_signatures__refused(
    ground: Ground, claim: Claim
) -> None:
    """Neither a contract without the function, nor one that answers something else."""
    collector = deployer_of("mocks/Collector").deploy()
    collector.bring(-DEPOSIT)
    for payer in (ground.token.address, collector.address):
        config = ground.config(payer=payer, payer_authorizer=ZERO_ADDRESS)
        row = ground.row(config, USD)
        ground.token.mint(payer, DEPOSIT)
        with boa.env.anchor():
            with boa.env.prank(payer):
                ground.token.approve(collector.address, DEPOSIT)
            collector.bring(0)
            ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
            with reverts("channels: invalid signature"):
                claim(row)


@pytest.mark.parametrize(
    ("ending", "good"), [("60205ff3", True), ("60045ff3", False), ("60205ffd", False)]
)
def test_claim__payers_contract_answers_too_little_or_fails_with_the_answer__refused(
    ground: Ground, claim: Claim, ending: str, good: bool
) -> None:
    """It answers the magic value to whatever it is asked: whole, four bytes of it, as an error."""
    payer, collector = address_of("channel payer of bytes"), deployer_of("mocks/Collector").deploy()
    ground.token.mint(payer, DEPOSIT)
    ground.token.approve(collector.address, DEPOSIT, sender=payer)
    config = ground.config(payer=payer, payer_authorizer=ZERO_ADDRESS)
    ground.channels.deposit(config.abi_tuple(), DEPOSIT, collector.address, b"")
    boa.env.set_code(payer, bytes.fromhex("631626ba7e60e01b5f52" + ending))
    if not good:
        with reverts("channels: invalid signature"):
            claim(ground.row(config, USD))
    else:
        claim(ground.row(config, USD))
    assert ground.held(config) == (DEPOSIT, USD if good else 0)


def test_claim__payer_authorizer_is_a_contract__is_asked_for_a_keys_signature(
    ground: Ground, wallet: Contract, claim: Claim
) -> None:
    """Vouchers of such a channel are checked without a node, so a contract signs none."""
    config = ground.deposit(ground.config(payer_authorizer=wallet.address))
    with reverts("channels: invalid signature"):
        claim(ground.row(config, USD))


def test_claim_with_signature__authorizer_is_a_contract__it_decides(
    ground: Ground, wallet: Contract
) -> None:
    config = ground.deposit(ground.config(receiver_authorizer=wallet.address))
    rows = [ground.row(config, USD)]
    given = [row.abi_tuple() for row in rows]
    with reverts("channels: invalid signature"):
        ground.channels.claimWithSignature(given, ground.word_over(rows))
    ground.channels.claimWithSignature(given, ground.word_over(rows, ground.payer_key))
    assert ground.received() == (USD, 0)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 65, 511, 512])
def test_claim__signature_of_any_length__reaches_the_payers_contract_whole(
    ground: Ground, length: int
) -> None:
    wallet = boa.loads(LISTENER)
    config = funded(ground, wallet)
    signature = bytes(number % 251 + 1 for number in range(length))
    row = replace(ground.row(config, USD), signature=signature)
    digest = ground.channels.getVoucherDigest(ground.id(config), USD)
    wallet.expect(digest, signature)
    ground.claim(row)
    assert ground.held(config) == (DEPOSIT, USD)
    wallet.expect(digest, b"other")
    with reverts("channels: invalid signature"):
        ground.claim(replace(row, total_claimed=USD + 1, max_claimable_amount=USD + 1))
