# SPDX-License-Identifier: Apache-2.0
"""Makes what the modules of an agent share."""

from __future__ import annotations

import logging

from provider_agent.core.capacity import Capacity
from provider_agent.core.feed import EventFeed
from provider_agent.core.fleet import Fleet
from provider_agent.core.head import NewestHead
from provider_agent.core.means import Means
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Context
from provider_agent.core.settings import Settings
from provider_agent.core.standing import Standing
from provider_agent.store import Intent, IntentState, Store
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.contracts.staking import StakingContract
from teraproof.rpc.client import RpcPool
from teraproof.rpc.pace import Pace

log = logging.getLogger(__name__)

_EVENTS = {
    IntentState.SENT: "sent",
    IntentState.MINED: "mined",
    IntentState.REVERTED: "failed",
    IntentState.ABANDONED: "abandoned",
}


def make_context(
    settings: Settings,
    key: OperatorKey,
    metrics: Metrics,
    pool: RpcPool,
    visitors: RpcPool,
    store: Store,
) -> Context:
    """Raises ChainError when the nodes do not answer, StoreError for another agent's database."""
    chain = settings.chain
    staking = StakingContract(pool, chain.staking)
    store.bind(staking=staking.address)

    def count(intent: Intent) -> None:
        event = _EVENTS.get(intent.state)
        if event is not None:
            metrics.transaction(event)
        if intent.state in (IntentState.REVERTED, IntentState.ABANDONED):
            log.warning("%s: %s (%s)", "/".join(intent.key), intent.state, intent.reason)

    newest = NewestHead(pool.head, chain.poll_seconds)
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
    fleet = Fleet(settings.runner.gpus * settings.agent.slots, memory=store)
    for fault in fleet.faults:
        log.warning("devices: %s", fault)
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
        newest=newest,
        pace=pace,
        standing=standing,
        metrics=metrics,
        fleet=fleet,
        capacity=Capacity(means, ahead=settings.agent.accept_ahead),
    )
