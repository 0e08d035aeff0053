# SPDX-License-Identifier: Apache-2.0
"""What payment channels cost: deposits, claims of one and of ten channels, payouts, exits.

Each cycle opens ten channels of one payer with one receiver. The first pays for the receiver's slot
in the contract and for its balance of the token; from the second on they are there.

`_execution` is what a transaction costs less its base and its calldata. The snapshots of x402's own
contract count that: its first claim needs 40,252 gas, its first claim of ten channels 192,043.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from benchmarks.chain import CHAIN_ID, Chain
from benchmarks.market import DOLLAR
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import DAY
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

CHANNELS = 10
DEPOSIT = 10 * DOLLAR
FOREVER = 2**40
# What a transaction costs before anything runs.
BASE, BYTE, ZERO_BYTE = 21_000, 16, 4


@dataclass
class Till:
    """One payer, and one receiver with its operator."""

    chain: Chain

    def __post_init__(self) -> None:
        chain, deployer = self.chain, self.chain.account("deployer")
        self.dollar = chain.deploy(deployer, "testnet/PaymentToken")
        self.channels = chain.deploy(deployer, "Channels")
        collector = chain.deploy(deployer, "testnet/ERC3009DepositCollector", self.channels.address)
        self.collector = str(collector.address)
        self.payer, self.key = chain.account("channel payer"), chain.account("channel key")
        self.receiver = chain.account("channel receiver")
        self.operator = chain.account("channel operator")
        self.domain = channels_domain(CHAIN_ID, str(self.channels.address))
        chain.send(deployer, self.dollar, "mint", self.payer.address, 10**6 * DOLLAR)

    def config(self, number: int) -> ChannelConfig:
        """A channel; its salt is random, as clients make it."""
        return ChannelConfig(
            payer=self.payer.address,
            payer_authorizer=self.key.address,
            receiver=self.receiver.address,
            receiver_authorizer=self.operator.address,
            token=str(self.dollar.address),
            withdraw_delay=DAY,
            salt=keccak(text=f"channel {number}"),
        )

    def id(self, config: ChannelConfig) -> bytes:
        """The channel's id under this contract."""
        return channel_id(CHAIN_ID, config, self.domain.contract)

    def deposit(self, config: ChannelConfig, number: int) -> int:
        """A deposit by EIP-3009, sent by the operator; returns the gas."""
        salt = int.from_bytes(keccak(text=f"deposit {number}"), "big")
        paper = DepositAuthorization(0, FOREVER, salt)
        message = paper.message(self.id(config), self.payer.address, DEPOSIT, self.collector)
        token = Domain(CHAIN_ID, config.token, "Test Dollar", "1")
        data = paper.collector_data(sign(token, message, self.payer))
        return self.by_operator("deposit", config.abi_tuple(), DEPOSIT, self.collector, data)

    def by_operator(self, name: str, *arguments: object) -> int:
        """A call by the receiver authorizer; returns the gas."""
        return self.chain.send(self.operator, self.channels, name, *arguments)

    def by_payer(self, name: str, *arguments: object) -> int:
        """A call by the payer; returns the gas."""
        return self.chain.send(self.payer, self.channels, name, *arguments)

    def rows(self, configs: list[ChannelConfig], total: int) -> list[VoucherClaim]:
        """A claim of `total` from each channel."""
        return [
            VoucherClaim(
                config, total, sign(self.domain, Voucher(self.id(config), total), self.key), total
            )
            for config in configs
        ]

    def execution(self, gas: int, configs: list[ChannelConfig], total: int) -> int:
        """What is left of the gas of a claim without the transaction's base and its calldata."""
        rows = [row.abi_tuple() for row in self.rows(configs, total)]
        data = bytes.fromhex(self.channels.encode_abi("claim", args=[rows])[2:])
        return gas - BASE - sum(BYTE if byte else ZERO_BYTE for byte in data)

    def claim(self, configs: list[ChannelConfig], total: int) -> int:
        """Claim by the operator; returns the gas."""
        return self.by_operator("claim", [row.abi_tuple() for row in self.rows(configs, total)])

    def claim_relayed(self, configs: list[ChannelConfig], total: int) -> int:
        """Claim by the operator's signature, sent by the payer; returns the gas."""
        rows = self.rows(configs, total)
        word = sign(self.domain, claim_batch(CHAIN_ID, rows, self.domain.contract), self.operator)
        return self.by_payer("claimWithSignature", [row.abi_tuple() for row in rows], word)

    def refund_relayed(self, config: ChannelConfig, amount: int, nonce: int) -> int:
        """Refund by the operator's signature, sent by the payer; returns the gas."""
        word = sign(self.domain, Refund(self.id(config), nonce, amount), self.operator)
        return self.by_payer("refundWithSignature", config.abi_tuple(), amount, nonce, word)


def measure(chain: Chain, meter: Meter) -> None:
    """Every operation, three times over."""
    till = Till(chain)
    for cycle in range(CYCLES):
        first = CHANNELS * cycle
        configs = [till.config(first + number) for number in range(CHANNELS)]
        one = configs[0]
        deposits = [till.deposit(config, first + n) for n, config in enumerate(configs)]
        meter.note("channels_deposit", deposits[0])
        meter.note("channels_top_up", till.deposit(one, 1_000 + cycle))
        with chain.undone():
            ten = till.claim(configs, 2 * DOLLAR)
        meter.note("channels_claim_ten", ten)
        meter.note("channels_claim_ten_execution", till.execution(ten, configs, 2 * DOLLAR))
        single = till.claim(configs[:1], DOLLAR)
        meter.note("channels_claim_one", single)
        meter.note("channels_claim_one_execution", till.execution(single, configs[:1], DOLLAR))
        till.claim(configs, 2 * DOLLAR)
        meter.note("channels_claim_one_relayed", till.claim_relayed(configs[:1], 3 * DOLLAR))
        meter.note("channels_claim_ten_relayed", till.claim_relayed(configs, 4 * DOLLAR))
        meter.note(
            "channels_settle",
            till.by_operator("settle", till.receiver.address, one.token),
        )
        meter.note("channels_refund", till.by_operator("refund", one.abi_tuple(), DOLLAR))
        meter.note("channels_refund_relayed", till.refund_relayed(one, DOLLAR, 1))
        begun = till.by_payer("initiateWithdraw", one.abi_tuple(), DOLLAR)
        meter.note("channels_withdraw_begin", begun)
        chain.pass_time(DAY)
        meter.note("channels_withdraw_end", till.by_payer("finalizeWithdraw", one.abi_tuple()))
