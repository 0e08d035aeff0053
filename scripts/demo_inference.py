# SPDX-License-Identifier: Apache-2.0
"""Paid inference on a local chain with real agents and a real model: three hosts, one of which
serves less than it says, and one of which dies while it streams.

make demo-inference
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
    help="Directory for the agents, the gateway and their logs; default: one that is removed.",
)
def cli(provider: Any, keep: Path | None) -> None:
    """Show paid inference on a local chain: three hosts, a gateway, and receipts."""
    from scripts.market.accounts import load
    from scripts.market.inference_cast import PARTS, Host, digest, servers, settings
    from scripts.market.inference_story import tell
    from scripts.market.network import connect_local
    from scripts.market.stage import Stage

    chain = connect_local(provider)
    deployer, tenant, *owners = (load(f"TEST::{n}", chain, provider) for n in range(2 + len(PARTS)))
    with tempfile.TemporaryDirectory(prefix="teraproof-demo-") as temporary:
        home = (keep or Path(temporary)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with (
            servers(home, PARTS) as upstreams,
            Stage(chain, home, deployer, owners[0], tenant) as stage,
        ):
            hosts, said = [], digest()
            for part, owner in zip(PARTS, owners, strict=True):
                name = part.name.lower()
                first = owner is owners[0]
                agent = stage.agent if first else stage.hire(part.name, home / name)
                agent.extra = settings(part, upstreams[part.weights], said)
                hosts.append(Host(part, owner, agent))
            tell(stage, hosts, list(upstreams.values()))
            stage.farewell(
                "the degraded host was found, the dead one was replaced, and every unit that was "
                "paid stands on a receipt",
                keep,
                "Next: docs/inference.md, for a model of your own.",
            )
