# SPDX-License-Identifier: Apache-2.0
"""The gateway put together, and run."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from starlette.types import ASGIApp

from teraproof.amounts import units
from teraproof.connections import trusted
from teraproof.gateway import log as activity
from teraproof.gateway.attempt import Means
from teraproof.gateway.door import Door
from teraproof.gateway.examine import Lineups
from teraproof.gateway.hosts import Hosts
from teraproof.gateway.keys import Keys
from teraproof.gateway.ledger import Ledger
from teraproof.gateway.purse import Budget, ChainView, Purse, Sign
from teraproof.gateway.relay import Relay
from teraproof.gateway.settings import GatewaySettings
from teraproof.gateway.store import Store

_IDLE_SECONDS = 30.0  # that a connection to a host is kept


@dataclass
class Gateway:
    """A gateway that is ready to answer; `app` is its endpoint."""

    settings: GatewaySettings
    store: Store
    hosts: Hosts
    relay: Relay
    app: ASGIApp

    async def close(self) -> None:
        """Finish what goes on, then close connections and files."""
        await self.relay.close()
        await self.relay.means.client.aclose()
        self.store.close()


def compose(
    settings: GatewaySettings,
    store: Store,
    hosts: Hosts,
    chain: ChainView,
    payer: str,
    sign: Sign,
    *,
    decimals: int,
) -> Gateway:
    """All parts, from what the store remembers. `payer` is the account whose key `sign` uses."""
    store.run(activity.close_lost)
    store.run(lambda db: activity.prune(db, settings.listen.log_days))
    ledger = Ledger.load(store)
    keys = Keys(settings.keys, decimals, activity.spent(store))
    for channel, key in activity.unclear_keys(store).items():
        keys.unclear(key, channel, ledger.channels[channel].unclear)
    lineups = Lineups(settings.route.trusted, settings.route.canary_rate)
    hosts.quality = lineups
    hosts.dropped.update(activity.dropped(store))
    purse = Purse(ledger, chain, payer, sign, budget_of(settings, decimals))
    means = Means(
        _client(settings.listen.max_parallel),
        purse,
        keys,
        settings.route,
        settings.pay.step_tokens,
        decimals,
    )
    relay = Relay(means, hosts, lineups)
    return Gateway(settings, store, hosts, relay, Door(relay, settings).app())


def budget_of(settings: GatewaySettings, decimals: int) -> Budget:
    """What may be deposited, in units of the token."""
    pay = settings.pay
    return Budget(
        total=units(f"{pay.total:f}", decimals, "pay.total"),
        per_provider=units(f"{pay.per_provider:f}", decimals, "pay.per_provider"),
        deposit=units(f"{pay.deposit:f}", decimals, "pay.deposit"),
        channels_per_provider=pay.channels_per_provider,
    )


def _client(most: int) -> httpx.AsyncClient:
    # A stream takes a connection for itself, and its vouchers another one.
    limits = httpx.Limits(
        max_connections=2 * most + 16,
        max_keepalive_connections=most,
        keepalive_expiry=_IDLE_SECONDS,
    )
    return httpx.AsyncClient(
        verify=trusted(None), limits=limits, follow_redirects=False, trust_env=False
    )
