# SPDX-License-Identifier: Apache-2.0
"""One module of the agent on the real contracts, in this process.

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
from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.pools import make_pool, make_visitor_pool
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.server import ApiServer
from provider_agent.settings import validate
from provider_agent.store import IntentState
from provider_agent.tx.keys import OperatorKey
from scripts.market.ports import free_port
from teraproof.protocol import messages, siwe
from tests.agent.stores import fresh_store
from tests.agent_e2e.chain import TPF, USD, Deployment

_ports = itertools.count(20_000)


class ModuleRig:
    """One provider with its agent, and one tenant, on a deployment with others."""

    coin_price = "10000"

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment, self.anvil, self.folder = deployment, deployment.anvil, folder
        self.owner, self.operator = Account.create(), Account.create()
        self.tenant: LocalAccount = Account.create()
        self.stranger: LocalAccount = Account.create()
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

    # ------------------------------------------------------------------ what a rig brings

    def wanted(self) -> dict[str, Any]:
        """Sections of the settings besides the usual ones; `chain` adds to that one."""
        raise NotImplementedError

    def build(self, context: Context) -> Module | None:
        """The module."""
        raise NotImplementedError

    # ------------------------------------------------------------------ the agent

    def begin(self) -> Module:
        """A new process over the same files; the module that was built."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = self.wanted()
        self.settings = validate(
            {
                "chain": {
                    "rpc_urls": [self.anvil.url],
                    "chain_id": self.anvil.chain_id,
                    "staking": self.deployment.staking.address,
                    "confirmations": 0,
                    "reorg_window": 32,
                    "poll_seconds": 0.01,
                    "clock_margin_seconds": 10**9,
                    "block_seconds": 1,
                    # A test is as fast as the machine; its visitors are not what it tests.
                    "strangers_requests_per_second": 1_000,
                    "coin_price": self.coin_price,
                    **wanted.pop("chain", {}),
                },
                "operator": {},
                "agent": {"data_dir": self.folder},
                "runner": {"disk_reserve_mb": 0, "memory_reserve_mb": 0},
                **wanted,
            }
        )
        self.pool = make_pool(self.settings)
        self.visitors = make_visitor_pool(self.settings)
        self.store = fresh_store(self.folder / DATABASE)
        self.context = make_context(
            self.settings, OperatorKey(self.operator), Metrics(), self.pool, self.visitors,
            self.store,
        )  # fmt: skip
        built = self.build(self.context)
        assert built is not None
        self.base = built
        self.context.feed.follow(built.contracts())
        self.context.newest.hurried = True
        self.head = PinnedHead(self.pool, 0)
        self.context.sender.start(adopt=True)
        built.start()
        return built

    def stop(self) -> None:
        """The process ends; containers go on."""
        self.base.close()
        self.store.close()
        self.pool.close()
        self.visitors.close()

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
            context.feed.poll(block, self.base.consume)
            context.sender.reserve.look(block)
            provider = context.standing.look(block)
            self.base.reconcile(Cycle(block, head, provider))
            context.sender.tick()

    def until(self, look: Any, what: str, cycles: int = 60) -> Any:
        """Cycles until something is so."""
        for _ in range(cycles):
            found = look()
            if found:
                return found
            self.cycle()
        raise AssertionError(f"no {what}: {self.told()}, {self.intents()}")

    def told(self) -> object:
        """What a failed wait shows."""
        return ""

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
        server = ApiServer(create_app(deps, [self.base.operations]), "127.0.0.1", port)
        server.start()
        try:
            yield url
        finally:
            server.stop()
