# SPDX-License-Identifier: Apache-2.0
"""`teraproof models`: what models there are, for how much, and who serves them."""

from __future__ import annotations

import click

from teraproof.cli.frame import Command, Needs, Result, Session


@click.command("models", cls=Command)
@click.option("--model", default="", metavar="NAME", help="Only those whose name holds this.")
def cli(session: Session, model: str) -> Result:
    """Show the models on offer: prices, context, hosts."""
    from teraproof.gateway import discovery

    found = discovery.read(session.market, session.market.reach, session.ui)
    return discovery.show(session.market, found, session.ui, model)


cli.needs = Needs.CHAIN
