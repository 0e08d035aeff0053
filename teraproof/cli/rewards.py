# SPDX-License-Identifier: Apache-2.0
"""Rewards for proven throughput: look, claim, and see how the emission is divided."""

from __future__ import annotations

import click

from teraproof.cli.frame import Needs, Result, Session, command, provider_option
from teraproof.cli.values import SHARE
from teraproof.errors import WrongInput


@click.group("rewards")
def cli() -> None:
    """Look at rewards for proven throughput, claim them into the pool."""


@command(cli, Needs.EITHER)
@provider_option
def show(session: Session, owner: str | None) -> Result:
    """Show a provider's rewards by epoch."""
    from teraproof.market import rewards

    market = session.market
    whose = owner or session.account
    if whose is None:
        raise WrongInput("whose rewards? pass --provider ADDRESS, or name an account")
    session.ui.doing("reading the rewards")
    return {"provider": whose, "rewards": rewards.show(market, session.ui, whose)}


@command(cli, Needs.ACCOUNT)
@provider_option
def claim(session: Session, owner: str | None) -> Result:
    """Pay what waits into the provider's pool; anyone may."""
    from teraproof.market import rewards

    sender = session.sender
    done = rewards.claim(session.market, sender, session.ui, owner or sender.address)
    return {
        "epoch": done.epoch,
        "to_pool": str(done.to_pool),
        "to_payout": str(done.to_payout),
    }


@command(cli, Needs.CHAIN)
def weights(session: Session) -> Result:
    """Show the emission, its scale, and how it is divided between capacity and other uses."""
    from teraproof.market import rewards

    market = session.market
    session.ui.doing("reading the emission")
    return rewards.show_emission(market, session.ui)


@command(cli, Needs.ACCOUNT, "set-weights")
@click.argument("weights", type=SHARE, nargs=-1, required=True)
def set_weights(session: Session, weights: tuple[int, ...]) -> Result:
    """Change how the emission is divided, such as "80 %" "20 %": capacity first. Through the
    timelock: once to propose it, once more after its delay.
    """
    from teraproof.market import rewards

    parts = list(weights)
    rewards.set_weights(session.market, session.sender, session.ui, parts)
    return {"weights_bps": parts}
