# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several files of this directory use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.faulty_rpc import FaultyRpc
from tests.agent.tx.desk import Desk
from tests.support.anvil import Anvil


@pytest.fixture
def proxy(anvil: Anvil) -> Iterator[FaultyRpc]:
    with FaultyRpc(anvil.url) as server:
        yield server


@pytest.fixture
def desk(anvil: Anvil, proxy: FaultyRpc, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(anvil, proxy, tmp_path)
    yield made
    made.close()
