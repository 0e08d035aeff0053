# SPDX-License-Identifier: Apache-2.0
"""Token, Timelock and Staking as a public network would have them, with providers."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from benchmarks.chain import Chain
from provider_agent.protocol.messages import Domain, OperatorConsent, sign
from provider_agent.protocol.terms import ZERO_ADDRESS

DAY = 86_400
TPF = 10**18
FOREVER = 2**64 - 1
UNLIMITED = 2**256 - 1
LOCK, SLASH, REWARD = 1, 2, 4  # flags of IStaking.Permission

UNBONDING = 14 * DAY
MAX_LOCK = 60 * DAY
ENDPOINT = "https://provider.example.org:8443"

OWN_STAKE = 10_000 * TPF
DELEGATED = 2_500 * TPF


@dataclass(frozen=True)
class Provider:
    """A provider's three accounts."""

    owner: LocalAccount
    operator: LocalAccount
    payout: LocalAccount


class Network:
    """What every market stands on. Whoever builds on it ends its set-up with `seal`."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.deployer = chain.account("deployer")
        self.timelock = chain.deploy(
            self.deployer, "Timelock", DAY, [self.deployer.address], [ZERO_ADDRESS]
        )
        self.token = chain.deploy(
            self.deployer,
            "Token",
            self.timelock.address,
            10**9 * TPF,
            10**8 * TPF,
            self.deployer.address,
        )
        self.staking = chain.deploy(
            self.deployer,
            "Staking",
            self.token.address,
            self.timelock.address,
            UNBONDING,
            MAX_LOCK,
            7 * DAY,
        )

    def seal(self, managers: dict[str, int]) -> None:
        """Name the managers (address to permissions) and end the set-up."""
        for manager, permissions in managers.items():
            self.chain.send(self.deployer, self.staking, "setup_manager", manager, permissions)
        self.chain.send(self.deployer, self.staking, "seal")

    def domain(self, contract: Contract) -> Domain:
        """Where signatures for a contract count."""
        return Domain(self.chain.web3.eth.chain_id, contract.address)

    def holder(self, account: LocalAccount, amount: int) -> LocalAccount:
        """Give an account TPF that Staking may pull."""
        send = self.chain.send
        send(self.deployer, self.token, "transfer", account.address, amount)
        send(account, self.token, "approve", self.staking.address, UNLIMITED)
        return account

    def register(self, name: str) -> tuple[Provider, int]:
        """Register a provider; returns it and the gas of its transaction."""
        chain = self.chain
        provider = Provider(
            *(chain.account(f"{name} {r}") for r in ("owner", "operator", "payout"))
        )
        consent = OperatorConsent(provider.owner.address, provider.operator.address, 0, FOREVER)
        gas = chain.send(
            provider.owner,
            self.staking,
            "register",
            provider.operator.address,
            provider.payout.address,
            1_000,
            1_000 * TPF,
            5_000 * TPF,
            ENDPOINT,
            consent.nonce,
            FOREVER,
            sign(self.domain(self.staking), consent, provider.operator),
        )
        return provider, gas

    def provider(self, name: str) -> Provider:
        """A registered provider with own stake and two delegators, one of them leaving in part."""
        provider, _ = self.register(name)
        send, staking, pool = self.chain.send, self.staking, provider.owner.address
        self.holder(provider.owner, 2 * OWN_STAKE)
        send(provider.owner, staking, "delegate", pool, OWN_STAKE)
        for number in (1, 2):
            delegator = self.holder(self.chain.account(f"{name} delegator {number}"), 4 * DELEGATED)
            send(delegator, staking, "delegate", pool, DELEGATED)
        send(delegator, staking, "undelegate", pool, DELEGATED * 1_000 // 4)
        return provider
