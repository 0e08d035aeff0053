# SPDX-License-Identifier: Apache-2.0
"""A contract of channels, a token, and people who pay and are paid.

What they sign is made by `teraproof.protocol.channels`, so these tests also show that the contract
and the SDK agree on every byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import boa
from eth_account.signers.local import LocalAccount

from teraproof.protocol.channels import (
    ChannelConfig,
    DepositAuthorization,
    Refund,
    Voucher,
    VoucherClaim,
    channel_id,
    channels_domain,
    claim_batch,
)
from teraproof.protocol.messages import Domain, sign
from tests.contracts.actions import CHAIN_ID
from tests.contracts.deploy import DAY, USD, Contract, account_of, deployer_of

FAR = 2**40
DEPOSIT = 10 * USD

# One of the ways to claim rows.
Claim = Callable[..., None]


@dataclass
class Ground:
    """The contracts, and one person for each part in a channel."""

    channels: Contract
    collector: Contract
    token: Contract
    payer: LocalAccount
    payer_key: LocalAccount
    """Signs the payer's vouchers."""
    receiver: LocalAccount
    operator: LocalAccount
    """Claims and refunds for the receiver."""
    stranger: LocalAccount
    salts: int = 0
    """How many deposits were authorized."""

    @property
    def domain(self) -> Domain:
        return channels_domain(CHAIN_ID, str(self.channels.address))

    def config(self, number: int = 0, **changes: Any) -> ChannelConfig:
        """Channel `number` of the payer with the receiver."""
        usual = ChannelConfig(
            payer=self.payer.address,
            payer_authorizer=self.payer_key.address,
            receiver=self.receiver.address,
            receiver_authorizer=self.operator.address,
            token=str(self.token.address),
            withdraw_delay=DAY,
            salt=number.to_bytes(32, "big"),
        )
        return replace(usual, **changes)

    def id(self, config: ChannelConfig) -> bytes:
        return channel_id(CHAIN_ID, config, str(self.channels.address))

    # ------------------------------------------------------------------ money in

    def paper(self, config: ChannelConfig, amount: int, **changes: Any) -> bytes:
        """What the collector needs for a deposit, signed by the payer."""
        self.salts += 1
        paper = DepositAuthorization(
            **{"valid_after": 0, "valid_before": FAR, "salt": self.salts} | changes
        )
        message = paper.message(self.id(config), config.payer, amount, str(self.collector.address))
        domain = Domain(CHAIN_ID, config.token, "Test Dollar", "1")
        return paper.collector_data(sign(domain, message, self.payer))

    def deposit(self, config: ChannelConfig, amount: int = DEPOSIT) -> ChannelConfig:
        """Put a deposit into a channel, sent by a stranger; the channel."""
        data = self.paper(config, amount)
        self.channels.deposit(
            config.abi_tuple(),
            amount,
            self.collector.address,
            data,
            sender=self.stranger.address,
        )
        return config

    def opened(self, number: int = 0, amount: int = DEPOSIT) -> ChannelConfig:
        """The usual channel `number`, with a deposit."""
        return self.deposit(self.config(number), amount)

    # ------------------------------------------------------------------ signatures

    def row(
        self,
        config: ChannelConfig,
        total: int,
        ceiling: int | None = None,
        signer: LocalAccount | None = None,
    ) -> VoucherClaim:
        """A row that claims `total` by a voucher over `ceiling`, or over as much."""
        most = total if ceiling is None else ceiling
        voucher = Voucher(self.id(config), most)
        signature = sign(self.domain, voucher, signer or self.payer_key)
        return VoucherClaim(config, most, signature, total)

    def word_over(self, rows: Sequence[VoucherClaim], signer: LocalAccount | None = None) -> bytes:
        """The receiver authorizer's signature over a batch."""
        batch = claim_batch(CHAIN_ID, rows, str(self.channels.address))
        return sign(self.domain, batch, signer or self.operator)

    def refund_word(
        self,
        config: ChannelConfig,
        amount: int,
        nonce: int,
        signer: LocalAccount | None = None,
    ) -> bytes:
        """The receiver authorizer's signature over a refund."""
        return sign(self.domain, Refund(self.id(config), nonce, amount), signer or self.operator)

    # ------------------------------------------------------------------ calls

    def claim(self, *rows: VoucherClaim, by: LocalAccount | None = None) -> None:
        """Claim rows, by default as the operator."""
        sender = (by or self.operator).address
        self.channels.claim([row.abi_tuple() for row in rows], sender=sender)

    def withdraw(self, config: ChannelConfig, amount: int) -> None:
        """The payer announces a withdrawal."""
        self.channels.initiateWithdraw(config.abi_tuple(), amount, sender=self.payer.address)

    # ------------------------------------------------------------------ what is there

    def held(self, config: ChannelConfig) -> tuple[int, int]:
        """Balance and claimed of a channel."""
        balance, claimed = self.channels.channels(self.id(config))
        return int(balance), int(claimed)

    def received(self) -> tuple[int, int]:
        """What the receiver has claimed, and what of it was settled."""
        claimed, settled = self.channels.receivers(self.receiver.address, self.token.address)
        return int(claimed), int(settled)

    def pending(self, config: ChannelConfig) -> tuple[int, int]:
        """Amount and time of a channel's withdrawal."""
        amount, since = self.channels.pendingWithdrawals(self.id(config))
        return int(amount), int(since)

    def balance(self, account: LocalAccount | Contract) -> int:
        return int(self.token.balanceOf(account.address))


def lay() -> Ground:
    """Deploy the contracts; the payer holds 1,000 dollars."""
    channels = deployer_of("Channels").deploy()
    collector = deployer_of("testnet/ERC3009DepositCollector").deploy(channels.address)
    token = deployer_of("testnet/PaymentToken").deploy()
    ground = Ground(
        channels,
        collector,
        token,
        payer=account_of("channel payer"),
        payer_key=account_of("channel payer's key"),
        receiver=account_of("channel receiver"),
        operator=account_of("channel operator"),
        stranger=account_of("channel stranger"),
    )
    token.mint(ground.payer.address, 1_000 * USD)
    return ground


def reverts(reason: str) -> Any:
    """The call fails with exactly this reason."""
    return boa.reverts(reason)
