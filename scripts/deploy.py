# SPDX-License-Identifier: Apache-2.0
"""Deploys the contracts by a plan, goes on after an interruption, and verifies the result.

ape run deploy --network ethereum:sepolia --account NAME
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.market.command import on_ape
from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.errors import CommandError, counted
from teraproof.locks import MachineLock
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from scripts.deployment.verify import Check
    from teraproof.market.registry import Registry


@contextmanager
def alone(folder: Path, chain_id: int) -> Iterator[None]:
    """One deployment at a time for a registry. CommandError names the process that is under way."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    lock = MachineLock(f"deploy-{chain_id}-{place}")
    if not lock.take():
        holder = lock.holder()
        which = "" if holder is None else f" (process {holder})"
        raise CommandError(
            f"another deploy is running{which} for {folder}; wait until it has ended",
            Code.COMMAND_RUNNING,
        )
    try:
        yield
    finally:
        lock.release()


_commands = click.Group("deployment")


@command(_commands, Needs.EITHER)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plan file; by default the one in deployments/params with the network's chain id.",
)
@click.option("--dry-run", is_flag=True, help="Check and simulate everything, send nothing.")
def deploy(session: Session, plan_file: Path | None, dry_run: bool) -> Result:
    """Deploy the contracts, or go on with or verify what was deployed."""
    from scripts.deployment import plan, verify
    from scripts.deployment.artifacts import ROOT, compile_all
    from scripts.deployment.checks import check_network, current
    from scripts.deployment.deployer import Deployment

    chain, ui, folder = session.chain, session.ui, session.deployments
    ui.doing("compiling")
    artifacts = compile_all()
    chosen = plan_file or plan.find(ROOT / "deployments" / "params", chain.chain_id)
    wanted = plan.load(chosen, artifacts)
    check_network(wanted, chain)
    with alone(folder, chain.chain_id):
        registry = current(wanted, chain, folder, ui)
        if registry is not None and registry.complete:
            ui.note(f"deployed already on chain {chain.chain_id}; verifying")
            ui.doing("verifying")
            checks = verify.verify(wanted, registry, artifacts, chain)
            verify.report(checks, ui)
            if dry_run:
                ui.note("dry run: nothing is left to send")
            return _document(registry, checks)
        work = Deployment(wanted, artifacts, session.sender, folder, ui, registry)
        work.settle()
        if work.remaining():
            estimates = work.estimate()
            work.show(estimates)
            work.check_funds(estimates)
        if dry_run:
            ui.note("dry run: nothing was sent")
            return {"chain_id": chain.chain_id, "remaining": [s.name for s in work.remaining()]}
        if work.remaining():
            alias = session.signer.alias
            ui.ask(f"Send {counted(len(work.remaining()), 'transaction')} from {alias}?")
            session.signer.unlock()
        registry = work.run()
        ui.doing("verifying")
        checks = verify.verify(wanted, registry, artifacts, chain)
        verify.report(checks, ui)
        work.finish()
        return _document(registry, checks)


def _document(registry: Registry, checks: list[Check]) -> Result:
    return {
        "chain_id": registry.chain_id,
        "contracts": {name: one.address for name, one in registry.contracts.items()},
        "checks": len(checks),
    }


cli = on_ape(_commands).commands["deploy"]
