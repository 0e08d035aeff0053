# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several files of this directory use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.duty_rig import Rig
from tests.support.anvil import Anvil


@pytest.fixture(scope="session")
def anvil_process() -> Iterator[Anvil]:
    """One anvil for the whole run."""
    with Anvil() as chain:
        yield chain


@pytest.fixture
def anvil(anvil_process: Anvil) -> Anvil:
    """A fresh chain for each test: reorgs and base fees leave nothing behind."""
    anvil_process.reset()
    return anvil_process


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """The jobs duty and everything around it."""
    made = Rig(tmp_path)
    yield made
    made.duty.close()
    made.store.close()
