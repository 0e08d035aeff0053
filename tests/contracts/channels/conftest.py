# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the channels: the ground, and a channel with a deposit."""

from __future__ import annotations

import pytest

from teraproof.protocol.channels import ChannelConfig
from tests.contracts.channels.ground import Ground, lay


@pytest.fixture(scope="session")
def laid() -> Ground:
    return lay()


@pytest.fixture
def ground(laid: Ground) -> Ground:
    return laid


@pytest.fixture
def channel(ground: Ground) -> ChannelConfig:
    """Ten dollars, nothing claimed."""
    return ground.opened()
