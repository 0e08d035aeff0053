# SPDX-License-Identifier: Apache-2.0
"""Jurors: providers that lock stake to judge what they can run."""

from __future__ import annotations

from pathlib import Path

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command, provider_option
from teraproof.errors import WrongInput

_capability = click.argument("capability", metavar="CAPABILITY")
_gpu = click.option(
    "--gpu", metavar="CLASS", help="With a package: the GPU class that jurors need."
)


@click.group("juror")
def cli() -> None:
    """Take seats in juries, give them up, see who has them."""


@command(cli, Needs.ACCOUNT)
@_capability
@click.option(
    "--seats",
    type=click.IntRange(min=1),
    required=True,
    help="Seats together, with those that it has.",
)
@_gpu
def enlist(session: Session, capability: str, seats: int, gpu: str | None) -> Result:
    """Take seats for CAPABILITY, add some, or renew their term.

    The account is the operator of a provider.
    CAPABILITY is 'kind|runtime|hardware', such as 'finetune|python-ml|cpu', its 64 hex digits, or
    a job's package. An agent with seats in its settings takes them by itself.
    """
    from teraproof.market import seats as market_seats

    name = _read(capability, gpu)
    market_seats.enlist(session.market, session.sender, session.ui, name, seats)
    return {"capability": "0x" + name.hex(), "seats": seats}


@command(cli, Needs.CHAIN)
@_capability
@_gpu
def seats(session: Session, capability: str, gpu: str | None) -> Result:
    """Show who has the seats of CAPABILITY.

    CAPABILITY is 'kind|runtime|hardware', or a job's package. Shows, too, how many seats an order
    needs.
    """
    from teraproof.market import seats as market_seats

    name = _read(capability, gpu)
    session.ui.doing("reading the seats")
    return market_seats.show_capability(session.market, session.ui, name)


@command(cli, Needs.ACCOUNT)
@_capability
@provider_option
@_gpu
def resign(session: Session, capability: str, owner: str | None, gpu: str | None) -> Result:
    """Give up all seats for CAPABILITY: the owner, or its operator."""
    from teraproof.market import seats as market_seats

    name, sender = _read(capability, gpu), session.sender
    juror = owner or sender.address
    market_seats.resign(session.market, sender, session.ui, juror, name)
    return {"juror": juror, "capability": "0x" + name.hex()}


@command(cli, Needs.ACCOUNT)
@_capability
@provider_option
@_gpu
def leave(session: Session, capability: str, owner: str | None, gpu: str | None) -> Result:
    """Free the stake of a juror that has resigned.

    Anyone may do it, once no jury can need the stake.
    """
    from teraproof.market import seats as market_seats

    name, sender = _read(capability, gpu), session.sender
    juror = owner or sender.address
    market_seats.leave(session.market, sender, session.ui, juror, name)
    return {"juror": juror, "capability": "0x" + name.hex()}


@command(cli, Needs.ACCOUNT)
@_capability
@click.option("--juror", "owner", type=ADDRESS, help="Of this juror alone; default: of all.")
@_gpu
def evict(session: Session, capability: str, owner: str | None, gpu: str | None) -> Result:
    """Remove seats for CAPABILITY without term or stake.

    Their term is over, or too little stake is behind them. Anyone may do it.
    """
    from teraproof.market import seats as market_seats

    name = _read(capability, gpu)
    gone = market_seats.evict(session.market, session.sender, session.ui, name, owner)
    return {"capability": "0x" + name.hex(), "evicted": gone}


@command(cli, Needs.EITHER)
@provider_option
def status(session: Session, owner: str | None) -> Result:
    """Show a juror's seats, stake and disputes."""
    from teraproof.market import seats as market_seats

    juror = owner or session.account
    if juror is None:
        raise WrongInput("whose seats? pass --provider ADDRESS, or name an account")
    session.ui.doing("reading the seats")
    return market_seats.show(session.market, session.ui, juror)


def _read(capability: str, gpu: str | None) -> bytes:
    """The capability that was named, or that of a package."""
    from teraproof.market import packages
    from teraproof.market import seats as market_seats
    from teraproof.protocol.capability import of_job

    if "|" not in capability and Path(capability).exists():
        spec = packages.read(Path(capability)).spec
        return market_seats.parse(str(of_job(spec, gpu)))
    if gpu is not None:
        raise WrongInput("--gpu goes with a package; the capability that is named has its own")
    return market_seats.parse(capability)
