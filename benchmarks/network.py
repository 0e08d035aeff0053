# SPDX-License-Identifier: Apache-2.0
"""Every contract as the plan for Sepolia has it, with providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from benchmarks.chain import BenchmarkError, Chain
from scripts.deployment import plan as plans
from scripts.deployment.artifacts import ROOT, SOURCES, compile_all
from scripts.deployment.transactions import Rollout
from teraproof.errors import CommandError
from teraproof.protocol.messages import Domain, OperatorConsent, sign

PLAN = ROOT / "deployments" / "params" / "sepolia.yaml"
DAY = 86_400
TPF = 10**18
FOREVER = 2**64 - 1
UNLIMITED = 2**256 - 1
LOCK, SLASH, REWARD = 1, 2, 4  # flags of IStaking.Permission

ENDPOINT = "https://provider.example.org:8443"

OWN_STAKE = 10_000 * TPF
DELEGATED = 2_500 * TPF
SHARES = 1_000  # that a TPF wei buys


def path_of(name: str) -> str:
    """A contract by its source below contracts/, without the suffix."""
    return SOURCES[name].removesuffix(".vy")


@dataclass(frozen=True)
class Provider:
    """A provider's three accounts."""

    owner: LocalAccount
    operator: LocalAccount
    payout: LocalAccount


class Network:
    """What every market stands on. Whoever builds on it ends its set-up with `seal`.

    `changes` (contract to arguments) go before what the plan says.
    """

    def __init__(self, chain: Chain, changes: Mapping[str, Mapping[str, object]]) -> None:
        self.chain = chain
        self.deployer = chain.account("deployer")
        artifacts = compile_all()
        try:
            self.plan = plans.amended(plans.load(PLAN, artifacts), changes)
        except CommandError as error:
            raise BenchmarkError(str(error)) from error
        self._rollout = Rollout(self.plan, artifacts, self.deployer.address, self._send)
        self._rollout.deploy()
        contracts = {
            name: chain.at(self._rollout.addresses[name], path_of(name)) for name in plans.CONTRACTS
        }
        self.timelock, self.token = contracts["Timelock"], contracts["Token"]
        self.dollar, self.staking = contracts["PaymentToken"], contracts["Staking"]
        self.benchmark, self.emissions = contracts["Benchmark"], contracts["Emissions"]
        self.disputes, self.jobs = contracts["Disputes"], contracts["Jobs"]
        self.leases = contracts["Leases"]

    def deploy(self, sender: LocalAccount, name: str, **changes: object) -> Contract:
        """Deploy one more of a kind, as the plan says but for the changes."""
        known = {**self.plan.resolve(name, self._rollout.addresses), **changes}
        return self.chain.deploy(sender, path_of(name), *known.values())

    def argument(self, contract: str, name: str) -> int:
        """A number with which a contract was deployed."""
        return int(str(self.plan.arguments[contract][name]))

    def seal(self, managers: Mapping[str, int]) -> None:
        """Wire as the plan does, name further managers, and end the set-up."""
        self._rollout.wire(managers)

    def _send(self, label: str, to: str | None, data: bytes) -> str:
        receipt = self.chain.transact(self.deployer, label, to, "0x" + data.hex())
        return str(receipt["contractAddress"] or "")

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
        send(delegator, staking, "undelegate", pool, DELEGATED * SHARES // 4)
        return provider
