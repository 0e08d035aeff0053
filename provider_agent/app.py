# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its parts put together."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from provider_agent.core.context import make_context
from provider_agent.core.loop import Loop
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Context, Module
from provider_agent.core.offer import Offer
from provider_agent.core.pools import make_pool, make_visitor_pool
from provider_agent.core.readiness import health_of
from provider_agent.core.settings import OperatorSettings, Settings
from provider_agent.core.watch import Watch
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.descriptors import open_limits
from provider_agent.http.server import ApiServer, status_server
from provider_agent.http.status import create_status_app
from provider_agent.modules.all import MODULES, tables_of
from provider_agent.store import Store
from provider_agent.tx.keys import KeyLock, OperatorKey, load_key
from teraproof.protocol import siwe

log = logging.getLogger(__name__)

DATABASE = "agent.sqlite"
_GIVES_WAY = 0.001  # seconds
_WALLET_GAS = 3_000_000  # for a contract wallet to check a signature


@cache
def read_key(operator: OperatorSettings) -> OperatorKey:
    """The operator's key as the settings name it; opened once, which takes most of a second."""
    return load_key(operator.keystore, operator.password_file, operator.private_key_file)


def database(settings: Settings) -> Path:
    """Where the agent keeps its memory."""
    return settings.agent.data_dir / DATABASE


class Agent:
    """Everything of one provider on one machine. `run` returns after `stop`, or raises LocalError.

    Several agents on one key are refused (KeyInUse).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        adopt_nonces: bool = False,
        modules: Sequence[type[Module]] = MODULES,
    ) -> None:
        self._settings, self._adopt, self._kinds = settings, adopt_nonces, tuple(modules)
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the loop after the present cycle. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Reconcile until `stop`. Runs of jobs go on when it ends."""
        settings = self._settings
        # A thread that computes gives way after so long. The loop waits for it after each request
        # to a node and each commit: that is what strangers can add to a step of a cycle.
        sys.setswitchinterval(_GIVES_WAY)
        settings.agent.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key, metrics = read_key(settings.operator), Metrics()
        with ExitStack() as stack:
            stack.enter_context(
                KeyLock(settings.chain.chain_id, key.address, settings.agent.lock_dir)
            )

            def break_off() -> None:
                metrics.hangs.inc()
                pool.renew()

            watch = Watch(break_off)
            pool = make_pool(settings, metrics, on_request=watch.move)
            stack.callback(pool.close)
            visitors = make_visitor_pool(settings)
            stack.callback(visitors.close)
            store = Store(database(settings), tables=tables_of(self._kinds))
            stack.callback(store.close)
            context = make_context(settings, key, metrics, pool, visitors, store)
            modules: list[Module] = []
            for kind in self._kinds:
                made = kind.build(context)
                if made is not None:
                    stack.callback(made.close)
                    context.feed.follow(made.contracts())
                    modules.append(made)
            loop = Loop(context, modules, watch)
            server, status = _servers(context, modules, loop, watch)
            self._begin(context, modules)
            for listener in (status, server):
                stack.callback(listener.stop)
                listener.start()
            log.info(
                "agent %s listens on port %s, status on port %s, data in %s",
                key.address,
                server.port,
                status.port,
                settings.agent.data_dir,
            )
            stack.callback(watch.close)
            watch.start()
            loop.run(self._stop)

    def _begin(self, context: Context, modules: Sequence[Module]) -> None:
        """Find what there is."""
        lost = context.store.rows_lost
        if lost:
            log.warning("rows of the database are lost: its jobs and nonces are found again")
        # Without its rows the key's newest transactions look like a stranger's: they are ours.
        context.sender.start(adopt=self._adopt or lost)
        for module in modules:
            module.start()
        if lost:
            context.store.made_good()


def _servers(
    context: Context, modules: Sequence[Module], loop: Loop, watch: Watch
) -> tuple[ApiServer, ApiServer]:
    """The API, and the listener for health and metrics."""
    settings, visitors, api = context.settings, context.visitors, context.settings.api
    health = health_of(context, modules, loop, watch)
    deps = ApiDeps(
        auth=Authenticator(
            context.store,
            siwe.Expected.at(api.public_url, settings.chain.chain_id, api.allowed_origins),
            lambda to, call: visitors.eth_call(to, call, "latest", gas=_WALLET_GAS),
        ),
        provider=Offer(settings, context.key.address, context.standing, context.fleet, modules),
        health=health,
        metrics=context.metrics,
        origins=api.allowed_origins,
    )
    app = create_app(deps, [module.operations for module in modules])
    return (
        ApiServer(app, api.host, api.port, open_limits(), trusted_proxies=api.trusted_proxies),
        status_server(
            create_status_app(health, context.metrics), api.status_host, api.status_port_in_use
        ),
    )
