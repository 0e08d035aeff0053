# SPDX-License-Identifier: Apache-2.0
"""Payment channels: what is signed is, to the bit, what the SDK of x402 signs (`x402` of PyPI)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from x402.mechanisms.evm.batch_settlement import constants as theirs
from x402.mechanisms.evm.batch_settlement.authorizer_signer import (
    LocalAuthorizerSigner,
    sign_claim_batch,
    sign_refund,
)
from x402.mechanisms.evm.batch_settlement.encoding import (
    build_erc3009_collector_data,
    build_erc3009_deposit_nonce,
)
from x402.mechanisms.evm.batch_settlement.types import ChannelConfig as TheirConfig
from x402.mechanisms.evm.batch_settlement.types import VoucherClaim as TheirClaim
from x402.mechanisms.evm.batch_settlement.utils import (
    compute_channel_id,
    get_batch_settlement_eip712_domain,
)

from teraproof.errors import LocalError
from teraproof.protocol import channels
from teraproof.protocol.channels import (
    ChannelConfig,
    DepositAuthorization,
    Refund,
    Voucher,
    VoucherClaim,
    admitted,
    channel_id,
    channels_domain,
    claim_batch,
)
from teraproof.protocol.messages import Domain, digest, recover, sign, typed_data
from teraproof.protocol.terms import ZERO_ADDRESS

KEY = Account.from_key(b"\x11" * 32)
RANDOM_ONES = 1_000
ORDER_OF_CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def some_amount(random: Random, bits: int) -> int:
    """Of each size alike, so that the edges of the width are among them."""
    return random.choice((0, 1, 2**bits - 1, random.getrandbits(bits), random.getrandbits(20)))


def some_config(random: Random) -> ChannelConfig:
    def address() -> str:
        return "0x" + random.randbytes(20).hex()

    return ChannelConfig(
        payer=address(),
        payer_authorizer=random.choice((ZERO_ADDRESS, address())),
        receiver=address(),
        receiver_authorizer=address(),
        token=address(),
        withdraw_delay=random.choice((900, 2_592_000, some_amount(random, 40))),
        salt=random.randbytes(32),
    )


def in_their_words(config: ChannelConfig) -> TheirConfig:
    values = config.values()
    return TheirConfig.from_dict({**values, "salt": "0x" + config.salt.hex()})


def their_digest(types: dict[str, Any], chain: int, message: dict[str, Any]) -> bytes:
    found = encode_typed_data(get_batch_settlement_eip712_domain(chain), types, message)
    return bytes(keccak(b"\x19\x01" + found.header + found.body))


def test_constants__are_those_of_the_sdk() -> None:
    assert channels.CHANNELS == theirs.BATCH_SETTLEMENT_ADDRESS
    assert channels.COLLECTOR == theirs.ERC3009_DEPOSIT_COLLECTOR_ADDRESS
    assert channels.MIN_WITHDRAW_DELAY == theirs.MIN_WITHDRAW_DELAY
    assert channels.MAX_WITHDRAW_DELAY == theirs.MAX_WITHDRAW_DELAY


def test_digests__a_thousand_random_channels__equal_the_sdks() -> None:
    random = Random(11)
    for _ in range(RANDOM_ONES):
        chain = random.choice((1, 8_453, 31_337, random.getrandbits(60)))
        domain, config = channels_domain(chain), some_config(random)
        channel = channel_id(chain, config)
        assert "0x" + channel.hex() == compute_channel_id(in_their_words(config), chain)
        voucher = Voucher(channel, some_amount(random, 128))
        assert digest(domain, voucher) == their_digest(
            theirs.VOUCHER_TYPES,
            chain,
            {"channelId": channel, "maxClaimableAmount": voucher.max_claimable_amount},
        )
        refund = Refund(channel, some_amount(random, 256), some_amount(random, 128))
        assert digest(domain, refund) == their_digest(
            theirs.REFUND_TYPES,
            chain,
            {"channelId": channel, "nonce": refund.nonce, "amount": refund.amount},
        )


def test_claim_batches__a_thousand_random_ones__are_signed_as_by_the_sdk() -> None:
    random = Random(12)
    signer = LocalAuthorizerSigner(KEY)
    for number in range(RANDOM_ONES):
        chain = random.getrandbits(50) + 1
        rows = [
            VoucherClaim(
                some_config(random),
                some_amount(random, 128),
                random.randbytes(65),
                some_amount(random, 128),
            )
            for _ in range(number % 4 + 1)
        ]
        their_rows = [
            TheirClaim(
                channel=in_their_words(row.config),
                max_claimable_amount=str(row.max_claimable_amount),
                signature="0x" + row.signature.hex(),
                total_claimed=str(row.total_claimed),
            )
            for row in rows
        ]
        ours = sign(channels_domain(chain), claim_batch(chain, rows), KEY)
        assert "0x" + ours.hex() == sign_claim_batch(signer, their_rows, f"eip155:{chain}")


def test_refund__is_signed_as_by_the_sdk() -> None:
    channel = channel_id(31_337, some_config(Random(13)))
    ours = sign(channels_domain(31_337), Refund(channel, 7, 5_000_000), KEY)
    theirs_too = sign_refund(
        LocalAuthorizerSigner(KEY), "0x" + channel.hex(), 5_000_000, 7, "eip155:31337"
    )
    assert "0x" + ours.hex() == theirs_too


def test_deposits__a_thousand_random_ones__equal_the_sdks() -> None:
    random = Random(14)
    for _ in range(RANDOM_ONES):
        channel, signature = random.randbytes(32), random.randbytes(65)
        paper = DepositAuthorization(*(some_amount(random, 256) for _ in range(3)))
        payer, token = ("0x" + random.randbytes(20).hex() for _ in range(2))
        amount, chain = some_amount(random, 128), random.getrandbits(50)
        message = paper.message(channel, payer, amount)
        nonce = build_erc3009_deposit_nonce("0x" + channel.hex(), hex(paper.salt))
        assert "0x" + message.nonce.hex() == nonce
        assert paper.collector_data(signature) == build_erc3009_collector_data(
            str(paper.valid_after), str(paper.valid_before), hex(paper.salt), signature.hex()
        )
        domain = Domain(chain, token, "Test Dollar", "1")
        found = encode_typed_data(
            {
                "name": "Test Dollar",
                "version": "1",
                "chainId": chain,
                "verifyingContract": domain.contract,
            },
            theirs.RECEIVE_AUTHORIZATION_TYPES,
            {
                "from": message.from_,
                "to": theirs.ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
                "value": amount,
                "validAfter": paper.valid_after,
                "validBefore": paper.valid_before,
                "nonce": bytes.fromhex(nonce[2:]),
            },
        )
        assert digest(domain, message) == keccak(b"\x19\x01" + found.header + found.body)
        document = encode_typed_data(full_message=typed_data(domain, message))
        assert (document.header, document.body) == (found.header, found.body)


VOUCHER = Voucher(b"\x01" * 32, 1_000)
DOMAIN = channels_domain(31_337)


def test_admitted__each_way_to_write_one_signature__is_taken_and_normalised() -> None:
    made = sign(DOMAIN, VOUCHER, KEY)
    parity = made[64] - 27
    compact = bytearray(made[:64])
    compact[32] |= parity << 7
    for written in (made, made[:64] + bytes([parity]), bytes(compact)):
        for text in (written.hex(), "0x" + written.hex(), "0X" + written.hex().upper()):
            assert admitted(DOMAIN, VOUCHER, text) == (KEY.address, made)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda made: made[:63], "expected 65 or 64 bytes, got 63"),
        (lambda made: made + b"\x00", "expected 65 or 64 bytes, got 66"),
        (lambda made: made[:64] + b"\x1d", "v is 29, expected 27 or 28"),
        (
            lambda made: (
                made[:32]
                + (ORDER_OF_CURVE - int.from_bytes(made[32:64], "big")).to_bytes(32, "big")
                + bytes([55 - made[64]])
            ),
            "s is in the upper half",
        ),
        (lambda made: bytes(32) + made[32:], "no key signs like this"),
    ],
)
def test_admitted__anything_else__is_refused(spoil: Any, line: str) -> None:
    made = sign(DOMAIN, VOUCHER, KEY)
    with pytest.raises(LocalError, match=line):
        admitted(DOMAIN, VOUCHER, spoil(made).hex())


def test_admitted__not_hex__is_refused() -> None:
    with pytest.raises(LocalError, match="two per byte"):
        admitted(DOMAIN, VOUCHER, "0xzz")


@pytest.mark.parametrize(
    ("domain", "voucher"),
    [
        (channels_domain(1), VOUCHER),
        (channels_domain(31_337, channels.COLLECTOR), VOUCHER),
        (Domain(31_337, channels.CHANNELS), VOUCHER),
        (DOMAIN, Voucher(b"\x02" * 32, 1_000)),
        (DOMAIN, Voucher(b"\x01" * 32, 1_001)),
    ],
)
def test_recover__other_chain_contract_channel_or_sum__is_somebody_else(
    domain: Domain, voucher: Voucher
) -> None:
    assert recover(domain, voucher, sign(DOMAIN, VOUCHER, KEY)) != KEY.address


def config_with(**changes: Any) -> ChannelConfig:
    values = {
        "payer": KEY.address,
        "payer_authorizer": KEY.address,
        "receiver": KEY.address,
        "receiver_authorizer": KEY.address,
        "token": KEY.address,
        "withdraw_delay": 86_400,
        "salt": bytes(32),
    }
    return ChannelConfig(**{**values, **changes})


@pytest.mark.parametrize("delay", [900, 86_400, 2_592_000])
def test_check__within_the_contracts_bounds__says_nothing(delay: int) -> None:
    config_with(withdraw_delay=delay).check()
    config_with(payer_authorizer=ZERO_ADDRESS).check()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"payer": ZERO_ADDRESS}, "channel: payer is the zero address"),
        ({"receiver": ZERO_ADDRESS}, "channel: receiver is the zero address"),
        ({"receiver_authorizer": ZERO_ADDRESS}, "receiver_authorizer is the zero address"),
        ({"token": ZERO_ADDRESS}, "channel: token is the zero address"),
        ({"withdraw_delay": 899}, "withdraw_delay is 899 s; choose 900 to 2592000 s"),
        ({"withdraw_delay": 2_592_001}, "withdraw_delay is 2592001 s; choose 900 to 2592000 s"),
    ],
)
def test_check__what_the_contract_takes_no_deposit_for__is_refused(
    changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(LocalError, match=line):
        config_with(**changes).check()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"payer": "0x12"}, "payer: '0x12' is not an address"),
        ({"withdraw_delay": 2**40}, "is not a uint40"),
        ({"withdraw_delay": -1}, "is not a uint40"),
        ({"salt": b"\x01" * 31}, "salt: expected 32 bytes"),
    ],
)
def test_config__not_of_its_types__is_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(LocalError, match=line):
        config_with(**changes)


def test_sums__wider_than_the_contract_has__are_refused() -> None:
    for make in (
        lambda: Voucher(bytes(32), 2**128),
        lambda: Refund(bytes(32), 0, 2**128),
        lambda: VoucherClaim(config_with(), 2**128, b"", 0),
        lambda: VoucherClaim(config_with(), 0, b"", 2**128),
        lambda: DepositAuthorization(0, 0, 2**256),
    ):
        with pytest.raises(LocalError, match="is not a uint"):
            make()
