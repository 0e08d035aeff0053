# SPDX-License-Identifier: Apache-2.0
"""The fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent_e2e.conftest import nursery as nursery
from tests.agent_proofs.epochs import Epochs, epochs


@pytest.fixture
def walking() -> Iterator[Epochs]:
    """Contracts with the usual terms."""
    with epochs() as made:
        yield made
