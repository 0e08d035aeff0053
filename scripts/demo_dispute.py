# SPDX-License-Identifier: Apache-2.0
"""A dispute on a local chain with real agents: a lie, a jury, a juror whose machine dies, a ruling,
and every balance held against the rules.

ape run demo_dispute --seed 7
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from scripts.market.command import LocalCommand
from scripts.market.court_cast import CAPABILITY, PROVIDER, TENANT, Player, Plot
from teraproof.errors import CommandError


@click.command(cls=LocalCommand)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="What the liar, the lie, the juror that dies and the appeal follow from.",
)
@click.option(
    "--liar", type=click.Choice([PROVIDER, TENANT]), help="Who lies; default: the seed's."
)
@click.option("--appeal/--no-appeal", default=None, help="Whether the loser appeals.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the agents, their logs and the results; default: one that is removed.",
)
def cli(provider: Any, seed: int, liar: str | None, appeal: bool | None, keep: Path | None) -> None:
    """Show a dispute on a local chain: who lied is found, and pays."""
    from scripts.market.accounts import load
    from scripts.market.court_story import tell
    from scripts.market.network import connect_local
    from scripts.market.stage import Stage

    chain = connect_local(provider)
    plot = Plot.of(seed, liar, appeal)
    deployer, owner, tenant, *others = (
        load(f"TEST::{number}", chain, provider) for number in range(3 + len(plot.seats))
    )
    with tempfile.TemporaryDirectory(prefix="teraproof-demo-") as temporary:
        home = (keep or Path(temporary)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with Stage(chain, home, deployer, owner, tenant) as stage:
            # Proofs of throughput are the other demo's matter.
            common = {
                "TERAPROOF_BENCHMARK__ENABLED": "false",
                "TERAPROOF_DISPUTES__APPEAL_UP_TO": "0",  # the play says who appeals
            }
            stage.agent.extra = common | {"TERAPROOF_JOBS__ACCEPT_JUDGED": "anyone"}
            if plot.liar == PROVIDER:
                lies = plot.write_liar(home / "liar")
                stage.agent.extra |= {
                    "TERAPROOF_RUNNER__RUNTIMES": f'{{"{CAPABILITY.runtime}": "{lies}"}}'
                }
            people = [Player("the provider", owner, stage.agent)]
            for number, (juror, seats) in enumerate(zip(others, plot.seats, strict=True), 1):
                wanted = {"TERAPROOF_DISPUTES__SEATS": f'{{"{CAPABILITY}": {seats}}}'}
                place = home / f"juror-{number}"
                agent = stage.hire(f"juror {number}", place, {**common, **wanted})
                people.append(Player(agent.name, juror, agent))
            if not tell(stage, plot, people):
                raise CommandError(
                    f"seed {seed}: the ruling or a balance is not what the rules say; see above"
                )
            stage.farewell(
                f"seed {seed}, the {plot.liar} lied; the ruling is right, and every balance is "
                "what the rules say",
                keep,
                f"Another play: make demo-dispute SEED={seed + 1}",
            )
