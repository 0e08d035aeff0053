# SPDX-License-Identifier: Apache-2.0
"""One anvil for each test file, and the compiled contracts for all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.deployment import plan as plans
from scripts.deployment.artifacts import ROOT, Artifact, compile_all
from scripts.deployment.plan import Plan
from teraproof.market import providers, tokens
from teraproof.market.market import open_market
from teraproof.market.ui import QuietUi
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.scripts.stage import TPF, USD, Stage
from tests.support.anvil import Anvil

PARAMS = ROOT / "deployments" / "params"


@pytest.fixture(scope="session")
def artifacts() -> dict[str, Artifact]:
    return compile_all()


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with Anvil() as running:
        yield running


@pytest.fixture
def fresh(anvil: Anvil) -> Iterator[Anvil]:
    """The module's chain; what a test does to it is undone."""
    base_fee = anvil.block()["baseFeePerGas"]
    with anvil.isolated():
        yield anvil
    # A snapshot does not hold what the next block costs.
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", base_fee)


@pytest.fixture(scope="session")
def local_plan(artifacts: dict[str, Artifact]) -> Plan:
    return plans.load(PARAMS / "local.yaml", artifacts)


@pytest.fixture
def write_plan(tmp_path: Path) -> Any:
    """Write a copy of the local plan after `change` was applied to its document."""
    document = yaml.safe_load((PARAMS / "local.yaml").read_text())

    def write(change: Any = None) -> Path:
        changed = copy.deepcopy(document)
        if change is not None:
            change(changed)
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(changed))
        return path

    return write


@pytest.fixture(scope="module")
def deployed(
    anvil: Anvil,
    local_plan: Plan,
    artifacts: dict[str, Artifact],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    folder = tmp_path_factory.mktemp("deployments")
    deployer = sender_of(anvil, 0)
    deploy(local_plan, artifacts, deployer, folder)
    market = open_market(folder, chain_of(anvil))
    operator: LocalAccount = Account.create()
    anvil.set_balance(operator.address, 10**18)
    owner, tenant, stranger = (sender_of(anvil, index) for index in (1, 2, 3))
    ui = QuietUi()
    tokens.send_stake(market, deployer, ui, owner.address, 1_000 * TPF)
    tokens.mint_payment(market, tenant, ui, tenant.address, 100 * USD)
    return Stage(anvil, market, deployer, owner, tenant, stranger, operator, ui)


@pytest.fixture
def stage(deployed: Stage) -> Iterator[Stage]:
    """A fresh market without a provider."""
    with deployed.anvil.isolated():
        yield replace(deployed, ui=QuietUi())


@pytest.fixture
def running(stage: Stage) -> Stage:
    """A market with a registered, staked provider."""
    providers.register(
        stage.market,
        stage.owner,
        stage.ui,
        stage.consent(),
        max_lock_per_order=100 * TPF,
        max_locked=500 * TPF,
    )
    providers.delegate(stage.market, stage.owner, stage.ui, stage.owner.address, 600 * TPF)
    return stage
