# SPDX-License-Identifier: Apache-2.0
"""A lease on a local chain with a real agent and Docker Engine: a file of SDL becomes a service
that answers over TLS, its provider dies and comes back, and every second is held against the rules.

make demo-lease
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from scripts.market.command import LocalCommand
from teraproof.errors import WrongInput

IMAGE, SOCKET = "DEMO_IMAGE", "TERAPROOF_LEASES__DOCKER_SOCKET"


@click.command(cls=LocalCommand)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the agent, its log and the tenant's files; default: one that is removed.",
)
def cli(provider: Any, keep: Path | None) -> None:
    """Show a lease on a local chain: containers by the second."""
    from scripts.market.accounts import load
    from scripts.market.lease_story import CERTIFICATE, KEY, settings, tell
    from scripts.market.network import connect_local
    from scripts.market.stage import Stage

    chain = connect_local(provider)
    missing = [name for name in (IMAGE, SOCKET, CERTIFICATE, KEY) if name not in os.environ]
    if missing:
        raise WrongInput(f"{missing[0]} is not set; run make demo-lease, which starts an engine")
    deployer, owner, tenant = (load(f"TEST::{n}", chain, provider) for n in range(3))
    # What breaks off may leave file systems of containers mounted.
    with tempfile.TemporaryDirectory(
        prefix="teraproof-demo-", ignore_cleanup_errors=True
    ) as temporary:
        home = (keep or Path(temporary)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with Stage(chain, home, deployer, owner, tenant) as stage:
            stage.agent.extra = settings(os.environ[SOCKET])
            tell(stage, os.environ[IMAGE])
            stage.farewell(
                "a service from a file, and rent for the seconds that were delivered; every "
                "balance above was read from the chain",
                keep,
                "Next: docs/leases.md, for a lease of your own.",
            )
