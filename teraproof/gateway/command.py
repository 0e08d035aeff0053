# SPDX-License-Identifier: Apache-2.0
"""`teraproof gateway run`: the market, the account and the settings put together, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.live import Live

from teraproof.errors import CommandError, counted
from teraproof.gateway import discovery, report
from teraproof.gateway.discovery import Found
from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.identity.recount import counters
from teraproof.gateway.live import View
from teraproof.gateway.onchain import MarketView, signing
from teraproof.gateway.serve import compose
from teraproof.gateway.serve import run as serve
from teraproof.gateway.settings import GatewaySettings
from teraproof.gateway.store import Store
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from teraproof.cli.frame import Session


def run(session: Session, settings: GatewaySettings) -> Mapping[str, Any]:
    """Until a signal ends it. What it has done."""
    tokenizers = counters(settings.tokenizers)  # before a chain or a person is asked
    market, ui, signer = session.market, session.ui, session.signer
    wanted = discovery.demands(
        market,
        settings.pay.max_withdraw_delay_seconds,
        _units(settings.most_wanted, market.decimals, "pay.max_min_deposit"),
    )
    channels = market.channels
    if channels is None:
        raise CommandError("this market has no payment channels", Code.INPUT_INVALID)
    signer.load()
    shown = market.show_price(_units(settings.pay.total, market.decimals, "pay.total"))
    ui.ask(f"Let the gateway deposit up to {shown} of {signer.address} with providers?")
    signer.unlock()

    def read() -> Iterable[Host]:
        known = hosts.every()
        owners = {host.owner for host in known}
        found = discovery.read(market, settings.route.reach, wanted=wanted, first=owners)
        seen[:] = found
        return discovery.still(found, known)

    ui.doing("asking the providers")
    hosts, seen = Hosts(), list[Found]()
    hosts.replace(read())
    store = Store(settings.listen.data_dir)
    report.keep_token(store, market.decimals, market.symbol)
    gateway = compose(
        settings,
        store,
        hosts,
        MarketView(market, channels),
        signer.address,
        signing(signer),
        decimals=market.decimals,
        counters=tokenizers,
    )
    relay = gateway.relay
    discovery.explain(seen, ui)
    if not market.payment_balance(signer.address) and not relay.means.purse.ledger.outlay():
        ui.note(
            f"{signer.address} holds no {market.symbol}, so no request can be paid; send it some"
        )
    if not hosts.every():
        ui.note("the gateway looks again by itself")
    watched = sys.stdout.isatty() and not session.as_json
    address = settings.listen.host if ":" not in settings.listen.host else "[::1]"
    urls = [f"http://{address}:{settings.listen.port}"]

    def listening(port: int) -> None:
        urls[0] = f"http://{address}:{port}"
        ui.step(f"listening on {urls[0]}/v1 for {counted(len(hosts.every()), 'host')}")

    with contextlib.ExitStack() as held:
        look = None
        if watched:
            live = held.enter_context(Live(console=ui.console, auto_refresh=False, transient=True))

            def look() -> None:
                view = View(relay, urls[0], market.symbol)
                live.update(view.render(time.time()), refresh=True)

        else:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
            logging.getLogger("httpx").setLevel(logging.WARNING)
        asyncio.run(serve(gateway, read, listening, look))
    ui.step(f"{counted(relay.live.answered, 'request')} answered")
    return {
        "url": urls[0],
        "answered": relay.live.answered,
        "failed_attempts": relay.live.failed,
        "deposited": str(relay.means.purse.ledger.outlay()),
    }


def _units(amount: Any, decimals: int, name: str) -> int:
    from teraproof.amounts import units

    return units(f"{amount:f}", decimals, name)
