# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the proofs' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.proof_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)
