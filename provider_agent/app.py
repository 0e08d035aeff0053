# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: its parts put together."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from provider_agent.core.capacity import Capacity
from provider_agent.core.feed import EventFeed
from provider_agent.core.fleet import Fleet
from provider_agent.core.head import NewestHead, PinnedHead
from provider_agent.core.health import Check, Health
from provider_agent.core.loop import Loop, Machinery
from provider_agent.core.means import Means
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Context, Module
from provider_agent.core.offer import Offer
from provider_agent.core.policy import Policy
from provider_agent.core.pools import make_pool, make_visitor_pool
from provider_agent.core.settings import OperatorSettings, Settings
from provider_agent.core.standing import Standing
from provider_agent.core.watch import Watch
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.descriptors import open_limits
from provider_agent.http.server import ApiServer, status_server
from provider_agent.http.status import create_status_app
from provider_agent.modules.all import MODULES, tables_of
from provider_agent.store import Intent, IntentState, Store
from provider_agent.tx.keys import KeyLock, OperatorKey, load_key
from provider_agent.tx.sender import Sender
from teraproof.contracts.staking import StakingContract
from teraproof.protocol import siwe
from teraproof.rpc.client import RpcPool
from teraproof.rpc.pace import Pace

log = logging.getLogger(__name__)

DATABASE = "agent.sqlite"
_WALLET_GAS = 3_000_000  # for a contract wallet to check a signature
_EVENTS = {
    IntentState.SENT: "sent",
    IntentState.MINED: "mined",
    IntentState.REVERTED: "failed",
    IntentState.ABANDONED: "abandoned",
}


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
        settings.agent.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key, metrics = read_key(settings.operator), Metrics()
        with ExitStack() as stack:
            stack.enter_context(
                KeyLock(settings.chain.chain_id, key.address, settings.agent.lock_dir)
            )
            watch = Watch(lambda: _break_off(context, metrics))
            pool = make_pool(settings, metrics, on_request=watch.move)
            stack.callback(pool.close)
            visitors = make_visitor_pool(settings)
            stack.callback(visitors.close)
            store = Store(database(settings), tables=tables_of(self._kinds))
            stack.callback(store.close)
            newest = NewestHead(pool.head, settings.chain.poll_seconds)
            context = _context(settings, key, metrics, pool, visitors, store, newest)
            modules = [made for kind in self._kinds if (made := kind.build(context)) is not None]
            for module in modules:
                stack.callback(module.close)
                context.feed.follow(module.contracts())
            loop = _loop(context, modules, watch, newest)
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


def _context(
    settings: Settings,
    key: OperatorKey,
    metrics: Metrics,
    pool: RpcPool,
    visitors: RpcPool,
    store: Store,
    newest: NewestHead,
) -> Context:
    chain = settings.chain
    staking = StakingContract(pool, chain.staking)
    store.bind(staking=staking.address)

    def count(intent: Intent) -> None:
        event = _EVENTS.get(intent.state)
        if event is not None:
            metrics.transaction(event)
        if intent.state in (IntentState.REVERTED, IntentState.ABANDONED):
            log.warning("%s: %s (%s)", "/".join(intent.key), intent.state, intent.reason)

    sender = Sender(
        pool,
        store,
        key,
        max_fee=int(chain.max_fee_gwei * 10**9),
        max_tip=int(chain.max_tip_gwei * 10**9),
        confirmations=chain.confirmations,
        reorg_window=chain.reorg_window,
        in_flight=settings.agent.max_in_flight,
        on_change=count,
        newest=newest.look,
    )
    standing = Standing(staking, key.address)
    fleet = Fleet(settings.runner.gpus * settings.agent.slots)
    means = Means(settings, sender.reserve, standing, lambda: len(fleet.usable))
    pace = Pace(pool, chain.block_seconds)
    pace.see(newest.look())
    return Context(
        settings=settings,
        key=key,
        pool=pool,
        visitors=visitors,
        store=store,
        sender=sender,
        feed=EventFeed(pool, store, start_block=chain.start_block, reorg_window=chain.reorg_window),
        pace=pace,
        standing=standing,
        metrics=metrics,
        fleet=fleet,
        capacity=Capacity(means, ahead=settings.agent.accept_ahead),
    )


def _max_age(settings: Settings) -> float:
    """Seconds without success after which the agent, or a part of it, is not fit for work."""
    return 60 + 10 * settings.chain.poll_seconds


def _loop(context: Context, modules: Sequence[Module], watch: Watch, newest: NewestHead) -> Loop:
    settings = context.settings
    pause = settings.chain.poll_seconds
    parts = Machinery(
        store=context.store,
        newest=newest,
        sender=context.sender,
        feed=context.feed,
        pace=context.pace,
        standing=context.standing,
        metrics=context.metrics,
        policy=Policy(context.store.path, context.metrics, pause=pause, max_age=_max_age(settings)),
        watch=watch,
        data_dir=settings.agent.data_dir,
    )
    return Loop(parts, modules, PinnedHead(context.pool, settings.chain.confirmations), pause=pause)


def _servers(
    context: Context, modules: Sequence[Module], loop: Loop, watch: Watch
) -> tuple[ApiServer, ApiServer]:
    """The API, and the listener for health and metrics."""
    settings, visitors, api = context.settings, context.visitors, context.settings.api
    health = Health(
        lambda: loop.last_cycle,
        max_age=_max_age(settings),
        clock=time.time,
        checks=[
            lambda: _check_disk(settings.agent.data_dir),
            lambda: _check_registered(context.standing),
            context.sender.reserve.check,
            *(check for module in modules for check in module.ready()),
        ],
        parts=loop.checks,
        moves=lambda: watch.moves,
    )
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


def _break_off(context: Context, metrics: Metrics) -> None:
    metrics.hangs.inc()
    context.pool.renew()


def _check_disk(place: Path) -> Check:
    free = shutil.disk_usage(place).free
    return Check("disk", free > 1 << 30, f"{free >> 30} GiB free")


def _check_registered(standing: Standing) -> Check:
    provider = standing.provider
    ours = provider is not None and provider.operator_is_ours
    return Check("registered", ours, "" if ours else "the operator works for no provider yet")
