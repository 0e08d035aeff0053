# SPDX-License-Identifier: Apache-2.0
"""The deployment file of a test's market, by which programs of owners and tenants find it."""

from __future__ import annotations

from pathlib import Path

from teraproof.market.registry import Deployed, Registry, save
from teraproof.protocol.terms import address
from tests.agent_e2e.chain import Deployment


def save_registry(folder: Path, found: Deployment) -> None:
    """Write it into a new folder."""
    nobody_asks = found.staking  # where a market has no proofs: a command wants some address
    contracts = {
        "Staking": found.staking,
        "Jobs": found.jobs,
        "Benchmark": found.benchmark or nobody_asks,
        "Emissions": found.emissions or nobody_asks,
        "Token": found.token,
        "PaymentToken": found.payment,
        "Channels": found.channels,
    }
    registry = Registry(
        chain_id=found.anvil.chain_id,
        network="test",
        genesis=found.anvil.rpc("eth_getBlockByNumber", "0x0", False)["hash"],
        deployer=found.deployer.address,
        plan_sha256="",
        complete=True,
        contracts={
            name: Deployed(address=address(name, one.address)) for name, one in contracts.items()
        },
    )
    folder.mkdir()
    save(folder, registry)
