# SPDX-License-Identifier: Apache-2.0
"""Tokens to begin with: send stake, mint the test dollar of local chains and test nets.

ape run tokens mint 100 --network ethereum:sepolia --account NAME
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
from teraproof.amounts import TPF_DECIMALS, units
from teraproof.market import tokens
from teraproof.market.market import open_market
from teraproof.market.sending import Sender


@click.group()
def cli() -> None:
    """Send stake, mint test dollars."""


@cli.command(cls=MarketCommand)
@account_option
@click.argument("amount")
@click.option("--to", "receiver", type=ADDRESS, required=True, help="Who gets the TPF.")
@common_options
def send(
    provider: Any, alias: str | None, amount: str, receiver: str, deployments: Path, yes: bool
) -> None:
    """Send AMOUNT TPF."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    wei = units(amount, TPF_DECIMALS, "AMOUNT")
    tokens.send_stake(market, sender, console(yes), receiver, wei)


@cli.command(cls=MarketCommand)
@account_option
@click.argument("amount")
@click.option("--to", "receiver", type=ADDRESS, help="Who gets them; default: the account.")
@common_options
def mint(
    provider: Any,
    alias: str | None,
    amount: str,
    receiver: str | None,
    deployments: Path,
    yes: bool,
) -> None:
    """Make AMOUNT test dollars."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    amount_units = units(amount, market.decimals, "AMOUNT")
    tokens.mint_payment(market, sender, console(yes), receiver or sender.address, amount_units)
