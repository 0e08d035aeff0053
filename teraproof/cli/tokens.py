# SPDX-License-Identifier: Apache-2.0
"""Tokens to begin with: send stake, mint the test dollar of local chains and test nets."""

from __future__ import annotations

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command
from teraproof.cli.values import PRICE, TPF


@click.group("tokens")
def cli() -> None:
    """Send stake, mint test dollars."""


@command(cli, Needs.ACCOUNT)
@click.argument("amount", type=TPF)
@click.option("--to", "receiver", type=ADDRESS, required=True, help="Who gets the TPF.")
def send(session: Session, amount: int, receiver: str) -> Result:
    """Send AMOUNT TPF."""
    from teraproof.market import tokens

    tokens.send_stake(session.market, session.sender, session.ui, receiver, amount)
    return {"to": receiver, "amount": str(amount)}


@command(cli, Needs.ACCOUNT)
@click.argument("amount", type=PRICE)
@click.option("--to", "receiver", type=ADDRESS, help="Who gets them; default: the account.")
def mint(session: Session, amount: str, receiver: str | None) -> Result:
    """Make AMOUNT test dollars."""
    from teraproof.market import tokens

    market, sender = session.market, session.sender
    made = market.price(amount, "AMOUNT")
    to = receiver or sender.address
    tokens.mint_payment(market, sender, session.ui, to, made)
    return {"to": to, "amount": str(made)}
