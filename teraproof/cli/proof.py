# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU: look at epochs and proofs, and do by hand what agents do by themselves."""

from __future__ import annotations

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command

_provider = click.argument("owner", metavar="PROVIDER", type=ADDRESS)


@click.group("proof")
def cli() -> None:
    """Look at proofs; open, close and draw epochs; report failures; settle; release bonds."""


@command(cli, Needs.CHAIN)
@click.option("--epoch", type=click.IntRange(min=1), help="An earlier epoch; default: the newest.")
@click.option("--provider", "owner", type=ADDRESS, help="One provider's last proof instead.")
def status(session: Session, epoch: int | None, owner: str | None) -> Result:
    """Show an epoch and the proofs in it."""
    from teraproof.market import proofs

    if owner is not None and epoch is not None:
        raise click.UsageError("--provider shows the last proof; leave --epoch out")
    market = session.market
    session.ui.doing("reading the proofs")
    if owner is not None:
        return proofs.show_provider(market, session.ui, owner)
    return proofs.show(market, session.ui, epoch)


@command(cli, Needs.ACCOUNT, "open")
def open_epoch(session: Session) -> Result:
    """Present a boundary that has won the lottery: a window opens (anyone)."""
    from teraproof.market import proofs

    proofs.open_epoch(session.market, session.sender, session.ui)
    return None


@command(cli, Needs.ACCOUNT)
def close(session: Session) -> Result:
    """Name the block of the draw once the window is over (anyone)."""
    from teraproof.market import proofs

    proofs.close(session.market, session.sender, session.ui)
    return None


@command(cli, Needs.ACCOUNT)
def draw(session: Session) -> Result:
    """Draw the samples of the newest epoch from the block that was named (anyone)."""
    from teraproof.market import proofs

    proofs.draw(session.market, session.sender, session.ui)
    return None


@command(cli, Needs.ACCOUNT)
def withdraw(session: Session) -> Result:
    """Take the account's commitment back while the window lasts (the owner)."""
    from teraproof.market import proofs

    proofs.withdraw(session.market, session.sender, session.ui)
    return None


@command(cli, Needs.ACCOUNT)
@_provider
def fail(session: Session, owner: str) -> Result:
    """Report PROVIDER, which has not opened its proof: its bond is burned (anyone)."""
    from teraproof.market import proofs

    proofs.fail(session.market, session.sender, session.ui, owner)
    return {"provider": owner}


@command(cli, Needs.ACCOUNT)
@_provider
def settle(session: Session, owner: str) -> Result:
    """End what PROVIDER's last epoch is owed, so that new stake becomes active (anyone)."""
    from teraproof.market import proofs

    proofs.settle(session.market, session.sender, session.ui, owner)
    return {"provider": owner}


@command(cli, Needs.ACCOUNT, "release-bond")
@click.option(
    "--provider", "owner", type=ADDRESS, help="Owner address; default: the account itself."
)
def release_bond(session: Session, owner: str | None) -> Result:
    """Unlock the bond when no proof is open (the owner or the operator)."""
    from teraproof.market import proofs

    sender = session.sender
    proofs.release_bond(session.market, sender, session.ui, owner or sender.address)
    return {"provider": owner or sender.address}
