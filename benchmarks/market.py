# SPDX-License-Identifier: Apache-2.0
"""A market of jobs as a public network would have it, with tenants to measure."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from benchmarks.chain import Chain
from benchmarks.network import LOCK, SLASH, TPF, UNLIMITED, Network
from teraproof.protocol.terms import ZERO_ADDRESS

DOLLAR = 10**6
WINDOW = 3_600


class Market(Network):
    """A network with Jobs, in two payment tokens, and a manager account."""

    def __init__(self, chain: Chain) -> None:
        self.guardian = chain.account("guardian")
        self.treasury = chain.account("treasury")
        self.manager = chain.account("manager")
        changes = {
            "scores": ZERO_ADDRESS,
            "initial_guardian": self.guardian.address,
            "treasury": self.treasury.address,
            "challenge_window": WINDOW,
        }
        rental = {
            "scores": ZERO_ADDRESS,
            "initial_guardian": self.guardian.address,
            "treasury": self.treasury.address,
        }
        super().__init__(chain, {"Jobs": changes, "Leases": rental})
        # The same money rules over a token behind a proxy.
        logic = chain.deploy(self.deployer, "mocks/ProxiedTokenLogic")
        proxy = chain.deploy(
            self.deployer, "mocks/ProxiedToken", logic.address, self.guardian.address
        )
        self.proxied_dollar = chain.at(proxy.address, "mocks/ProxiedTokenLogic")
        self.proxied_jobs = self.deploy(self.deployer, "Jobs", payment_token=proxy.address)
        self.seal({self.proxied_jobs.address: LOCK, self.manager.address: LOCK | SLASH})
        self.holder(self.manager, 10**6 * TPF)

    def tenant(self, role: str, jobs: Contract, dollar: Contract) -> LocalAccount:
        """An account with dollars that a Jobs contract may pull."""
        account = self.chain.account(role)
        self.chain.send(self.deployer, dollar, "mint", account.address, 10**6 * DOLLAR)
        self.chain.send(account, dollar, "approve", jobs.address, UNLIMITED)
        return account
