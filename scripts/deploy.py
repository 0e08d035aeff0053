# SPDX-License-Identifier: Apache-2.0
"""Deploys the contracts by a plan, goes on after an interruption, and verifies the result.

ape run deploy --network ethereum:sepolia --account NAME
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scripts.deployment import plan, verify
from scripts.deployment.artifacts import ROOT, compile_all
from scripts.deployment.checks import check_network, current
from scripts.deployment.deployer import Deployment
from scripts.market import accounts
from scripts.market.command import MarketCommand, account_option, common_options
from scripts.market.network import connect
from teraproof.cli.ui import ConsoleUi
from teraproof.errors import counted
from teraproof.market.sending import Sender


@click.command(cls=MarketCommand)
@account_option
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plan file; by default the one in deployments/params with the network's chain id.",
)
@click.option("--dry-run", is_flag=True, help="Check and simulate everything, send nothing.")
@common_options
def cli(
    provider: Any,
    alias: str | None,
    plan_file: Path | None,
    dry_run: bool,
    deployments: Path,
    yes: bool,
) -> None:
    """Deploy the contracts, or go on with or verify what was deployed."""
    ui = ConsoleUi(yes)
    chain = connect(provider)
    artifacts = compile_all()
    chosen = plan_file or plan.find(ROOT / "deployments" / "params", chain.chain_id)
    wanted = plan.load(chosen, artifacts)
    check_network(wanted, chain)
    registry = current(wanted, chain, deployments, ui)
    if registry is None or not registry.complete:
        signer = accounts.load(alias, chain, provider)
        work = Deployment(wanted, artifacts, Sender(chain, signer), deployments, ui, registry)
        work.settle()
        if work.remaining():
            estimates = work.estimate()
            work.show(estimates)
            work.check_funds(estimates)
            if dry_run:
                ui.note("dry run: nothing was sent")
                return
            ui.ask(f"Send {counted(len(estimates), 'transaction')} from {signer.alias}?")
            signer.unlock()
        registry = work.run()
        verify.report(verify.verify(wanted, registry, artifacts, chain), ui)
        work.finish()
    else:
        ui.note(f"deployed already on chain {chain.chain_id}; verifying")
        verify.report(verify.verify(wanted, registry, artifacts, chain), ui)
