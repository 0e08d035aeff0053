# SPDX-License-Identifier: Apache-2.0
"""Hiring for a lease at a published price: the tenant agrees first, then one provider binds itself.

A quote holds a provider's room for a minute. So prices are compared by what agents publish. A quote
is asked for when the tenant has agreed, of the cheapest, and of the next where that one gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from teraproof.amounts import show_time, show_tpf
from teraproof.errors import CommandError, LocalError
from teraproof.market import lease_offers, lease_orders, lease_specs
from teraproof.market.funds import Funds, Payment, agree
from teraproof.market.lease_offers import Filters, Verdict
from teraproof.market.lease_orders import Origin, Placed
from teraproof.market.leases import contract
from teraproof.market.market import Market
from teraproof.market.providers import Provider, read
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_match import LeaseRequest
from teraproof.protocol.lease_terms import LeaseOrder
from teraproof.protocol.messages import LeaseQuote

#: After these another provider would not do either.
_FINAL = (
    Code.DECLINED,
    Code.FUNDS_MISSING,
    Code.GAS_MISSING,
    Code.COMMAND_RUNNING,
)
#: An agent may keep its last room for a quote of ours: it gives the same again.
_TAKEN = {
    Code.CORES_TAKEN,
    Code.MEMORY_TAKEN,
    Code.DISK_TAKEN,
    Code.DEVICES_TAKEN,
    Code.SLOTS_TAKEN,
    Code.COLLATERAL_TAKEN,
}


@dataclass(frozen=True)
class Wanted:
    """What a provider is hired for, and how it is paid. `paid_for`: seconds that the deposit pays
    for; None: the whole term. A request's collateral is the least that a quote must put up.
    """

    request: LeaseRequest
    origin: Origin
    funds: Funds = Funds.AUTO
    paid_for: int | None = None


def one(
    market: Market, ui: Ui, request: LeaseRequest, owner: str, url: str | None, filters: Filters
) -> Verdict:
    """What one provider publishes for a request, asked at `url` or where it announces its agent.

    CommandError when its agent does not answer, or would not take the lease.
    """
    provider = read(market, owner, url)
    (found,) = lease_offers.ask_providers(market, ui, request, filters, known=[provider])
    if _may_take(found):
        return found
    lease_offers.show(market, ui, [found])
    why = found.why_not
    assert why is not None  # or it may take it
    details = {**why.details, "providers": [lease_offers.to_json(found)]}
    raise CommandError(f"{owner} {why}; nothing was sent", why.code, **details)


def cheapest(market: Market, ui: Ui, request: LeaseRequest, filters: Filters) -> list[Verdict]:
    """The providers that would take a request, the cheapest first. CommandError where there is no
    such provider.
    """
    found = lease_offers.ask_providers(market, ui, request, filters)
    if found:
        lease_offers.show(market, ui, found)
    takers = [verdict for verdict in found if verdict.takes_it]
    if not takers:
        takers = [verdict for verdict in found if _may_take(verdict)]
    if not takers:
        lease_offers.require(found, "change the file or the order, or name a PROVIDER")
    return takers


def hire(
    market: Market, sender: Sender, ui: Ui, wanted: Wanted, takers: Sequence[Verdict]
) -> Placed:
    """Hire the first of `takers` that binds itself. Why the others did not is said; the last one's
    reason is raised.
    """
    for verdict in takers[:-1]:
        try:
            return _hire(market, sender, ui, wanted, verdict)
        except LocalError as error:
            if error.code in _FINAL:
                raise
            ui.note(str(error))
    return _hire(market, sender, ui, wanted, takers[-1])


def is_final(error: LocalError) -> bool:
    """Whether another provider would not do either."""
    return error.code in _FINAL


def _hire(market: Market, sender: Sender, ui: Ui, wanted: Wanted, verdict: Verdict) -> Placed:
    owner, rate = verdict.provider.owner, verdict.rate
    url = _url(verdict.provider)
    assert rate is not None  # it answered, and has a price
    request = replace(wanted.request, allow=(owner,), max_rate=rate)
    order = lease_orders.order_of(request, start_rate=rate, auction=0, paid_for=wanted.paid_for)
    lease_orders.check_order(market, order)
    title = f"Hire {owner} for {sender.address}"
    lease_orders.show_order(market, ui, title, request, order, is_quoted=False)
    payment = Payment("hire", "in escrow", order.deposit)
    agreed = agree(market, sender, ui, payment, wanted.funds, contract(market))
    asked = replace(wanted.request, allow=(owner,))
    signed = lease_specs.quote(market, sender, ui, asked, owner, url)
    quote = signed.quote
    if quote.collateral < asked.collateral:
        raise CommandError(
            f"{owner} puts up {show_tpf(quote.collateral)}, and {show_tpf(asked.collateral)} are "
            "asked for; nothing was sent",
            Code.QUOTE_INVALID,
        )
    covered = _covers(order, quote)
    if covered:
        until = show_time(quote.expires, market.now())
        ui.step(
            f"{url} binds itself until {until}, with {show_tpf(quote.collateral)} of collateral"
        )
    else:
        ui.note(f"{url} binds itself to another price than it publishes")
    return lease_orders.hire(
        market,
        sender,
        ui,
        asked,
        signed,
        wanted.origin,
        wanted.funds,
        wanted.paid_for,
        agreed=agreed if covered else None,
    )


def _covers(order: LeaseOrder, quote: LeaseQuote) -> bool:
    """Whether a quote is as good for the tenant as what it has agreed to, or better. The client has
    compared the times.
    """
    return quote.rate <= order.max_rate and quote.collateral >= order.collateral


def _may_take(verdict: Verdict) -> bool:
    codes = {refusal.code for refusal in verdict.refusals}
    return verdict.rate is not None and codes <= _TAKEN


def _url(provider: Provider) -> str:
    assert provider.endpoint is not None  # it answered
    return provider.endpoint
