# SPDX-License-Identifier: Apache-2.0
"""What the tests of verdicts share: an engine, and the answers of one honest challenge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.agent.acceptance.rig import Recorded, lasting_engine, recorded


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    made = lasting_engine()
    yield made
    made._engine.close()


@pytest.fixture(scope="module")
def honest(engine: Any) -> Recorded:
    return recorded(engine)
