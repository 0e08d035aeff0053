# SPDX-License-Identifier: Apache-2.0
"""What agents are given and asked before there is a lease: its specification, and a price."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from teraproof.errors import LocalError, RemoteError
from teraproof.market import lease_agents, lease_notes, lease_offers, leases, tenant
from teraproof.market.lease_orders import check_quote
from teraproof.market.leases import Lease
from teraproof.market.market import Market
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_match import LeaseRequest
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote

#: Seconds for which an agent is asked again that gives no quote yet, by its reason.
_PATIENCE = {Code.IMAGES_MISSING: 1_800.0, Code.CHAIN_UNAVAILABLE: 30.0}
_AGAIN = 2.0
MAX_PROVIDERS = 5  # that an open lease's specification is sent to


def quote(
    market: Market,
    sender: Sender,
    ui: Ui,
    request: LeaseRequest,
    provider: str,
    endpoint: str | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SignedLeaseQuote:
    """A provider's signed rate for what is asked for, checked. LocalError where it gives none.

    An agent binds itself only with the images on its own disk, so it is asked again while it
    fetches them, and for a moment where it cannot ask the chain.
    """
    begin = clock()
    url = endpoint or tenant.announced(market, provider)[1]
    ui.doing(f"asking {url} for a price")
    wanted = QuoteRequest(request.spec.digest(), request.term, request.notice, request.ready_within)
    with lease_agents.connect(market, sender.signer, url) as client:
        client.send_spec(request.spec)
        while True:
            try:
                given = client.lease_quote(request.spec, wanted, leases.domain(market))
                break
            except RemoteError as refusal:
                patience = _PATIENCE.get(refusal.code)
                if patience is None or clock() > begin + patience:
                    raise
                waits = "fetches the images" if refusal.code is Code.IMAGES_MISSING else "waits"
            ui.doing(f"{url} {waits}")
            sleep(_AGAIN)
    check_quote(market, given.quote, request)
    return given


def request_of(lease: Lease) -> LeaseRequest | None:
    """What a lease on the chain asks for; None where its specification is not known here."""
    order = lease.terms.order
    spec = lease_notes.spec_of(order.spec)
    if spec is None:
        return None
    return LeaseRequest(
        spec=spec,
        max_rate=order.max_rate,
        ready_within=order.ready_within,
        term=order.term,
        notice=order.notice,
        collateral=order.collateral,
        min_stake=order.min_stake,
        min_score=order.min_score,
        allow=spec.allow,
    )


def spread(
    market: Market, sender: Sender, ui: Ui, lease: Lease, urls: Sequence[str] | None = None
) -> None:
    """Give the specification of an open lease to agents; one of them is enough.

    An agent cannot take what it cannot read. Without `urls` it goes to those that would take it.
    Whoever cannot be reached is said, and nothing else.
    """
    request = request_of(lease)
    if lease.status is not LeaseStatus.OPEN or request is None:
        return
    if urls is None:
        found = lease_offers.ask_providers(market, ui, request)
        urls = [one.provider.endpoint for one in found if one.takes_it and one.provider.endpoint]
    ui.doing("sending the specification")
    for url in urls[:MAX_PROVIDERS]:
        try:
            with lease_agents.connect(market, sender.signer, url) as client:
                client.send_spec(request.spec)
        except LocalError as error:
            ui.note(str(error))
        else:
            ui.step(f"{url} has the specification")
