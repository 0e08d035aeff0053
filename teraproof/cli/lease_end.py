# SPDX-License-Identifier: Apache-2.0
"""For tenants, and for anyone: what moves a lease on the chain, and how its money comes out."""

from __future__ import annotations

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command
from teraproof.cli.lease_group import cli, endpoint_option, find, funds_option, lease_argument
from teraproof.cli.values import PRICE, SECONDS
from teraproof.errors import WrongInput


@command(cli, Needs.ACCOUNT, "top-up")
@lease_argument
@click.option("--amount", type=PRICE, metavar="DOLLARS", help="What is added to the deposit.")
@click.option(
    "--pay-for",
    type=SECONDS,
    metavar="TIME",
    help='What is added, as time, such as "2 hours". Default: the rest of the term.',
)
@funds_option
def top_up(
    session: Session, lease_id: str, amount: str | None, pay_for: int | None, funds: str
) -> Result:
    """Add to the deposit of an active lease; its end stays where it is."""
    from teraproof.market import lease_orders, leases
    from teraproof.market.funds import Funds

    if amount is not None and pay_for is not None:
        raise WrongInput("give --amount or --pay-for, not both")
    market, sender = session.market, session.sender
    lease = find(session, lease_id)
    lease_orders.top_up(
        market,
        sender,
        session.ui,
        lease,
        seconds=pay_for,
        amount=None if amount is None else market.price(amount, "--amount"),
        funds=Funds(funds),
    )
    return leases.to_json(market, leases.current(market, lease.opened), market.now())


def _ending(name: str, help: str) -> None:
    @command(cli, Needs.ACCOUNT, name)
    @lease_argument
    def end(session: Session, lease_id: str) -> Result:
        from teraproof.market import lease_endings, leases

        market, sender = session.market, session.sender
        lease = find(session, lease_id)
        done = getattr(lease_endings, name)(market, sender, session.ui, lease)
        after = leases.current(market, lease.opened)
        return {
            **leases.to_json(market, after, market.now()),
            "done": name,
            "block": done.block_number,
        }

    end.help = help


_ending("confirm", "Take an active lease as it is, within its grace.")
_ending("reject", "Turn an active lease down within its grace, for no rent.")
_ending("cancel", "Take an open lease off the market; anyone, when its time is over.")
_ending("expire", "End a lease that was not ready in time; anyone, who earns the bounty.")
_ending("settle", "Pay the provider the rent up to now; anyone.")
_ending("accuse", "Accuse a provider that is silent, or suspends a lease, for too long; anyone.")
_ending("leave", "For its operator: leave a lease at once, and lose the collateral.")


@command(cli, Needs.ACCOUNT)
@lease_argument
@click.option("--save", "is_saved", is_flag=True, help="Have a last checkpoint saved before.")
@click.option(
    "--save-within",
    type=SECONDS,
    default="15 minutes",
    show_default=True,
    metavar="TIME",
    help="Time for the last checkpoint. The lease is not closed when it is not there then.",
)
@endpoint_option
def close(
    session: Session, lease_id: str, is_saved: bool, save_within: int, endpoint: str | None
) -> Result:
    """End an active lease; anyone, once it is over, used up or abandoned."""
    from teraproof.market import lease_endings, lease_saves, leases

    if endpoint is not None and not is_saved:
        raise WrongInput("--endpoint is where --save is asked for; give both")
    market, lease = session.market, find(session, lease_id)
    saved = None
    if is_saved:
        lasting = session.lasting_sender
        saved = lease_saves.save(market, lasting, session.ui, lease, save_within, endpoint)
        lease = leases.current(market, lease.opened)
    done = lease_endings.close(market, session.sender, session.ui, lease)
    after = leases.current(market, lease.opened)
    shown = {
        **leases.to_json(market, after, market.now()),
        "done": "close",
        "block": done.block_number,
    }
    return shown if saved is None else {**shown, "checkpoint": saved}


@command(cli, Needs.ACCOUNT)
@click.option("--receiver", type=ADDRESS, help="Who gets the money; default: the account.")
def withdraw(session: Session, receiver: str | None) -> Result:
    """Pull all credits: refunds, rent, deposits, compensation, bounties."""
    from teraproof.market import credits

    done = credits.withdraw(session.market, session.sender, session.ui, receiver)
    return {"payment": str(done.payment), "tpf": str(done.stake)}
