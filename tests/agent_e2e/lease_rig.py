# SPDX-License-Identifier: Apache-2.0
"""The leases module on the real contracts, with a runner that plays containers.

The agent's own parts follow the chain, sign and send; a test says when a cycle runs and how time
passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.core.module import Context
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.module import LeasesModule
from provider_agent.modules.leases.repository import LeaseRow
from teraproof.protocol import lease_terms
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.documents import spec
from tests.agent_e2e.chain import TPF, Contract, Deployment
from tests.agent_e2e.module_rig import ModuleRig
from tests.agent_e2e.played_runner import PlayedRunner


class LeaseRig(ModuleRig):
    """One provider with its agent, and one tenant, on a deployment with others."""

    def __init__(
        self,
        deployment: Deployment,
        folder: Path,
        containers: Any = None,
        coin_price: str = "10000",
        **leases: Any,
    ) -> None:
        self.coin_price = coin_price
        self.runner: Any = containers or PlayedRunner()
        self.leases: Contract = deployment.leases
        self.asked = {
            "core_price": "3.6",
            "down_seconds": 0,
            "cpus": 8,
            "notice_seconds": 60,
            "ready_seconds": 60,
            "min_seconds": 60,
            "data_host": "127.0.0.1",
            "data_port": 0,
            **leases,
        }
        super().__init__(deployment, folder)
        payment = deployment.payment
        deployment.transact(payment.call(self.tenant, "approve", self.leases.address, 2**256 - 1))

    # ------------------------------------------------------------------ the agent

    def wanted(self) -> dict[str, Any]:
        """See `ModuleRig`."""
        return {"chain": {"leases": self.leases.address}, "leases": self.asked}

    def build(self, context: Context) -> LeasesModule | None:
        """See `ModuleRig`."""
        made = engine.make_lease_runner
        engine.make_lease_runner = lambda settings, operator: self.runner
        try:
            return LeasesModule.build(context)
        finally:
            engine.make_lease_runner = made

    def start(self) -> LeaseRig:
        """A new process over the same files."""
        built = self.begin()
        assert isinstance(built, LeasesModule)
        self.module = built
        return self

    def restart(self, *, lost: bool = False) -> None:
        """Another process; `lost`: without the database."""
        self.stop()
        if lost:
            for path in self.folder.glob("*.sqlite*"):
                path.unlink()
        self.start()

    def told(self) -> object:
        """See `ModuleRig`."""
        return self.row()

    # ------------------------------------------------------------------ the tenant

    def upload(self, one: LeaseSpec | None = None) -> LeaseSpec:
        """Send a specification."""
        one = one or spec()
        self.module._api.specs.take(self.tenant.address, one.digest(), one.canonical())
        return one

    def quote(self, one: LeaseSpec | None = None, **changes: Any) -> SignedLeaseQuote:
        """Send a specification and ask for a quote."""
        one = self.upload(one)
        request = QuoteRequest(one.digest(), **{"term": 3_600, **changes})
        return self.module._api.quotes.issue(self.tenant.address, request)

    def hire(self, signed: SignedLeaseQuote, seconds: int = 3_600) -> LeaseTerms:
        """Hire by a quote, with a deposit for a number of seconds."""
        deposit = signed.quote.rate * seconds
        receipt = self.leases.send(
            self.tenant, "hire", signed.quote.abi_tuple(), signed.signature, deposit, False
        )
        return self._terms(receipt, signed.quote.order(deposit))

    def open(self, one: LeaseSpec, **changes: Any) -> LeaseTerms:
        """Open a lease for everybody."""
        values: dict[str, Any] = {
            "spec": one.digest(),
            "start_rate": 1,
            "max_rate": 10_000,
            "deposit": 10_000 * 3_600,
            "collateral": TPF,
            "ready_within": 120,
            "term": 3_600,
            "notice": 30,
            "auction": 100,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": bytes(32),
            "nonce": int.from_bytes(Account.create().key[:8], "big"),
            **changes,
        }
        order = LeaseOrder(**values)
        receipt = self.leases.send(self.tenant, "open", order.abi_tuple(), False)
        return self._terms(receipt, order)

    def _terms(self, receipt: dict[str, Any], order: LeaseOrder) -> LeaseTerms:
        block = self.anvil.block(receipt["blockNumber"])
        self.terms = LeaseTerms(
            requester=self.tenant.address,
            posted_at=int(block["timestamp"], 16),
            grace=int(self.leases.read("challenge_window")),
            fee_bps=int(self.leases.read("fee_bps")),
            paused=int(self.leases.read("paused_seconds")),
            order=order,
        )
        assert self.state().status is not LeaseStatus.NONE, "the terms are those of the chain"
        return self.terms

    def active(self, one: LeaseSpec | None = None, **changes: Any) -> LeaseTerms:
        """A lease that runs."""
        terms = self.hire(self.quote(one, **changes), min(3_600, changes.get("term", 3_600)))
        self.until(lambda: self.status() is LeaseStatus.ACTIVE, "ready lease")
        return terms

    def call(self, account: LocalAccount, function: str, *arguments: Any) -> None:
        """A call about the lease of the test."""
        self.leases.send(account, function, self.terms.abi_tuple(), *arguments)

    # ------------------------------------------------------------------ looking

    def state(self, terms: LeaseTerms | None = None) -> lease_terms.LeaseState:
        """What the chain has of a lease."""
        lease = (terms or self.terms).lease_id()
        return lease_terms.lease_state_of(int(self.leases.read("state", lease)))

    def status(self, terms: LeaseTerms | None = None) -> LeaseStatus:
        """The status on chain."""
        return self.state(terms).status

    def marks(self, terms: LeaseTerms | None = None) -> lease_terms.LeaseMarks:
        """What else the chain has of it."""
        lease = (terms or self.terms).lease_id()
        return lease_terms.lease_marks_of(int(self.leases.read("marks", lease)))

    def row(self, terms: LeaseTerms | None = None) -> LeaseRow | None:
        """What the agent has of it."""
        found = terms or getattr(self, "terms", None)
        return None if found is None else self.module._records.lease(found.lease_id())

    @property
    def name(self) -> str:
        """What the runner calls the lease of the test."""
        return self.terms.lease_id().hex()

    def seconds(self) -> int:
        """Seconds that rent is due for, for the lease of the test."""
        return int(self.leases.read("account", self.terms.abi_tuple())[0])

    def locked(self) -> int:
        """TPF wei of the owner that are locked."""
        return int(self.deployment.staking.read("pool", self.owner.address)[1])


@contextmanager
def rig(
    deployment: Deployment, folder: Path, containers: Any = None, **leases: Any
) -> Iterator[LeaseRig]:
    """An agent at work, with played containers or with those of a runner."""
    made = LeaseRig(deployment, folder, containers, **leases)
    made.start()
    try:
        yield made
    finally:
        made.stop()
