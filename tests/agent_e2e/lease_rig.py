# SPDX-License-Identifier: Apache-2.0
"""The leases module on the real contracts, with a runner that plays containers.

The agent's own parts follow the chain, sign and send; a test says when a cycle runs and how time
passes. What the runner has outlives the agent, like containers do.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from provider_agent.errors import RunnerError
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.server import ApiServer
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.module import LeasesModule
from provider_agent.modules.leases.repository import LeaseRow
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import (
    Arrival,
    ContainerState,
    Credentials,
    ImageRoom,
    Lease,
    LeaseState,
    Port,
    Status,
)
from provider_agent.settings import validate
from provider_agent.store import IntentState
from provider_agent.tx.keys import OperatorKey
from scripts.market.ports import free_port
from teraproof.errors import Refused
from teraproof.protocol import lease_terms, messages, siwe
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.documents import PINNED, spec
from tests.agent.stores import fresh_store
from tests.agent_e2e.chain import TPF, USD, Contract, Deployment

_ports = itertools.count(20_000)


class Printed:
    """What a container has printed."""

    def __init__(self, pieces: list[tuple[int, bytes]]) -> None:
        self._pieces = iter(pieces)

    def __iter__(self) -> Printed:
        return self

    def __next__(self) -> tuple[int, bytes]:
        return next(self._pieces)

    def close(self) -> None:
        """Nothing holds it open."""


@dataclass
class PlayedRunner:
    """Containers that run when they are told to, and die when a test says so."""

    leases: dict[str, Lease] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    starts: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    logins: dict[str, dict[str, Credentials]] = field(default_factory=dict)
    away: bool = False
    unfit: str = ""
    """Why nothing can be prepared; "" when it can."""
    full: bool = False
    """Whether no image that is fetched now fits on the disk."""
    registry: threading.Event = field(default_factory=threading.Event)
    """Set when the registry that wants credentials sends all of an image; else it drips."""
    coming: set[str] = field(default_factory=set)
    """What is fetched from it at this moment."""
    given_up: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)
    """Where a port of a container really is."""

    def __post_init__(self) -> None:
        self.registry.set()

    def _answer(self) -> None:
        if self.away:
            raise RunnerError("the engine does not answer", Code.CONTAINERS_AWAY)

    def check(self) -> str:
        return "played"

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        self._answer()
        return PINNED

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        self._answer()
        if self.unfit:
            raise Refused(Code.IMAGE_UNFIT, self.unfit)
        self.fetched += [service.image for service in lease.services]

    def arrival(self, lease_id: str) -> Arrival | None:
        if lease_id in self.coming:
            return Arrival(1, 0, under_way=True)
        return Arrival(1, 1) if lease_id in self.leases else None

    def give_up(self, lease_id: str) -> None:
        self.given_up.add(lease_id)

    def close(self) -> None:
        self.given_up |= self.coming

    def image_room(self) -> ImageRoom:
        return ImageRoom()

    def free_images(self, size: int) -> int:
        return 0

    def needs(self, lease: Lease) -> Taken:
        each = [service for service, _ in lease.parts]
        return Taken(sum(one.memory for one in each), sum(one.storage for one in each), len(each))

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        self._answer()
        if self.unfit:
            raise Refused(Code.IMAGE_UNFIT, self.unfit)
        if self.full:
            raise RunnerError("there is no room for an image", Code.DISK_FULL)
        if credentials:
            self._fetch(lease.lease_id)
        self.logins[lease.lease_id] = dict(credentials or {})
        self.leases[lease.lease_id] = lease

    def _fetch(self, lease_id: str) -> None:
        self.given_up.discard(lease_id)
        self.coming.add(lease_id)
        try:
            while not self.registry.wait(0.02):
                if lease_id in self.given_up:
                    raise RunnerError("it was given up", Code.IMAGE_GIVEN_UP)
        finally:
            self.coming.discard(lease_id)

    def prepared(self, lease_id: str) -> Lease | None:
        return self.leases.get(lease_id)

    def start(self, lease_id: str) -> None:
        self._answer()
        if lease_id not in self.leases:
            raise RunnerError("prepare the lease again")
        if lease_id not in self.started:
            self.starts.append(lease_id)
        self.started.add(lease_id)

    def state(self, lease_id: str) -> LeaseState:
        self._answer()
        parts = self.leases[lease_id].parts
        runs = lease_id in self.started and lease_id not in self.dead
        status = Status.RUNNING if runs else Status.EXITED
        return LeaseState(
            lease_id,
            lease_id in self.started,
            tuple(ContainerState(service.name, n, status) for service, n in parts),
        )

    def stop(self, lease_id: str) -> None:
        self.started.discard(lease_id)

    def remove(self, lease_id: str) -> None:
        self._answer()
        self.leases.pop(lease_id, None)
        self.started.discard(lease_id)
        self.removed.append(lease_id)

    def list(self) -> tuple[str, ...]:
        self._answer()
        return tuple(sorted({*self.leases, *self.coming}))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        self._answer()
        for name in set(self.leases) - set(wanted):
            self.remove(name)
        return {name: self.state(name) for name in wanted if name in self.leases}

    def changes(self) -> Iterator[str]:
        return iter(())

    def logs(self, lease_id: str, *_: Any, **__: Any) -> Printed:
        return Printed([(1, f"printed by {lease_id[:8]}\n".encode())])

    def exec(self, *_: Any, **__: Any) -> Any:
        raise RunnerError("not played")

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        return "127.0.0.1", self.ports.get(port.number, port.number)


class LeaseRig:
    """One provider with its agent, and one tenant, on a deployment with others."""

    def __init__(
        self, deployment: Deployment, folder: Path, containers: Any = None, **leases: Any
    ) -> None:
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
