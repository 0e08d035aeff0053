# SPDX-License-Identifier: Apache-2.0
"""For tenants: who would take a lease, an auction, a hire. The callbacks import what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command
from teraproof.cli.lease_check import order_of, orders_of
from teraproof.cli.lease_group import (
    bandwidth_option,
    by_hand_option,
    cli,
    endpoint_option,
    file_argument,
    funds_option,
    order_options,
    timeout_option,
)
from teraproof.cli.lease_saving import Ordered, noted, require_store, saving_options
from teraproof.cli.values import BILLIONTHS, HOURLY, OWNERS, PART, SECONDS, TPF
from teraproof.errors import CommandError, WrongInput
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from teraproof.market.lease_offers import Filters
    from teraproof.market.lease_orders import Origin, Placed
    from teraproof.market.lease_tending import Manner
    from teraproof.market.market import Market
    from teraproof.protocol.lease_match import LeaseRequest
    from teraproof.protocol.lease_terms import LeaseOrder

_Made = TypeVar("_Made", bound=Callable[..., object])
_AUCTION_SECONDS = 600
_GIB = 1 << 30
_GIGA = 10**9


def filter_options(made: _Made) -> _Made:
    """What an offer must have beyond what the file asks for."""
    for option in reversed(_FILTERS):
        made = option(made)
    return made


_FILTERS = (
    click.option(
        "--vram", type=BILLIONTHS, metavar="GIB", help="Memory of a GPU for rent, at least."
    ),
    click.option(
        "--interconnect",
        type=click.Choice(["sxm", "pcie"]),
        help="How the GPUs are connected.",
    ),
    click.option("--bandwidth", type=click.IntRange(min=1), metavar="MBIT/S", help="As it says."),
    click.option("--region", help="Where it says it is."),
    click.option(
        "--reliability",
        type=PART,
        metavar="SHARE",
        help='Leases that it delivered, such as "95 %".',
    ),
)
_allow = click.option(
    "--allow",
    type=OWNERS,
    metavar="OWNER,...",
    help="Owner addresses of the only providers that may take the lease.",
)
_paid_for = click.option(
    "--pay-for",
    type=SECONDS,
    metavar="TIME",
    help="What the deposit pays for, such as 2 hours; top up later. Default: the whole term.",
)


@command(cli, Needs.EITHER)
@file_argument
@order_options
@saving_options
@click.option(
    "--collateral", type=TPF, default="0", help="TPF that the provider puts up; default: 0."
)
@click.option(
    "--min-stake", type=TPF, default="0", help="TPF that must be staked behind the provider."
)
@_allow
@filter_options
def offers(session: Session, file: Path, **given: Any) -> Result:
    """Show at what price each provider takes the lease of FILE, or the first reason why not."""
    from teraproof.market import lease_offers
    from teraproof.market.leases import unit_of

    ordered = order_of(session, file, given)
    market = session.market
    request = _request(market, ordered, given)
    found = lease_offers.ask_providers(market, session.ui, request, _filters(given))
    unit = unit_of(market)
    if found:
        lease_offers.show(market, session.ui, found)
    else:
        session.ui.note("no provider is registered here")
    return {
        "spec": "0x" + request.spec.digest().hex(),
        "max_rate": str(request.max_rate),
        "offers": [lease_offers.to_json(verdict, unit) for verdict in found],
    }


@command(cli, Needs.ACCOUNT, "open")
@file_argument
@order_options
@saving_options
@click.option(
    "--start-price",
    type=HOURLY,
    metavar="DOLLARS",
    help="Price an hour offered first; default: the lowest that a provider asks, if that is less.",
)
@click.option(
    "--auction",
    type=SECONDS,
    metavar="TIME",
    help='Time in which the price rises, such as "10 minutes"; default: that, if it has to rise.',
)
@_paid_for
@click.option(
    "--collateral", type=TPF, default="0", help="TPF that the provider puts up; default: 0."
)
@click.option(
    "--min-stake", type=TPF, default="0", help="TPF that must be staked behind the provider."
)
@_allow
@filter_options
@bandwidth_option
@by_hand_option
@timeout_option
@funds_option
@click.option(
    "--wait-for-provider", "patient", is_flag=True, help="Open although nobody takes it now."
)
@click.option("--no-wait", is_flag=True, help="Do not wait for a provider; lease wait does later.")
def open_(session: Session, file: Path, **given: Any) -> Result:
    """Offer what FILE (SDL) asks for to all providers; wait for one, challenge it, and confirm.

    Each placement of the file is a lease with a provider of its own. Asks the providers first, and
    refuses when none would take it. Run again after a break, it goes on with what it had opened.
    """
    from teraproof.market import lease_notes, leases

    wanted, manner = orders_of(session, file, given), _manner(given)
    require_store(given)
    market = session.market
    where = leases.notes_of(market, session.lasting_sender.address)
    total = _show_all(session, wanted, given) if len(wanted) > 1 else None
    with ExitStack() as held:
        for one in wanted:
            name = one.lease.spec.digest()
            held.enter_context(lease_notes.alone(where, "order", name))
        # All are asked and checked before the first is opened: a later one may be refused.
        planned = [_planned(session, one, given) for one in wanted]
        _check_money(session, planned, given)
        placed = [_open(session, file, one, given) for one in planned]
        done, failed = [], []
        for one, lease in zip(wanted, placed, strict=True):
            if given["no_wait"]:
                done.append(leases.to_json(market, lease.lease, market.now()))
                continue
            try:
                done.append(_attend(session, lease, one, manner))
            except CommandError as error:
                if error.code is not Code.LEASE_FAILED or len(wanted) == 1:
                    raise
                session.ui.note(str(error))
                failed.append(error)
    if failed:
        raise failed[0]
    if total is None:
        return done[0]
    return {"leases": done, "total": str(total)}


def _show_all(session: Session, wanted: Sequence[Ordered], given: dict[str, Any]) -> int:
    """The one total of several leases, before any of them is signed for."""
    from teraproof.market.lease_prices import show_amount, show_hour
    from teraproof.market.leases import unit_of

    unit, total, rows = unit_of(session.market), 0, []
    for one in wanted:
        request = _request(session.market, one, given)
        paid = given["pay_for"]
        deposit = request.max_rate * (request.term if paid is None else paid)
        price = show_hour(request.max_rate, unit)
        rows.append((request.spec.name, f"at most {price}", show_amount(deposit, unit)))
        total += deposit
    rows.append(("total, everything included", "", show_amount(total, unit)))
    session.ui.table("All leases of the file", ("lease", "price", "deposit"), rows)
    return total


class _Planned(NamedTuple):
    """A lease that may be opened, or that an earlier command has opened."""

    request: LeaseRequest
    urls: list[str]
    """Of the agents that would take it."""
    order: LeaseOrder | None
    placed: Placed | None


def _planned(session: Session, ordered: Ordered, given: dict[str, Any]) -> _Planned:
    from teraproof.market import lease_offers, lease_orders
    from teraproof.market.lease_prices import rate_within
    from teraproof.market.leases import unit_of

    market, sender, ui = session.market, session.lasting_sender, session.ui
    request = _request(market, ordered, given)
    unit = unit_of(market)
    placed = lease_orders.find_again(market, ui, sender.address, request.spec.digest())
    found: list[lease_offers.Verdict] = []
    order = None
    if placed is None:
        ui.doing("reading the providers")
        found = lease_offers.ask_providers(market, ui, request, _filters(given))
        if found:
            lease_offers.show(market, ui, found)
        if not given["patient"]:
            instead = "change the file or the order, or pass --wait-for-provider"
            lease_offers.require(found, instead)
        asked = lease_offers.lowest(found)
        lowest = request.max_rate if asked is None else min(asked, request.max_rate)
        if given["start_price"] is not None:
            lowest = rate_within(given["start_price"], unit)
        if lowest > request.max_rate:
            raise WrongInput("--start-price: above the highest price; lower it")
        rise = _AUCTION_SECONDS if lowest < request.max_rate else 0
        if given["auction"] is not None:
            rise = given["auction"]
        order = lease_orders.order_of(
            request, start_rate=lowest, auction=rise, paid_for=given["pay_for"]
        )
        lease_orders.check_order(market, order)
    urls = [v.provider.endpoint for v in found if v.takes_it and v.provider.endpoint]
    return _Planned(request, urls, order, placed)


def _check_money(session: Session, planned: Sequence[_Planned], given: dict[str, Any]) -> None:
    """Whether the account can pay for all of them; one alone is looked at when it is paid for."""
    from teraproof.market.funds import Funds, Payment, check_all
    from teraproof.market.leases import contract

    orders = [one.order for one in planned if one.order is not None]
    if len(orders) > 1:
        payments = [Payment("open the lease", "in escrow", one.deposit) for one in orders]
        market, sender = session.market, session.lasting_sender
        check_all(market, sender, payments, Funds(given["funds"]), contract(market))


def _open(session: Session, file: Path, planned: _Planned, given: dict[str, Any]) -> Placed:
    from teraproof.market import lease_orders, lease_specs
    from teraproof.market.funds import Funds

    market, sender, ui = session.market, session.lasting_sender, session.ui
    placed = planned.placed
    if planned.order is not None:
        placed = lease_orders.open_lease(
            market,
            sender,
            ui,
            planned.request,
            planned.order,
            _origin(file, given),
            Funds(given["funds"]),
        )
    assert placed is not None  # there is an order, or what an earlier one became
    lease_specs.spread(market, sender, ui, placed.lease, None if placed.found else planned.urls)
    return placed


@command(cli, Needs.ACCOUNT)
@file_argument
@click.argument("provider_id", metavar="[PROVIDER]", type=ADDRESS, required=False)
@order_options
@saving_options
@_paid_for
@click.option(
    "--collateral", type=TPF, default="0", help="TPF that it puts up, at least; default: any."
)
@filter_options
@bandwidth_option
@by_hand_option
@timeout_option
@endpoint_option
@funds_option
def hire(session: Session, file: Path, provider_id: str | None, **given: Any) -> Result:
    """Rent from PROVIDER (its owner address), or from the cheapest; wait, challenge, confirm.

    Prices are those that agents publish. One provider is asked for a signed quote, once you agree:
    a quote holds its room. The deposit goes into escrow. The provider gets the credentials of FILE
    once it is hired, and nobody else does. Run again after a break, it goes on with the lease that
    it had ordered.
    """
    from teraproof.market import lease_notes, leases

    if provider_id is None and given["endpoint"] is not None:
        raise WrongInput("--endpoint is of one provider; name it as PROVIDER, too")
    ordered = order_of(session, file, given)
    require_store(given)
    where = leases.notes_of(session.market, session.lasting_sender.address)
    with lease_notes.alone(where, "order", ordered.lease.spec.digest()):
        return _hire(session, file, ordered, provider_id, given)


def _hire(
    session: Session, file: Path, ordered: Ordered, owner: str | None, given: dict[str, Any]
) -> Result:
    from teraproof.market import lease_hiring, lease_orders
    from teraproof.market.funds import Funds

    market, sender, ui = session.market, session.lasting_sender, session.ui
    # A hired provider shows its speed in the challenge, and by no proof before.
    request = replace(_request(market, ordered, given), min_score=0)
    manner = _manner(given)
    placed = lease_orders.find_again(market, ui, sender.address, request.spec.digest())
    if placed is not None and owner is not None and placed.note.provider not in ("", owner):
        raise WrongInput(
            f"the lease of {file} is with {placed.note.provider} since an earlier command; close "
            "it, or go on with lease wait"
        )
    if placed is None:
        filters = _filters(given)
        if owner is None:
            takers = lease_hiring.cheapest(market, ui, request, filters)
        else:
            asked = replace(request, allow=(owner,))
            takers = [lease_hiring.one(market, ui, asked, owner, manner.endpoint, filters)]
        funds = Funds(given["funds"])
        wanted = lease_hiring.Wanted(request, _origin(file, given), funds, given["pay_for"])
        placed = lease_hiring.hire(market, sender, ui, wanted, takers)
    return _attend(session, placed, ordered, manner)


# ---------------------------------------------------------------------- parts


def _request(market: Market, ordered: Ordered, given: dict[str, Any]) -> LeaseRequest:
    """What the file and the options ask for."""
    from teraproof.market.lease_prices import rate_within
    from teraproof.market.leases import unit_of
    from teraproof.protocol.lease_match import LeaseRequest
    from teraproof.sdl.leases import HOUR

    unit, lease = unit_of(market), ordered.lease
    highest = rate_within(lease.dollars(HOUR, ordered.akt), unit)
    if given["max_price"] is not None:
        highest = min(highest, rate_within(given["max_price"], unit))
    return LeaseRequest(
        spec=lease.spec,
        max_rate=highest,
        ready_within=given["ready_within"],
        term=given["term"],
        notice=max(given["notice"], lease.spec.notice_seconds),
        collateral=given.get("collateral", 0),
        min_stake=given.get("min_stake", 0),
        min_score=given["min_score"],
        allow=lease.spec.allow,
    )


def _filters(given: dict[str, Any]) -> Filters:
    from teraproof.market.lease_offers import Filters

    vram = given["vram"]
    return Filters(
        vram=None if vram is None else vram * _GIB // _GIGA,
        interconnect=given["interconnect"],
        bandwidth=given["bandwidth"],
        region=given["region"],
        reliability=given["reliability"],
    )


def _manner(given: dict[str, Any]) -> Manner:
    from teraproof.market.lease_challenges import Asked
    from teraproof.market.lease_tending import Manner

    return Manner(
        asked=Asked(
            score=given["min_score"],
            bandwidth=given["memory_bandwidth"],
        ),
        by_hand=given["by_hand"],
        patience=given["timeout"],
        endpoint=given.get("endpoint"),
    )


def _origin(file: Path, given: dict[str, Any]) -> Origin:
    from teraproof.market.lease_orders import Origin

    return Origin(str(file.absolute()), given["akt_usd"] or "", access=noted(given["access"]))


def _attend(session: Session, placed: Placed, ordered: Ordered, manner: Manner) -> dict[str, Any]:
    from teraproof.market import lease_tending, leases

    market = session.market
    done = lease_tending.attend(
        market,
        session.lasting_sender,
        session.ui,
        placed.lease,
        ordered.lease.credentials,
        manner,
    )
    shown = leases.to_json(market, done.lease, market.now())
    return {**shown, "endpoint": done.endpoint}
