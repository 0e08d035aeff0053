# SPDX-License-Identifier: Apache-2.0
"""Rewards for proven throughput: look, claim, and see how the emission is divided.

ape run rewards show --provider 0x... --network ethereum:sepolia
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scripts.market import accounts
from scripts.market.command import (
    MarketCommand,
    account_option,
    common_options,
    console,
    provider_option,
)
from scripts.market.errors import ScriptError
from scripts.market.network import connect
from teraproof.amounts import basis_points
from teraproof.market import rewards
from teraproof.market.market import open_market
from teraproof.market.sending import Sender


@click.group()
def cli() -> None:
    """Look at rewards for proven throughput, claim them into the pool."""


@cli.command(cls=MarketCommand)
@account_option
@provider_option
@common_options
def show(provider: Any, alias: str | None, owner: str | None, deployments: Path, yes: bool) -> None:
    """Show a provider's rewards by epoch."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    if owner is None and alias is None:
        raise ScriptError("whose rewards? pass --provider ADDRESS, or --account NAME")
    whose = owner or accounts.load(alias, chain, provider).address
    rewards.show(market, console(yes), whose)


@cli.command(cls=MarketCommand)
@account_option
@provider_option
@common_options
def claim(
    provider: Any, alias: str | None, owner: str | None, deployments: Path, yes: bool
) -> None:
    """Pay what waits into the provider's pool; anyone may."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    rewards.claim(market, sender, console(yes), owner or sender.address)


@cli.command(cls=MarketCommand)
@common_options
def weights(provider: Any, deployments: Path, yes: bool) -> None:
    """Show the emission, its scale, and how it is divided between capacity and other uses."""
    market = open_market(deployments, connect(provider))
    rewards.show_emission(market, console(yes))


@cli.command("set-weights", cls=MarketCommand)
@account_option
@click.argument("weights", nargs=-1, required=True)
@common_options
def set_weights(
    provider: Any, alias: str | None, weights: tuple[str, ...], deployments: Path, yes: bool
) -> None:
    """Change how the emission is divided, such as "80 %" "20 %": capacity first. Through the
    timelock: once to propose it, once more after its delay.
    """
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    parts = [basis_points(text, "WEIGHTS") for text in weights]
    rewards.set_weights(market, sender, console(yes), parts)
