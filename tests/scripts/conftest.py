# SPDX-License-Identifier: Apache-2.0
"""One anvil for each test file, and the compiled contracts for all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.market import plan as plans
from scripts.market.artifacts import ROOT, Artifact, compile_all
from scripts.market.plan import Plan
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
    with anvil.isolated():
        yield anvil


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
