# SPDX-License-Identifier: Apache-2.0
"""The contracts as a public network would have them, with providers and tenants to measure."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from benchmarks.chain import Chain
from provider_agent.protocol.messages import Domain, OperatorConsent, sign
from provider_agent.protocol.terms import ZERO_ADDRESS

DAY = 86_400
TPF = 10**18
DOLLAR = 10**6
FOREVER = 2**64 - 1
UNLIMITED = 2**256 - 1
LOCK, SLASH, REWARD = 1, 2, 4  # flags of IStaking.Permission

UNBONDING = 14 * DAY
MAX_LOCK = 60 * DAY
FEE_BPS = 250
WINDOW = 3_600
OPEN_MARGIN = 600
ENDPOINT = "https://provider.example.org:8443"

OWN_STAKE = 10_000 * TPF
DELEGATED = 2_500 * TPF


@dataclass(frozen=True)
class Provider:
    """A provider's three accounts."""

    owner: LocalAccount
    operator: LocalAccount
    payout: LocalAccount


class Market:
    """Token, Timelock, Staking and Jobs, sealed, with a manager account beside Jobs."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.deployer = chain.account("deployer")
        self.guardian = chain.account("guardian")
        self.treasury = chain.account("treasury")
        self.manager = chain.account("manager")
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
        self.dollar = chain.deploy(self.deployer, "mocks/PaymentToken")
        self.jobs = self._jobs(self.dollar)
        # The same money rules over a token behind a proxy.
        logic = chain.deploy(self.deployer, "mocks/ProxiedTokenLogic")
        proxy = chain.deploy(
            self.deployer, "mocks/ProxiedToken", logic.address, self.guardian.address
        )
        self.proxied_dollar = chain.at(proxy.address, "mocks/ProxiedTokenLogic")
        self.proxied_jobs = self._jobs(self.proxied_dollar)
        for manager in (self.jobs.address, self.proxied_jobs.address):
            chain.send(self.deployer, self.staking, "setup_manager", manager, LOCK)
        chain.send(
            self.deployer,
            self.staking,
            "setup_manager",
            self.manager.address,
            LOCK | SLASH | REWARD,
        )
        chain.send(self.deployer, self.staking, "seal")
        self.holder(self.manager, 10**6 * TPF)

    def _jobs(self, dollar: Contract) -> Contract:
        return self.chain.deploy(
            self.deployer,
            "Jobs",
            dollar.address,
            self.staking.address,
            ZERO_ADDRESS,
            self.timelock.address,
            self.guardian.address,
            self.treasury.address,
            FEE_BPS,
            WINDOW,
            OPEN_MARGIN,
            DAY,
            5_000,
            1_000,
        )

    def domain(self, contract: Contract) -> Domain:
        """Where signatures for a contract count."""
        return Domain(self.chain.web3.eth.chain_id, contract.address)

    def holder(self, account: LocalAccount, amount: int) -> LocalAccount:
        """Give an account TPF that Staking may pull."""
        send = self.chain.send
        send(self.deployer, self.token, "transfer", account.address, amount)
        send(account, self.token, "approve", self.staking.address, UNLIMITED)
        return account

    def tenant(self, role: str, jobs: Contract, dollar: Contract) -> LocalAccount:
        """An account with dollars that a Jobs contract may pull."""
        account = self.chain.account(role)
        self.chain.send(self.deployer, dollar, "mint", account.address, 10**6 * DOLLAR)
        self.chain.send(account, dollar, "approve", jobs.address, UNLIMITED)
        return account

    def register(self, name: str) -> tuple[Provider, int]:
        """Register a provider; returns it and the gas of its transaction."""
        chain = self.chain
        provider = Provider(
            *(chain.account(f"{name} {r}") for r in ("owner", "operator", "payout"))
        )
        consent = OperatorConsent(provider.owner.address, provider.operator.address, FOREVER)
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
