# SPDX-License-Identifier: Apache-2.0
"""A market of jobs as a public network would have it, with tenants to measure."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from benchmarks.chain import Chain
from benchmarks.network import DAY, LOCK, REWARD, SLASH, TPF, UNLIMITED, Network
from provider_agent.protocol.terms import ZERO_ADDRESS

DOLLAR = 10**6
FEE_BPS = 250
WINDOW = 3_600
OPEN_MARGIN = 600


class Market(Network):
    """A network with Jobs, in two payment tokens, and a manager account beside them."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.guardian = chain.account("guardian")
        self.treasury = chain.account("treasury")
        self.manager = chain.account("manager")
        self.dollar = chain.deploy(self.deployer, "testnet/PaymentToken")
        self.jobs = self._jobs(self.dollar)
        # The same money rules over a token behind a proxy.
        logic = chain.deploy(self.deployer, "mocks/ProxiedTokenLogic")
        proxy = chain.deploy(
            self.deployer, "mocks/ProxiedToken", logic.address, self.guardian.address
        )
        self.proxied_dollar = chain.at(proxy.address, "mocks/ProxiedTokenLogic")
        self.proxied_jobs = self._jobs(self.proxied_dollar)
        self.seal(
            {
                self.jobs.address: LOCK,
                self.proxied_jobs.address: LOCK,
                self.manager.address: LOCK | SLASH | REWARD,
            }
        )
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

    def tenant(self, role: str, jobs: Contract, dollar: Contract) -> LocalAccount:
        """An account with dollars that a Jobs contract may pull."""
        account = self.chain.account(role)
        self.chain.send(self.deployer, dollar, "mint", account.address, 10**6 * DOLLAR)
        self.chain.send(account, dollar, "approve", jobs.address, UNLIMITED)
        return account
