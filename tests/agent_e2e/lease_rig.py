# SPDX-License-Identifier: Apache-2.0
"""The leases module on the real contracts, with a runner that plays containers.

The agent's own parts follow the chain, sign and send; a test says when a cycle runs and how time
passes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.app import DATABASE
from provider_agent.core.context import make_context
from provider_agent.core.head import PinnedHead
from provider_agent.core.health import Health
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Cycle
from provider_agent.core.pools import make_pool, make_visitor_pool
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.server import ApiServer
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.module import LeasesModule
from provider_agent.modules.leases.repository import LeaseRow
from provider_agent.settings import validate
from provider_agent.store import IntentState
from provider_agent.tx.keys import OperatorKey
from scripts.market.ports import free_port
from teraproof.protocol import lease_terms, messages, siwe
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.documents import spec
from tests.agent.stores import fresh_store
from tests.agent_e2e.chain import TPF, USD, Contract, Deployment
from tests.agent_e2e.played_runner import PlayedRunner

_ports = itertools.count(20_000)


class LeaseRig:
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
        self.deployment, self.anvil, self.folder = deployment, deployment.anvil, folder
        self.owner, self.operator = Account.create(), Account.create()
        self.tenant: LocalAccount = Account.create()
        self.stranger: LocalAccount = Account.create()
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
        self._register()

    def _register(self) -> None:
        staking, token = self.deployment.staking, self.deployment.token
        payment, bank = self.deployment.payment, self.deployment.bank
        for account in (self.owner, self.tenant, self.operator, self.stranger):
            self.anvil.set_balance(account.address, 100 * 10**18)
        domain = messages.Domain(self.anvil.chain_id, staking.address)
        consent = messages.OperatorConsent(self.owner.address, self.operator.address, 0, 2**63)
        signature = messages.sign(domain, consent, self.operator)
        self.deployment.transact(
            token.call(bank, "transfer", self.owner.address, 10**6 * TPF),
            payment.call(self.tenant, "mint", self.tenant.address, 10**6 * USD),
            payment.call(self.tenant, "approve", self.leases.address, 2**256 - 1),
        )
        self.deployment.transact(
            staking.call(
                self.owner, "register", self.operator.address, self.owner.address, 1000,
                10**6 * TPF, 10**7 * TPF, f"http://127.0.0.1:{next(_ports)}", consent.nonce,
                consent.expires, signature,
            ),
            token.call(self.owner, "approve", staking.address, 2**256 - 1),
            staking.call(self.owner, "delegate", self.owner.address, 10**6 * TPF),
        )  # fmt: skip

    # ------------------------------------------------------------------ the agent

    def start(self) -> LeaseRig:
        """A new process over the same files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = validate(
            {
                "chain": {
                    "rpc_urls": [self.anvil.url],
                    "chain_id": self.anvil.chain_id,
                    "staking": self.deployment.staking.address,
                    "leases": self.leases.address,
                    "confirmations": 0,
                    "reorg_window": 32,
                    "poll_seconds": 0.01,
                    "clock_margin_seconds": 10**9,
                    "block_seconds": 1,
                    "coin_price": self.coin_price,
                    "strangers_requests_per_second": 1_000,
                },
                "operator": {},
                "agent": {"data_dir": self.folder},
                "runner": {"disk_reserve_mb": 0, "memory_reserve_mb": 0},
                "leases": self.asked,
            }
        )
        self.pool = make_pool(self.settings)
        self.visitors = make_visitor_pool(self.settings)
        self.store = fresh_store(self.folder / DATABASE)
        self.context = make_context(
            self.settings, OperatorKey(self.operator), Metrics(), self.pool, self.visitors,
            self.store,
        )  # fmt: skip
        made = engine.make_lease_runner
        engine.make_lease_runner = lambda settings, operator: self.runner
        try:
            built = LeasesModule.build(self.context)
        finally:
            engine.make_lease_runner = made
        assert built is not None
        self.module = built
        self.context.feed.follow(built.contracts())
        self.context.newest.hurried = True
        self.head = PinnedHead(self.pool, 0)
        self.context.sender.start(adopt=True)
        self.module.start()
        return self

    def stop(self) -> None:
        """The process ends; containers go on."""
        self.module.close()
        self.store.close()
        self.pool.close()
        self.visitors.close()

    def restart(self, *, lost: bool = False) -> None:
        """Another process; `lost`: without the database."""
        self.stop()
        if lost:
            for path in self.folder.glob("*.sqlite*"):
                path.unlink()
        self.start()

    def cycle(self, times: int = 1) -> None:
        """What the loop does, without its way with errors."""
        context = self.context
        for _ in range(times):
            self.anvil.step(1)
            head = self.pool.head()
            context.newest._head = head
            context.sender.tick()
            context.pace.see(head)
            block = self.head.pin(head)
            context.feed.poll(block, self.module.consume)
            context.sender.reserve.look(block)
            provider = context.standing.look(block)
            self.module.reconcile(Cycle(block, head, provider))
            context.sender.tick()

    def until(self, look: Any, what: str, cycles: int = 60) -> Any:
        """Cycles until something is so."""
        for _ in range(cycles):
            found = look()
            if found:
                return found
            self.cycle()
        raise AssertionError(f"no {what}: {self.row()}, {self.intents()}")

    def intents(self) -> list[tuple[str, str]]:
        """Action and state of all intents, oldest first."""
        rows = sorted(self.store.intents_in(*IntentState), key=lambda one: one.id)
        return [(one.key.action, one.state.value) for one in rows]

    def sent(self, action: str) -> int:
        """How many transactions of a kind were sent."""
        gone = ("signed", "sent", "mined", "final")
        return sum(name.split("-")[0] == action and state in gone for name, state in self.intents())

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The agent's API over HTTP; its URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        deps = ApiDeps(
            auth=Authenticator(
                self.store,
                siwe.Expected.at(url, self.anvil.chain_id, ()),
                lambda to, call: self.visitors.eth_call(to, call, "latest"),
            ),
            provider=dict,
            health=Health(lambda: None, 30, time.monotonic),
            metrics=self.context.metrics,
        )
        server = ApiServer(create_app(deps, [self.module.operations]), "127.0.0.1", port)
        server.start()
        try:
            yield url
        finally:
            server.stop()

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
