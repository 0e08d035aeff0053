# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU: look at epochs and proofs, and do by hand what agents do by themselves.

ape run proof status --network ethereum:sepolia
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scripts.market import accounts
from scripts.market.command import (
    ADDRESS,
    MarketCommand,
    account_option,
    common_options,
    console,
)
from scripts.market.network import connect
from teraproof.cli.ui import ConsoleUi
from teraproof.market import proofs
from teraproof.market.market import Market, open_market
from teraproof.market.sending import Sender


def _open(
    provider: Any, alias: str | None, deployments: Path, yes: bool
) -> tuple[Market, Sender, ConsoleUi]:
    chain = connect(provider)
    market = open_market(deployments, chain)
    return market, Sender(chain, accounts.load(alias, chain, provider)), console(yes)


@click.group()
def cli() -> None:
    """Look at proofs; open, close and draw epochs; report failures; settle; release bonds."""


@cli.command(cls=MarketCommand)
@click.option("--epoch", type=click.IntRange(min=1), help="An earlier epoch; default: the newest.")
@click.option("--provider", "owner", type=ADDRESS, help="One provider's last proof instead.")
@common_options
def status(
    provider: Any, epoch: int | None, owner: str | None, deployments: Path, yes: bool
) -> None:
    """Show an epoch and the proofs in it."""
    if owner is not None and epoch is not None:
        raise click.UsageError("--provider shows the last proof; leave --epoch out")
    market = open_market(deployments, connect(provider))
    if owner is not None:
        proofs.show_provider(market, console(yes), owner)
    else:
        proofs.show(market, console(yes), epoch)


@cli.command("open", cls=MarketCommand)
@account_option
@common_options
def open_epoch(provider: Any, alias: str | None, deployments: Path, yes: bool) -> None:
    """Present a boundary that has won the lottery: a window opens (anyone)."""
    proofs.open_epoch(*_open(provider, alias, deployments, yes))


@cli.command(cls=MarketCommand)
@account_option
@common_options
def close(provider: Any, alias: str | None, deployments: Path, yes: bool) -> None:
    """Name the block of the draw once the window is over (anyone)."""
    proofs.close(*_open(provider, alias, deployments, yes))


@cli.command(cls=MarketCommand)
@account_option
@common_options
def draw(provider: Any, alias: str | None, deployments: Path, yes: bool) -> None:
    """Draw the samples of the newest epoch from the block that was named (anyone)."""
    proofs.draw(*_open(provider, alias, deployments, yes))


@cli.command(cls=MarketCommand)
@account_option
@common_options
def withdraw(provider: Any, alias: str | None, deployments: Path, yes: bool) -> None:
    """Take the account's commitment back while the window lasts (the owner)."""
    proofs.withdraw(*_open(provider, alias, deployments, yes))


@cli.command(cls=MarketCommand)
@account_option
@click.argument("owner", metavar="PROVIDER", type=ADDRESS)
@common_options
def fail(provider: Any, alias: str | None, owner: str, deployments: Path, yes: bool) -> None:
    """Report PROVIDER, which has not opened its proof: its bond is burned (anyone)."""
    proofs.fail(*_open(provider, alias, deployments, yes), owner)


@cli.command(cls=MarketCommand)
@account_option
@click.argument("owner", metavar="PROVIDER", type=ADDRESS)
@common_options
def settle(provider: Any, alias: str | None, owner: str, deployments: Path, yes: bool) -> None:
    """End what PROVIDER's last epoch is owed, so that new stake becomes active (anyone)."""
    proofs.settle(*_open(provider, alias, deployments, yes), owner)


@cli.command("release-bond", cls=MarketCommand)
@account_option
@click.option(
    "--provider", "owner", type=ADDRESS, help="Owner address; default: the account itself."
)
@common_options
def release_bond(
    provider: Any, alias: str | None, owner: str | None, deployments: Path, yes: bool
) -> None:
    """Unlock the bond when no proof is open (the owner or the operator)."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    proofs.release_bond(market, sender, ui, owner or sender.address)
