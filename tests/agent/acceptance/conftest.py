# SPDX-License-Identifier: Apache-2.0
"""What the tests of verdicts share: an engine, and the answers of one honest challenge."""

from __future__ import annotations

from typing import Any

import pytest

from tests.agent.acceptance.rig import Recorded, recorded
from tests.agent.lasting import lasting_engine


@pytest.fixture(scope="module")
def engine() -> Any:
    return lasting_engine()


@pytest.fixture(scope="module")
def honest(engine: Any) -> Recorded:
    return recorded(engine)
