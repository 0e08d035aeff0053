# SPDX-License-Identifier: Apache-2.0
"""A throughput proof, a job that requires it, payment, the reward for the proof, and a job whose
provider dies: all on a local chain, from the deployment on.

ape run demo
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from scripts.market.command import LocalCommand


@click.command(cls=LocalCommand)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the agent, its log and the result; default: one that is removed.",
)
def cli(provider: Any, keep: Path | None) -> None:
    """Show proof, job, reward and the unhappy path on a local chain."""
    from scripts.market.accounts import load
    from scripts.market.network import connect_local
    from scripts.market.stage import Stage
    from scripts.market.story import tell

    chain = connect_local(provider, ". For a test net: ape run deploy, provider, job")
    deployer, owner, tenant = (load(f"TEST::{n}", chain, provider) for n in range(3))
    with tempfile.TemporaryDirectory(prefix="teraproof-demo-") as temporary:
        home = (keep or Path(temporary)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with Stage(chain, home, deployer, owner, tenant) as stage:
            tell(stage)
            stage.farewell(
                "a proof, a paid job, a reward and a refund; every balance above was read from "
                "the chain",
                keep,
                "Next: make demo-dispute, or the README for a market of your own.",
            )
